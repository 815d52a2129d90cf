"""What the dataset API answers with, and worked examples for its documentation."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiExample
from rest_framework import serializers

from annotator.models import Dataset, Example, ImportProblem, Preference, Response


class MessageOutput(serializers.Serializer[Any]):
    role = serializers.ChoiceField(choices=["system", "user", "assistant", "tool"])
    content = serializers.CharField()


class DatasetOutput(serializers.ModelSerializer[Dataset]):
    imported_by = serializers.SlugRelatedField[Any]("username", read_only=True)

    class Meta:
        model = Dataset
        fields = (
            "uid", "name", "state", "format", "format_reason", "source_name", "source_sha256", "licence", "n_examples",
            "n_responses", "n_preferences", "n_rows", "n_errors", "n_duplicates", "n_bytes_read", "n_bytes_total",
            "n_indexed", "failure", "metadata_keys", "imported_by", "created_at", "finished_at", "frozen_at",
        )  # fmt: skip
        read_only_fields = fields


class ProblemRow(serializers.ModelSerializer[ImportProblem]):
    class Meta:
        model = ImportProblem
        fields = ("line", "code", "detail", "excerpt")
        read_only_fields = fields


class Imported(DatasetOutput):
    """A dataset just imported; `errors` holds the first 100 rows refused, `n_errors` how many there are."""

    errors = ProblemRow(many=True)  # type: ignore[assignment]

    class Meta:
        model = Dataset
        fields = (*DatasetOutput.Meta.fields, "errors")
        read_only_fields = fields


class ResponseOutput(serializers.ModelSerializer[Response]):
    messages = MessageOutput(many=True)
    meta = serializers.DictField()

    class Meta:
        model = Response
        fields = ("uid", "number", "messages", "source_model", "meta")
        read_only_fields = fields


class PreferenceOutput(serializers.ModelSerializer[Preference]):
    """Known from the source. Responses by number."""

    response_a = serializers.IntegerField(source="response_a.number")
    response_b = serializers.IntegerField(source="response_b.number")

    class Meta:
        model = Preference
        fields = ("response_a", "response_b", "verdict", "preference_strength")
        read_only_fields = fields


class ExampleOutput(serializers.ModelSerializer[Example]):
    prompt = MessageOutput(many=True)
    meta = serializers.DictField()
    responses = ResponseOutput(many=True)
    preferences = PreferenceOutput(many=True)

    class Meta:
        model = Example
        fields = ("uid", "position", "prompt", "meta", "responses", "preferences")
        read_only_fields = fields


IMPORT_EXAMPLES = [
    OpenApiExample(
        "pairs",
        value='{"prompt": "Can ducks fly?", "chosen": "Most can.", "rejected": "No."}',
        media_type="application/x-ndjson",
        request_only=True,
    )
]

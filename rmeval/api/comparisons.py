"""REST: leaderboards and comparisons."""

from dataclasses import asdict
from typing import Any
from uuid import UUID

from django.urls import URLPattern, path
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from annotator.access import READERS
from rmeval.access import access_source
from rmeval.compare_request import compare_request
from rmeval.models import Checkpoint
from rmeval.selectors.compare import CELLS, Comparison, compare, compared_pairs
from rmeval.selectors.leaderboards import SORTS, LeaderboardRow, Rate, leaderboard_rows
from rmeval.sources import PairSource


class RateOutput(serializers.Serializer[Any]):
    """A share of n with its 95% interval."""

    value = serializers.FloatField()
    low = serializers.FloatField()
    high = serializers.FloatField()
    n = serializers.IntegerField()
    interval = serializers.ChoiceField(
        choices=["wilson", "wilson_effective_n"],
        help_text="wilson: pairs taken as independent. wilson_effective_n: allows for prompts with several pairs.",
    )
    n_prompts = serializers.IntegerField(allow_null=True, help_text="Prompts the pairs have; null where not counted.")
    n_effective = serializers.FloatField(allow_null=True, help_text="Independent pairs these are worth.")


class Leaderboard(APIView):
    """Every checkpoint evaluated on one dataset or snapshot."""

    class Output(serializers.Serializer[Any]):
        class Row(serializers.Serializer[Any]):
            checkpoint = serializers.UUIDField()
            number = serializers.IntegerField()
            reward_model = serializers.UUIDField()
            name = serializers.CharField()
            family = serializers.CharField()
            is_baseline = serializers.BooleanField()
            has_learnt_from_it = serializers.BooleanField(
                help_text="Its training read this dataset: the figure is no measure of new pairs."
            )
            accuracy = RateOutput(allow_null=True)
            mean_margin = serializers.FloatField(allow_null=True)
            n_zero_margin = serializers.IntegerField()
            n_tie = serializers.IntegerField()
            slices = serializers.DictField(child=RateOutput())
            run = serializers.UUIDField(allow_null=True)
            evaluated_at = serializers.DateTimeField()

        kind = serializers.ChoiceField(choices=["dataset", "snapshot"])
        uid = serializers.UUIDField()
        name = serializers.CharField()
        n_pairs = serializers.IntegerField(help_text="Pairs with a chosen and a rejected response.")
        rows = Row(many=True)

    @extend_schema(
        operation_id="leaderboard",
        tags=["comparisons"],
        parameters=[
            OpenApiParameter("slice", str, description="Metadata key to show accuracy by."),
            OpenApiParameter("sort", str, enum=list(SORTS), description="Order of the rows; accuracy if left out."),
        ],
        responses=Output,
    )
    def get(self, request: Request, uid: UUID) -> Response:
        source = access_source(request.user, uid, READERS)
        query = request.query_params
        rows = leaderboard_rows(
            source=source, slice_by=query.get("slice", "").replace("\0", ""), sort=query.get("sort", "accuracy")
        )
        body = {
            "kind": source.kind,
            "uid": source.uid,
            "name": source.name,
            "n_pairs": source.decided().count(),
            "rows": [row_body(row) for row in rows],
        }
        return Response(self.Output(body).data)


def row_body(row: LeaderboardRow) -> dict[str, Any]:
    model = row.checkpoint.reward_model
    return {
        "checkpoint": row.checkpoint.uid,
        "number": row.checkpoint.number,
        "reward_model": model.uid,
        "name": row.name,
        "family": model.family,
        "is_baseline": row.is_baseline,
        "has_learnt_from_it": row.has_learnt_from_it,
        "accuracy": rate_body(row.accuracy),
        "mean_margin": row.mean_margin,
        "n_zero_margin": row.n_zero_margin,
        "n_tie": row.n_tie,
        "slices": {name: rate_body(found) for name, found in row.slices.items()},
        "run": row.evaluation.run.uid if row.evaluation.run else None,
        "evaluated_at": row.evaluation.updated_at,
    }


def rate_body(rate: Rate | None) -> dict[str, Any] | None:
    return asdict(rate) if rate else None


class Compare(APIView):
    """Two checkpoints on the same pairs."""

    class Output(serializers.Serializer[Any]):
        class Model(serializers.Serializer[Any]):
            checkpoint = serializers.UUIDField()
            reward_model = serializers.UUIDField()
            name = serializers.CharField()
            accuracy = RateOutput(allow_null=True)

        class McNemar(serializers.Serializer[Any]):
            n_a_only = serializers.IntegerField(help_text="Pairs that only a gets right.")
            n_b_only = serializers.IntegerField(help_text="Pairs that only b gets right.")
            p_value = serializers.FloatField(allow_null=True, help_text="Exact, two-sided.")

        class ByPrompt(serializers.Serializer[Any]):
            n_prompts = serializers.IntegerField()
            p_value = serializers.FloatField(
                allow_null=True,
                help_text="Exact, two-sided: flips signs of whole prompts, so pairs of one prompt may depend on each "
                "other. McNemar's where every prompt has one pair.",
            )

        class Difference(serializers.Serializer[Any]):
            value = serializers.FloatField()
            low = serializers.FloatField()
            high = serializers.FloatField()

        class Cells(serializers.Serializer[Any]):
            both = serializers.IntegerField()
            a_only = serializers.IntegerField()
            b_only = serializers.IntegerField()
            neither = serializers.IntegerField()

        class Pair(serializers.Serializer[Any]):
            example = serializers.UUIDField(source="example_uid")
            response_a = serializers.UUIDField(source="response_a.uid")
            response_b = serializers.UUIDField(source="response_b.uid")
            verdict = serializers.CharField()
            preference_strength = serializers.IntegerField(allow_null=True)
            a_margin = serializers.FloatField()
            b_margin = serializers.FloatField()
            cell = serializers.CharField()

        a = Model()
        b = Model()
        dataset = serializers.UUIDField()
        n_pairs = serializers.IntegerField()
        n_unscored = serializers.IntegerField()
        mcnemar = McNemar()
        by_prompt = ByPrompt()
        difference = Difference(allow_null=True, help_text="Accuracy of b minus accuracy of a.")
        agreement = RateOutput(allow_null=True, help_text="Share of pairs on which both are right or both wrong.")
        margin_correlation = serializers.FloatField(allow_null=True, help_text="Spearman's rank correlation.")
        cells = Cells()
        pairs = Pair(many=True, help_text="First pairs behind ?cell=; go on with ?after=next_after.")
        next_after = serializers.IntegerField(allow_null=True)

    @extend_schema(
        operation_id="compare",
        tags=["comparisons"],
        parameters=[
            OpenApiParameter("a", UUID, required=True, description="Checkpoint, or reward model (its newest one)."),
            OpenApiParameter("b", UUID, required=True, description="Checkpoint, or reward model (its newest one)."),
            OpenApiParameter("dataset", UUID, required=True, description="Dataset or snapshot."),
            OpenApiParameter("cell", str, enum=list(CELLS), description="Pairs to list; disagree if left out."),
            OpenApiParameter("strength", int, enum=[1, 2, 3], description="Only pairs of this preference strength."),
            OpenApiParameter("key", str, description="Metadata key to filter by, with value."),
            OpenApiParameter("value", str, description="Value of that metadata key."),
            OpenApiParameter("after", int, description="next_after of the page before."),
        ],
        responses=Output,
    )
    def get(self, request: Request) -> Response:
        asked = compare_request(request.user, request.query_params)
        source, a, b = asked.parts()
        found = compare(source=source, a=a, b=b)
        page = compared_pairs(source=source, a=a, b=b, chosen=asked.chosen, after=asked.after)
        body = comparison_body(source, a, b, found)
        body |= {"pairs": page.pairs, "next_after": page.last if page.has_next else None}
        return Response(self.Output(body).data)


def comparison_body(source: PairSource, a: Checkpoint, b: Checkpoint, found: Comparison) -> dict[str, Any]:
    return {
        "a": model_body(a, found.accuracy_a),
        "b": model_body(b, found.accuracy_b),
        "dataset": source.uid,
        "n_pairs": found.n,
        "n_unscored": found.n_unscored,
        "mcnemar": {"n_a_only": found.n_a_only, "n_b_only": found.n_b_only, "p_value": found.p_value},
        "by_prompt": {"n_prompts": found.n_prompts, "p_value": found.p_value_by_prompt},
        "difference": asdict(found.difference) if found.difference else None,
        "agreement": rate_body(found.agreement),
        "margin_correlation": found.margin_correlation,
        "cells": {
            "both": found.n_both,
            "a_only": found.n_a_only,
            "b_only": found.n_b_only,
            "neither": found.n_neither,
        },
    }


def model_body(checkpoint: Checkpoint, accuracy: Rate | None) -> dict[str, Any]:
    return {
        "checkpoint": checkpoint.uid,
        "reward_model": checkpoint.reward_model.uid,
        "name": str(checkpoint),
        "accuracy": rate_body(accuracy),
    }


comparison_api_urls: list[URLPattern] = [
    path("leaderboards/<uuid:uid>/", Leaderboard.as_view(), name="leaderboard"),
    path("compare/", Compare.as_view(), name="compare"),
]

"""REST: what kinds of runs, families and objectives take."""

import inspect
from typing import Any

from django.urls import URLPattern, path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from workers.settings_page import entries


class SettingsOutput(serializers.Serializer[Any]):
    """One thing that takes settings."""

    belongs_to = serializers.ChoiceField(choices=["runs", "families", "objectives"])
    name = serializers.CharField(help_text="As a run's kind, a reward model's family or a run's objective.")
    title = serializers.CharField()
    about = serializers.CharField()
    schema = serializers.DictField(help_text="JSON schema of spec, config or objective_config.")


class Settings(APIView):
    @extend_schema(operation_id="settings", tags=["runs"], responses=SettingsOutput(many=True))
    def get(self, request: Request) -> Response:
        """JSON schemas of every kind of run, family and objective: the settings, their types, defaults and limits."""
        told = [
            {
                "belongs_to": heading.lower(),
                "name": name,
                "title": entry.title,
                "about": inspect.cleandoc(entry.__doc__ or ""),
                "schema": model.model_json_schema(),
            }
            for heading, name, entry, model in entries()
        ]
        return Response(SettingsOutput(told, many=True).data)


settings_api_urls: list[URLPattern] = [path("settings/", Settings.as_view(), name="settings")]

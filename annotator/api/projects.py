"""REST: projects."""

from django.urls import URLPattern

project_api_urls: list[URLPattern] = []

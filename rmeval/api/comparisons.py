"""REST: comparisons."""

from django.urls import URLPattern

comparison_api_urls: list[URLPattern] = []

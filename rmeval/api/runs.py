"""REST: runs."""

from django.urls import URLPattern

run_api_urls: list[URLPattern] = []

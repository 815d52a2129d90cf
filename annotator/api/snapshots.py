"""REST: snapshots."""

from django.urls import URLPattern

snapshot_api_urls: list[URLPattern] = []

"""REST: datasets."""

from django.urls import URLPattern

dataset_api_urls: list[URLPattern] = []

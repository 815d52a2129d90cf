"""Paths of comparisons."""

from django.urls import URLPattern

comparison_urls: list[URLPattern] = []

"""Paths of runs."""

from django.urls import URLPattern

run_urls: list[URLPattern] = []

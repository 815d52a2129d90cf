"""Paths of snapshots."""

from django.urls import URLPattern

snapshot_urls: list[URLPattern] = []

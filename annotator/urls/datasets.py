"""Paths of datasets."""

from django.urls import URLPattern

dataset_urls: list[URLPattern] = []

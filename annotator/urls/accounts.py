"""Paths of accounts."""

from django.urls import URLPattern

account_urls: list[URLPattern] = []

"""Paths of queues."""

from django.urls import URLPattern

queue_urls: list[URLPattern] = []

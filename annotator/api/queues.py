"""REST: queues."""

from django.urls import URLPattern

queue_api_urls: list[URLPattern] = []

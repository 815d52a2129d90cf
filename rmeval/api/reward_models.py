"""REST: reward_models."""

from django.urls import URLPattern

reward_model_api_urls: list[URLPattern] = []

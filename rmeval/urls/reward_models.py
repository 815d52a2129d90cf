"""Paths of reward_models."""

from django.urls import URLPattern

reward_model_urls: list[URLPattern] = []

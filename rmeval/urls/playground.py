"""Paths of the playground."""

from django.urls import URLPattern, path

from rmeval.views import playground

playground_urls: list[URLPattern] = [
    path("projects/<uuid:uid>/playground/", playground.playground_view, name="playground"),
]

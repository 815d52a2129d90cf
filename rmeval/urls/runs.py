"""Paths of runs."""

from django.urls import URLPattern, path

from rmeval.views import runs

run_urls: list[URLPattern] = [
    path("projects/<uuid:uid>/runs/", runs.run_list_view, name="run-list"),
    path("runs/<uuid:uid>/", runs.run_detail, name="run-detail"),
    path("runs/<uuid:uid>/cancel/", runs.run_cancel_view, name="run-cancel"),
    path("runs/<uuid:uid>/retry/", runs.run_retry_view, name="run-retry"),
]

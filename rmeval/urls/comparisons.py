"""Paths of leaderboards and comparisons."""

from django.urls import URLPattern, path

from rmeval.views import comparisons

comparison_urls: list[URLPattern] = [
    path("projects/<uuid:uid>/leaderboards/", comparisons.leaderboard_list_view, name="leaderboard-list"),
    path("leaderboards/<uuid:uid>/", comparisons.leaderboard_view, name="leaderboard"),
    path("leaderboards/<uuid:uid>/evaluate/", comparisons.leaderboard_evaluate_view, name="leaderboard-evaluate"),
    path("compare/", comparisons.compare_view, name="compare"),
    path("compare/queue/", comparisons.compare_queue_view, name="compare-queue"),
]

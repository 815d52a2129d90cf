"""Paths of studies. A study is a run of kind train_study and has its uid."""

from django.urls import URLPattern, path

from rmeval.views import studies

study_urls: list[URLPattern] = [
    path("studies/<uuid:uid>/", studies.study_detail, name="study-detail"),
    path("reward-models/<uuid:uid>/studies/new/", studies.study_create_view, name="study-create"),
]

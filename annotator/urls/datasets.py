"""Paths of datasets and examples."""

from django.urls import URLPattern, path

from annotator.views import datasets

dataset_urls: list[URLPattern] = [
    path("projects/<uuid:uid>/datasets/", datasets.dataset_list_view, name="dataset-list"),
    path("projects/<uuid:uid>/datasets/import/", datasets.dataset_import_view, name="dataset-import"),
    path("datasets/<uuid:uid>/", datasets.dataset_detail, name="dataset-detail"),
    path("datasets/<uuid:uid>/problems.jsonl", datasets.dataset_problems_download, name="dataset-problems"),
    path("datasets/<uuid:uid>/cancel/", datasets.dataset_cancel, name="dataset-cancel"),
    path("datasets/<uuid:uid>/delete/", datasets.dataset_delete_view, name="dataset-delete"),
    path("examples/<uuid:uid>/", datasets.example_detail, name="example-detail"),
]

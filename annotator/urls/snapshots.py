"""Paths of snapshots and of the agreement they rest on."""

from django.urls import URLPattern, path

from annotator.views import agreement, snapshots

snapshot_urls: list[URLPattern] = [
    path("projects/<uuid:uid>/snapshots/", snapshots.snapshot_list, name="snapshot-list"),
    path("queues/<uuid:uid>/agreement/", agreement.queue_agreement_view, name="queue-agreement"),
    path("queues/<uuid:uid>/snapshots/new/", snapshots.snapshot_create_view, name="snapshot-create"),
    path("snapshots/<uuid:uid>/", snapshots.snapshot_detail, name="snapshot-detail"),
    path("snapshots/<uuid:uid>/card/", snapshots.snapshot_card_view, name="snapshot-card"),
]

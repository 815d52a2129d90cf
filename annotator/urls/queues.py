"""Paths of queues and of the annotate page."""

from django.urls import URLPattern, path

from annotator.views import annotate, queues

queue_urls: list[URLPattern] = [
    path("projects/<uuid:uid>/queues/", queues.queue_list, name="queue-list"),
    path("projects/<uuid:uid>/queues/new/", queues.queue_new, name="queue-create"),
    path("queues/<uuid:uid>/", queues.queue_detail, name="queue-detail"),
    path("queues/<uuid:uid>/items/", queues.queue_item_list, name="queue-items"),
    path("queues/<uuid:uid>/review/", queues.queue_review, name="queue-review"),
    path("queues/<uuid:uid>/versions/", queues.queue_versions, name="queue-versions"),
    path("queues/<uuid:uid>/guidelines/", queues.queue_guidelines_save, name="queue-guidelines-save"),
    path("queues/<uuid:uid>/form/", queues.queue_form_save, name="queue-form-save"),
    path("queues/<uuid:uid>/state/", queues.queue_state_save, name="queue-state-save"),
    path("queues/<uuid:uid>/overlap/", queues.queue_overlap_save, name="queue-overlap-save"),
    path("queues/<uuid:uid>/annotate/", annotate.annotate, name="queue-annotate"),
    path("flags/<uuid:uid>/resolve/", queues.flag_resolve_view, name="flag-resolve"),
    path("account/keys/", annotate.shortcut_save, name="shortcut-save"),
]

"""Paths of label audits and of what runs made."""

from django.urls import URLPattern, path

from rmeval.views import audit_start, audits

audit_urls: list[URLPattern] = [
    path("projects/<uuid:uid>/audits/new/", audit_start.audit_create_view, name="audit-create"),
    path("runs/<uuid:uid>/edits/", audits.audit_edit_view, name="audit-edit"),
    path("runs/<uuid:uid>/edits/undo/", audits.audit_undo_view, name="audit-undo"),
    path("runs/<uuid:uid>/edits/queue/", audits.audit_queue_view, name="audit-queue"),
    path("runs/<uuid:uid>/edits/verdicts/", audits.audit_verdicts_view, name="audit-verdicts"),
    path("artifacts/<uuid:uid>/", audits.artifact_download_view, name="artifact-download"),
]

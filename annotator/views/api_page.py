"""The page that shows the API with examples that work as they stand."""

import inspect

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET

from annotator.models import Snapshot
from annotator.requests import user_of
from annotator.selectors.snapshots import readable_snapshots
from workers.data.exporters import export_labels, export_named

PLACEHOLDER = "00000000-0000-4000-8000-000000000000"


@login_required
@require_GET
def api_page(request: HttpRequest) -> HttpResponse:
    """Examples name the reader's newest snapshot, so that they can be pasted."""
    snapshot = readable_snapshots(user=user_of(request)).filter(state=Snapshot.State.READY).first()
    site = request.build_absolute_uri("/").rstrip("/")
    uid = snapshot.uid if snapshot else PLACEHOLDER
    export_url = site + reverse("annotator-api:snapshot-export", args=[uid])
    formats = [
        {
            "label": label,
            "title": export_named(label).title,
            "about": inspect.getdoc(type(export_named(label))) or "",
            "columns": export_named(label).columns,
            "url": f"{export_url}?format={label}",
        }
        for label in export_labels()
    ]
    context = {"snapshot": snapshot, "site": site, "formats": formats, "export_url": export_url, "uid": uid}
    return render(request, "annotator/api.html", context)

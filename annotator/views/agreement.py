"""The agreement page of a queue."""

from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from annotator.access import READERS, access_queue, require_role
from annotator.models import Role
from annotator.plots import interval_plot
from annotator.selectors.agreement import Figure, QueueAgreement, agreement_detail, queue_agreement
from workers.stats.majority import VERDICTS

VERDICT_WORDS = {"a": "A better", "b": "B better", "tie": "tie", "both_bad": "both bad"}


@login_required
@require_GET
def queue_agreement_view(request: HttpRequest, uid: UUID) -> HttpResponse:
    queue = access_queue(request.user, uid)
    role = require_role(request.user, queue.project, READERS)
    found = queue_agreement(queue=queue)
    show_names = role == Role.LEAD and request.GET.get("names") == "1"
    detail = agreement_detail(queue=queue, with_names=show_names)
    n_confused = sum(sum(row[i:]) for i, row in enumerate(detail.confusion))
    context = {
        "queue": queue,
        "project": queue.project,
        "is_lead": role == Role.LEAD,
        "show_names": show_names,
        "agreement": found,
        "figures": figures(found),
        "plot": interval_plot([(name, f.value, f.low, f.high) for name, f, _ in figures(found) if f.value is not None]),
        "detail": detail,
        "pairs": list(zip(detail.raters, detail.pairs, strict=True)),
        "confusion": [(VERDICT_WORDS[v], row) for v, row in zip(VERDICTS, detail.confusion, strict=True)],
        "verdict_words": [VERDICT_WORDS[verdict] for verdict in VERDICTS],
        "n_confused": n_confused,
        "disputed": [
            (item, [(VERDICT_WORDS[verdict], n) for verdict, n in votes.items()]) for item, votes in detail.disputed
        ],
    }
    template = "annotator/agreement.html"
    return render(request, f"{template}#body" if request.htmx else template, context)  # type: ignore[attr-defined]


def figures(found: QueueAgreement) -> list[tuple[str, Figure, str]]:
    """Name, figure and what it says, in the order of the page."""
    rows = [
        ("Percent agreement", found.percent_agreement, "share of pairs of raters who gave the same verdict"),
        ("Krippendorff's alpha", found.alpha, "1 perfect, 0 as by chance, below 0 worse than chance; on verdicts"),
    ]
    if found.ordinal_alpha is not None:
        about = "the same on the scale from “A much better” to “B much better”; both bad is not on it"
        rows.append(("Ordinal alpha", found.ordinal_alpha, about))
    return rows

"""What a project's page shows of runs and leaderboards; a tag, because annotator does not import rmeval."""

from typing import Any

from django import template
from django.db.models import Count, Max, Q

from annotator.models import Project
from rmeval.models import Evaluation, Run
from rmeval.selectors.leaderboards import best_evaluations
from rmeval.selectors.run_titles import run_titles

register = template.Library()


@register.inclusion_tag("rmeval/project_overview.html")
def rmeval_overview(project: Project) -> dict[str, Any]:
    """For readers only: the view hands the template `counts` for those who may see this."""
    runs = Run.objects.filter(project=project).select_related("reward_model", "created_by").order_by("-pk")[:5]
    boards = (
        Evaluation.objects.filter(project=project, dataset__isnull=False, dataset__deleted_at=None)
        .values("dataset_id", "dataset__uid", "dataset__name")
        .annotate(n=Count("pk"), n_pairs=Max("n_pairs"))
        .order_by("-n", "dataset__name")[:5]
    )
    best = best_evaluations(project) if boards else {}
    shown = [{**board, "best": best.get(("dataset", board["dataset_id"]))} for board in boards]
    n_models = project.reward_models.filter(Q(deleted_at=None)).count()
    return {"project": project, "runs": runs, "titles": run_titles(runs), "boards": shown, "n_models": n_models}

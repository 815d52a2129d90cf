"""Pages of reward models: register, train, evaluate, look where a checkpoint came from, download it."""

from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import FileResponse, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from annotator.access import READERS, RESEARCHERS, access_project, require_role, role_in
from annotator.errors import DomainError, NotFound
from annotator.requests import user_of
from rmeval.access import access_checkpoint, access_reward_model
from rmeval.audit_start_form import can_audit
from rmeval.evaluation_charts import evaluation_charts
from rmeval.forms import EvaluateForm, RegisterForm, config_form, ways_to_come
from rmeval.models import RewardModel
from rmeval.run_results import result_groups
from rmeval.selectors.exports import newest_export, newest_refusal
from rmeval.selectors.reward_models import (
    is_baseline,
    latest_on_training_data,
    reward_model_evaluations,
    reward_model_lineage,
    reward_model_list,
    reward_model_runs,
)
from rmeval.selectors.run_titles import run_titles
from rmeval.selectors.waiting import waiting_notes
from rmeval.services.artifacts import files_of
from rmeval.services.reward_models import family_of, reward_model_register
from rmeval.services.submission import run_submit
from rmeval.sources import PairSource
from rmeval.training_form import train_form, train_spec
from workers.families import FAMILIES
from workers.families.base import CAPABILITIES
from workers.jobs.export_checkpoint import refusal


@login_required
@require_GET
def reward_model_list_view(request: HttpRequest, uid: UUID) -> HttpResponse:
    project = access_project(request.user, uid, READERS)
    reward_models = reward_model_list(project=project)
    context = {
        "project": project,
        "reward_models": reward_models,
        "learnt": latest_on_training_data(reward_models),
        "may_act": role_in(request.user, project) in RESEARCHERS,
    }
    template = "rmeval/reward_model_list.html"
    return render(request, f"{template}#rows" if request.htmx else template, context)  # type: ignore[attr-defined]


@login_required
@require_http_methods(["GET", "POST"])
def reward_model_create_view(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Choose a family (?family=), then fill in the form made from its configuration."""
    project = access_project(request.user, uid, RESEARCHERS)
    default = "scalar_head" if "scalar_head" in FAMILIES else FAMILIES.names()[0]
    name = request.GET.get("family") or default
    family = family_of(name)
    form, config = RegisterForm(request.POST or None), config_form(family, request.POST or None)
    if request.method == "POST" and form.is_valid() and config.is_valid():
        try:
            made = reward_model_register(
                project=project, family=name, config=config.values(), user=user_of(request), **form.cleaned_data
            )
            messages.success(request, f"{made.name} is registered.")
            if takes_scores(family):
                return redirect("rmeval:scores-import", made.checkpoints.get().uid)
            return redirect("rmeval:reward-model-detail", made.uid)
        except DomainError as error:
            mine = [problem for problem in error.errors if not problem.pointer.startswith("/config")]
            form.add_problems(mine)
            config.add_problems([p for p in error.errors if p.pointer.startswith("/config")], below="/config")
    context = {"project": project, "form": form, "config": config, "family": name, "ways": ways_to_come()}
    status = 422 if form.is_bound else 200
    return render(request, "rmeval/reward_model_form.html", context, status=status)


@login_required
@require_GET
def reward_model_detail(request: HttpRequest, uid: UUID) -> HttpResponse:
    reward_model = access_reward_model(request.user, uid)
    if request.GET.get("part") == "objective":
        require_role(request.user, reward_model.project, RESEARCHERS)
        form = train_form(reward_model, objective=request.GET.get("objective", ""))
        return render(request, "rmeval/reward_model_detail.html#objective", {"train_form": form})
    if request.htmx:  # type: ignore[attr-defined]
        may_act = role_in(request.user, reward_model.project) in RESEARCHERS
        return render(
            request, "rmeval/reward_model_detail.html#lineage", lineage_context(reward_model, may_act=may_act)
        )
    return render(request, "rmeval/reward_model_detail.html", page_context(request, reward_model))


def lineage_context(reward_model: RewardModel, *, may_act: bool) -> dict[str, Any]:
    family = FAMILIES.get(reward_model.family) if reward_model.family in FAMILIES else None
    runs = reward_model_runs(reward_model=reward_model)
    return {
        "reward_model": reward_model,
        "lineage": reward_model_lineage(reward_model=reward_model),
        "runs": runs,
        "notes": waiting_notes(runs, now=timezone.now()),
        "titles": run_titles(runs),
        "may_act": may_act,
        "takes_scores": takes_scores(family),
        "without_files": without_files(family),
    }


def figures_context(request: HttpRequest, reward_model: RewardModel) -> dict[str, Any]:
    """Calibration and rewards of one evaluation: ?evaluation= names it, else the newest."""
    evaluations = reward_model_evaluations(reward_model=reward_model)
    wanted = request.GET.get("evaluation", "")
    shown = next((e for e in evaluations if str(e.uid) == wanted), evaluations[0] if evaluations else None)
    if shown is None:
        return {"evaluations": [], "shown": None}
    source = PairSource(dataset=shown.dataset, snapshot=shown.snapshot)
    charts = evaluation_charts(metrics=shown.metrics, source=source, checkpoint=shown.checkpoint)
    return {"evaluations": evaluations, "shown": shown, "charts": charts}


def config_in_order(family: Any, config: dict[str, Any]) -> list[tuple[str, Any]]:
    """As the family lists its settings; the database does not keep their order."""
    names = list(family.Config.model_fields) if family is not None else sorted(config)
    return [(name, config[name]) for name in names if name in config]


def takes_scores(family: Any) -> bool:
    """Do the rewards come as a file?"""
    return family is not None and "imported" in family.capabilities


def without_files(family: Any) -> str:
    """Where the rewards of a checkpoint without weights come from."""
    if takes_scores(family):
        return "scores from a file"
    return "asked on its server" if family is not None and "network" in family.capabilities else "a rule"


def capability_words(family: Any) -> list[str]:
    """What a family can do, as sentences without a subject."""
    return [CAPABILITIES[word] for word in CAPABILITIES if family is not None and word in family.capabilities]


def page_context(request: HttpRequest, reward_model: RewardModel, **forms: Any) -> dict[str, Any]:
    """Everything of the page; a form that was refused takes the place of its fresh one."""
    may_act = role_in(request.user, reward_model.project) in RESEARCHERS
    context = lineage_context(reward_model, may_act=may_act) | figures_context(request, reward_model)
    family = FAMILIES.get(reward_model.family) if reward_model.family in FAMILIES else None
    config = config_in_order(family, reward_model.config)
    context |= {"project": reward_model.project, "family": family, "config": config}
    context |= {"words": capability_words(family), "is_baseline": is_baseline(reward_model.family)}
    if may_act:
        context["may_audit"] = can_audit(family)
        checkpoints = [row.checkpoint for row in context["lineage"]]
        if family is not None and family.trainable:
            context["train_form"] = train_form(reward_model)
        if checkpoints:
            context["evaluate_form"] = EvaluateForm(project=reward_model.project, checkpoints=checkpoints)
    return context | forms


@login_required
@require_http_methods(["GET", "POST"])
def reward_model_train_view(request: HttpRequest, uid: UUID) -> HttpResponse:
    """A refused form stays at this address; whoever asks for it again, or comes back from the login, gets the form."""
    reward_model = access_reward_model(request.user, uid, RESEARCHERS)
    if request.method == "GET":
        return redirect(f"{reverse('rmeval:reward-model-detail', args=[reward_model.uid])}#train")
    form = train_form(reward_model, request.POST)
    if form.is_valid():
        try:
            run = run_submit(
                project=reward_model.project,
                kind="train_rm",
                spec=train_spec(form, reward_model),
                user=user_of(request),
                now=timezone.now(),
            )
            return redirect("rmeval:run-detail", run.uid)
        except DomainError as error:
            form.add_problems(error.errors, below="/spec")
    context = page_context(request, reward_model, train_form=form)
    return render(request, "rmeval/reward_model_detail.html", context, status=422)


@login_required
@require_http_methods(["GET", "POST"])
def reward_model_evaluate_view(request: HttpRequest, uid: UUID) -> HttpResponse:
    """A refused form stays at this address; whoever asks for it again, or comes back from the login, gets the form."""
    reward_model = access_reward_model(request.user, uid, RESEARCHERS)
    if request.method == "GET":
        return redirect(f"{reverse('rmeval:reward-model-detail', args=[reward_model.uid])}#evaluate")
    checkpoints = list(reward_model.checkpoints.select_related("reward_model").order_by("-number"))
    form = EvaluateForm(request.POST, project=reward_model.project, checkpoints=checkpoints)
    if form.is_valid():
        try:
            run = run_submit(
                project=reward_model.project,
                kind="evaluate",
                spec=form.spec(),
                user=user_of(request),
                now=timezone.now(),
            )
            return redirect("rmeval:run-detail", run.uid)
        except DomainError as error:
            form.add_error(None, error.detail)
    context = page_context(request, reward_model, evaluate_form=form)
    return render(request, "rmeval/reward_model_detail.html", context, status=422)


@login_required
@require_GET
def checkpoint_files_view(request: HttpRequest, uid: UUID) -> HttpResponse:
    """The files of a checkpoint, with sizes and links."""
    checkpoint = access_checkpoint(request.user, uid)
    root = Path(settings.ARTIFACT_DIR) / checkpoint.path
    is_here = bool(checkpoint.path) and root.exists()
    files = [{"name": name, "n_bytes": file.stat().st_size} for name, file in files_of(root)] if is_here else []
    project, family = checkpoint.reward_model.project, checkpoint.reward_model.family
    context = {
        "checkpoint": checkpoint,
        "project": project,
        "files": files,
        "metrics": result_groups(checkpoint.metrics or {}),
        "exported": newest_export(checkpoint),
        "refused": newest_refusal(checkpoint),
        "without_files": without_files(FAMILIES.get(family) if family in FAMILIES else None),
        "may_act": role_in(request.user, project) in RESEARCHERS,
        "not_exported": refusal(family, checkpoint.reward_model.config),
    }
    return render(request, "rmeval/checkpoint_files.html", context)


@login_required
@require_GET
def checkpoint_download_view(request: HttpRequest, uid: UUID, name: str) -> HttpResponseBase:
    """One file, streamed. The name must be one that the folder holds: no path is ever built from the request."""
    checkpoint = access_checkpoint(request.user, uid)
    root = Path(settings.ARTIFACT_DIR) / checkpoint.path
    held = dict(files_of(root)) if checkpoint.path and root.exists() else {}
    if name not in held:
        raise NotFound("This checkpoint has no such file.")
    return FileResponse(held[name].open("rb"), as_attachment=True, filename=Path(name).name)

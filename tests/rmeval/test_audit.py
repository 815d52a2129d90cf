"""A label audit on the database: suspects, edits that are applied to training only, undo, second looks."""

import csv
from io import StringIO
from random import Random
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotator.errors import InvalidInput
from annotator.models import AuditEvent, Dataset, Item, Preference, Project, Queue, Role, Snapshot
from rmeval.edits import table_rows
from rmeval.job_context import DatabaseJobContext
from rmeval.models import Artifact, PairEdit, Run
from rmeval.report import RunReport
from rmeval.selectors.audits import chosen_pairs
from rmeval.services.edits import edits_from_snapshot, edits_make, edits_queue, edits_undo
from rmeval.services.reward_models import reward_model_register
from rmeval.services.submission import run_submit
from rmeval.sources import PairSource, source_of
from tests.factories import (
    DatasetFactory,
    ExampleFactory,
    ItemFactory,
    PreferenceFactory,
    ResponseFactory,
    SnapshotFactory,
    SnapshotRowFactory,
    member,
    user_message,
)
from tests.factories import assistant_message as says
from workers.errors import JobError
from workers.tasks import run_job

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("sent")]

N, FLIPPED = 60, {3, 17, 29, 41, 50, 58}


def fill_noisy(dataset: Dataset) -> Dataset:
    """Good words against bad ones, response A labelled better, but six labels are the wrong way round; one tie."""
    for i in range(N):
        example = ExampleFactory(dataset=dataset, prompt=user_message(f"question {i}"))
        good = ResponseFactory(example=example, number=0, messages=says("good " * (2 + i % 7)))
        bad = ResponseFactory(example=example, number=1, messages=says("bad " * (2 + i % 5)))
        a, b = (bad, good) if i in FLIPPED else (good, bad)
        PreferenceFactory(example=example, response_a=a, response_b=b, verdict="a")
    PreferenceFactory(example__dataset=dataset, verdict="tie")
    dataset.n_preferences = N + 1
    dataset.save()
    return dataset


def model_of(project: Project) -> str:
    config = {"backbone": "tiny-encoder", "max_length": 64}
    found = reward_model_register(project=project, name="tiny", family="scalar_head", config=config, user=None)
    return str(found.uid)


def start(project: Project, kind: str, **spec: Any) -> Run:
    run = run_submit(project=project, kind=kind, spec=spec, user=None, now=timezone.now(), enqueue=False)
    run_job(str(run.uid))
    run.refresh_from_db()
    return run


@pytest.fixture
def audited(project: Project) -> Run:
    dataset = fill_noisy(DatasetFactory(project=project, name="Noisy"))
    run = start(
        project,
        "audit_labels",
        source={"dataset": str(dataset.uid)},
        reward_model=model_of(project),
        members=4,
        batch_pairs=8,
        learning_rate=0.02,
        suspect_share=0.1,
    )
    assert run.state == "done", run.error
    return run


def source_of_run(run: Run, **options: Any) -> PairSource:
    return source_of(run.project, {**run.spec["source"], **options})


def flipped_ids(run: Run) -> set[str]:
    pks = (
        Preference.objects.filter(dataset__project=run.project, verdict="a").order_by("pk").values_list("pk", flat=True)
    )
    return {f"dataset-{pk}" for i, pk in enumerate(pks) if i in FLIPPED}


def test_the_audit_finds_the_flips_and_keeps_a_table(audited: Run) -> None:
    result = audited.result or {}
    assert (result["n_pairs"], result["n_audited"], result["left_out"]) == (N + 1, N, {"tie": 1})
    assert (result["members"], result["seeds"], result["epochs"]) == (4, [0, 1, 2, 3], 3)
    assert "on the pairs trained on" in result["measured"]
    assert result["noise_rate"]["source"] == "same_pairs"
    assert result["suspects"]["n"] == 6
    found = {suspect["id"] for suspect in result["suspects"]["top"]}
    assert len(found & flipped_ids(audited)) >= 5
    assert sum(group["n"] for group in result["strengths"]) == N
    assert sum(group["n"] for group in result["groups"].values()) == N
    rows = list(table_rows(audited))
    assert [row["pair_id"] for row in rows] == [
        f"dataset-{pk}" for pk in Preference.objects.filter(verdict="a").order_by("pk").values_list("pk", flat=True)
    ]
    assert audited.environment["data"]["sha256"] == source_of_run(audited).sha256()


def test_edits_reach_training_and_nothing_else(audited: Run) -> None:
    before = list(Preference.objects.order_by("pk").values_list("pk", "verdict", "preference_strength"))
    wrong = sorted(flipped_ids(audited))
    now, plain = timezone.now(), source_of_run(audited)
    assert edits_make(run=audited, kind="flip", pairs=wrong[:3], user=None, now=now).n_made == 3
    edits_make(run=audited, kind="soften", value=0.2, pairs=wrong[3:4], user=None, now=now)
    edits_make(run=audited, kind="drop", pairs=wrong[4:5], user=None, now=now)
    edits_make(run=audited, kind="weight", value=0.5, pairs=wrong[5:], user=None, now=now)

    edited = source_of_run(audited, edits=True)
    by_id = {pair.pair_id: pair for pair in edited.stream_pairs()}
    assert [by_id[w].verdict for w in wrong[:3]] == ["b", "b", "b"]
    assert (by_id[wrong[3]].verdict, by_id[wrong[3]].flip_chance) == ("a", 0.2)
    assert (by_id[wrong[4]].weight, by_id[wrong[5]].weight) == (0.0, 0.5)
    assert {pair.verdict for pair in plain.stream_pairs() if pair.pair_id in wrong} == {"a"}
    assert edited.sha256() != plain.sha256()
    assert list(Preference.objects.order_by("pk").values_list("pk", "verdict", "preference_strength")) == before

    model = audited.spec["reward_model"]
    run = start(
        audited.project, "train_rm", reward_model=model, source={**audited.spec["source"], "edits": True}, max_steps=4
    )
    assert run.state == "done", run.error
    assert run.environment["data"]["edits"] == {"drop": 1, "flip": 3, "soften": 1, "weight": 1}
    assert run.environment["data"]["sha256"] == edited.sha256()
    assert (run.result or {})["left_out"] == {"tie": 1, "no weight": 1}
    untouched = start(audited.project, "train_rm", reward_model=model, source=audited.spec["source"], max_steps=4)
    assert untouched.environment["data"]["sha256"] == plain.sha256()
    assert (untouched.result or {})["encoded_sha256"] != (run.result or {})["encoded_sha256"]


def test_an_undone_edit_leaves_the_data_as_they_were(audited: Run) -> None:
    plain = source_of_run(audited).sha256()
    bare = source_of_run(audited, edits=True).sha256()
    now, user = timezone.now(), member(audited.project)
    pairs = chosen_pairs(run=audited, lowest_share=0.1)
    made = edits_make(run=audited, kind="flip", pairs=pairs, user=user, now=now, reason="votes")
    assert made.n_made == len(pairs) == 6
    assert source_of_run(audited, edits=True).sha256() != bare
    again = edits_make(run=audited, kind="flip", pairs=pairs, user=user, now=now)
    assert (again.n_made, again.n_same) == (0, 6)
    softer = edits_make(run=audited, kind="soften", value=0.1, pairs=pairs[:2], user=user, now=now)
    assert (softer.n_made, softer.n_replaced) == (2, 2)
    first = PairEdit.objects.filter(reverted_at=None).order_by("pk")[0]
    assert edits_undo(run=audited, user=user, now=now, edits=[first.uid]) == 1
    assert edits_undo(run=audited, user=user, now=now) == 5
    assert source_of_run(audited, edits=True).sha256() == bare
    assert source_of_run(audited).sha256() == plain
    assert PairEdit.objects.count() == 8
    assert PairEdit.objects.filter(reverted_by=user).count() == 8
    assert AuditEvent.objects.filter(action="labels.undo", actor=user).count() == 2


def test_strengths_come_with_the_pairs_and_turn_with_the_label(audited: Run) -> None:
    mu = {row["pair_id"]: float(row["mu"]) for row in table_rows(audited)}
    wrong = next(iter(sorted(flipped_ids(audited))))
    edits_make(run=audited, kind="flip", pairs=[wrong], user=None, now=timezone.now())
    source = source_of_run(audited, edits=True, strengths=str(audited.uid))
    told = {pair.pair_id: pair.meta.get("audit_margin") for pair in source.stream_pairs()}
    assert told[wrong] == -mu[wrong]
    assert all(told[pair] == value for pair, value in mu.items() if pair != wrong)
    assert [value for pair, value in told.items() if pair not in mu] == [None]  # the tie
    run = start(
        audited.project,
        "train_rm",
        reward_model=audited.spec["reward_model"],
        source={**audited.spec["source"], "edits": True, "strengths": str(audited.uid)},
        objective="soft_margin_bt",
        max_steps=4,
    )
    assert run.state == "done", run.error
    assert run.environment["data"]["strengths"] == str(audited.uid)
    assert 0 < (run.result or {})["finished"]["negative_strength_share"] < 0.5


@pytest.mark.parametrize("kind", ["evaluate", "score"])
def test_edits_are_for_training_only(audited: Run, kind: str) -> None:
    spec = {"checkpoint": str(audited.uid), "source": {**audited.spec["source"], "edits": True}}
    with pytest.raises(InvalidInput) as caught:
        run_submit(project=audited.project, kind=kind, spec=spec, user=None, now=timezone.now(), enqueue=False)
    assert "/spec/source/edits" in [error.pointer for error in caught.value.errors]


def test_a_second_look_hides_the_label_and_overrules_the_vote(audited: Run) -> None:
    now, user = timezone.now(), member(audited.project)
    pairs = chosen_pairs(run=audited, lowest_share=0.1)
    edits_make(run=audited, kind="flip", pairs=pairs, user=user, now=now)
    queue = edits_queue(run=audited, pairs=pairs, name="A second look", user=user, now=now, rng=Random(0))
    items = list(Item.objects.filter(queue=queue).order_by("pk"))
    assert len(items) == 6
    assert queue.state == Queue.State.OPEN
    assert not {"verdict", "label", "chosen"} & {field.name for field in Item._meta.get_fields()}

    snapshot = SnapshotFactory(queue=queue, n_rows=3)
    for item, verdict in zip(items, ["a", "b", "tie"], strict=False):
        SnapshotRowFactory(snapshot=snapshot, item=item, verdict=verdict)
    made = edits_from_snapshot(run=audited, snapshot=snapshot, user=user, now=now)
    assert (made.n_made, made.n_replaced) == (3, 3)
    told = PairEdit.objects.filter(told_by=snapshot)
    assert sorted(told.values_list("kind", flat=True)) == ["drop", "flip", "keep"]
    assert all("A second look, snapshot" in edit.reason for edit in told)
    votes = edits_make(run=audited, kind="drop", pairs=pairs, user=user, now=now)
    assert (votes.n_made, votes.n_people) == (3, 3)
    verdicts = {pair.pair_id: pair for pair in source_of_run(audited, edits=True).stream_pairs()}
    kept = told.get(kind="keep")
    assert verdicts[f"dataset-{kept.row_id}"].verdict == "a"


def test_a_second_look_by_chance_gives_the_noise_rate(audited: Run) -> None:
    dataset = source_of_run(audited).home
    snapshot = SnapshotFactory(queue__dataset=dataset, queue__project=audited.project, n_rows=20)
    rows = Preference.objects.filter(dataset=dataset, verdict="a").order_by("pk")[:20]
    for i, row in enumerate(rows):
        pair = {"example": row.example, "response_a": row.response_a, "response_b": row.response_b}
        item = ItemFactory(queue=snapshot.queue, **pair)
        SnapshotRowFactory(snapshot=snapshot, item=item, verdict="b" if i in FLIPPED else "a")
    run = start(
        audited.project,
        "audit_labels",
        **{**audited.spec, "reannotated": {"snapshot": str(snapshot.uid)}, "members": 3},
    )
    found = (run.result or {})["noise_rate"]
    assert (found["value"], found["source"], found["n"]) == (pytest.approx(2 / 20), "reannotated", 20)
    assert run.environment["data"]["uid"] == str(dataset.uid)
    assert run.environment["further_data"]["uid"] == str(snapshot.uid)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"kind": "turn"}, "/kind"),
        ({"kind": "soften"}, "/value"),
        ({"kind": "soften", "value": 0.5}, "/value"),
        ({"kind": "soften", "value": float("nan")}, "/value"),
        ({"kind": "weight", "value": -1}, "/value"),
        ({"kind": "flip", "value": 0.1}, "/value"),
        ({"pairs": []}, "/pairs"),
        ({"pairs": ["dataset-0"]}, "/pairs/0"),
        ({"pairs": ["snapshot-1"]}, "/pairs/0"),
        ({"pairs": ["x"]}, "/pairs/0"),
    ],
)
def test_edits_that_cannot_be(audited: Run, change: dict[str, Any], pointer: str) -> None:
    pairs = chosen_pairs(run=audited, lowest_share=0.05)
    with pytest.raises(InvalidInput) as caught:
        edits_make(**{"run": audited, "kind": "flip", "pairs": pairs, "user": None, "now": timezone.now(), **change})
    assert [error.pointer for error in caught.value.errors] == [pointer]
    assert not PairEdit.objects.exists()


def test_another_run_is_no_audit(audited: Run) -> None:
    other = Run.objects.create(project=audited.project, kind="evaluate", spec=audited.spec, state="done")
    with pytest.raises(InvalidInput, match="this run is none"):
        edits_make(run=other, kind="flip", pairs=["dataset-1"], user=None, now=timezone.now())
    spec = {**audited.spec["source"], "strengths": str(other.uid)}
    with pytest.raises(Exception, match="no finished label audit"):
        source_of(audited.project, spec)


def test_a_lost_table_ends_the_run_with_advice(audited: Run, settings: Any, tmp_path: Any) -> None:
    settings.ARTIFACT_DIR = tmp_path / "elsewhere"
    ctx = DatabaseJobContext(audited, RunReport(audited))
    with pytest.raises(JobError, match="not on this machine"):
        ctx.open_input("pairs", source={**audited.spec["source"], "strengths": str(audited.uid)})


@pytest.mark.parametrize(
    ("spec", "pointer"),
    [
        ({"members": 2}, "/spec/members"),
        ({"seeds": [1, 1, 1]}, "/spec/seeds"),
        ({"seeds": [1, 2]}, "/spec/seeds"),
        ({"epochs": 4}, "/spec/epochs"),
    ],
)
def test_too_few_members_are_refused(project: Project, spec: dict[str, Any], pointer: str) -> None:
    dataset = fill_noisy(DatasetFactory(project=project))
    full = {"source": {"dataset": str(dataset.uid)}, **spec}
    with pytest.raises(InvalidInput) as caught:
        run_submit(project=project, kind="audit_labels", spec=full, user=None, now=timezone.now(), enqueue=False)
    assert [error.pointer for error in caught.value.errors] == [pointer]


def test_the_page_edits_undoes_and_asks_people(audited: Run) -> None:
    client, user = Client(), member(audited.project, Role.RESEARCHER)
    client.force_login(user)
    page = reverse("rmeval:run-detail", args=[audited.uid])
    shown = client.get(page).content.decode()
    worst = audited.result["suspects"]["top"][0]["id"]  # type: ignore[index]
    assert f'value="{worst}"' in shown
    for told in ("Strength of the labels", "Where the members differ", "Table of all pairs", "labelled better"):
        assert told in shown
    answer = client.get(f"{page}?part=audit&suspects=1", headers={"HX-Request": "true"})
    assert answer.status_code == 200
    assert b"Suspects" in answer.content

    edit = reverse("rmeval:audit-edit", args=[audited.uid])
    client.post(edit, {"which": "checked", "pairs": [worst], "kind": "flip"})
    assert PairEdit.objects.get().created_by == user
    assert "edited: turn the label" in client.get(page).content.decode()
    answer = client.post(edit, {"which": "lowest", "share": "0.05", "kind": "soften", "value": "0.1"}, follow=True)
    assert "3 labels edited, 1 of them anew" in answer.content.decode()
    answer = client.post(edit, {"which": "checked", "kind": "flip"}, follow=True)
    assert "No pair is ticked" in answer.content.decode()
    answer = client.post(edit, {"which": "checked", "pairs": ["x"], "kind": "flip"}, follow=True)
    assert "is not a pair of Noisy" in answer.content.decode()
    client.post(reverse("rmeval:audit-undo", args=[audited.uid]))
    assert not PairEdit.objects.filter(reverted_at=None).exists()

    queue = reverse("rmeval:audit-queue", args=[audited.uid])
    answer = client.post(queue, {"which": "negative", "name": "A second look", "overlap": 1}, follow=True)
    assert answer.status_code == 200
    made = Queue.objects.get(name="A second look")
    n_negative = len(chosen_pairs(run=audited, negative=True))
    assert made.items.count() == n_negative > 0
    snapshot = SnapshotFactory(queue=made)
    SnapshotRowFactory(snapshot=snapshot, item=made.items.order_by("pk")[0], verdict="b")
    verdicts = reverse("rmeval:audit-verdicts", args=[audited.uid])
    client.post(verdicts, {"snapshot": str(snapshot.uid)})
    assert PairEdit.objects.filter(reverted_at=None).get().told_by == snapshot
    assert "Nothing was changed" in client.post(verdicts, {"snapshot": "nonsense"}, follow=True).content.decode()
    assert Snapshot.objects.count() == 1


def test_training_with_edits_is_a_choice_of_the_form(audited: Run) -> None:
    client = Client()
    client.force_login(member(audited.project, Role.RESEARCHER))
    model = audited.spec["reward_model"]
    choice = f"dataset:{audited.spec['source']['dataset']}:edits"
    page = reverse("rmeval:reward-model-detail", args=[model])
    assert choice not in client.get(page).content.decode()
    pairs = chosen_pairs(run=audited, lowest_share=0.1)
    edits_make(run=audited, kind="flip", pairs=pairs, user=None, now=timezone.now())
    shown = client.get(page).content.decode()
    assert choice in shown
    assert "6 labels edited" in shown
    client.post(reverse("rmeval:reward-model-train", args=[model]), {"source": choice})
    assert Run.objects.get(kind="train_rm").spec["source"]["edits"] is True


def test_the_table_is_downloaded(audited: Run) -> None:
    client = Client()
    client.force_login(member(audited.project, Role.VIEWER))
    answer = client.get(reverse("rmeval:artifact-download", args=[Artifact.objects.get(kind="table").uid]))
    text = b"".join(answer.streaming_content).decode()  # type: ignore[attr-defined]
    assert len(list(csv.DictReader(StringIO(text)))) == N
    shown = client.get(reverse("rmeval:run-detail", args=[audited.uid])).content.decode()
    assert 'name="pairs"' not in shown  # a viewer looks


def test_the_same_by_rest(audited: Run) -> None:
    client = Client()
    client.force_login(member(audited.project, Role.RESEARCHER))
    url = reverse("rmeval-api:run-edits", args=[audited.uid])

    def post(at: str, body: dict[str, Any]) -> Any:
        return client.post(at, body, content_type="application/json")

    made = post(url, {"kind": "soften", "value": 0.3, "lowest_share": 0.1, "reason": "votes"})
    assert (made.status_code, made.json()["n_made"]) == (201, 6)
    rows = client.get(f"{url}?standing=true").json()["results"]
    assert {(row["kind"], row["value"], row["reason"]) for row in rows} == {("soften", 0.3, "votes")}
    assert rows[0]["pair"].startswith("dataset-")
    undo = reverse("rmeval-api:run-edits-undo", args=[audited.uid])
    assert post(undo, {"edits": [rows[0]["uid"]]}).json() == {"n_undone": 1}
    assert post(undo, {}).json() == {"n_undone": 5}
    bad = post(url, {"kind": "flip", "negative": True, "lowest_share": 0.1})
    assert (bad.status_code, bad.json()["errors"][0]["pointer"]) == (422, "/pairs")
    queue = post(reverse("rmeval-api:run-edits-queue", args=[audited.uid]), {"name": "Again", "lowest_share": 0.1})
    assert Queue.objects.get(uid=queue.json()["queue"]).items.count() == 6
    verdicts = reverse("rmeval-api:run-edits-verdicts", args=[audited.uid])
    assert post(verdicts, {"snapshot": str(audited.uid)}).status_code == 404

"""Rewards of one person, asked for by REST and on the playground: raters of queues, snapshots and datasets."""

from typing import Any
from urllib.parse import urlencode

import pytest
from django.urls import reverse
from django.utils import timezone

from annotator.models import Dataset, Project, Queue, Rater, Role
from annotator.services.snapshot_rows import rater_pseudonym
from rmeval.models import Checkpoint, RewardModel, Run, Score
from rmeval.person_forms import read_pairs
from rmeval.raters import rater_pairs, rater_source
from rmeval.services.reward_models import reward_model_register
from rmeval.services.submission import run_submit
from tests.factories import (
    DatasetFactory,
    ExampleFactory,
    ItemFactory,
    JudgementFactory,
    PreferenceFactory,
    QueueFactory,
    RaterFactory,
    ResponseFactory,
    SnapshotFactory,
    SnapshotRowFactory,
    user_message,
)
from tests.factories import assistant_message as says
from tests.rmeval.test_evaluation import baseline
from tests.rmeval.test_pages import client_of
from workers.tasks import run_job

pytestmark = [pytest.mark.django_db(transaction=True)]
TEXTS = {"conversation": "question 1", "response_1": "good good good", "response_2": "bad bad"}
PASTED = """{"prompt": "question 7", "chosen": "bad", "rejected": "good good"}
{"prompt": "question 8", "chosen": "bad bad", "rejected": "good"}"""


def taste_dataset(project: Project, n: int = 160, n_raters: int = 8) -> Dataset:
    """Raters with an even number like good words, the others bad ones; the examples name them under "who"."""
    dataset = DatasetFactory(project=project, name="Tastes")
    for i in range(n):
        rater = i % n_raters
        example = ExampleFactory(
            dataset=dataset, prompt=user_message(f"question {i // 2}"), meta={"who": f"rater {rater}"}
        )
        good = ResponseFactory(example=example, number=0, messages=says("good " * (1 + i % 5)))
        bad = ResponseFactory(example=example, number=1, messages=says("bad " * (1 + i % 7)))
        PreferenceFactory(example=example, response_a=good, response_b=bad, verdict="b" if rater % 2 else "a")
    dataset.n_preferences, dataset.n_examples, dataset.n_responses = n, n, 2 * n
    dataset.metadata_keys = ["who"]
    dataset.save()
    return dataset


@pytest.fixture
def tastes(project: Project) -> Dataset:
    return taste_dataset(project)


@pytest.fixture
def personal(project: Project, tastes: Dataset, sent: Any) -> Checkpoint:
    model = reward_model_register(
        project=project,
        name="mine",
        family="latent_user",
        config={"backbone": "tiny-encoder", "max_length": 64, "latent": 4, "hidden": 32},
        user=None,
    )
    spec = {
        "reward_model": str(model.uid),
        "source": {"dataset": str(tastes.uid)},
        "rater_key": "who",
        "epochs": 25,
        "batch_pairs": 16,
        "learning_rate": 5e-4,
        "eval_every": 1000,
        "objective_config": {"max_context": 4, "anneal_steps": 50, "beta": 1e-3},
    }
    submitted(project, "train_rm", spec)
    return Checkpoint.objects.get()


@pytest.fixture
def untrained(project: Project, tastes: Dataset, sent: Any) -> Checkpoint:
    """A checkpoint that nobody gets to open."""
    model = RewardModel.objects.create(project=project, name="mine", family="latent_user", config={})
    return Checkpoint.objects.create(reward_model=model, number=1)


def submitted(project: Project, kind: str, spec: dict[str, Any]) -> Run:
    run = run_submit(project=project, kind=kind, spec=spec, user=None, now=timezone.now(), enqueue=False)
    run_job(str(run.uid))
    run.refresh_from_db()
    assert run.state == "done", run.error
    return run


def queue_with(dataset: Dataset, choices: dict[Rater, list[str | None]]) -> Queue:
    """A queue in which each rater has judged the first pairs of the dataset."""
    queue = QueueFactory(project=dataset.project, dataset=dataset)
    pairs = list(dataset.preferences.order_by("pk")[: max(map(len, choices.values()))])
    items = [
        ItemFactory(queue=queue, example=p.example, response_a=p.response_a, response_b=p.response_b) for p in pairs
    ]
    for rater, verdicts in choices.items():
        for item, verdict in zip(items, verdicts, strict=False):
            JudgementFactory(queue=queue, item=item, rater=rater, verdict=verdict, preference_strength=None)
    return queue


def test_the_page_tells_what_each_person_would_like(personal: Checkpoint, tastes: Dataset, sent: Any) -> None:
    """A rater of a queue who likes bad words, a rater of the dataset who likes good ones, and pasted pairs."""
    project = tastes.project
    contrary = RaterFactory()
    queue = queue_with(tastes, {contrary: ["b"] * 8})
    name = rater_pseudonym(project.uid, contrary.uid)
    lead, address = client_of(project, Role.LEAD), reverse("rmeval:playground", args=[project.uid])
    page = lead.get(address).content.decode()
    assert "Whose rewards" in page
    assert f'value="queue:{queue.uid}"' in page
    assert "knows a person by pairs" in page
    rule = baseline(project, name="a rule for all")
    for given, likes_good, told in (
        ({"person_source": f"queue:{queue.uid}", "person_rater": name}, False, f"As rater {name} would see it"),
        (
            {"person_source": f"dataset:{tastes.uid}", "person_rater": "rater 2", "person_rater_key": "who"}
            | {"person_n_pairs": 20},
            True,
            "known by 19 pairs; 1 choice about this very conversation is left out.",
        ),
        ({"person_pairs": PASTED}, False, "As the person of the given pairs would see it, known by 2 pairs."),
    ):
        answer = lead.post(address, {**TEXTS, **given, "checkpoints": [personal.uid, rule.uid]})
        assert answer.status_code == 302, answer.content.decode()
        run = Run.objects.order_by("-pk")[0]
        run_job(str(run.uid))
        run.refresh_from_db()
        good, bad = run.result["rewards"][0]["values"]  # type: ignore[index]
        assert (good > bad) == likes_good
        shown = lead.get(answer["Location"]).content.decode()
        assert told in shown
        assert "personalised" in shown
        assert shown.count("a rule for all #1</a>. Leave the person out to ask them.") == 1
        assert "takes no pairs of a person" not in shown
        assert f'name="person_n_pairs" value="{given.get("person_n_pairs", 16)}"' in shown or "person_pairs" in given
        assert given.get("person_rater", "question 7") in shown.split('id="person" open', 1)[1]  # filled in again


def test_what_the_page_refuses(untrained: Checkpoint, tastes: Dataset) -> None:
    project = tastes.project
    lead, address = client_of(project, Role.LEAD), reverse("rmeval:playground", args=[project.uid])
    rule = baseline(project, name="longer")
    place = f"dataset:{tastes.uid}"
    quiet = QueueFactory(project=project, dataset=tastes)
    for given, said in (
        ({"person_source": f"queue:{quiet.uid}"}, f"No rater is known in {quiet.name} by a choice yet"),
        ({"person_source": place, "person_rater": "rater 99", "person_rater_key": "who"}, "Nobody called rater 99"),
        ({"person_source": place, "person_rater": "rater 99", "person_rater_key": "who"}, "rater 0 (20 pairs)"),
        ({"person_source": place, "person_rater": "rater 1"}, "names its raters. Keys there: who."),
        (
            {"person_source": place, "person_rater_key": "who"},
            "Name the rater. Those with most pairs there: rater 0 (20",
        ),
        ({"person_source": place, "person_rater_key": "who", "person_n_pairs": 1}, "greater than or equal to 2"),
        ({"person_rater": "rater 1"}, "give both"),
        ({"person_pairs": PASTED.splitlines()[0]}, "give 2 or more"),
        ({"person_pairs": PASTED, "person_rater": "x"}, "one of the two"),
        ({"person_pairs": "good"}, "This is no JSON list and no JSON lines"),
        ({"person_pairs": '[{"prompt": "x"}]'}, "Pair 1 is not an object with prompt, chosen and rejected alone"),
        ({"person_pairs": PASTED.replace('"bad"', '"good good"')}, "The two responses are the same"),
        ({"person_source": "queue:nope"}, "Select a valid choice"),
        ({"person_pairs": PASTED, "checkpoints": [rule.uid]}, "takes no pairs of a person"),
    ):
        refused = lead.post(address, {**TEXTS, "checkpoints": [untrained.uid], **given})
        page = refused.content.decode().replace("&#x27;", "'")
        assert refused.status_code == 422, said
        assert said in page
        assert 'id="person" open' in page
    assert not Run.objects.filter(kind="score_text").exists()


def test_a_dataset_is_scored_for_a_person_by_rest(personal: Checkpoint, tastes: Dataset, sent: Any) -> None:
    project = tastes.project
    lead = client_of(project, Role.LEAD)
    where = {"checkpoint": str(personal.uid), "source": {"dataset": str(tastes.uid)}}
    submitted(project, "score", where)
    plain = dict(Score.objects.filter(extra="").values_list("response", "value"))
    person = {"source": where["source"], "rater": "rater 1", "rater_key": "who"}
    body = {"kind": "score", "spec": {**where, "person": person}}
    answer = lead.post(
        f"/api/v1/projects/{project.uid}/runs/", body, content_type="application/json", headers={"Accept": "*/*"}
    )
    assert answer.status_code == 202, answer.content
    run_job(answer.json()["uid"])
    run = Run.objects.get(uid=answer.json()["uid"])
    assert run.state == "done", run.error
    assert run.result is not None
    own = dict(Score.objects.filter(extra=run.result["person"]["extra"]).values_list("response", "value"))
    assert own.keys() == plain.keys()
    assert dict(Score.objects.filter(extra="").values_list("response", "value")) == plain
    of_rater = tastes.preferences.filter(example__meta__who="rater 1")
    assert sum(own[p.response_b_id] > own[p.response_a_id] for p in of_rater) >= 18

    page = lead.get(reverse("rmeval:run-detail", args=[run.uid])).content.decode()
    assert f"&amp;{urlencode({'extra': run.result['person']['extra']})}&amp;file=parquet" in page

    again = submitted(project, "score", {**where, "person": person})
    assert again.result is not None
    assert again.result["n_scored"] == 0


def test_a_score_run_of_a_family_that_knows_no_persons_is_refused(project: Project, dataset: Dataset) -> None:
    lead, rule = client_of(project, Role.LEAD), baseline(project)
    pair = {"prompt": user_message("x"), "chosen": says("a"), "rejected": says("b")}
    spec = {
        "checkpoint": str(rule.uid),
        "source": {"dataset": str(dataset.uid)},
        "person": {"pairs": [pair, {**pair, "chosen": says("c")}]},
    }
    body = {"kind": "score", "spec": spec}
    answer = lead.post(f"/api/v1/projects/{project.uid}/runs/", body, content_type="application/json")
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/spec/person"]
    assert "takes no pairs of a person" in answer.json()["detail"]


def test_pairs_of_a_rater_are_that_raters_own_and_decided(tastes: Dataset) -> None:
    project = tastes.project
    one, other = RaterFactory(), RaterFactory()
    queue = queue_with(tastes, {one: ["b", "tie", "a", None, "b"], other: ["a", "a", "b", "b", "a"]})
    name, others = (rater_pseudonym(project.uid, rater.uid) for rater in (one, other))
    found = rater_pairs(rater_source(project, {"queue": queue.uid}), rater=name, rater_key=None, most=64)
    assert [pair.verdict for pair in found] == ["b", "a", "b"]
    assert found[0].chosen[0]["content"].startswith("bad")

    snapshot = SnapshotFactory(queue=queue)
    for number, item in enumerate(queue.items.order_by("pk"), start=1):
        said = [
            {"rater": rater_pseudonym(project.uid, j.rater.uid), "verdict": j.verdict} for j in item.judgements.all()
        ]
        SnapshotRowFactory(
            snapshot=snapshot,
            position=number,
            item=item,
            example=item.example,
            response_a=item.response_a,
            response_b=item.response_b,
            verdict="a",
            judgements=said,
        )
    cut = rater_source(project, {"snapshot": snapshot.uid})
    assert [p.verdict for p in rater_pairs(cut, rater=name, rater_key=None, most=64)] == ["b", "a", "b"]
    assert [p.verdict for p in rater_pairs(cut, rater=others, rater_key=None, most=64)] == ["a", "a", "b", "b", "a"]
    assert [p.verdict for p in rater_pairs(cut, rater=others, rater_key=None, most=2)] == ["a", "a"]


@pytest.mark.parametrize("kind", ["queue", "snapshot", "dataset"])
def test_an_unknown_rater_is_told_who_is_known(tastes: Dataset, untrained: Checkpoint, kind: str) -> None:
    project, rater = tastes.project, RaterFactory()
    queue = queue_with(tastes, {rater: ["a", "b", "a"], RaterFactory(): ["a"]})
    name = rater_pseudonym(project.uid, rater.uid)
    snapshot = SnapshotFactory(queue=queue)
    SnapshotRowFactory(
        snapshot=snapshot, item=queue.items.first(), verdict="a", judgements=[{"rater": name, "verdict": "a"}]
    )
    uid = {"queue": queue, "snapshot": snapshot, "dataset": tastes}[kind].uid
    key = {"rater_key": "who"} if kind == "dataset" else {}
    lead = client_of(project, Role.LEAD)
    for wanted, code in (("r-nobody", "unknown_rater"), (name if kind == "snapshot" else "", "too_few_pairs")):
        if not wanted:
            continue
        spec = {
            "checkpoints": [str(untrained.uid)],
            "prompt": user_message("x"),
            "responses": [{"messages": says("good")}],
            "person": {"source": {kind: str(uid)}, "rater": wanted, **key},
        }
        body = {"kind": "score_text", "spec": spec}
        answer = lead.post(f"/api/v1/projects/{project.uid}/runs/", body, content_type="application/json")
        assert answer.status_code == 422
        (error,) = answer.json()["errors"]
        assert (error["pointer"], error["code"]) == ("/spec/person/rater", code)
        assert ("rater 0 (20 pairs)" if kind == "dataset" else f"{name} (") in error["detail"]


def test_a_place_of_another_project_is_unknown(untrained: Checkpoint, tastes: Dataset) -> None:
    elsewhere = QueueFactory()
    spec = {
        "checkpoint": str(untrained.uid),
        "source": {"dataset": str(tastes.uid)},
        "person": {"source": {"queue": str(elsewhere.uid)}, "rater": "r-1"},
    }
    answer = client_of(tastes.project, Role.LEAD).post(
        f"/api/v1/projects/{tastes.project.uid}/runs/",
        {"kind": "score", "spec": spec},
        content_type="application/json",
    )
    assert answer.status_code == 404
    assert answer.json()["errors"][0]["pointer"] == "/spec/person/source"


def test_pasted_pairs_may_be_lines_lists_texts_or_messages() -> None:
    messages = '[{"role": "user", "content": "Why?"}]'
    (pair,) = read_pairs(f'[{{"prompt": {messages}, "chosen": "A", "rejected": "B"}}]')
    assert pair == {"prompt": user_message("Why?"), "chosen": says("A"), "rejected": says("B")}
    assert len(read_pairs(PASTED)) == 2
    assert read_pairs("  ") == []
    for text, wrong in (
        ('[{"prompt": "x", "chosen": "", "rejected": "b"}]', "The chosen of pair 1 is empty"),
        ('[{"prompt": "x", "chosen": [{"role": "a"}], "rejected": "b"}]', "The chosen of pair 1: Message 1 is not"),
        ("[" * 5000, "no JSON list"),
        ("[1]", "Pair 1 is not an object"),
    ):
        with pytest.raises(ValueError, match=wrong):
            read_pairs(text)

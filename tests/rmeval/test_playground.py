"""The playground: typed texts, a run, and what its page shows."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotator.models import Dataset, Project, Role
from rmeval.conversation_text import read_messages, read_steps, write_messages
from rmeval.models import Checkpoint, RewardModel, Run
from rmeval.services.runs import run_finish, run_start
from rmeval.typed_parts import bars_of, tables_of, tokens_of
from rmeval.typed_scores import ModelScores, TypedScores, model_scores, typed_scores
from tests.factories import ExampleFactory, ProjectFactory, ResponseFactory
from tests.factories import assistant_message as says
from tests.rmeval.test_evaluation import baseline
from tests.rmeval.test_pages import client_of
from workers.jobs.score_text import MOST_RESPONSES
from workers.tasks import run_job

pytestmark = [pytest.mark.django_db(transaction=True)]
BODY = {"conversation": "Why?", "response_1": "Because it is so.", "response_2": "No."}


@pytest.fixture
def lead(project: Project) -> Client:
    return client_of(project, Role.LEAD)


def address(project: Project) -> str:
    return reverse("rmeval:playground", args=[project.uid])


def test_from_the_form_to_rewards_side_by_side(project: Project, lead: Client, sent: list[tuple[str, str]]) -> None:
    longer, shorter = baseline(project, name="longer"), baseline(project, name="shorter", prefer="shorter")
    answer = lead.post(address(project), {**BODY, "checkpoints": [longer.uid, shorter.uid]})
    run = Run.objects.get()
    assert answer["Location"] == f"{address(project)}?run={run.uid}#scores"
    assert sent == [(str(run.uid), "default")]  # rules do not wait behind a training
    waiting = lead.get(answer["Location"]).content.decode()
    assert f"live:run.{run.uid}" in waiting
    assert "queued" in waiting
    run_job(str(run.uid))
    part = lead.get(answer["Location"], headers={"HX-Request": "true"}).content.decode()
    assert "<html" not in part
    for page in (part, lead.get(reverse("rmeval:run-detail", args=[run.uid])).content.decode()):
        assert page.count("<b>+17</b>") == 1
        assert page.count("<b>−17</b>") == 1
        assert page.count(">highest<") == 2
        assert "of 2 reward models" in page
        assert 'style="' not in page
    filled = lead.get(answer["Location"]).content.decode()
    assert "Because it is so." in filled.split("<form", 2)[-1]
    assert filled.count(" checked>") == 2


def test_models_that_cannot_be_asked_say_why(project: Project, lead: Client) -> None:
    baseline(project, name="fit")
    RewardModel.objects.create(project=project, name="fresh", family="scalar_head", config={})
    gone = RewardModel.objects.create(project=project, name="old", family="gone", config={})
    Checkpoint.objects.create(reward_model=gone, number=1)
    page = lead.get(address(project)).content.decode()
    assert page.count('name="checkpoints"') == 1
    assert "it has no checkpoint yet: train it first" in page
    assert "its family is not part of this installation" in page


def test_an_older_checkpoint_may_be_asked(project: Project, lead: Client, sent: Any) -> None:
    model = baseline(project).reward_model
    old = model.checkpoints.get()
    Checkpoint.objects.create(reward_model=model, number=2)
    page = lead.get(address(project), {"checkpoint": old.uid}).content.decode()
    assert page.count('name="checkpoints"') == 2
    assert page.count(" checked>") == 1
    assert lead.post(address(project), {**BODY, "checkpoints": [old.uid]}).status_code == 302


def test_an_example_fills_the_form_in(project: Project, dataset: Dataset, lead: Client) -> None:
    answer = lead.get(address(project), {"dataset": dataset.uid, "position": "1"})
    page = lead.get(answer["Location"]).content.decode()
    example = dataset.examples.order_by("pk").first()
    assert str(example.uid) in answer["Location"]
    assert example.prompt[0]["content"] in page
    assert "short</textarea>" in page.replace("\n", "")
    assert f'value="{dataset.uid}" selected' in page
    assert f'min="1" value="{example.position + 1}"' in page
    assert "Fill in the next" in page
    assert lead.get(address(project), {"dataset": dataset.uid, "position": "99999999999999"}).status_code == 302


def test_what_belongs_to_another_project_is_not_found(project: Project, lead: Client) -> None:
    elsewhere = ExampleFactory()
    run = Run.objects.create(project=ProjectFactory(), kind="score_text", spec={})
    own = Run.objects.create(project=project, kind="score", spec={})
    for query in (
        {"example": elsewhere.uid},
        {"dataset": elsewhere.dataset.uid},
        {"run": run.uid},
        {"run": own.uid},
        {"run": "x"},
        {"example": "x"},
        {"dataset": "x"},
    ):
        assert lead.get(address(project), query).status_code == 404, query
    checkpoint = baseline(ProjectFactory())
    refused = lead.post(address(project), {**BODY, "checkpoints": [checkpoint.uid]})
    assert refused.status_code == 422
    assert Run.objects.count() == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"conversation": ""}, "This field is required"),
        ({"checkpoints": []}, "Choose a reward model or more."),
        ({"conversation": '[{"role": "user"}]'}, "Message 1 is not"),
        ({"response_1": '[{"role": "poet", "content": "x"}]'}, "Input should be"),
        ({"conversation": "user:\n "}, "a conversation with some text"),
        ({"response_2": "\x00"}, "Null characters are not allowed"),
    ],
)
def test_a_refused_form_says_why(project: Project, lead: Client, change: dict[str, Any], said: str) -> None:
    body = {**BODY, "checkpoints": [baseline(project).uid], **change}
    answer = lead.post(address(project), body)
    assert answer.status_code == 422
    assert said in answer.content.decode()
    assert not Run.objects.exists()


def test_the_api_takes_the_same(project: Project, lead: Client, sent: Any) -> None:
    checkpoint = baseline(project)
    spec = {
        "checkpoints": [str(checkpoint.uid)],
        "prompt": [{"role": "user", "content": "Why?"}],
        "responses": [{"messages": [{"role": "assistant", "content": "So."}]}],
    }
    url = reverse("rmeval-api:project-runs", args=[project.uid])
    answer = lead.post(url, {"kind": "score_text", "spec": spec}, content_type="application/json")
    assert answer.status_code == 202
    plain = {**spec, "prompt": "Why?", "responses": ["So."]}
    assert lead.post(url, {"kind": "score_text", "spec": plain}, content_type="application/json").status_code == 202
    messages, texts = Run.objects.order_by("pk")
    assert texts.spec["prompt"] == messages.spec["prompt"] == spec["prompt"]
    assert texts.spec["responses"] == messages.spec["responses"]
    assert "So." in lead.get(address(project), {"run": texts.uid}).content.decode()
    other = {**spec, "checkpoints": [str(baseline(ProjectFactory()).uid)]}
    refused = lead.post(url, {"kind": "score_text", "spec": other}, content_type="application/json")
    assert refused.status_code == 404
    assert refused.json()["errors"][0]["pointer"] == "/spec/checkpoints/0"


def test_pages_of_few_queries(project: Project, lead: Client, django_assert_max_num_queries: Any, sent: Any) -> None:
    checkpoints = [baseline(project, name=f"m {number}") for number in range(12)]
    lead.post(address(project), {**BODY, "checkpoints": [c.uid for c in checkpoints]})
    run_job(str(Run.objects.get().uid))
    with django_assert_max_num_queries(12):
        lead.get(address(project))
    with django_assert_max_num_queries(16):
        lead.get(address(project), {"run": Run.objects.get().uid})


def test_everything_a_family_tells_is_shown(project: Project, lead: Client) -> None:
    """One model that tells all there is: the shapes are those of the families' own parts."""
    checkpoint = baseline(project)
    part = {
        "score": 1.25,
        "attributes": {"helpfulness": 3.5, "verbosity": -1.0},
        "gating": {"helpfulness": 0.9, "verbosity": 0.1},
        "top3": [{"attribute": "helpfulness", "coefficient": 0.9, "contribution": 3.15}],
        "members": [1.0, 1.5],
        "label": "personalised",
        "tokens": [{"text": "Be", "reward": 0.5}, {"text": "\n", "reward": -1.0}, {"text": "", "reward": 0.0}],
        "steps": [{"text": "one <b>", "probability": 0.9}, {"text": "two", "probability": 0.2}],
        "odd": [{"a": [1]}],
    }
    row = {"checkpoint": str(checkpoint.uid), "family": "length", "error": None, "values": [1.25, None]}
    row |= {"parts": [part, None], "reasons": [None, "too long"], "n_truncated": 1, "seconds": 0.1}
    spec = {
        "checkpoints": [str(checkpoint.uid)],
        "prompt": [{"role": "user", "content": "Why?"}],
        "responses": [{"messages": says("one")}, {"messages": says("two")}],
    }
    run = Run.objects.create(project=project, kind="score_text", spec=spec)
    assert run_start(run=run, worker="h:1", now=timezone.now(), stale=timedelta(0), max_attempts=3)
    run_finish(run=run, attempt=1, state="done", result={"rewards": [row]}, now=timezone.now())
    page = lead.get(reverse("rmeval:run-detail", args=[run.uid])).content.decode()
    for text in (
        "no reward: too long",
        "its start was dropped",
        "<caption>Attributes</caption>",
        "Gate: how much each attribute weighs",
        "<caption>Members of the ensemble</caption>",
        "helpfulness <b>+3.15</b>",
        "personalised",
        'class="tok tok-n2" tabindex="-1" data-value="−1"',
        "one &lt;b&gt;",
        ">lowest<",
        "Also told",
    ):
        assert text in page, text
    run.refresh_from_db()
    scores = typed_scores(run)
    assert scores is not None
    assert [step.is_lowest for step in scores.models[0].told[0].steps] == [False, True]


def model_told(name: str, values: list[float | None], **more: Any) -> ModelScores:
    row = {"checkpoint": name, "family": "length", "error": None, "values": values}
    row |= {"parts": [None] * len(values), "reasons": [None] * len(values), **more}
    return model_scores(row, None)


def test_reward_models_are_grouped_by_the_response_they_put_highest() -> None:
    first, second, equal = [2.0, 1.0], [-3.0, -1.0], [0.5, 0.5]
    failed = model_told("failed", [None, None], error={"message": "gone", "hint": ""})
    models = [model_told(f"m {i}", v) for i, v in enumerate([second, first, second, equal, first, second])]
    scores = TypedScores(["one", "two"], [*models, failed])
    assert [(group.title, [model.uid for model in group.models]) for group in scores.groups] == [
        ("Response 1 is highest", ["m 1", "m 4"]),
        ("Response 2 is highest", ["m 0", "m 2", "m 5"]),
        ("More than one is highest", ["m 3"]),
        ("Nothing to compare", ["failed"]),
    ]
    assert (scores.n_compared, [bar.value for bar in scores.tally]) == (6, [2, 3])
    assert scores.tally[1].width == 50.0
    assert not any(bar.is_best for bar in models[3].bars)  # all equal: none is marked
    few = TypedScores(["one", "two"], models[:2])
    assert [group.title for group in few.groups] == [""]
    assert [bar.value for bar in few.tally] == [1, 1]
    assert TypedScores(["one"], [model_told("a", [1.0]), model_told("b", [2.0])]).tally == []


def test_a_row_says_what_stands_behind_it() -> None:
    part = {"spread": 0.5, "attributes": {"a": 1.0}, "gating": {"a": 1.0}, "tokens": [{"text": "x", "reward": 1.0}]}
    assert model_told("m", [1.0], parts=[part]).more == "Spread (standard deviation), attributes, gate, tokens"
    steps = {**part, "steps": [{"text": "x", "probability": 0.1}]}
    assert model_told("m", [1.0], parts=[steps]).more.endswith(", tokens, …")
    cut = model_told("m", [1.0], n_truncated=1)
    assert (cut.more, cut.has_more) == ("What was cut", True)
    assert not model_told("m", [1.0]).has_more


def test_bars_share_a_scale_that_holds_zero() -> None:
    below, above, none = bars_of([-1.0, 3.0, None])
    assert (below.x, below.width, below.zero) == (0.0, 25.0, 25.0)
    assert (above.x, above.width) == (25.0, 75.0)
    assert none.shown == "–"
    assert [bar.width for bar in bars_of([0.0, 0.0])] == [0.0, 0.0]
    (table,) = tables_of([{"attributes": {"b": 1.0, "new": 3.0, "longest": 2.0}}], ["longest", "b", "left out"])
    assert [name for name, _ in table.rows] == ["longest", "b", "new"]
    (table, heads) = tables_of([{"k_star": 1, "n_context": 15, "mu": [-1.0, 2.0]}])
    assert [(name, bars[0].shown, bars[0].value) for name, bars in table.rows] == [
        ("Surest head", "2", None),
        ("Pairs of the person", "15", None),
    ]
    assert heads.rows[1][0] == "2"
    assert heads.rows[1][1][0].value == 2.0
    (table,) = tables_of([{"router": {"head 1": 0.25}}])
    assert table.rows[0][1][0].shown == "0.25"  # a share has no sign
    (table,) = tables_of([{"heads": {"a": 1.0}}, {}])
    assert [bar.value for bar in table.rows[0][1]] == [1.0, None]


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "Hello"}],
        [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "a\n\nb"}],
        [{"role": "user", "content": "look:\nuser:\nnot a turn"}, {"role": "assistant", "content": "ok"}],
        [{"role": "user", "content": "user: hello"}],
        [{"role": "user", "content": " spaces "}],
        [{"role": "user", "content": "[1, 2]"}],
    ],
)
def test_conversations_survive_the_text_area(messages: list[dict[str, str]]) -> None:
    assert read_messages(write_messages(messages, role="user"), role="user") == messages


def test_how_typed_texts_are_read() -> None:
    assert read_messages("Human: hi\nassistant: ho", role="user") == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "ho"},
    ]
    assert read_messages("[not json", role="user")[0]["content"] == "[not json"
    messages = says("one\ntwo\n\nthree")
    assert read_steps(messages, "lines") == ["one", "two", "three"]
    assert read_steps(messages, "paragraphs") == ["one\ntwo", "three"]
    assert read_steps(messages, "model") == []


def test_all_responses_of_an_example_have_a_field(project: Project, lead: Client) -> None:
    example = ExampleFactory(dataset__project=project)
    for number in range(MOST_RESPONSES + 2):
        ResponseFactory(example=example, number=number, messages=says(f"response {number}."))
    page = lead.get(address(project), {"example": example.uid}).content.decode()
    assert f"response {MOST_RESPONSES - 1}.</textarea>" in page
    assert f"response {MOST_RESPONSES}." not in page
    assert "Add a response" not in page


def test_responses_are_added_and_removed_without_script(project: Project, lead: Client) -> None:
    checkpoint = baseline(project)
    assert "Remove" not in lead.get(address(project)).content.decode()
    typed = {**BODY, "reference": "so", "checkpoints": [str(checkpoint.uid)]}
    page = lead.post(address(project), {**typed, "change": "add"})
    text = page.content.decode()
    assert page.status_code == 200
    assert text.count('<textarea name="response_') == 3
    assert "Because it is so." in text
    assert text.count(" checked>") == 1
    assert re.search(r'name="response_3"[^>]* autofocus', text)
    part = lead.post(
        address(project), {**typed, "response_3": "Third", "change": "remove 1"}, headers={"HX-Request": "true"}
    ).content.decode()
    assert "<html" not in part
    assert "Because it is so." not in part
    assert part.index("No.") < part.index("Third")
    assert part.count("<textarea") == 2
    for change in ("remove 99", "remove x", "remove 0", "remove 99999999999", "explode"):
        again = lead.post(address(project), {**typed, "change": change})
        assert (again.status_code, again.content.decode().count('<textarea name="response_')) == (200, 2)
    assert not Run.objects.exists()


def test_an_empty_response_in_between_is_left_out(project: Project, lead: Client, sent: Any) -> None:
    body = {**BODY, "response_2": "", "response_3": "Third", "response_5": "Fifth"}
    lead.post(address(project), {**body, "checkpoints": [baseline(project).uid]})
    run = Run.objects.get()
    assert [text["messages"][0]["content"] for text in run.spec["responses"]] == [BODY["response_1"], "Third", "Fifth"]
    wrong = {**body, "response_5": "assistant:\n ", "checkpoints": [baseline(project, name="other").uid]}
    page = lead.post(address(project), wrong).content.decode()
    assert '<a href="#id_response_5">Response 5</a>' in page


def test_values_of_tokens_stand_beside_their_rewards() -> None:
    told = [{"text": "a", "value": 0.9, "reward": -3.0}, {"text": "b", "value": None, "reward": 1.0}]
    first, second = tokens_of(told)
    assert (first.level, first.shown, first.value, first.reward) == ("p2", "value +0.9, reward −3", "+0.9", "−3")
    assert second.level == "z"
    (plain,) = tokens_of([{"text": "a", "value": None, "reward": -3.0}])  # no goal: no values
    assert (plain.level, plain.shown, plain.value) == ("n2", "−3", "")


def test_every_way_a_model_can_come_is_offered(project: Project, lead: Client) -> None:
    from workers.families import FAMILIES

    page = lead.get(reverse("rmeval:reward-model-create", args=[project.uid])).content.decode()
    assert reverse("rmeval:reward-model-import", args=[project.uid]) in page
    for name in FAMILIES.names():
        assert f'href="?family={name}#register"' in page
    assert page.index("Train a family here") < page.index("Baselines")
    gone = [name for name in ("endpoint", "score_file") if name not in FAMILIES]
    assert ("Ask a model that runs elsewhere" in page) == (len(gone) < 2)


def test_the_page_of_a_model_says_what_it_can_do_and_where_it_came_from(project: Project, dataset: Dataset) -> None:
    client = client_of(project, Role.RESEARCHER)
    model = RewardModel.objects.create(project=project, name="m", family="scalar_head", config={})
    data = {"kind": "dataset", "uid": str(dataset.uid), "name": dataset.name, "sha256": "0" * 64}
    run = Run.objects.create(
        project=project, kind="train_rm", spec={}, reward_model=model, state="done", environment={"data": data}
    )
    checkpoint = Checkpoint.objects.create(reward_model=model, number=1, run=run, path="checkpoints/x")
    page = client.get(reverse("rmeval:reward-model-detail", args=[model.uid])).content.decode()
    for text in (
        "gives a reward to a response on its own",
        reverse("annotator:dataset-detail", args=[dataset.uid]),
        reverse("rmeval:run-detail", args=[run.uid]),
        f"{reverse('rmeval:checkpoint-files', args=[checkpoint.uid])}#export",
        f"{address(project)}?checkpoint={checkpoint.uid}",
        reverse("rmeval:study-create", args=[model.uid]),
        'href="#train"',
        'href="#evaluate"',
    ):
        assert text in page, text

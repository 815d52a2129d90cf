"""Dataset and example pages: what they show, to whom, and with how many queries."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotator.models import Dataset, Example, ImportProblem, Role
from annotator.services.datasets import dataset_freeze
from annotator.tasks import dataset_import_task, sweep_once
from tests.factories import (
    DatasetFactory,
    ExampleFactory,
    MembershipFactory,
    PreferenceFactory,
    QueueFactory,
    ResponseFactory,
)

pytestmark = pytest.mark.django_db
PAIR = {"prompt": "Can ducks fly?", "chosen": "Most can.", "rejected": "No."}
HTMX = {"headers": {"hx-request": "true"}}


def jsonl(*rows: Any) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def pairs(n: int) -> list[dict[str, str]]:
    return [{"prompt": f"question {i}", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(n)]


class Site:
    def __init__(self, role: str = Role.RESEARCHER) -> None:
        self.member = MembershipFactory(role=role)
        self.project = self.member.project
        self.client = Client()
        self.client.force_login(self.member.user)

    def upload(self, data: bytes, **fields: Any) -> Any:
        url = reverse("annotator:dataset-import", args=[self.project.uid])
        headers = fields.pop("headers", {})
        file = SimpleUploadedFile("ducks.jsonl", data)
        return self.client.post(url, {"file": file, "format": "auto", **fields}, headers=headers)

    def page(self, name: str, uid: Any, query: str = "", **kwargs: Any) -> Any:
        return self.client.get(reverse(f"annotator:{name}", args=[uid]) + query, **kwargs)


@pytest.fixture(autouse=True)
def uploads(settings: Any, tmp_path: Path) -> Path:
    settings.UPLOAD_DIR = tmp_path / "uploads"
    return tmp_path / "uploads"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The datasets that workers were asked to import."""
    calls: list[str] = []
    monkeypatch.setattr(dataset_import_task, "apply_async", lambda args: calls.extend(args))  # noqa: PLW0108 - args is a keyword
    return calls


def test_an_upload_is_kept_enqueued_and_imported_by_the_worker(
    uploads: Path, asked: list[str], django_capture_on_commit_callbacks: Any
) -> None:
    site = Site()
    with django_capture_on_commit_callbacks(execute=True):
        answer = site.upload(jsonl(*pairs(3)), licence="CC0")
    dataset = Dataset.objects.get()
    assert answer.status_code == 302
    assert answer["location"] == reverse("annotator:dataset-detail", args=[dataset.uid])
    assert asked == [str(dataset.uid)]
    assert (dataset.name, dataset.licence, dataset.state) == ("ducks.jsonl", "CC0", "importing")
    assert "Waiting for a worker" in site.page("dataset-detail", dataset.uid).content.decode()
    dataset_import_task(str(dataset.uid))
    dataset.refresh_from_db()
    assert (dataset.state, dataset.n_examples, dataset.n_indexed) == ("ready", 3, 3)
    assert list(uploads.iterdir()) == []
    dataset_import_task(str(dataset.uid))
    assert Example.objects.count() == 3


def test_htmx_uploads_are_redirected_by_the_client(asked: list[str]) -> None:
    answer = Site().upload(jsonl(PAIR), **HTMX)
    assert answer.status_code == 200
    assert answer["hx-redirect"].startswith("/datasets/")


def test_until_the_first_rows_are_there_the_page_says_how_the_import_stands(asked: list[str]) -> None:
    site = Site()
    site.upload(jsonl(PAIR))
    dataset = Dataset.objects.get()

    def examples() -> str:
        text: str = site.page("dataset-detail", dataset.uid, headers={"hx-request": "true"}).content.decode()
        return text

    assert "The import is about to begin" in examples()
    Dataset.objects.update(n_rows=7000, n_errors=2)
    assert "The file is being read" in examples()
    assert "2 of them refused" in examples()
    Dataset.objects.update(cancel_requested_at=timezone.now())
    assert "The import is being stopped" in examples()
    Dataset.objects.update(cancel_requested_at=None, n_rows=0, n_errors=0)
    dataset_import_task(str(dataset.uid))
    page = examples()
    assert "Can ducks fly?" in page
    assert "The import is" not in page


def test_a_list_that_is_cut_names_its_limit() -> None:
    site = Site()
    dataset = DatasetFactory(project=site.project, n_errors=20_000)
    dataset.problems.bulk_create(ImportProblem(dataset=dataset, line=n, code="bad", detail="bad") for n in range(60))
    page = site.page("dataset-detail", dataset.uid).content.decode()
    assert "The first 50 are listed here." in page
    assert "Download the first 10\u202f000 as JSON Lines" in page


@pytest.mark.parametrize("headers", [{}, {"hx-request": "true"}])
def test_a_file_that_cannot_be_read_is_refused_in_the_form(headers: dict[str, str], uploads: Path) -> None:
    answer = Site().upload(jsonl({"colour": "red"}), headers=headers)
    assert answer.status_code == 422
    text = answer.content.decode()
    assert "The file was read as JSON Lines. Its columns colour fit no known format." in text
    assert "pairs: prompt, chosen and rejected" in text
    assert ("<html" in text) == (not headers)
    assert not Dataset.objects.exists()
    assert list(uploads.iterdir()) == []


def test_the_same_file_again_asks_first(asked: list[str]) -> None:
    site = Site()
    site.upload(jsonl(PAIR))
    dataset_import_task(str(Dataset.objects.get().uid))
    answer = site.upload(jsonl(PAIR))
    assert answer.status_code == 422
    assert "allow_duplicate" in answer.content.decode()
    assert f"/datasets/{Dataset.objects.get().uid}/" in answer.content.decode()
    assert site.upload(jsonl(PAIR), allow_duplicate="1").status_code == 302


def test_the_sweep_asks_again(asked: list[str], django_capture_on_commit_callbacks: Any) -> None:
    Site().upload(jsonl(PAIR))
    asked.clear()
    with django_capture_on_commit_callbacks(execute=True):
        sweep_once(timezone.now() + timedelta(minutes=5))
    assert asked == [str(Dataset.objects.get().uid)]


def test_the_dataset_page_shows_problems_with_their_reasons(asked: list[str]) -> None:
    site = Site()
    site.upload(jsonl(*pairs(60), {**PAIR, "rejected": "Most can."}, {"chosen": "<b>x</b>", "rejected": "y"}))
    dataset = Dataset.objects.get()
    dataset_import_task(str(dataset.uid))
    text = site.page("dataset-detail", dataset.uid).content.decode()
    assert "the same text" in text
    assert "identical_responses" in text
    assert "&lt;b&gt;x" in text
    assert "<b>x" not in text
    lines = site.page("dataset-problems", dataset.uid).getvalue().splitlines()
    assert [json.loads(line)["line"] for line in lines] == [61, 62]


def test_examples_are_paged_both_ways(asked: list[str]) -> None:
    site = Site()
    site.upload(jsonl(*pairs(60)))
    dataset = Dataset.objects.get()
    dataset_import_task(str(dataset.uid))

    def positions(url: str) -> list[int]:
        page = site.client.get(url)
        pages.append(page)
        return [row.position for row in page.context["page"].rows]

    pages: list[Any] = []
    home = reverse("annotator:dataset-detail", args=[dataset.uid])
    assert positions(home) == list(range(1, 26))
    assert pages[-1].context["previous_url"] == ""
    assert positions(pages[-1].context["next_url"]) == list(range(26, 51))
    assert positions(pages[-1].context["next_url"]) == list(range(51, 61))
    assert pages[-1].context["next_url"] == ""
    assert positions(pages[-1].context["previous_url"]) == list(range(26, 51))
    assert positions(pages[-1].context["previous_url"]) == list(range(1, 26))
    assert pages[-1].context["previous_url"] == ""
    assert positions(f"{home}?after=nonsense") == list(range(1, 26))


SEARCHES = {
    "fly": ["Can ducks fly?"],
    "FLY ducks": ["Can ducks fly?"],
    '"ducks fly"': ["Can ducks fly?"],
    '"fly ducks"': [],
    "ducks -fly": [],
    "语言": ["用中文语言回答"],
    "语答": [],
    '"中文语言"': ["用中文语言回答"],
    "שלום": ["שלום עולם"],
    "Lots": ["Can ducks fly?"],
}


@pytest.mark.parametrize("search", SEARCHES)
def test_full_text_search_reads_prompts_and_responses(asked: list[str], search: str) -> None:
    site = Site()
    rows = [PAIR | {"chosen": "Lots can."}, PAIR | {"prompt": "用中文语言回答"}, PAIR | {"prompt": "שלום עולם"}]
    site.upload(jsonl(*rows))
    dataset = Dataset.objects.get()
    dataset_import_task(str(dataset.uid))
    page = site.client.get(reverse("annotator:dataset-detail", args=[dataset.uid]), {"q": search})
    assert [row.excerpt for row in page.context["page"].rows] == SEARCHES[search]


def test_metadata_filters_use_known_keys_only(asked: list[str]) -> None:
    site = Site()
    site.upload(jsonl(*[row | {"subset": f"s{i % 3}", "n": i} for i, row in enumerate(pairs(9))]))
    dataset = Dataset.objects.get()
    dataset_import_task(str(dataset.uid))
    home = reverse("annotator:dataset-detail", args=[dataset.uid])
    found = site.client.get(home, {"key": "subset", "value": "s1"})
    assert [row.position for row in found.context["page"].rows] == [2, 5, 8]
    assert found.context["values"] == ["s0", "s1", "s2"]
    assert [row.position for row in site.client.get(home, {"key": "n", "value": "4"}).context["page"].rows] == [5]
    unknown = site.client.get(home, {"key": "dataset__name", "value": "x"})
    assert unknown.status_code == 200
    assert "valid choice" in unknown.content.decode()
    example = found.context["page"].rows[1]
    shown = site.page("example-detail", example.uid, "?key=subset&value=s1")
    assert (shown.context["previous"], shown.context["following"]) == (
        found.context["page"].rows[0].uid,
        found.context["page"].rows[2].uid,
    )


def test_a_half_built_index_says_so() -> None:
    site = Site()
    dataset = DatasetFactory(project=site.project, n_examples=10, n_indexed=4)
    assert "being built" in site.page("dataset-detail", dataset.uid, "?q=x").content.decode()


def test_the_example_page_reads_like_a_conversation() -> None:
    site = Site(Role.VIEWER)
    example = ExampleFactory(
        dataset__project=site.project,
        prompt=[{"role": "system", "content": "Be <i>brief</i>."}, {"role": "user", "content": "مرحبا"}],
        meta={"subset": "ar"},
    )
    a = ResponseFactory(example=example, source_model="model-x", meta={"score": 3})
    b = ResponseFactory(example=example)
    PreferenceFactory(example=example, response_a=a, response_b=b, verdict="b", preference_strength=2)
    text = site.page("example-detail", example.uid).content.decode()
    assert "<i>brief</i>" not in text
    assert 'dir="auto"' in text
    for part in ("مرحبا", "model-x", "Response 2", "better × 1", "(clearly)", "subset"):
        assert part in text, part


PAGES = ("dataset-detail", "dataset-problems")


@pytest.mark.parametrize("role", Role.values)
def test_who_sees_what(role: str) -> None:
    """Annotators are blind to models, so they see no dataset; only leads and researchers change anything."""
    site = Site(role)
    example = ExampleFactory(dataset__project=site.project)
    dataset = example.dataset
    reads = 403 if role == Role.ANNOTATOR else 200
    changes = role in (Role.LEAD, Role.RESEARCHER)
    assert {site.page(name, dataset.uid).status_code for name in PAGES} == {reads}
    assert site.page("example-detail", example.uid).status_code == reads
    assert site.page("dataset-list", site.project.uid).status_code == reads
    assert site.page("dataset-import", site.project.uid).status_code == (200 if changes else 403)
    for name in ("dataset-cancel", "dataset-delete"):
        answer = site.client.post(reverse(f"annotator:{name}", args=[dataset.uid]))
        assert answer.status_code == (302 if changes else 403)


def test_strangers_find_nothing_and_the_anonymous_log_in() -> None:
    site, example = Site(Role.LEAD), ExampleFactory()
    addresses = {
        "dataset-detail": example.dataset.uid,
        "dataset-problems": example.dataset.uid,
        "example-detail": example.uid,
        "dataset-list": example.dataset.project.uid,
        "dataset-import": example.dataset.project.uid,
    }
    for name, uid in addresses.items():
        assert site.page(name, uid).status_code == 404, name
        assert Client().get(reverse(f"annotator:{name}", args=[uid])).status_code == 302, name
    for name in ("dataset-cancel", "dataset-delete"):
        url = reverse(f"annotator:{name}", args=[example.dataset.uid])
        assert site.client.post(url).status_code == 404
        assert site.client.get(url).status_code == 405


def test_a_dataset_in_use_is_not_deleted() -> None:
    site = Site()
    dataset = DatasetFactory(project=site.project)
    QueueFactory(dataset=dataset)
    answer = site.client.post(reverse("annotator:dataset-delete", args=[dataset.uid]))
    assert answer.status_code == 409
    assert "stays as it is" in answer.content.decode()
    dataset.refresh_from_db()
    assert dataset.deleted_at is None


def test_freezing_is_remembered_once() -> None:
    dataset = DatasetFactory()
    dataset_freeze(dataset=dataset, now=timezone.now())
    first = dataset.frozen_at
    dataset_freeze(dataset=dataset, now=timezone.now())
    assert dataset.frozen_at == first


def test_query_counts_do_not_grow_with_the_data(django_assert_max_num_queries: Any) -> None:
    site = Site()
    dataset = DatasetFactory(project=site.project, imported_by=site.member.user, metadata_keys=["subset"])
    for example in ExampleFactory.create_batch(25, dataset=dataset):
        PreferenceFactory(example=example)
    DatasetFactory.create_batch(10, project=site.project, imported_by=site.member.user)
    with django_assert_max_num_queries(12):
        site.page("dataset-detail", dataset.uid, "?key=subset")
    with django_assert_max_num_queries(9):
        site.page("dataset-list", site.project.uid)
    with django_assert_max_num_queries(10):
        site.page("example-detail", Example.objects.earliest("pk").uid)


def test_live_fragments_are_fragments() -> None:
    site = Site()
    dataset = DatasetFactory(project=site.project, state="importing")
    state = site.page("dataset-detail", dataset.uid, headers={"hx-request": "true", "hx-target": "dataset-state"})
    examples = site.page("dataset-detail", dataset.uid, headers={"hx-request": "true", "hx-target": "dataset-examples"})
    assert "Rows read" in state.content.decode()
    assert "examples appear here" in examples.content.decode()
    for answer in (state, examples):
        assert "<html" not in answer.content.decode()
    assert "<html" not in site.page("dataset-list", site.project.uid, **HTMX).content.decode()


@pytest.mark.parametrize(("role", "is_offered"), [(Role.LEAD, True), (Role.RESEARCHER, False)])
def test_a_lead_goes_on_from_the_dataset_to_a_queue(asked: list[str], role: str, is_offered: bool) -> None:
    site = Site(role)
    site.upload(jsonl(*pairs(3)))
    dataset = Dataset.objects.get()
    dataset_import_task(str(dataset.uid))
    url = f"{reverse('annotator:queue-create', args=[site.project.uid])}?dataset={dataset.uid}"
    assert (f'href="{url}"' in site.page("dataset-detail", dataset.uid).content.decode()) == is_offered
    if is_offered:
        form = site.client.get(url).content.decode()
        assert f'<option value="{dataset.uid}" selected>ducks.jsonl (3 examples, 6 responses)</option>' in form


def test_metadata_is_shown_as_it_stood_in_the_file(asked: list[str]) -> None:
    site = Site()
    site.upload(jsonl({**PAIR, "tags": ["a", "ü"], "checked": True, "source": "it's"}))
    dataset = Dataset.objects.get()
    dataset_import_task(str(dataset.uid))
    for text in (
        site.page("dataset-detail", dataset.uid).content.decode(),
        site.page("example-detail", Example.objects.get().uid).content.decode(),
    ):
        assert "[&quot;a&quot;, &quot;ü&quot;]" in text
        assert "true" in text
        assert "it&#x27;s" in text
        assert "True" not in text

"""The dataset API: import by form and by stream, bad input, browsing, deleting, and who may do which."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone

from annotator.models import Dataset, Example, Role
from tests.factories import (
    ApiTokenFactory,
    DatasetFactory,
    ExampleFactory,
    MembershipFactory,
    PreferenceFactory,
    QueueFactory,
)
from tests.shared import shared_data

pytestmark = pytest.mark.django_db
PAIR = {"prompt": "Can ducks fly?", "chosen": "Most can.", "rejected": "No."}


def jsonl(*rows: Any) -> bytes:
    return b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows)


def pairs(n: int) -> list[dict[str, str]]:
    return [{"prompt": f"question {i}", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(n)]


class Api:
    """A member of one project with a token."""

    def __init__(self, role: str = Role.RESEARCHER) -> None:
        self.member = MembershipFactory(role=role)
        self.project = self.member.project
        ApiTokenFactory(user=self.member.user, secret=f"secret-{self.member.pk}")
        self.client = Client(headers={"authorization": f"Token secret-{self.member.pk}"})

    def send(self, data: bytes, query: str = "", content_type: str = "application/x-ndjson") -> Any:
        url = f"/api/v1/projects/{self.project.uid}/datasets/?{query}"
        return self.client.post(url, data=data, content_type=content_type)

    def get(self, path: str) -> Any:
        return self.client.get(f"/api/v1/{path}")


@pytest.fixture
def api() -> Api:
    return Api()


def test_a_stream_is_imported_and_its_bad_rows_listed(api: Api) -> None:
    answer = api.send(jsonl(*pairs(3), b"{broken", *pairs(1)), "name=first&licence=CC0")
    body = answer.json()
    assert answer.status_code == 201, body
    assert (body["n_examples"], body["n_responses"], body["n_duplicates"], body["n_errors"]) == (3, 6, 1, 1)
    assert (body["name"], body["format"], body["licence"], body["state"]) == ("first", "pairs", "CC0", "ready")
    assert "Explicit pairs" in body["format_reason"]
    assert body["errors"][0]["line"] == 4
    assert body["errors"][0]["code"] == "bad_json"
    dataset = Dataset.objects.get(uid=body["uid"])
    assert (dataset.project, dataset.imported_by) == (api.project, api.member.user)


def test_a_form_takes_its_name_from_the_file(api: Api) -> None:
    url = f"/api/v1/projects/{api.project.uid}/datasets/"
    answer = api.client.post(url, {"file": SimpleUploadedFile("../my pairs.jsonl", jsonl(PAIR)), "format": "pairs"})
    assert answer.status_code == 201, answer.json()
    assert (answer.json()["name"], answer.json()["source_name"]) == ("my pairs.jsonl", "my pairs.jsonl")
    assert answer.json()["format_reason"].endswith("chosen by hand")


REAL = {
    "hh-rlhf/harmless-base.test.part.jsonl.gz": ("hh", 1414),
    "hh-rlhf/helpful-base.single-turn.part.jsonl.gz": ("pairs", 236),
    "ultrafeedback-sample/pairs.part.jsonl.gz": ("pairs", 748),
    "rm-bench/chat.part.jsonl.gz": ("pairs", 87),
    "rm-bench/code.part.jsonl.gz": ("pairs", 163),
    "rm-bench/safety-refuse.part.jsonl.gz": ("pairs", 195),
    "rm-bench/safety-response.part.jsonl.gz": ("pairs", 105),
    "judgebench/pairs.gpt-4o-2024-05-13.part.jsonl.gz": ("judged_pairs", 217),
    "judgebench/pairs.claude-3-5-sonnet-20240620.part.jsonl.gz": ("judged_pairs", 176),
}


@pytest.mark.parametrize("name", REAL)
def test_real_files_come_in_whole(api: Api, name: str) -> None:
    """No row of a published file is lost without a reason; the counts are those of its README."""
    format_name, n_rows = REAL[name]
    answer = api.send(shared_data(name).read_bytes(), "name=real", "application/gzip")
    body = answer.json()
    assert answer.status_code == 201, body
    assert (body["format"], body["n_rows"]) == (format_name, n_rows)
    assert body["n_examples"] + body["n_duplicates"] + body["n_errors"] == n_rows
    assert all(error["detail"] for error in body["errors"])


@pytest.mark.parametrize(
    ("data", "query", "code"),
    [
        (b"", "", "empty_file"),
        (b"GIF89a\x00\x01\x02\x03\x04\x05\x06\x07\x08", "", "unknown_type"),
        (jsonl({"colour": "red"}), "", "format_unknown"),
        (jsonl(*pairs(2)), "format=hh", "import_failed"),
        (jsonl(PAIR), "format=xml", "invalid"),
        (jsonl(PAIR), "nmae=x", "invalid"),
        (jsonl({"chosen": "a", "rejected": "b"}), "format=pairs", "import_failed"),
    ],
    ids=["empty", "no text", "unknown columns", "wrong format", "unknown format", "unknown field", "nothing good"],
)
def test_bad_files_get_a_clear_answer(api: Api, data: bytes, query: str, code: str) -> None:
    answer = api.send(data, f"name=x&{query}")
    body = answer.json()
    assert answer.status_code == 422, body
    assert answer["content-type"] == "application/problem+json"
    assert body["code"] == code
    assert len(body["detail"]) > 15
    if code == "import_failed":
        assert body["rows"][0]["line"] == 1
        assert Dataset.objects.get(uid=body["dataset"]).state == "failed"
    else:
        assert not Dataset.objects.exists()


BAD_ROWS = {
    "identical_responses": jsonl({**PAIR, "rejected": "Most can."}),
    "missing_prompt": jsonl({"chosen": "a", "rejected": "b"}),
    "number_not_finite": b'{"prompt": "q", "chosen": "a", "rejected": "b", "margin": NaN}\n',
    "nul_character": jsonl({**PAIR, "chosen": "a\0b"}),
    "bad_json": b'{"prompt": "q", \n',
    "invalid_utf8": b'{"prompt": "\xff", "chosen": "a", "rejected": "b"}\n',
}


@pytest.mark.parametrize("code", BAD_ROWS)
def test_one_bad_row_in_the_middle(api: Api, code: str) -> None:
    answer = api.send(jsonl(*pairs(2)) + BAD_ROWS[code] + jsonl({**PAIR, "prompt": "last"}))
    body = answer.json()
    assert answer.status_code == 201, body
    assert (body["n_examples"], body["n_errors"]) == (3, 1)
    assert (body["errors"][0]["line"], body["errors"][0]["code"]) == (3, code)


def test_a_line_of_200_mb_is_refused_in_bounded_memory(api: Api, tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    with path.open("wb") as out:
        out.write(jsonl(*pairs(2)) + b'{"prompt": "')
        for _ in range(200):
            out.write(b"x" * 1_000_000)
        out.write(b'", "chosen": "a", "rejected": "b"}\n' + jsonl(PAIR))
    with path.open("rb") as stream:
        dataset, peak = measured_import(api, stream)
    assert (dataset.n_examples, dataset.n_errors) == (3, 1)
    problem = dataset.problems.get()
    assert (problem.line, problem.code) == (3, "row_too_long")
    assert peak < 100_000_000, peak


def measured_import(api: Api, stream: Any) -> tuple[Dataset, int]:
    """The import that the API calls, with the most memory Python held meanwhile."""
    from annotator.services.datasets import ImportRequest
    from annotator.services.uploads import dataset_import_file
    from annotator.tasks import import_limits

    tracemalloc.start()
    try:
        dataset = dataset_import_file(
            project=api.project, user=None, request=ImportRequest("long"), stream=stream, limits=import_limits(),
            clock=timezone.now,
        )  # fmt: skip
        return dataset, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_gzip_bomb_is_refused(api: Api) -> None:
    bomb = gzip.compress(gzip.compress(b"\0" * 100)[:0] + b" " * 200_000_000, compresslevel=9)
    assert len(bomb) < 300_000
    answer = api.send(bomb, "name=bomb", "application/gzip")
    assert answer.status_code == 422
    assert answer.json()["code"] in {"gzip_bomb", "empty_file"}


def test_the_same_file_twice_points_to_the_first(api: Api) -> None:
    first = api.send(jsonl(PAIR), "name=a").json()
    again = api.send(jsonl(PAIR), "name=b")
    assert again.status_code == 409
    assert (again.json()["code"], again.json()["dataset"]) == ("duplicate_upload", first["uid"])
    assert api.send(jsonl(PAIR), "name=b&allow_duplicate=1").status_code == 201
    assert Api().send(jsonl(PAIR), "name=c").status_code == 201


@pytest.mark.parametrize(
    ("role", "status"), [("lead", 201), ("researcher", 201), ("reviewer", 403), ("annotator", 403), ("viewer", 403)]
)
def test_who_may_import(role: str, status: int) -> None:
    assert Api(role).send(jsonl(PAIR)).status_code == status


@pytest.mark.parametrize("role", ["lead", "reviewer", "researcher", "viewer"])
def test_readers_read(role: str) -> None:
    api = Api(role)
    example = PreferenceFactory(example__dataset__project=api.project).example
    for path in paths_of(example):
        assert api.get(path).status_code == 200


def test_annotators_and_strangers_see_no_dataset() -> None:
    """Responses carry the names of models; whoever labels is blind to them."""
    api = Api(Role.ANNOTATOR)
    own, foreign = ExampleFactory(dataset__project=api.project), ExampleFactory()
    assert {api.get(path).status_code for path in paths_of(own)} == {403}
    assert {api.get(path).status_code for path in paths_of(foreign)} == {404}
    assert {Client().get(f"/api/v1/{path}").status_code for path in paths_of(own)} == {401}
    assert api.get(f"projects/{api.project.uid}/datasets/").status_code == 403


def paths_of(example: Example) -> list[str]:
    dataset = f"datasets/{example.dataset.uid}/"
    return [dataset, f"{dataset}examples/", f"{dataset}problems/", f"examples/{example.uid}/"]


def test_examples_are_searched_filtered_and_paged(api: Api) -> None:
    rows = [{**row, "subset": "even" if i % 2 == 0 else "odd"} for i, row in enumerate(pairs(60))]
    uid = api.send(jsonl(*rows)).json()["uid"]
    page = api.get(f"datasets/{uid}/examples/?page_size=25").json()
    assert [row["position"] for row in page["results"]] == list(range(1, 26))
    more = api.client.get(page["next"]).json()
    assert more["results"][0]["position"] == 26
    found = api.get(f"datasets/{uid}/examples/?search=question 7").json()["results"]
    assert [row["prompt"][0]["content"] for row in found] == ["question 7"]
    odd = api.get(f"datasets/{uid}/examples/?meta=subset:odd&search=good").json()["results"]
    assert {row["meta"]["subset"] for row in odd} == {"odd"}
    assert len(odd) == 30
    first = page["results"][0]
    assert [response["messages"][0]["content"] for response in first["responses"]] == ["good 0", "bad 0"]
    assert first["preferences"] == [{"response_a": 0, "response_b": 1, "verdict": "a", "preference_strength": None}]


@pytest.mark.parametrize("key", ["nothing", "dataset__project__name", "password"])
def test_a_filter_key_that_the_data_does_not_have_is_named(api: Api, key: str) -> None:
    uid = api.send(jsonl({**PAIR, "subset": "x"})).json()["uid"]
    answer = api.get(f"datasets/{uid}/examples/?meta={key}:x")
    assert answer.status_code == 422
    assert "subset" in answer.json()["detail"]


@pytest.mark.parametrize("search", ['"', "a & | !", "((", "日本", "-", "or or or"])
def test_no_search_breaks(api: Api, search: str) -> None:
    uid = api.send(jsonl(PAIR)).json()["uid"]
    answer = api.client.get(f"/api/v1/datasets/{uid}/examples/", {"search": search})
    assert answer.status_code == 200


def test_a_search_for_a_nul_is_refused_by_name(api: Api) -> None:
    uid = api.send(jsonl(PAIR)).json()["uid"]
    answer = api.client.get(f"/api/v1/datasets/{uid}/examples/", {"search": "\x00"})
    assert answer.status_code == 400
    assert "NUL" in answer.json()["detail"]


def test_pages_take_as_many_queries_for_many_examples_as_for_few(api: Api, django_assert_max_num_queries: Any) -> None:
    uid = api.send(jsonl(*pairs(100))).json()["uid"]
    with django_assert_max_num_queries(8):
        assert len(api.get(f"datasets/{uid}/examples/?page_size=100").json()["results"]) == 100
    for _ in range(5):
        DatasetFactory(project=api.project, imported_by=api.member.user)
    with django_assert_max_num_queries(6):
        assert len(api.get(f"projects/{api.project.uid}/datasets/").json()["results"]) == 6


def test_delete_is_soft_and_refused_while_in_use(api: Api) -> None:
    used, frozen, free = (DatasetFactory(project=api.project) for _ in range(3))
    QueueFactory(dataset=used)
    Dataset.objects.filter(pk=frozen.pk).update(frozen_at=timezone.now())
    for dataset in (used, frozen):
        answer = api.client.delete(f"/api/v1/datasets/{dataset.uid}/")
        assert (answer.status_code, answer.json()["code"]) == (409, "dataset_in_use")
    assert api.client.delete(f"/api/v1/datasets/{free.uid}/").status_code == 204
    assert api.get(f"datasets/{free.uid}/").status_code == 404
    free.refresh_from_db()
    assert free.deleted_at is not None


def test_a_name_and_a_licence_can_be_changed_and_nothing_else(api: Api) -> None:
    dataset = DatasetFactory(project=api.project, licence="MIT")
    url = f"/api/v1/datasets/{dataset.uid}/"

    def change(**values: Any) -> Any:
        return api.client.patch(url, json.dumps(values), content_type="application/json")

    assert change(name="Ducks").json()["licence"] == "MIT"
    assert change(licence="").json()["name"] == "Ducks"
    for wrong in ({"name": " "}, {"name": "x" * 201}, {"n_examples": 7}, {"name": "a\0"}):
        assert change(**wrong).status_code == 422, wrong
    dataset.refresh_from_db()
    assert (dataset.name, dataset.licence, dataset.n_examples) == ("Ducks", "", 0)

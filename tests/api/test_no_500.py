"""No request makes a 500: every operation of docs/openapi.yaml and every page, with values nobody should send.

Each value of a good request is replaced in turn by each wrong one, in bodies, query strings and forms; what a request
did is shown once and taken back. Errors of the API are problem documents.
"""

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.db import transaction
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from annotator.models import Role
from tests.factories import MembershipFactory, QueueFactory
from tests.routes import PAGES
from tests.test_permissions import objects_of

pytestmark = pytest.mark.django_db

DOCUMENT = Path(__file__).resolve().parent.parent.parent / "docs" / "openapi.yaml"
UNKNOWN = "00000000-0000-4000-8000-000000000000"
HUGE = 10**400
#: Half a surrogate pair, and a digit that is none to int().
HALF, SQUARED = "\ud800", "²"
WRONG: list[Any] = [
    None, True, -1, 2**70, HUGE, 1e300, "nan", "", "\0", HALF, SQUARED, "9" * 5000, "0001-01-01T00:00:00+14:00",
    [], [1, None], {HALF: "\0"}, {"\0": [HUGE, {}]},
]  # fmt: skip
WRONG_BODIES = [
    b"",
    b"null",
    b"1",
    b'"x"',
    b"[]",
    b"[1]",
    b"{",
    b"\xff\xfe",
    b"[" * 5000,
    b'{"a":' * 900 + b"1" + b"}" * 900,
]
WRONG_TYPES = [
    "text/xml",
    "multipart/form-data",
    "multipart/form-data; boundary=x",
    "application/x-www-form-urlencoded",
    "",
]
#: The last two are page addresses whose place is no key.
WRONG_TEXTS = ["", "a\0b", "-1", SQUARED, "9" * 30, "9" * 5000, "nan", "'\"<>&%:", UNKNOWN, "cD1hYmM=", "cD0tMQ=="]
#: Values of a request that is accepted, or nearly so, by the name of the field; {kind} is an object of the world.
GOOD: dict[str, Any] = {
    "answers": {"preference": {"choice": "left", "strength": 2, "reasons": [], "justification": "x"}},
    "config": {"seed": 1},
    "dataset": "{dataset}",
    "family": "random",
    "filter": {"verdicts": ["a"], "min_judgements": 1, "raters": ["r-x"], "since": "2026-01-01T00:00:00Z"},
    "form": [{"type": "pairwise", "name": "preference", "title": "x", "points": 7, "reasons": ["x"]}],
    "kind": "evaluate",
    "lease_s": 600,
    "name": "x",
    "overlap": 1,
    "max_pairs": 1,
    "reason": "unclear",
    "role": "viewer",
    "shown": {"layout": "tabs", "viewed": ["left", "right"]},
    "spec": {"checkpoint": "{checkpoint}", "source": {"dataset": "{dataset}"}, "slice_by": ["x"], "seed": 1},
    "state": "paused",
    "source": "minilm",
}
QUERIES: dict[str, dict[str, str]] = {
    "annotator:dataset-list": {"page": "1"},
    "annotator:dataset-detail": {"q": "x", "key": "x", "value": "x", "after": "{example}", "before": "{example}"},
    "annotator:example-detail": {"q": "x", "key": "x", "value": "x"},
    "annotator:queue-create": {"preview": "1", "dataset": "{dataset}", "title": "x", "points": "7", "reasons": "x"},
    "annotator:queue-items": {"after": "1"},
    "annotator:queue-review": {"verdict": "a", "disagreement": "1", "before": "1"},
    "annotator:snapshot-detail": {"after": "1"},
    "annotator:snapshot-card": {"format": "raw", "file": "jsonl"},
    "annotator:login": {"next": "/"},
    "rmeval:run-list": {"state": "done", "kind": "score", "before": "1", "after": "1"},
    "rmeval:run-detail": {"part": "charts"},
    "rmeval:reward-model-create": {"family": "length"},
    "rmeval:playground": {
        "run": "{run}", "example": "{example}", "dataset": "{dataset}", "position": "1", "checkpoint": "{checkpoint}",
    },
    "rmeval:study-create": {"question": "grid", "rows": "8"},
    "rmeval:leaderboard": {"slice": "x", "sort": "name"},
    "rmeval:compare": {"a": "{checkpoint}", "cell": "all", "strength": "1", "key": "x", "value": "x", "after": "1"},
}  # fmt: skip
QUESTION = {"title": "x", "points": "7", "justification": "off", "reasons": "x"}
FORMS: dict[str, dict[str, str]] = {
    "annotator:login": {"username": "x", "password": "x"},
    "annotator:account-preferences": {"theme": "dark", "language": "en"},
    "annotator:token-create": {"name": "x"},
    "annotator:project-create": {"name": "x", "description": "x"},
    "annotator:project-edit": {"name": "x", "description": "x"},
    "annotator:member-role": {"role": "viewer"},
    "annotator:invitation-create": {"role": "viewer", "days": "7", "email": "a@b.org"},
    "annotator:queue-create": {
        **QUESTION, "name": "x", "dataset": "{dataset}", "overlap": "1", "pair_policy": "all", "max_pairs": "1",
        "order_policy": "depth", "lease_minutes": "5", "guidelines": "x",
    },
    "annotator:queue-guidelines-save": {"markdown": "x"},
    "annotator:queue-form-save": QUESTION,
    "annotator:queue-state-save": {"state": "paused"},
    "annotator:queue-overlap-save": {"overlap": "2"},
    "annotator:queue-annotate": {
        "assignment": "{assignment}", "choice": "left:2", "reasons": "x", "justification": "x", "idempotency_key": "x",
    },
    "annotator:snapshot-create": {
        "aggregation": "each", "min_judgements": "1", "since": "2026-01-01T00:00", "raters": "x",
    },
    "rmeval:reward-model-create": {"name": "x", "description": "x", "unit": "words"},
    "rmeval:reward-model-train": {"source": "dataset:{dataset}", "learning_rate": "1e-5", "objective_config": "{}"},
    "rmeval:reward-model-evaluate": {"checkpoint": "{checkpoint}", "source": "dataset:{dataset}"},
    "rmeval:reward-model-import": {"model": "minilm", "name": "x", "weights": "{}", "max_length": "64"},
    "rmeval:playground": {
        "conversation": "x", "response_1": "x", "response_2": "user: x", "reference": "x", "context": "x",
        "steps": "lines", "checkpoints": "{checkpoint}",
    },
    "rmeval:study-create": {
        "source": "dataset:{dataset}", "n_seeds": "1", "shared": "epochs = 1", "name_1": "x", "text_1": "x = 1",
        "name_2": "y", "text_2": "epochs = 2", "keep_checkpoints": "on",
    },
    "rmeval:leaderboard-evaluate": {"checkpoint": "{checkpoint}", "source": "dataset:{dataset}"},
    "rmeval:compare-queue": {"name": "x", "overlap": "1", "limit": "5", "cell": "all", "key": "x", "value": "x"},
}  # fmt: skip


PAGE_CASES = [(name, method) for name, route in PAGES.items() for method in route.allowed if name != "readyz"]


@lru_cache(maxsize=1)
def document() -> Any:
    return yaml.load(DOCUMENT.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


class Site:
    """One project with one of everything, all of it the caller's, and what became of every request."""

    def __init__(self) -> None:
        queue = QueueFactory()
        self.user = MembershipFactory(project=queue.project, role=Role.LEAD).user
        self.names = objects_of(queue, {Role.ANNOTATOR: self.user})
        self.client = Client(raise_request_exception=False)
        self.client.force_login(self.user)
        self.n_requests = 0
        self.n_accepted = 0
        self.failures: list[str] = []

    def filled(self, value: Any) -> Any:
        """The value with the world's ids in place of {kind}."""
        if isinstance(value, dict):
            return {name: self.filled(part) for name, part in value.items()}
        if isinstance(value, list):
            return [self.filled(part) for part in value]
        if isinstance(value, str) and value.startswith(("{", "dataset:{")) and value != "{}":
            return value.format(**self.names)
        return value

    def send(self, method: str, url: str, *, shows: str = "", **request: Any) -> None:
        """Try a request, look at what it made, and take it back."""
        with transaction.atomic():
            response = getattr(self.client, method)(url, **request)
            self.judge(response, method, url, request)
            if shows and 200 <= response.status_code < 300:
                self.n_accepted += 1
                self.judge(self.client.get(shows), "then get", shows, request)
            transaction.set_rollback(True)

    def judge(self, response: HttpResponse, method: str, url: str, request: dict[str, Any]) -> None:
        self.n_requests += 1
        is_problem = response.headers.get("Content-Type") == "application/problem+json"
        wants_problem = url.startswith("/api/v1/") and response.status_code >= 400
        if response.status_code >= 500 or (wants_problem and not is_problem):
            self.failures.append(f"{response.status_code} {method} {url[:120]} {str(request)[:300]}")


@pytest.fixture
def site(settings: Any) -> Site:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    return Site()


def replaced(good: Any, wrong: list[Any]) -> Iterator[Any]:
    """The good value with each part of it replaced by each wrong one."""
    yield good
    yield from wrong
    if isinstance(good, dict | list):
        places: Any = good if isinstance(good, dict) else range(len(good))
        for place in places:
            for part in replaced(good[place], wrong):
                copy = dict(good) if isinstance(good, dict) else list(good)
                copy[place] = part
                yield copy


def good_body(schema: dict[str, Any]) -> dict[str, Any]:
    properties = resolved(schema).get("properties", {})
    return {name: GOOD.get(name, good_value(resolved(part))) for name, part in properties.items()}


def good_value(schema: dict[str, Any]) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    return {"integer": 1, "number": 1.0, "boolean": True, "array": [], "object": {}}.get(schema.get("type", ""), "x")


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    found = schema.get("allOf", [schema])[0]
    name = found.get("$ref", "").rsplit("/", 1)[-1]
    return document()["components"]["schemas"][name] if name else found  # type: ignore[no-any-return]


def operations() -> list[tuple[str, str]]:
    return [(method, path) for path, found in document()["paths"].items() for method in found]


def address(path: str, names: dict[str, str]) -> str:
    """The path with its uid in place; what it names follows from the collection before it."""
    kind = path.removeprefix("/api/v1/").split("/")[0].removesuffix("s").replace("-", "_")
    kind = {"leaderboard": "dataset"}.get(kind, kind)
    return path.replace("{uid}", names.get(kind, UNKNOWN)).replace("{member_uid}", names["member"])


TAGS = sorted({document()["paths"][path][method]["tags"][0] for method, path in operations()})
PAGE_GROUPS = sorted({name.rpartition("-")[0] or name for name, _ in PAGE_CASES})


@pytest.mark.parametrize("tag", TAGS)
def test_api(site: Site, tag: str) -> None:
    for method, path in operations():
        if document()["paths"][path][method]["tags"][0] == tag:
            operation_walk(site, method, path)
    assert site.n_requests
    assert not site.failures, "\n".join(site.failures)


def operation_walk(site: Site, method: str, path: str) -> None:
    operation, url = document()["paths"][path][method], address(path, site.names)
    shows = url if "get" in document()["paths"][path] else ""
    if method == "get":
        site.send(method, url)
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "query":
            known = {"a": site.names["checkpoint"], "b": site.names["checkpoint"], "dataset": site.names["dataset"]}
            for text in WRONG_TEXTS:
                query = {**(known if path.endswith("/compare/") else {}), parameter["name"]: text}
                site.send(method, url, query_params=query)
    if method != "get":
        for raw in WRONG_BODIES:
            site.send(method, url, shows=shows, data=raw, content_type="application/json")
        for kind in WRONG_TYPES:
            site.send(method, url, data=b"name=x", content_type=kind)
    content = operation.get("requestBody", {}).get("content", {})
    if "application/json" in content:
        good = site.filled(good_body(content["application/json"]["schema"]))
        for body in replaced(good, WRONG):
            site.send(method, url, shows=shows, data=json.dumps(body), content_type="application/json")


@pytest.mark.parametrize("group", PAGE_GROUPS)
def test_pages(site: Site, group: str) -> None:
    for name, method in PAGE_CASES:
        if (name.rpartition("-")[0] or name) == group:
            page_walk(site, name, method)
    assert site.n_requests
    assert not site.failures, "\n".join(site.failures)


def page_walk(site: Site, name: str, method: str) -> None:
    route = PAGES[name]
    url = reverse(name, kwargs={argument: site.names[kind] for argument, kind in route.objects.items()})
    if name == "annotator:login":
        site.client.logout()
    fixed = {argument: site.names[kind] for argument, kind in route.query.items()}
    fields = site.filled({**fixed, **(QUERIES if method == "get" else FORMS).get(name, {})})
    part = "query_params" if method == "get" else "data"
    for given in [fields, *({**fields, field: text} for field in fields for text in WRONG_TEXTS)]:
        site.send(method, url, **{part: given})
    if method != "get":
        for raw in WRONG_BODIES:
            site.send("post", url, data=raw, content_type="application/json")
    if name in {"annotator:login", "annotator:logout"}:
        site.client.force_login(site.user)


def test_requests_are_good_enough_to_be_accepted(site: Site) -> None:
    """The walk reaches beyond the first check: most writes of the good body are accepted."""
    for method, path in operations():
        content = document()["paths"][path][method].get("requestBody", {}).get("content", {})
        if "application/json" in content:
            body = site.filled(good_body(content["application/json"]["schema"]))
            url = address(path, site.names)
            site.send(method, url, shows="/api/v1/me/", data=json.dumps(body), content_type="application/json")
    assert site.n_accepted >= 8

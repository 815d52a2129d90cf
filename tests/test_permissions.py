"""Who may do what, for every address of the site: each route x each method x each role, a stranger and nobody.

Who may call what stands in tests/routes.py. Everything else is tried too: other roles get 403, people of another
project 404, nobody a login page or 401, and methods without an entry 405.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import transaction
from django.http import HttpResponse
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from annotator.models import Queue, Role, User
from rmeval.models import Run
from tests.factories import (
    QUESTIONS,
    ApiTokenFactory,
    ArtifactFactory,
    AssignmentFactory,
    CheckpointFactory,
    FlagFactory,
    InvitationFactory,
    JudgementFactory,
    MembershipFactory,
    PreferenceFactory,
    QueueFactory,
    RaterFactory,
    RewardModelFactory,
    RunFactory,
    SnapshotFactory,
    SnapshotRowFactory,
    UserFactory,
)
from tests.routes import API, METHODS, PUBLIC, ROUTES, SIGNED_IN

pytestmark = pytest.mark.django_db


def url_names(patterns: list[URLPattern | URLResolver], namespace: str = "") -> Iterator[str]:
    for pattern in patterns:
        if isinstance(pattern, URLPattern):
            yield f"{namespace}{pattern.name}"
        elif pattern.namespace != "admin":
            yield from url_names(pattern.url_patterns, f"{pattern.namespace}:" if pattern.namespace else namespace)


def test_every_route_is_listed_here() -> None:
    found = set(url_names(get_resolver().url_patterns))
    missing, gone = sorted(found - set(ROUTES)), sorted(set(ROUTES) - found)
    assert not missing, f"add to tests/routes.py, with the object kind and the allowed roles: {missing}"
    assert not gone, f"remove from tests/routes.py: {gone}"


@dataclass(frozen=True)
class World:
    """One project with one of everything, its people, and a stranger who leads another project."""

    people: dict[str, User]
    names: dict[str, str]
    foreign: dict[str, str]


@pytest.fixture
def world() -> World:
    queue = QueueFactory()
    people: dict[str, User] = {role: MembershipFactory(project=queue.project, role=role).user for role in Role}
    people["stranger"] = MembershipFactory(role=Role.LEAD).user
    return World(people, objects_of(queue, people), objects_of(QueueFactory(), people))


def objects_of(queue: Any, people: dict[str, User]) -> dict[str, str]:
    """Everything a route can name, of one project, by kind."""
    project = queue.project
    preference = PreferenceFactory(example__dataset=queue.dataset)
    queue.dataset.n_preferences = 1
    queue.dataset.save()
    judgement = JudgementFactory(item__queue=queue)
    snapshot = SnapshotFactory(queue=queue, n_rows=1)
    SnapshotRowFactory(snapshot=snapshot, item=judgement.item)
    reward_model = RewardModelFactory(project=project, family="scalar_head", config={"backbone": "minilm"})
    checkpoint = CheckpointFactory(reward_model=reward_model)
    other = CheckpointFactory(reward_model__project=project)
    assignment = AssignmentFactory(item__queue=queue, rater=RaterFactory(user=people[Role.ANNOTATOR]))
    secret = f"secret-of-{project.uid}"
    rows = {
        "project": project,
        "member": MembershipFactory(project=project, role=Role.VIEWER).user,
        "invitation": InvitationFactory(project=project, secret=secret),
        "token": ApiTokenFactory(user=people[Role.ANNOTATOR]),
        "dataset": queue.dataset,
        "example": preference.example,
        "queue": queue,
        "assignment": assignment,
        "flag": FlagFactory(item=judgement.item),
        "snapshot": snapshot,
        "reward_model": reward_model,
        "checkpoint": checkpoint,
        "other_checkpoint": other,
        "run": RunFactory(project=project, reward_model=reward_model),
        "study": RunFactory(project=project, reward_model=reward_model, kind="train_study"),
        "artifact": ArtifactFactory(run__project=project),
        "user": UserFactory(),
    }
    return {
        **{kind: str(row.uid) for kind, row in rows.items()},
        "invitation_secret": secret,
        "file_name": "no-such-file",
    }


def call(name: str, method: str, names: dict[str, str], user: User | None) -> HttpResponse:
    """Try a route and take back whatever it did."""
    route = ROUTES[name]
    url = reverse(name, kwargs={argument: names[kind] for argument, kind in route.objects.items()})
    query = {argument: names[kind] for argument, kind in route.query.items()}
    client = Client(raise_request_exception=True)
    if user is not None:
        client.force_login(user)
    with transaction.atomic():
        if method == "get":
            response = client.get(url, query)
        elif name in API:
            response = getattr(client, method)(url, data="{}", content_type="application/json", query_params=query)
        else:
            response = getattr(client, method)(url, query)
        transaction.set_rollback(True)
    return response  # type: ignore[no-any-return]


def is_refused(response: HttpResponse) -> bool:
    return response.status_code in {401, 403, 404, 405} and not is_lookup(response)


def is_lookup(response: HttpResponse) -> bool:
    """A 404 about something inside an object that the caller may see: a file that does not exist."""
    return response.status_code == 404 and b"member of its project" not in response.content


def asks_for_login(name: str, response: HttpResponse) -> bool:
    if name in API:
        return response.status_code == 401 and response["Content-Type"] == "application/problem+json"
    return response.status_code == 302 and response["Location"].startswith(reverse("annotator:login"))


CASES = [(name, method) for name, route in ROUTES.items() for method in route.allowed]


@pytest.mark.parametrize(("name", "method"), CASES)
def test_who_may_call(world: World, name: str, method: str) -> None:
    route = ROUTES[name]
    allowed = route.allowed[method]
    nobody = call(name, method, world.names, None)
    if allowed == PUBLIC:
        assert nobody.status_code not in {401, 403, 404, 405}
        return
    assert asks_for_login(name, nobody), f"nobody: {nobody.status_code}"
    for who, user in world.people.items():
        response = call(name, method, world.names, user)
        if allowed == SIGNED_IN or who in allowed:
            assert not is_refused(response), f"{who}: {response.status_code} {response.content[:300]!r}"
            assert not asks_for_login(name, response)
        elif who == "stranger" or route.is_private:
            assert response.status_code == 404, f"{who}: {response.status_code}"
        else:
            assert response.status_code == 403, f"{who}: {response.status_code}"


@pytest.mark.parametrize("name", [name for name, route in ROUTES.items() if route.objects or route.query])
def test_ids_of_another_project_are_not_found(world: World, name: str) -> None:
    """Each argument in turn, and all of them, name something of a project that the lead does not belong to."""
    route = ROUTES[name]
    arguments = {**route.objects, **route.query}
    if route.is_private or PUBLIC in route.allowed.values():
        return
    lead = world.people[Role.LEAD]
    for method in route.allowed:
        for kind in arguments.values():
            if kind == "file_name":
                continue
            mixed = {**world.names, kind: world.foreign[kind]}
            response = call(name, method, mixed, lead)
            assert response.status_code == 404, f"{method} with another project's {kind}: {response.status_code}"


BODIES: list[tuple[str, str, dict[str, Any]]] = [
    ("annotator-api:project-queues", "dataset", {"name": "q", "dataset": "<dataset>", "form": QUESTIONS, "overlap": 1}),
    (
        "rmeval-api:project-runs",
        "checkpoint",
        {"kind": "evaluate", "spec": {"checkpoint": "<checkpoint>", "source": {"dataset": "<dataset>"}}},
    ),
    (
        "rmeval-api:project-runs",
        "dataset",
        {"kind": "evaluate", "spec": {"checkpoint": "<checkpoint>", "source": {"dataset": "<dataset>"}}},
    ),
    (
        "rmeval-api:project-runs",
        "snapshot",
        {"kind": "score", "spec": {"checkpoint": "<checkpoint>", "source": {"snapshot": "<snapshot>"}}},
    ),
    (
        "rmeval-api:project-runs",
        "reward_model",
        {"kind": "train_rm", "spec": {"reward_model": "<reward_model>", "source": {"dataset": "<dataset>"}}},
    ),
]


@pytest.mark.parametrize(("name", "kind", "body"), BODIES)
def test_ids_of_another_project_in_a_body_make_nothing(
    world: World, name: str, kind: str, body: dict[str, Any]
) -> None:
    """The lead of one project names, inside the body, something of another."""
    client = Client()
    client.force_login(world.people[Role.LEAD])
    url = reverse(name, kwargs={"uid": world.names["project"]})

    def post(names: dict[str, str]) -> HttpResponse:
        text = json.dumps(body)
        for known, uid in names.items():
            text = text.replace(f"<{known}>", uid)
        with transaction.atomic():
            response = client.post(url, text, content_type="application/json")
            made = Queue.objects.count(), Run.objects.count()
            transaction.set_rollback(True)
        assert (made == before) == (response.status_code >= 400)
        return response  # type: ignore[no-any-return]

    before = Queue.objects.count(), Run.objects.count()
    own = post(world.names)
    assert own.status_code in {201, 202}, own.content
    assert post({**world.names, kind: world.foreign[kind]}).status_code in {404, 422}


@pytest.mark.parametrize("name", [n for n in ROUTES if n not in {"schema", "healthz", "readyz", "metrics"}])
def test_other_methods_are_not_allowed(world: World, name: str) -> None:
    route = ROUTES[name]
    for method in METHODS:
        if method in route.allowed:
            continue
        user = None if name == "annotator:login" else world.people[Role.ANNOTATOR if route.is_private else Role.LEAD]
        response = call(name, method, world.names, user)
        assert response.status_code == 405, f"{method}: {response.status_code}"


@pytest.mark.parametrize("name", [name for name in ROUTES if ROUTES[name].objects])
def test_unknown_ids_are_not_found(world: World, name: str) -> None:
    route = ROUTES[name]
    unknown = {kind: "00000000-0000-4000-8000-000000000000" for kind in route.objects.values()}
    for method in route.allowed:
        response = call(name, method, {**world.names, **unknown}, world.people[Role.LEAD])
        assert response.status_code == 404
        if name in API:
            assert response["Content-Type"] == "application/problem+json"

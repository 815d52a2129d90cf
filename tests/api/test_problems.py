"""Whatever goes wrong below /api/v1/ is a problem document that says what to do."""

import json
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from annotator.problems import problem_of
from tests.factories import ApiTokenFactory, QueueFactory, UserFactory, member

pytestmark = pytest.mark.django_db
PROJECTS = "/api/v1/projects/"


@pytest.fixture
def api() -> Client:
    return Client(headers={"Authorization": f"Token {ApiTokenFactory(secret='known') and 'known'}"})


def problem(response: HttpResponse, status: int, code: str = "") -> dict[str, Any]:
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == status
    assert {"type", "title", "detail", "code"} <= set(body)
    assert body["type"] == f"/api/problems/{body['code']}"
    assert not code or body["code"] == code
    return body


def test_no_such_address(api: Client) -> None:
    problem(api.get("/api/v1/nothing/"), 404, "not_found")
    problem(api.get("/api/v1/projects/not-a-uid/"), 404, "not_found")
    problem(api.get("/api/v1/projects/00000000-0000-4000-8000-000000000000/"), 404, "not_found")


def test_page_errors_stay_pages(client: Client) -> None:
    response = client.get("/nothing/")
    assert response.status_code == 404
    assert response["Content-Type"].startswith("text/html")


def test_who_are_you() -> None:
    for header in ("", "Token", "Token wrong", "Token a b"):
        response = Client(headers={"Authorization": header} if header else {}).get(PROJECTS)
        problem(response, 401)
        assert response["WWW-Authenticate"] == "Token"


def test_wrong_method(api: Client) -> None:
    response = api.delete(PROJECTS)
    problem(response, 405, "method_not_allowed")
    assert "POST" in response["Allow"]


def test_wrong_content_type(api: Client) -> None:
    problem(api.post(PROJECTS, "<name/>", content_type="text/xml"), 415, "unsupported_media_type")


@pytest.mark.parametrize("body", ['{"name": ', "\xff", '{"name": NaN}', "[" * 100_000])
def test_body_that_is_no_json(api: Client, body: str) -> None:
    problem(api.post(PROJECTS, body.encode("latin-1"), content_type="application/json"), 400)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/name"),
        ({"name": ""}, "/name"),
        ({"name": "x" * 201}, "/name"),
        ({"name": "a\0b"}, "/name"),
        ({"name": ["a"]}, "/name"),
        ({"name": "a", "colour": "red"}, "/colour"),
        ([], ""),
        ("name", ""),
    ],
)
def test_wrong_values_are_pointed_at(api: Client, body: object, pointer: str) -> None:
    found = problem(api.post(PROJECTS, json.dumps(body), content_type="application/json"), 422, "invalid")
    assert found["errors"][0]["pointer"] == pointer
    assert found["errors"][0]["detail"]


def test_role_too_low_is_403_and_says_which_role(client: Client) -> None:
    queue = QueueFactory()
    client.force_login(member(queue.project, "viewer"))
    found = problem(client.post(f"/api/v1/queues/{queue.uid}/snapshots/", {}, content_type="application/json"), 403)
    assert "this needs: lead, researcher" in found["detail"]


def test_session_needs_a_csrf_token() -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(UserFactory())
    problem(browser.post(PROJECTS, {"name": "x"}, content_type="application/json"), 403)


def test_any_accept_header_is_answered(api: Client) -> None:
    for accept in ("text/html", "application/x-ndjson", "image/png", "nonsense"):
        assert api.get(PROJECTS, headers={"Accept": accept}).status_code == 200


def test_an_unforeseen_error_is_told_without_its_inside() -> None:
    assert problem_of(RuntimeError("secret")) is None
    client = Client(raise_request_exception=False)
    from annotator.views.errors import server_error

    request = client.get("/api/v1/nothing/").wsgi_request
    response = server_error(request)
    assert response.status_code == 500
    assert b"secret" not in response.content
    assert response["Content-Type"] == "application/problem+json"


def test_pages_show_domain_errors(client: Client) -> None:
    queue = QueueFactory()
    client.force_login(member(queue.project, "annotator"))
    url = reverse("annotator:queue-agreement", args=[queue.uid])
    page = client.get(url)
    assert page.status_code == 403
    assert "Ask the lead" in page.content.decode()
    fragment = client.get(url, headers={"HX-Request": "true"})
    assert fragment.status_code == 403
    assert fragment["HX-Retarget"] == "#messages"

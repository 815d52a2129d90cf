"""The content security policy: built once, and still changed by whoever changes it for one answer."""

from csp.constants import HEADER, NONCE
from csp.utils import build_policy
from django.http import HttpResponse
from django.test import RequestFactory

from steelyard import middleware
from steelyard.middleware import PolicyMiddleware


def answer(*, nonce: bool = False, **values: object) -> HttpResponse:
    def view(request):
        response = HttpResponse(str(request.csp_nonce) if nonce else "")
        vars(response).update(values)
        return response

    found = PolicyMiddleware(view)(RequestFactory().get("/"))
    assert isinstance(found, HttpResponse)
    return found


def directives(policy: str) -> set[str]:
    return set(policy.split("; "))


def test_the_usual_policy_is_built_once_and_is_that_of_the_settings(monkeypatch) -> None:
    assert directives(answer()[HEADER]) == directives(build_policy())
    monkeypatch.setattr(middleware, "build_policy", None)  # would fail if it were called
    assert answer()[HEADER]


def test_a_view_still_changes_its_own_policy() -> None:
    assert "img-src 'self' data: https://example.org" in directives(
        answer(_csp_update={"img-src": ["https://example.org"]})[HEADER]
    )
    assert HEADER not in answer(_csp_exempt=True)
    response = answer(nonce=True, _csp_update={"script-src": [NONCE]})
    assert f"'nonce-{response.content.decode()}'" in response[HEADER]

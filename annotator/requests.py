"""Small facts about a request that several views share."""

from ipaddress import ip_address

from django.http import HttpRequest
from rest_framework.request import Request

from annotator.errors import NotFound
from annotator.models import User


def user_of(request: HttpRequest | Request) -> User:
    """The person behind a request that has passed `login_required` or `IsAuthenticated`."""
    if not isinstance(request.user, User):
        raise NotFound("Log in first.")
    return request.user


def client_address(request: HttpRequest, *, n_proxies: int) -> str:
    """Address of whoever asks, behind `n_proxies` proxies of our own that each append to X-Forwarded-For.

    Counted from the right, because everything to the left of our proxies' entries is what the client wrote itself.
    A header that is too short or holds no address there did not come through them: then the peer's address counts.
    """
    peer = str(request.META.get("REMOTE_ADDR", ""))
    passed = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
    if n_proxies < 1 or len(passed) < n_proxies:
        return peer
    try:
        return str(ip_address(passed[-n_proxies].strip()))
    except ValueError:
        return peer

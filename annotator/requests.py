"""Small facts about a request that several views share."""

from django.http import HttpRequest
from rest_framework.request import Request

from annotator.errors import NotFound
from annotator.models import User


def user_of(request: HttpRequest | Request) -> User:
    """The person behind a request that has passed `login_required` or `IsAuthenticated`."""
    if not isinstance(request.user, User):
        raise NotFound("Log in first.")
    return request.user

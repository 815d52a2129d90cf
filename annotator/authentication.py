"""How the REST API knows who calls: a bearer token or the session."""

import hashlib
from datetime import timedelta

from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework import authentication, exceptions
from rest_framework.request import Request

from annotator.access import partial
from annotator.models import ApiToken, User
from annotator.statements import row_of

TOUCH_EVERY = timedelta(minutes=1)
#: Of the caller; the others are read when somebody asks for them.
COLUMNS = ("id", "uid", "username", "first_name", "last_name", "email", "is_active", "is_staff", "is_superuser")
OWNER = f"""
SELECT token.id, token.last_used_at, {", ".join(f"person.{name}" for name in COLUMNS)}
FROM annotator_apitoken AS token JOIN annotator_user AS person ON person.id = token.user_id
WHERE token.digest = %(digest)s AND token.revoked_at IS NULL
"""  # noqa: S608 - constants


def token_digest(token: str) -> str:
    """SHA-256 is enough: tokens are 32 random bytes, so there is nothing to guess."""
    return hashlib.sha256(token.encode()).hexdigest()


class TokenAuthentication(authentication.BaseAuthentication):
    """`Authorization: Token <token>`."""

    def authenticate(self, request: Request) -> tuple[User, int] | None:
        header = authentication.get_authorization_header(request).decode("latin-1").split()
        if not header or header[0].lower() not in {"token", "bearer"}:
            return None
        if len(header) != 2:
            raise exceptions.AuthenticationFailed("Send the token as: Authorization: Token <token>")
        # Plain SQL: this runs before every request of every script and rater.
        row = row_of(OWNER, digest=token_digest(header[1]))
        user = partial(User, **dict(zip(COLUMNS, row[2:], strict=True))) if row else None
        if row is None or user is None or not user.is_active:
            raise exceptions.AuthenticationFailed(
                "This token is unknown or revoked. Make a new one on your account page."
            )
        now = timezone.now()
        token_id, used_at = row[:2]
        if used_at is None or now - used_at > TOUCH_EVERY:
            ApiToken.objects.filter(pk=token_id).update(last_used_at=now)
        return user, token_id

    def authenticate_header(self, request: Request) -> str:
        return "Token"


class SessionAuthentication(authentication.SessionAuthentication):
    """The browser's session, with CSRF checked; answers 401, not 403, to a caller without any."""

    def authenticate_header(self, request: Request) -> str:
        return "Token"


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "annotator.authentication.TokenAuthentication"
    name = "tokenAuth"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        return {"type": "apiKey", "in": "header", "name": "Authorization", "description": "`Token <token>`"}


class SessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "annotator.authentication.SessionAuthentication"
    name = "sessionAuth"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        return {"type": "apiKey", "in": "cookie", "name": "steelyard_session"}

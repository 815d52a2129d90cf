"""Accounts: API tokens, preferences, and slowing down whoever guesses passwords."""

import hashlib
import secrets
from datetime import datetime, timedelta

from django.db import connection

from annotator.authentication import token_digest
from annotator.errors import DomainError, FieldError, InvalidInput
from annotator.models import ApiToken, LoginFailure, User

TOKEN_PREFIX = "sy_"  # noqa: S105 - not a secret: it lets a scanner recognise a leaked token
MAX_TOKENS = 50
THEMES = ("auto", "light", "dark", "contrast")

FREE_ATTEMPTS = 5
FORGET_AFTER = timedelta(minutes=15)
LONGEST_WAIT_S = 300

#: Seconds to wait after n failures: nothing for the first few, then 2, 4, 8 ... up to the longest.
GROWING = f"least(2.0 ^ (f.n_failed - {FREE_ATTEMPTS - 1}), {LONGEST_WAIT_S})"
WAIT_SQL = f"(CASE WHEN f.n_failed < {FREE_ATTEMPTS} THEN 0 ELSE {GROWING} END)"
ATTEMPT_SQL = f"""
    INSERT INTO annotator_loginfailure AS f (key, n_failed, last_at) VALUES (%(key)s, 1, %(now)s)
    ON CONFLICT (key) DO UPDATE
    SET n_failed = CASE WHEN f.last_at < %(forget)s THEN 1 ELSE f.n_failed + 1 END, last_at = %(now)s
    WHERE f.last_at + make_interval(secs => {WAIT_SQL}) <= %(now)s
    RETURNING n_failed
"""  # noqa: S608 - constants of this module only


class TooManyAttempts(DomainError):
    status = 429
    code = "too_many_attempts"
    title = "Too many attempts"


def token_create(*, user: User, name: str) -> tuple[ApiToken, str]:
    """A new token and its secret, which is shown once: only the digest is kept."""
    name = name.strip()
    if not name or len(name) > 100:
        detail = "Give the token a name of 1 to 100 characters, e.g. the machine that uses it."
        raise InvalidInput(detail, errors=[FieldError("/name", "invalid", detail)])
    if ApiToken.objects.filter(user=user, revoked_at=None).count() >= MAX_TOKENS:
        raise DomainError(f"You have {MAX_TOKENS} tokens. Revoke one that is no longer used.", code="too_many_tokens")
    secret = TOKEN_PREFIX + secrets.token_urlsafe(32)
    token = ApiToken.objects.create(user=user, name=name, digest=token_digest(secret), prefix=secret[:8])
    return token, secret


def token_revoke(*, token: ApiToken, now: datetime) -> bool:
    """False when it was revoked before."""
    return ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=now) == 1


def preferences_update(*, user: User, **values: str) -> None:
    """Merge into the user's preferences; values come from a form that knows the choices."""
    user.preferences = {**user.preferences, **values}
    user.save(update_fields=["preferences"])


def attempt_key(username: str, address: str) -> str:
    return hashlib.sha256(f"{username.casefold()}\0{address}".encode()).hexdigest()


def login_attempt(*, username: str, address: str, now: datetime) -> None:
    """Count an attempt before the password is looked at, so that parallel guesses cannot pass together.

    Counted per account and address: guessing from one place never delays the owner at another.
    """
    key = attempt_key(username, address)
    with connection.cursor() as cursor:
        cursor.execute(ATTEMPT_SQL, {"key": key, "now": now, "forget": now - FORGET_AFTER})
        if cursor.fetchone():
            return
        cursor.execute(
            f"SELECT extract(epoch FROM last_at - %s) + {WAIT_SQL} FROM annotator_loginfailure f WHERE key = %s",  # noqa: S608
            [now, key],
        )
        row = cursor.fetchone()
    wait_s = max(1, round(row[0])) if row else 1
    raise TooManyAttempts(f"Too many attempts to log in to this account from here. Try again in {wait_s} s.")


def login_succeeded(*, username: str, address: str, now: datetime) -> None:
    """Forget this pair, and sweep what is old enough not to count."""
    LoginFailure.objects.filter(key=attempt_key(username, address)).delete()
    LoginFailure.objects.filter(last_at__lt=now - FORGET_AFTER).delete()

"""Browser contexts in which somebody is logged in."""

from typing import Any

from django.contrib.sessions.backends.db import SessionStore
from playwright.sync_api import Browser, BrowserContext

from annotator.models import User
from tests.web import Web

WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 390, "height": 800}


def signed_in(browser: Browser, web: Web, user: User, **options: Any) -> BrowserContext:
    """A browser context in which the person is logged in."""
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY

    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    context = browser.new_context(**{"viewport": WIDE, **options})
    context.set_default_timeout(20_000)
    context.add_cookies([{"name": "steelyard_session", "value": session.session_key or "", "url": web.url}])
    return context

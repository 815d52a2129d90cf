"""What every template may show."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest

THEMES = ("auto", "light", "dark", "contrast")


def site(request: HttpRequest) -> dict[str, Any]:
    user = getattr(request, "user", None)
    preferences = user.preferences if user is not None and user.is_authenticated else {}
    theme = preferences.get("theme", "auto")
    return {
        "site_name": "Steelyard",
        "theme": theme if theme in THEMES else "auto",
        "demo_logins": settings.DEMO_LOGINS,
    }

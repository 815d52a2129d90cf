"""Small typed readers of environment variables that fail loudly."""

import os
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured


def env_str(name: str, default: str = "") -> str:
    return os.environ.get(name, default)


def env_int(name: str, default: int) -> int:
    raw = os.environ.get(name, "")
    if not raw:
        return default
    try:
        return int(raw)
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} must be a whole number, not {raw!r}") from error


def env_bool(name: str, default: bool = False) -> bool:
    raw = os.environ.get(name, "").strip().lower()
    if not raw:
        return default
    if raw in {"1", "true", "yes", "on"}:
        return True
    if raw in {"0", "false", "no", "off"}:
        return False
    raise ImproperlyConfigured(f"{name} must be true or false, not {raw!r}")


def env_list(name: str, default: list[str]) -> list[str]:
    raw = os.environ.get(name, "")
    return [part.strip() for part in raw.split(",") if part.strip()] if raw else default


def env_secret(name: str, *, required: bool, default: str) -> str:
    """A secret: in production there is no default and a short one is refused."""
    value = os.environ.get(name, "")
    if not required:
        return value or default
    if len(value) < 32:
        raise ImproperlyConfigured(
            f"{name} must be set to at least 32 characters in production; "
            'make one with: python -c "import secrets; print(secrets.token_urlsafe(48))"'
        )
    return value


def database_from_url(url: str, *, pool_size: int) -> dict[str, object]:
    """Django's DATABASES entry from postgresql://user:password@host:port/name?host=/socket/dir."""
    parts = urlsplit(url)
    if parts.scheme not in {"postgresql", "postgres"}:
        raise ImproperlyConfigured(
            "STEELYARD_DATABASE_URL must start with postgresql:// (Steelyard runs on PostgreSQL only)"
        )
    query = dict(parse_qsl(parts.query))
    options: dict[str, object] = {k: v for k, v in query.items() if k not in {"host", "port"}}
    if pool_size:
        options["pool"] = {"min_size": 1, "max_size": pool_size, "timeout": 20}
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": query.get("host", parts.hostname or ""),
        "PORT": str(parts.port or query.get("port", "")),
        "CONN_MAX_AGE": 0,
        "OPTIONS": options,
    }

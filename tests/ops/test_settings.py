"""Production refuses to start half-configured, and passes Django's deployment checks when configured."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from steelyard.launcher import ROOT

COMPLETE = {
    "STEELYARD_ENV": "production",
    "STEELYARD_SECRET_KEY": "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_",
    "STEELYARD_ALLOWED_HOSTS": "steelyard.example.org",
    "STEELYARD_DATABASE_URL": "postgresql://steelyard:pw@db.example.org/steelyard?sslmode=require",
    "STEELYARD_BEHIND_PROXY": "1",
}


def manage(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("STEELYARD_", "DJANGO_"))}
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_complete_production_settings_pass_the_deployment_checks() -> None:
    done = manage("check", "--deploy", "--fail-level", "INFO", **COMPLETE)
    assert done.returncode == 0, done.stderr
    assert "no issues" in done.stdout


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STEELYARD_SECRET_KEY", ""),
        ("STEELYARD_SECRET_KEY", "too short"),
        ("STEELYARD_ALLOWED_HOSTS", ""),
        ("STEELYARD_ALLOWED_HOSTS", "*"),
        ("STEELYARD_DATABASE_URL", ""),
        ("STEELYARD_DATABASE_URL", "sqlite:///x.db"),
        ("STEELYARD_TRUSTED_PROXIES", "-1"),
    ],
)
def test_production_names_what_is_missing(name: str, value: str) -> None:
    done = manage("check", **{**COMPLETE, name: value})
    assert done.returncode != 0
    assert name in done.stderr.splitlines()[-1]


def test_production_hides_the_demo_and_turns_on_https() -> None:
    code = (
        "from django.conf import settings as s;"
        "print(s.DEBUG, s.DEMO_LOGINS, s.SESSION_COOKIE_SECURE, s.CSRF_COOKIE_SECURE, s.SECURE_SSL_REDIRECT, "
        "s.SECURE_HSTS_SECONDS > 0, s.DATABASES['default']['OPTIONS']['sslmode'])"
    )
    done = manage("shell", "--no-imports", "-c", code, **COMPLETE)
    assert done.stdout.split() == ["False", "False", "True", "True", "True", "True", "require"]


def test_production_logs_are_json_lines_with_the_request_id() -> None:
    code = (
        "import json, logging; from steelyard.observability import request_id;"
        "request_id.set('abc12345'); logging.getLogger('x').warning('hello')"
    )

    done = manage("shell", "--no-imports", "-c", code, **COMPLETE)
    record = json.loads(done.stderr.splitlines()[-1])
    assert (record["message"], record["levelname"], record["request_id"]) == ("hello", "WARNING", "abc12345")


def test_imported_modules_carry_their_hash_in_production(tmp_path: Path) -> None:
    """Else what a page preloads and what its script imports are two addresses, and only one is cached."""
    done = manage("collectstatic", "--no-input", **{**COMPLETE, "STEELYARD_STATIC_ROOT": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    hashed = json.loads((tmp_path / "staticfiles.json").read_text())["paths"]
    script = (tmp_path / hashed["js/annotate.js"]).read_text()
    imported = re.findall(r'from "\./([\w.-]+)"', script)
    assert imported
    assert {f"js/{name}" for name in imported} <= set(hashed.values())
    assert not {f"js/{name}" for name in imported} & set(hashed)

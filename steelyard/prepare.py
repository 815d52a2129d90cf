"""What a database needs before the site starts: `python -m steelyard.prepare`, quick when nothing is missing."""

import io
import os
import sys

MIN_SERVER = 150_000
LOGINS = "log in as "


class NotReadyError(Exception):
    """The database cannot be used; the text is one line for the person at the terminal."""


def check_server() -> None:
    """PostgreSQL 15 or newer answers. Asked outside Django's pool, which would try again for a long time."""
    import psycopg

    from steelyard.broker import conninfo

    try:
        with psycopg.connect(conninfo(), connect_timeout=5) as connection:
            version = connection.info.server_version
    except psycopg.OperationalError as error:
        reason = str(error).strip().splitlines()[0]
        raise NotReadyError(f"the database does not answer: {reason}") from error
    if version < MIN_SERVER:
        raise NotReadyError(f"the database server is PostgreSQL {version // 10_000}; Steelyard needs 15 or newer")


def migrate_if_needed() -> bool:
    from django.core.management import call_command
    from django.db import connection
    from django.db.migrations.executor import MigrationExecutor

    executor = MigrationExecutor(connection)
    if not executor.migration_plan(executor.loader.graph.leaf_nodes()):
        return False
    call_command("migrate", interactive=False, verbosity=0)
    return True


def install_broker_if_needed() -> bool:
    from django.conf import settings

    from steelyard.broker import broker_install

    return settings.BROKER_URL.startswith("pgmq") and broker_install()


def load_demo_if_empty() -> bool:
    """The demo comes into a site without projects, once; STEELYARD_DEMO=0 leaves it out."""
    from django.apps import apps
    from django.conf import settings
    from django.core.management import call_command, get_commands

    if settings.PRODUCTION or os.environ.get("STEELYARD_DEMO") == "0" or "demo" not in get_commands():
        return False
    if apps.get_model("annotator", "Project").objects.exists():
        return False
    call_command("demo", stdout=io.StringIO())  # the logins are said later, by every start
    return True


def say_demo_logins() -> None:
    """The launcher keeps this line until the site answers."""
    from django.conf import settings
    from django.contrib.auth import get_user_model

    from annotator.services.demo import PEOPLE

    if not settings.DEMO_LOGINS:
        return
    known = set(get_user_model().objects.filter(username__in=PEOPLE, is_active=True).values_list("username", flat=True))
    if names := [name for name in PEOPLE if name in known]:
        sys.stdout.write(f"{LOGINS}{', '.join(names)} (password: {settings.DEMO_PASSWORD})\n")


def main() -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "steelyard.settings")
    import django
    from django.core.exceptions import ImproperlyConfigured

    try:
        django.setup()
        check_server()
        for text, step in (
            ("tables made or brought up to date", migrate_if_needed),
            ("broker installed in the database", install_broker_if_needed),
            ("demo project loaded", load_demo_if_empty),
        ):
            if step():
                sys.stdout.write(f"{text}\n")
                sys.stdout.flush()
        say_demo_logins()
    except (NotReadyError, ImproperlyConfigured) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

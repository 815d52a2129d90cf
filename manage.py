#!/usr/bin/env python
"""Django's command-line utility for Steelyard."""

import os
import sys
from contextlib import suppress
from typing import Any

WAITS = "sweep"
"""The command that runs beside the site for ever, so that it waits for a database; the others are typed by people."""
ANSWERS_WITHIN_S = 5
NO_DATABASE = (
    "steelyard: the database does not answer ({reason}). Start the site with `make up`, or name the one that runs: "
    "STEELYARD_HOME (the folder of a site on this machine) or STEELYARD_DATABASE_URL"
)


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "steelyard.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line
    from django.db import connection
    from django.db.utils import OperationalError

    if WAITS not in sys.argv[1:2]:
        with suppress(ImproperlyConfigured):  # Django says what is wrong, in its own place
            connect_once()
    try:
        execute_from_command_line(sys.argv)
    except OperationalError as error:
        if connection.connection is not None:  # it answered, and something else is wrong
            raise
        sys.exit(NO_DATABASE.format(reason=str(error).strip().partition("\n")[0]))


def connect_once() -> None:
    """One plain connection: the pool, made for many requests, would try again for 20 s and log every time."""
    from django.conf import settings

    database: dict[str, Any] = settings.DATABASES["default"]
    database["OPTIONS"].pop("pool", None)
    database["OPTIONS"].setdefault("connect_timeout", ANSWERS_WITHIN_S)


if __name__ == "__main__":
    main()

#!/usr/bin/env python
"""Django's command-line utility for Steelyard."""

import os
import sys

NO_DATABASE = (
    "steelyard: the database does not answer. Start the site with `make up`, or name the one that runs: "
    "STEELYARD_HOME (the folder of a site on this machine) or STEELYARD_DATABASE_URL"
)


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "steelyard.settings")
    from django.core.management import execute_from_command_line
    from django.db.utils import OperationalError
    from psycopg_pool import PoolTimeout

    try:
        execute_from_command_line(sys.argv)
    except OperationalError as error:
        if not isinstance(error.__cause__, PoolTimeout):
            raise
        sys.exit(NO_DATABASE)


if __name__ == "__main__":
    main()

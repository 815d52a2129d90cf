from typing import Any

from django.core.management.base import BaseCommand

from steelyard import launcher


class Command(BaseCommand):
    help = "Start the whole site on this machine and stop it on Ctrl-C. The same as `make up`."
    requires_system_checks: list[str] = []  # the database is started by the launcher itself

    def handle(self, *args: Any, **options: Any) -> None:
        raise SystemExit(launcher.main([]))

"""Load the demo project: people, data, judgements, and reward models that train in the background."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from annotator.errors import DomainError
from annotator.services.demo import PEOPLE, Demo, demo_load, demo_reset
from annotator.tasks import enqueue_index, import_limits
from rmeval.services.demo import demo_reward_models


class Command(BaseCommand):
    help = "Load the demo project, or what is missing of it, and print its logins."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--reset", action="store_true", help="archive the demo there is and load a new one")
        parser.add_argument("--no-runs", action="store_true", help="leave the reward models out")

    def handle(self, *args: Any, **options: Any) -> None:
        now = timezone.now()
        password = settings.DEMO_PASSWORD or secrets.token_urlsafe(12)
        try:
            if options["reset"]:
                demo_reset(now=now)
            demo = demo_load(password=password, now=now, clock=timezone.now, limits=import_limits())
            if not options["no_runs"]:
                demo_reward_models(
                    project=demo.project, datasets=demo.datasets, user=demo.people["researcher"], now=now
                )
        except DomainError as error:
            raise CommandError(error.detail) from error
        for dataset in demo.datasets.values():
            enqueue_index(dataset)
        self.say_logins(demo, password)

    def say_logins(self, demo: Demo, password: str) -> None:
        """Print the logins, and keep them where `make up` looks. A random password is known only when just set."""
        known = password if demo.is_new or settings.DEMO_PASSWORD else "as it was"
        line = f"demo logins: {', '.join(PEOPLE)}   password: {known}"
        self.stdout.write(line)
        if settings.DEMO_PASSWORD:
            settings.VAR_DIR.mkdir(parents=True, exist_ok=True)
            Path(settings.VAR_DIR / "demo-logins.txt").write_text(f"{line}\n")

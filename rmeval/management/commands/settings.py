"""manage.py settings [NAME]: what a kind of run, a family or an objective takes."""

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from rmeval.management.pipes import until_reader_leaves
from workers.described import settings_of
from workers.settings_page import entries


class Command(BaseCommand):
    help = "Print the settings of a kind of run, a family of reward models or an objective; without a name, the names."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("name", nargs="?", help="such as train_rm, scalar_head or bradley_terry")

    def handle(self, *args: Any, **options: Any) -> None:
        wanted = options["name"]
        known = list(entries())
        found = [entry for entry in known if entry[1] == wanted]
        if wanted and not found:
            raise CommandError(f"Nothing is called {wanted!r}. Without a name, this command prints the names.")
        with until_reader_leaves(self.stdout):
            for heading, name, entry, model in found or known:
                self.stdout.write(f"{heading.lower():<12}{name:<24}{entry.title}")
                if wanted:
                    self.print_settings(model)

    def print_settings(self, model: Any) -> None:
        for setting in settings_of(model):
            default = f", default {setting.default}" if setting.default else ", required"
            self.stdout.write(f"  {setting.name} ({setting.kind}{default})\n      {setting.meaning}")

"""Fetch a public preference set and import it."""

from __future__ import annotations

import tempfile
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from annotator.errors import DomainError
from annotator.management.imports import add_import_arguments, find_project, import_and_print
from annotator.services.datasets import ImportRequest
from annotator.services.fetch import PUBLIC_SETS, public_set_fetch


class Command(BaseCommand):
    help = "Fetch a public preference set from huggingface.co (the machine must be online) and import it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("set", choices=sorted(PUBLIC_SETS), help="which set")
        add_import_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        project = find_project(options["project"])
        found = PUBLIC_SETS[options["set"]]
        request = ImportRequest(
            name=options["name"] or found.title,
            source_name=found.path.rpartition("/")[2],
            format=found.format,
            licence=found.licence,
            allow_duplicate=options["allow_duplicate"],
        )
        with tempfile.TemporaryFile() as file:
            try:
                public_set_fetch(
                    found=found,
                    out=file,
                    max_bytes=settings.IMPORT_MAX_BYTES,
                    on_bytes=lambda n: self.stderr.write(f"\r{n / 1e6:,.0f} MB of {found.url}", ending=""),
                )
            except DomainError as error:
                raise CommandError(error.detail) from error
            file.seek(0)
            import_and_print(project=project, request=request, stream=file, out=self.stdout, progress=self.stderr)

"""Import a file into a project, as the page and the API do."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from annotator.management.imports import add_import_arguments, find_project, import_and_print
from annotator.services.datasets import ImportRequest
from workers.data.formats import FORMATS
from workers.data.importing import AUTO


class Command(BaseCommand):
    help = "Import a file of prompts and responses. Prints what came of it as JSON; progress goes to standard error."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "file", help="JSON Lines, JSON, CSV, TSV or Parquet, each also gzipped; - for standard input"
        )
        parser.add_argument("--format", default=AUTO, choices=[AUTO, *FORMATS.names()])
        parser.add_argument("--licence", default="")
        add_import_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        project = find_project(options["project"])
        path = Path(options["file"])
        is_stdin = options["file"] == "-"
        request = ImportRequest(
            name=options["name"] or ("standard input" if is_stdin else path.name),
            source_name="" if is_stdin else path.name,
            format=options["format"],
            licence=options["licence"],
            allow_duplicate=options["allow_duplicate"],
        )
        try:
            source = sys.stdin.buffer if is_stdin else path.open("rb")
        except OSError as error:
            raise CommandError(f"{path} cannot be opened: {error.strerror}") from error
        with source as stream:
            import_and_print(project=project, request=request, stream=stream, out=self.stdout, progress=self.stderr)

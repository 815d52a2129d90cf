"""manage.py scores_export CHECKPOINT: the scores it has given, as the API streams them."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotator.errors import DomainError
from annotator.services.exports import CONTENT_TYPES
from rmeval.management.commands.scores_import import checkpoint_named, dataset_named
from rmeval.management.pipes import until_reader_leaves
from rmeval.services.score_exports import scores_export


class Command(BaseCommand):
    help = "Write every score that a checkpoint has given, one a row, with the uids of response, example and dataset."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("checkpoint", help="uid of the checkpoint, or of its reward model")
        parser.add_argument("--dataset", help="uid of a dataset; empty: the whole project")
        parser.add_argument("--extra", default="", help="rewards of one person: the key that the run's result told")
        parser.add_argument("--file", choices=list(CONTENT_TYPES), default="jsonl", help="type of the file")
        parser.add_argument("--texts", action="store_true", help="prompt and response beside each score")
        parser.add_argument("--output", default="-", help="where to; - for standard output")

    def handle(self, *args: Any, **options: Any) -> None:
        checkpoint = checkpoint_named(options["checkpoint"])
        dataset = dataset_named(checkpoint, options["dataset"]) if options["dataset"] else None
        wanted = {name: options[name] for name in ("extra", "file", "texts")}
        try:
            made = scores_export(checkpoint=checkpoint, dataset=dataset, **wanted)
        except DomainError as error:
            raise CommandError(error.detail, returncode=2) from error
        if options["output"] == "-":
            with until_reader_leaves(sys.stdout):
                sys.stdout.buffer.writelines(made.chunks())
        else:
            keep_whole(made.chunks(), options["output"])


def keep_whole(chunks: Iterator[bytes], output: str) -> None:
    """All of it or nothing: a file of this name is never half of an export."""
    path = Path(output)
    if not path.name or path.is_dir():
        raise CommandError(f"{output or 'An empty name'} is no file: name one to write to", returncode=2)
    draft = path.with_name(f"{path.name}.part")
    try:
        with draft.open("wb") as stream:
            stream.writelines(chunks)
        draft.replace(path)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}", returncode=2) from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)

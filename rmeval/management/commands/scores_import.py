"""manage.py scores_import CHECKPOINT FILE: scores that were computed elsewhere, as the API takes them."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from annotator.errors import DomainError
from annotator.models import Dataset
from annotator.tasks import import_limits
from rmeval.models import Checkpoint
from rmeval.services.score_imports import scores_import

MAX_ERRORS_PRINTED = 20


class Command(BaseCommand):
    help = "Import scores into the checkpoint of a score_file reward model. Prints what came of it as JSON."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("checkpoint", help="uid of the checkpoint, or of its reward model")
        parser.add_argument(
            "file", help="JSON Lines, JSON, CSV, TSV or Parquet, each also gzipped; - for standard input"
        )
        parser.add_argument("--dataset", help="uid of the dataset to look for responses in; empty: the whole project")

    def handle(self, *args: Any, **options: Any) -> None:
        checkpoint = checkpoint_named(options["checkpoint"])
        dataset = dataset_named(checkpoint, options["dataset"]) if options["dataset"] else None
        path = Path(options["file"])
        try:
            source = sys.stdin.buffer if options["file"] == "-" else path.open("rb")
        except OSError as error:
            raise CommandError(f"{path} cannot be opened: {error.strerror}") from error
        with source as stream:
            try:
                told = scores_import(
                    checkpoint=checkpoint, stream=stream, name=path.name, limits=import_limits(), dataset=dataset
                )
            except DomainError as error:
                raise CommandError(error.detail, returncode=2) from error
        told.errors = told.errors[:MAX_ERRORS_PRINTED]
        self.stdout.write(json.dumps(asdict(told), indent=2, ensure_ascii=False))


def checkpoint_named(text: str) -> Checkpoint:
    uid = uid_of(text, "the checkpoint")
    rows = Checkpoint.objects.filter(reward_model__deleted_at=None).select_related("reward_model__project")
    found = rows.filter(uid=uid).first() or rows.filter(reward_model__uid=uid).order_by("-number").first()
    if found is None:
        raise CommandError(f"There is no checkpoint or reward model {text}.", returncode=2)
    return found


def dataset_named(checkpoint: Checkpoint, text: str) -> Dataset:
    rows = Dataset.objects.filter(project=checkpoint.reward_model.project_id, deleted_at=None)
    found = rows.filter(uid=uid_of(text, "--dataset")).first()
    if found is None:
        raise CommandError(f"The checkpoint's project has no dataset {text}.", returncode=2)
    return found


def uid_of(text: str, what: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise CommandError(f"{what}: {text} is no uid", returncode=2) from error

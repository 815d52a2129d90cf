"""manage.py run KIND --spec JSON --project NAME --wait: submit a run as the page and the API do, print its result."""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from annotator.errors import DomainError
from annotator.models import Project, User
from rmeval.models import Run
from rmeval.services.submission import run_submit

EXIT_CODES = {Run.State.DONE: 0, Run.State.FAILED: 1, Run.State.CANCELLED: 3}
ASK_EVERY_S = 0.5


class Command(BaseCommand):
    help = "Submit a run and print it as JSON; with --wait or --inline its result. Exit: 0 done, 1 failed, 3 cancelled."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("kind", help="train_rm, evaluate, score and so on: manage.py settings lists them")
        parser.add_argument(
            "--spec",
            required=True,
            help="settings (manage.py settings KIND) as JSON, or @file, or - for stdin",
        )
        parser.add_argument("--project", required=True, help="name or uid of the project")
        parser.add_argument("--user", help="on whose behalf; empty: nobody's")
        parser.add_argument("--key", help="idempotency key: the same key again gives the same run")
        how = parser.add_mutually_exclusive_group()
        how.add_argument("--wait", action="store_true", help="until a worker has ended the run")
        how.add_argument("--inline", action="store_true", help="work on it in this process, without a worker")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            run = run_submit(
                project=project_named(options["project"]),
                kind=options["kind"],
                spec=spec_given(options["spec"]),
                user=user_named(options["user"]),
                now=timezone.now(),
                idempotency_key=options["key"],
                enqueue=not options["inline"],
            )
        except DomainError as error:
            lines = [error.detail, *(f"  {item.pointer}: {item.detail}" for item in error.errors)]
            raise CommandError("\n".join(lines), returncode=2) from error
        if options["inline"]:
            work_inline(run)
        if options["wait"] or options["inline"]:
            wait(run, say=self.stderr.write)
        self.stdout.write(json.dumps(body(run), indent=2, ensure_ascii=False, default=str))
        if run.has_ended and (code := EXIT_CODES[Run.State(run.state)]):
            sys.exit(code)


def body(run: Run) -> dict[str, Any]:
    told: dict[str, Any] = {"uid": str(run.uid), "kind": run.kind, "state": run.state}
    if run.has_ended:
        error = {key: run.error[key] for key in ("message", "hint")} if run.error else None
        told |= {"result": run.result, "error": error}
    return told


def work_inline(run: Run) -> None:
    """What a worker would do. A failure is on the run already, so only its words are shown."""
    from workers.tasks import execute, run_claim

    if run_claim(run):
        try:
            execute(run)
        except Exception as error:  # noqa: BLE001 - kept on the run with its trace
            print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201


def wait(run: Run, *, say: Any) -> None:
    """Until the run has ended; what it does meanwhile goes to standard error."""
    last = ""
    while True:
        run.refresh_from_db()
        now = f"{run.state} {run.fraction_done:.0%} {run.message}"
        if now != last:
            say(now)
            last = now
        if run.has_ended:
            return
        time.sleep(ASK_EVERY_S)


def spec_given(text: str) -> Any:
    if text == "-":
        text = sys.stdin.read()
    elif text.startswith("@"):
        try:
            text = Path(text[1:]).read_text()
        except OSError as error:
            raise CommandError(f"--spec {text}: {error.strerror}", returncode=2) from error
    try:
        return json.loads(text)
    except ValueError as error:
        raise CommandError(f"--spec is not JSON: {error}", returncode=2) from error


def project_named(name: str) -> Project:
    found = list(Project.objects.filter(name=name, archived_at=None)[:2])
    if not found:
        try:
            found = list(Project.objects.filter(uid=UUID(name)))
        except ValueError:
            found = []
    if len(found) != 1:
        why = "there is no such project" if not found else "several projects have this name; give the uid"
        raise CommandError(f"--project {name}: {why}", returncode=2)
    return found[0]


def user_named(name: str | None) -> User | None:
    if not name:
        return None
    found = User.objects.filter(username=name).first()
    if found is None:
        raise CommandError(f"--user {name}: there is no such user", returncode=2)
    return found

"""Files that runs made: copied into the artifact store whole or not at all, each with its SHA-256."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from django.db import transaction

from rmeval.models import Artifact, Run
from rmeval.services.reward_models import checkpoint_create


@dataclass(frozen=True)
class Stored:
    """What a folder holds: one hash over all its files, and its size."""

    sha256: str
    n_bytes: int


def files_of(path: Path) -> Iterator[tuple[str, Path]]:
    """Relative name and path of every plain file, in a fixed order. A link could lead out of the store."""
    if path.is_file() and not path.is_symlink():
        yield path.name, path
        return
    for found in sorted(path.rglob("*")):
        if found.is_symlink():
            raise ValueError(f"{found} is a link; artifacts hold plain files only")
        if found.is_file():
            yield found.relative_to(path).as_posix(), found


def measure(path: Path) -> Stored:
    """SHA-256 over the names and the contents of all files."""
    whole = hashlib.sha256()
    n_bytes = 0
    for name, file in files_of(path):
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256")
        whole.update(f"{name}\0{digest.hexdigest()}\n".encode())
        n_bytes += file.stat().st_size
    return Stored(whole.hexdigest(), n_bytes)


def copy_whole(path: Path, target: Path) -> None:
    """Copy to a name beside the target, reach the disk, then rename: a reader sees all of it or nothing."""
    draft = target.with_name(f".{target.name}.{uuid4().hex}")
    try:
        for name, file in files_of(path):
            copied = draft / name
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copied)
            with copied.open("rb") as opened:
                os.fsync(opened.fileno())
        os.replace(draft, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def artifact_store(*, run: Run, path: Path, kind: str, name: str, meta: dict[str, Any], root: Path) -> str:
    """Keep a folder (or file) that a run made; the uid of its Checkpoint when it is one, else of the Artifact.

    Storing the same content again under the same name gives the same uid: an attempt that repeats the last steps of a
    killed one makes no second checkpoint.
    """
    stored = measure(path)
    if not stored.n_bytes:
        raise ValueError(f"{path} holds no files to keep")
    known = Artifact.objects.filter(run=run, kind=kind, name=name, sha256=stored.sha256).first()
    if known is not None:
        return str(known.meta.get("checkpoint") or known.uid)
    uid = uuid4()
    place = f"{kind}s/{uid}"
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    copy_whole(path, root / place)
    with transaction.atomic():
        artifact = Artifact(
            uid=uid, run=run, kind=kind, name=name, path=place, sha256=stored.sha256, n_bytes=stored.n_bytes, meta=meta
        )
        answer = artifact.uid
        if kind == "checkpoint" and run.reward_model is not None:
            checkpoint = checkpoint_create(
                reward_model=run.reward_model,
                run=run,
                path=place,
                sha256=stored.sha256,
                step=meta.get("step"),
                metrics={name: value for name, value in meta.items() if name != "step"},
            )
            artifact.meta = {**meta, "checkpoint": str(checkpoint.uid)}
            answer = checkpoint.uid
        artifact.save()
    return str(answer)

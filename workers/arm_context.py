"""The world of one training inside a study: its own folder, the features of all, a share of the study's progress."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workers.context import JobContext


class ArmContext:
    """A JobContext whose reports become those of the study. Curves of single trainings are not charted."""

    def __init__(self, outer: JobContext, folder: Path, place: tuple[int, int], key: str, *, keeps: bool) -> None:
        self.outer, self.work_dir, self.key, self.keeps = outer, folder, key, keeps
        self.number, self.total = place
        self.run_uid, self.attempt = outer.run_uid, outer.attempt
        self.features_dir = outer.work_dir / "features"
        folder.mkdir(parents=True, exist_ok=True)

    def __getattr__(self, name: str) -> Any:
        """Inputs, models and checkpoints are those of the study."""
        return getattr(self.outer, name)

    def progress(self, done: float, total: float, message: str = "") -> None:
        share = done / total if total else 0.0
        self.outer.progress(
            self.number + share, self.total, f"{self.number + 1} of {self.total}, {self.key}: {message}"
        )

    def metric(self, step: int, **values: float) -> None:
        self.outer.checkpoint()

    def log(self, message: str, level: str = "info") -> None:
        if level != "info":
            self.outer.log(f"{self.key}: {message}", level)

    def save_artifact(self, path: Path, *, kind: str, name: str, meta: Mapping[str, Any]) -> str:
        if not self.keeps:
            return ""
        return self.outer.save_artifact(path, kind=kind, name=f"{name} {self.number}", meta={**meta, "arm": self.key})

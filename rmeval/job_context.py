"""What a job sees of the world: workers/context.py's JobContext, over PostgreSQL and the artifact store."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from django.conf import settings

from annotator.errors import DomainError
from rmeval.labelled import labelled_sha256, stream_labelled
from rmeval.models import Checkpoint, RewardModel, Run
from rmeval.raters import rater_pairs, rater_source
from rmeval.report import RunReport
from rmeval.selectors.exports import checkpoint_facts
from rmeval.selectors.scores import scored_pairs
from rmeval.services.artifacts import artifact_store, measure
from rmeval.services.reward_models import reward_model_of_run
from rmeval.services.runs import run_environment
from rmeval.services.scores import RewardNotFinite, scores_store
from rmeval.sources import PairSource, source_of
from workers.context import CheckpointRef, RewardModelRef
from workers.data.schema import PreferencePair, ScoredPairs
from workers.errors import JobCancelled, JobError


class DatabaseJobContext:
    """One per attempt. What is reported stays in memory until the supervisor writes it, twice a second at most."""

    def __init__(self, run: Run, report: RunReport) -> None:
        self.run = run
        self.run_uid = str(run.uid)
        self.attempt = run.attempt
        self.report = report
        self.only_pairs = run.kind == "evaluate"  # what is in no pair does not count there; a score run takes all
        self.work_dir = Path(settings.VAR_DIR) / "runs" / self.run_uid
        self.work_dir.mkdir(parents=True, exist_ok=True)

    def progress(self, done: float, total: float, message: str = "") -> None:
        self.report.progress(done, total, message)

    def metric(self, step: int, **values: float) -> None:
        self.report.metric(step, values)

    def log(self, message: str, level: str = "info") -> None:
        self.report.log(message, level)

    def checkpoint(self) -> None:
        if self.report.stop.is_set():
            raise JobCancelled

    def open_input(self, name: str, **query: Any) -> Iterator[Any]:
        """Stream `pairs`, `labelled` responses, or the `responses` of a source that a checkpoint has not scored."""
        if name == "person":
            return iter(self.pairs_of(**query))
        source = self.source(query["source"])
        if name == "pairs":
            self.remember_data(source)
            return source.stream_pairs()
        if name == "labelled":
            self.remember_data(source, of="labelled responses")
            return stream_labelled(source)
        if name == "responses":
            checkpoint, extra = self.checkpoint_row(query["checkpoint"]), query.get("extra", "")
            return source.stream_unscored(checkpoint, only_pairs=self.only_pairs, extra=extra)
        raise JobError(
            f"There is no input named {name}.", hint='Known inputs: "pairs", "labelled", "responses", "person".'
        )

    def pairs_of(self, source: Mapping[str, str], **rater: Any) -> list[PreferencePair]:
        try:
            return rater_pairs(rater_source(self.run.project, source), **rater)
        except DomainError as error:
            raise JobError(error.detail, hint="What this run reads was deleted or changed.") from error

    def count_input(self, name: str, **query: Any) -> int:
        source = self.source(query["source"])
        if name == "pairs":
            return source.pairs().count()
        if name == "labelled":
            return source.responses().count()
        checkpoint, extra = self.checkpoint_row(query["checkpoint"]), query.get("extra", "")
        return source.unscored(checkpoint, only_pairs=self.only_pairs, extra=extra).count()

    def load_checkpoint(self, uid: str) -> CheckpointRef:
        found = self.checkpoint_row(uid)
        path = Path(settings.ARTIFACT_DIR) / found.path if found.path else None
        if path is not None and not path.exists():
            raise JobError(
                f"The files of {found} are not on this machine ({path}).",
                hint="Workers share one artifact store: set STEELYARD_ARTIFACT_DIR to the same folder everywhere.",
            )
        if path is not None and found.sha256 and measure(path).sha256 != found.sha256:
            raise JobError(
                f"The files of {found} are not those that were stored: their SHA-256 is another.",
                hint="The folder was changed or damaged. Restore it from a backup, or train or import the model again.",
            )
        model = found.reward_model
        return CheckpointRef(uid=str(found.uid), family=model.family, config=model.config, path=path)

    def load_reward_model(self, uid: str) -> RewardModelRef:
        found = RewardModel.objects.filter(project_id=self.run.project_id, uid=uid).first()
        if found is None:
            raise JobError("The reward model of this run is gone.", hint="Register it again and start a new run.")
        return RewardModelRef(uid=str(found.uid), family=found.family, config=found.config)

    def describe_checkpoint(self, uid: str) -> dict[str, Any]:
        return checkpoint_facts(self.checkpoint_row(uid))

    def make_reward_model(self, *, name: str, family: str, config: dict[str, Any]) -> RewardModelRef:
        try:
            made = reward_model_of_run(run=self.run, name=name, family=family, config=config)
        except DomainError as error:
            raise JobError(error.detail, hint="Start the import again with another name.") from error
        return RewardModelRef(uid=str(made.uid), family=made.family, config=made.config)

    def save_artifact(self, path: Path, *, kind: str, name: str, meta: Mapping[str, Any]) -> str:
        root = Path(settings.ARTIFACT_DIR)
        return artifact_store(run=self.run, path=Path(path), kind=kind, name=name, meta=dict(meta), root=root)

    def save_scores(
        self,
        checkpoint_uid: str,
        rows: Iterable[tuple[int, float]],
        parts: Mapping[int, Any] | None = None,
        *,
        extra: str = "",
    ) -> int:
        try:
            return scores_store(checkpoint=self.checkpoint_row(checkpoint_uid), rows=rows, parts=parts, extra=extra)
        except RewardNotFinite as error:
            raise JobError(
                f"The reward model gave a reward that is not a number: {error}.",
                hint="Training diverged or the precision is too low: train again with a smaller learning rate.",
            ) from error

    def scored_pairs(self, checkpoint_uid: str, source: Mapping[str, str]) -> ScoredPairs:
        found = self.source(source)
        self.remember_data(found)
        return scored_pairs(found, self.checkpoint_row(checkpoint_uid))

    def source(self, spec: Mapping[str, str]) -> PairSource:
        try:
            found = source_of(self.run.project, dict(spec))
            found.strength_table  # noqa: B018  a table that cannot be read is said here, not in the middle of a stream
        except DomainError as error:
            raise JobError(error.detail, hint="What this run reads was deleted or is not on this machine.") from error
        return found

    def checkpoint_row(self, uid: str) -> Checkpoint:
        rows = Checkpoint.objects.select_related("reward_model")
        found = rows.filter(reward_model__project_id=self.run.project_id, uid=uid).first()
        if found is None:
            raise JobError("The checkpoint of this run is gone.", hint="Choose another checkpoint.")
        return found

    def remember_data(self, source: PairSource, of: str = "pairs") -> None:
        """Keep what the run read, by hash, so that it can be repeated and a changed source is noticed."""
        name = "data" if self.is_main(source) else "further_data"
        known = self.run.environment.get(name, {})
        if known.get("uid") == str(source.uid) and not source.edits:
            return
        told = source.told("" if of == "pairs" else labelled_sha256(source))
        run_environment(run=self.run, **{name: {**told, "of": of}})

    def is_main(self, source: PairSource) -> bool:
        """Is this the source of the run, and not one that it looks at besides?"""
        main = self.run.spec.get("source")
        return not isinstance(main, dict) or str(source.uid) in (main.get("dataset"), main.get("snapshot"))

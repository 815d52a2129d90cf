"""Give every response of a source its reward."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from itertools import islice
from typing import Any, ClassVar, Literal

from pydantic import Field

from workers.context import CheckpointRef, JobContext
from workers.data.schema import ResponseItem
from workers.environment import describe_environment, keep_freed_memory, peak_rss_mib
from workers.families import FAMILIES
from workers.families.base import Item, Scorer
from workers.jobs import JOBS
from workers.jobs.base import Source
from workers.opening import Setting, int8_error, is_int8, open_scorer
from workers.person import Person, PersonContext, check_takes_pairs, read_person
from workers.specs import SpecModel
from workers.tuning import SAMPLE, most_processes, recall, remember, run_trial

TOKENS = 2048
"""Of a batch where nothing else is said, each text standing alone."""
BLOCK = 2048
"""Responses in memory at once, and between two saves."""
NAMED = 20
"""Responses named in the log of those that a block could not score."""
PARALLEL_FROM = 4000
"""Responses from which on more processes pay: each takes some five seconds to start."""


@JOBS.add("score")
class Score:
    """Score the responses of a dataset or snapshot with a checkpoint; what it has scored before is not scored again."""

    title: ClassVar[str] = "Score responses"
    queue: ClassVar[Literal["default", "gpu"]] = "gpu"

    class Spec(SpecModel):
        """What to score, and with what."""

        checkpoint: str = Field(description="uid of a checkpoint.")
        source: Source = Field(description="Where the responses come from.")
        processes: int | None = Field(
            default=None, ge=1, le=256, description="Processes to score with; empty: what is fastest for large inputs."
        )
        threads: int | None = Field(
            default=None, ge=1, le=256, description="Threads of each process; empty: what goes with the processes."
        )
        token_budget: int | None = Field(
            default=None, ge=64, le=1_000_000, description="Tokens of a batch; empty: what is fastest here."
        )
        person: Person | None = Field(
            default=None,
            description="Whose rewards, for families that know a person by pairs. They are stored beside those of the "
            "model alone, which stay as they are.",
        )

    @staticmethod
    def needs_preferences(*_: Any) -> bool:
        return False

    @staticmethod
    def check(spec: Any, family: str, *_more: Any) -> None:
        """A person is asked for only where the family can be told of one."""
        if spec.person is not None:
            check_takes_pairs(family)

    def run(self, ctx: JobContext, spec: Spec) -> dict[str, Any]:
        wanted = Setting(spec.processes, spec.threads, spec.token_budget)
        if spec.person is None:
            return score_missing(ctx, spec.checkpoint, spec.source, wanted=wanted)
        self.check(spec, ctx.load_checkpoint(spec.checkpoint).family)
        return score_for(ctx, spec.checkpoint, spec.source, spec.person, wanted=wanted)


def score_for(ctx: JobContext, checkpoint: str, source: Source, person: Person, *, wanted: Setting) -> dict[str, Any]:
    """Rewards of a person. The pairs stand before every text and are read once, so a batch may hold more tokens."""
    context = read_person(ctx, person)
    ctx.log(f"Rewards of {person.rater or 'a person'}, known by {len(context.pairs)} pairs")
    if wanted.token_budget is None:
        wanted = replace(wanted, token_budget=TOKENS * (1 + 2 * len(context.pairs)))
    told = score_missing(ctx, checkpoint, source, wanted=wanted, person=context)
    return {**told, "person": {"n_pairs": len(context.pairs), "rater": person.rater, "extra": context.key}}


def score_missing(
    ctx: JobContext,
    checkpoint: str,
    source: Source,
    *,
    wanted: Setting = Setting(),  # noqa: B008
    person: PersonContext | None = None,
) -> dict[str, Any]:
    """Score what `checkpoint` has not scored yet, block by block; each block is saved before the next is read.

    With a person: what it has not scored for that person.
    """
    keep_freed_memory()
    reference, query = ctx.load_checkpoint(checkpoint), source.query()
    total = ctx.count_input("responses", checkpoint=checkpoint, source=query, **_under(person))
    told = {"n_scored": 0, "n_truncated": 0, "n_response_cut": 0, "n_tokens": 0, "n_unscored": 0}
    how: dict[str, Any] = {}
    started = time.monotonic()
    if "imported" in FAMILIES.get(reference.family).capabilities:
        told["n_unscored"], total = total, 0
    if total:
        setting, how["setting"] = choose_setting(ctx, reference, wanted, query=query, total=total)
        ctx.progress(0, total, f"Opening the reward model for {total} responses")
        started = time.monotonic()
        with open_scorer(reference, setting.processes or 1, setting) as scorer:
            if is_int8(reference.config):
                how["int8"] = int8_error(reference, scorer)
            try:
                _score_blocks(ctx, scorer, checkpoint, query=query, total=total, told=told, person=person)
            finally:
                report = getattr(scorer, "report", None)
                if report is not None:
                    how["scorer"] = report()
    elapsed = time.monotonic() - started
    for line in _notes(told, how):
        ctx.log(line, "warning")
    return {
        **told,
        **how,
        "seconds": round(elapsed, 3),
        "responses_per_s": round(told["n_scored"] / elapsed, 3) if told["n_scored"] else None,
        "peak_rss_mib": round(peak_rss_mib()),
        "environment": describe_environment(),
    }


def usual_processes(reference: CheckpointRef, n_items: int) -> int:
    """One a core where texts are read by a CPU and starting more processes pays; else one."""
    return most_processes(reference) if is_worth_processes(reference, n_items) else 1


def is_worth_processes(reference: CheckpointRef, n_items: int) -> bool:
    family: Any = FAMILIES.get(reference.family)
    if "tokens" not in family.capabilities or n_items < PARALLEL_FROM:
        return False
    import torch

    return not torch.cuda.is_available()


def choose_setting(
    ctx: JobContext, reference: CheckpointRef, wanted: Setting, *, query: dict[str, str], total: int
) -> tuple[Setting, dict[str, Any]]:
    """What the spec says, else what was found here before, else what a trial finds; and where it comes from."""
    trial: list[dict[str, Any]] = []
    if wanted != Setting():
        processes = wanted.processes or (1 if wanted.threads else usual_processes(reference, total))
        setting, origin = replace(wanted, processes=processes), "spec"
    elif not is_worth_processes(reference, total):
        setting, origin = Setting(1), "default"
    elif found := recall(reference):
        setting, origin = found, "remembered"
    else:
        ctx.progress(0, total, "Trying what scores fastest on this machine")
        stream = islice(ctx.open_input("responses", checkpoint=reference.uid, source=query), SAMPLE)
        sample = [(item.prompt, item.response, item.extra) for item in stream]
        setting, trial = run_trial(reference, sample, lambda _: ctx.checkpoint())
        remember(reference, setting, trial)
        origin = "trial"
        ctx.log(f"Scoring with {setting.processes} x {setting.threads} threads, {setting.token_budget} tokens a batch")
    return setting, {**asdict(setting), "from": origin, **({"trial": trial} if trial else {})}


def _under(person: PersonContext | None) -> dict[str, str]:
    return {} if person is None else {"extra": person.key}


def _items(block: list[ResponseItem], person: PersonContext | None) -> Iterator[Item]:
    for item in block:
        own = {} if person is None else {"context": person.of(item.prompt)}
        yield item.prompt, item.response, {**item.extra, **own}


def _score_blocks(
    ctx: JobContext,
    scorer: Scorer,
    checkpoint: str,
    *,
    query: dict[str, str],
    total: int,
    told: dict[str, int],
    person: PersonContext | None = None,
) -> None:
    stream = ctx.open_input("responses", checkpoint=checkpoint, source=query, **_under(person))
    started, n_saved, n_blocks = time.monotonic(), 0, 0
    while block := list(islice(stream, BLOCK)):
        done = n_saved

        def on_batch(n: int) -> None:
            nonlocal done
            done += n
            ctx.checkpoint()
            if n:
                ctx.progress(done, max(total, done), f"Scored {done} of {max(total, done)} responses")

        scores = scorer.score(list(_items(block, person)), on_batch=on_batch)
        ids, values = [item.response_id for item in block], scores.values.tolist()
        parts = {number: part for number, part in zip(ids, scores.parts or (), strict=False) if part}
        unscored = _unscored(ctx, parts)
        rows = [row for row in zip(ids, values, strict=True) if row[0] not in unscored]
        told["n_scored"] += ctx.save_scores(checkpoint, rows, parts, **_under(person))
        told["n_unscored"] += len(unscored)
        told["n_truncated"] += scores.n_truncated
        told["n_response_cut"] += scores.n_response_cut
        told["n_tokens"] += int(scores.n_tokens.sum())
        n_saved += len(block)
        n_blocks += 1
        ctx.metric(n_blocks, responses_per_s=n_saved / max(time.monotonic() - started, 1e-9), n_scored=n_saved)
        if stopped := getattr(scorer, "stopped", None):
            raise stopped


def _unscored(ctx: JobContext, parts: Mapping[int, Any]) -> set[int]:
    """Responses that a family says have no reward, named in the log."""
    why = {number: part["unscored"] for number, part in parts.items() if "unscored" in part}
    for number, reason in list(why.items())[:NAMED]:
        ctx.log(f"Response {number} was not scored: {reason}", "warning")
    return set(why)


def _notes(told: dict[str, int], how: dict[str, Any]) -> list[str]:
    notes = [how["scorer"]["warning"]] if "warning" in how.get("scorer", {}) else []
    if "largest_error" in how.get("int8", {}):
        notes.append(
            f"Scored in int8, which moved the rewards of the probes by up to {how['int8']['largest_error']:.2g}."
        )
    if told["n_truncated"]:
        n = told["n_truncated"]
        who, whose = ("prompts were", "their") if n > 1 else ("prompt was", "its")
        notes.append(f"{n} {who} longer than the model reads and lost {whose} start.")
    if told["n_response_cut"]:
        n = told["n_response_cut"]
        who, whose = ("responses alone were", "their") if n > 1 else ("response alone was", "its")
        notes.append(f"{n} {who} longer than the model reads and lost {whose} end.")
    if told["n_unscored"]:
        notes.append(f"{told['n_unscored']} responses have no reward under this model and were not scored.")
    return notes

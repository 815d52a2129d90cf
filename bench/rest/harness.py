"""What an entry of the table is, and how its lines come about: import, register, train, evaluate, read the board."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.rest.rows import Row, Rows, split
from bench.rest.site import Api

#: A part of the training prompts chooses the epoch; the rows that are tested on are imported apart and never seen.
USUAL: Row = {"validation_share": 0.15, "token_budget": 4096}


@dataclass(frozen=True)
class Stage:
    """One training. `start` names the stage whose checkpoint it starts from, `members` those that it joins.

    A stage with a `figure` is evaluated, and is a line of the table. rows: what it learns from where that is not what
    the entry's other stages learn from. tells: places in the run's result that the line repeats.
    """

    name: str
    family: str
    config: Row = field(default_factory=dict)
    spec: Row = field(default_factory=dict)
    rows: Callable[[Rows], Rows] | None = None
    start: str = ""
    members: Sequence[str] = ()
    is_line: bool = True
    tells: Sequence[str] = ()


@dataclass(frozen=True)
class Entry:
    """Stages on one set of rows, split once into a part to train on and a part to test on that share no `by`.

    test: what is made of the held-out rows before they are imported. is_causal: the backbone is not MiniLM but the
    causal model that the command line names, or a small one trained here on the texts to train on.
    """

    data: str
    rows: Callable[[], Rows]
    stages: Sequence[Stage]
    by: str = "split_key"
    test: Callable[[Rows], Rows] = lambda rows: rows
    is_causal: bool = False
    share: float = 0.25


def measure(api: Api, name: str, entry: Entry, causal_model: Callable[[Rows], str]) -> Iterator[Row]:
    """The lines of an entry, each as soon as it is there."""
    train, test = split(entry.rows(), share=entry.share, by=entry.by)
    held_out, _ = api.dataset(f"{name}: held out", entry.test(test))
    backbone = causal_model(train) if entry.is_causal else "minilm"
    length = _rule_accuracy(api, name, held_out)
    checkpoints: dict[str, str] = {}
    for stage in entry.stages:
        began = time.monotonic()
        result = _train(api, f"{name}: {stage.name}", stage, train, backbone, checkpoints)
        checkpoints[stage.name] = result["checkpoint"]
        if not stage.is_line:
            continue
        api.run("evaluate", checkpoint=result["checkpoint"], source={"dataset": held_out})
        accuracy = _on_board(api, held_out, result["checkpoint"])
        yield {
            "entry": name,
            "stage": stage.name,
            "family": stage.family,
            "objective": result.get("objective"),
            "data": entry.data,
            "backbone": "causal" if entry.is_causal else "minilm",
            "n_train": result.get("n_train", result.get("n_pairs")),
            "n_test": accuracy["n"],
            **{key: round(accuracy[key], 4) for key in ("value", "low", "high")},
            "length": round(length, 4),
            "train_s": round(result["seconds"], 1),
            "total_s": round(time.monotonic() - began, 1),
            "peak_rss_mib": result["peak_rss_mib"],
            "left_out": result.get("left_out"),
            "kept_step": result.get("kept_step"),
            "n_steps": result.get("n_steps"),
            "validation": result.get("validation_best"),
            **{key: _at(result, key) for key in stage.tells},
        }


def _train(api: Api, name: str, stage: Stage, train: Rows, backbone: str, known: dict[str, str]) -> Row:
    source, _ = api.dataset(name, train if stage.rows is None else stage.rows(train))
    own = {"members": [known[member] for member in stage.members]} if stage.members else {"backbone": backbone}
    model = api.reward_model(name, stage.family, {**own, **stage.config})
    spec = {"reward_model": model, "source": {"dataset": source}, **({} if stage.members else USUAL), **stage.spec}
    if stage.start:
        spec["start_from"] = known[stage.start]
    return api.run("train_rm", **spec)


def _rule_accuracy(api: Api, name: str, held_out: str) -> float:
    """Of the baseline that prefers the longer response."""
    model = api.reward_model(f"{name}: length", "length", {})
    rule = api.get(f"reward-models/{model}/")["checkpoints"][0]["uid"]
    api.run("evaluate", checkpoint=rule, source={"dataset": held_out})
    return float(_on_board(api, held_out, rule)["value"])


def _on_board(api: Api, source: str, checkpoint: str) -> Row:
    rows = api.get(f"leaderboards/{source}/")["rows"]
    found: Row = next(row["accuracy"] for row in rows if row["checkpoint"] == checkpoint)
    return found


def _at(found: Any, path: str) -> Any:
    for key in path.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    return found

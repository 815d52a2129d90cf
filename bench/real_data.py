"""Train on real preference pairs and say how it does against counting characters and against chance.

    python -m bench.real_data [--sets ultrafeedback,hh] [--epochs 3] [--rm-bench 200]

Reads the data pack in SHARED_DATA (default: ../shared/data beside this repository) and prints JSON lines: one for each
training run, one for each evaluation. Accuracy stands with its 95 % Wilson interval. Takes minutes on two cores.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from workers.context import LocalJobContext, RewardModelRef
from workers.data.importing import open_examples
from workers.data.schema import PreferencePair
from workers.data.split import split_by_prompt
from workers.jobs import JOBS
from workers.specs import parse_spec

DATA = Path(os.environ.get("SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
SETS = {
    "ultrafeedback": ("ultrafeedback-sample/pairs.part.jsonl.gz",),
    "hh": ("hh-rlhf/harmless-base.test.part.jsonl.gz", "hh-rlhf/helpful-base.single-turn.part.jsonl.gz"),
    "rm_bench": tuple(
        f"rm-bench/{part}.part.jsonl.gz" for part in ("chat", "code", "safety-refuse", "safety-response")
    ),
}
BASELINES = {"length": {}, "random": {"seed": 1}}


def load(name: str, limit: int | None = None) -> list[PreferencePair]:
    """Every pair of a set as the importer reads it; with a limit, so many examples of each file."""
    return [pair for file in SETS[name] for pair in _pairs(file, limit)]


def _pairs(file: str, limit: int | None) -> Iterator[PreferencePair]:
    with (DATA / file).open("rb") as stream:
        n = 0
        for example in open_examples(stream, name=Path(file).name).examples:
            if not hasattr(example, "preferences") or (limit is not None and n >= limit):
                continue
            n += 1
            for preference in example.preferences:
                a, b = preference.a_index, preference.b_index
                known = f"{file}:{example.line}"
                yield PreferencePair(
                    pair_id=f"{known}:{a}:{b}",
                    prompt=example.prompt,
                    response_a=example.responses[a].messages,
                    response_b=example.responses[b].messages,
                    verdict=preference.verdict,
                    response_a_id=hash((known, a)),
                    response_b_id=hash((known, b)),
                    meta={"file": Path(file).name.split(".")[0], "style": f"{a % 3}-{b % 3}"},
                )


def run(kind: str, ctx: LocalJobContext, **spec: Any) -> dict[str, Any]:
    job: Any = JOBS.get(kind)
    result: dict[str, Any] = job().run(ctx, parse_spec(job.Spec, spec))
    return result


def context(pairs: dict[str, Sequence[PreferencePair]], family: str, config: dict[str, Any]) -> LocalJobContext:
    ctx = LocalJobContext(
        Path(tempfile.mkdtemp(prefix="steelyard-real-")),
        pairs=pairs,
        reward_models={"model": RewardModelRef("model", family, config)},
        reward_model="model",
    )
    return ctx


def evaluate(name: str, ctx: LocalJobContext, checkpoint: str, sources: Sequence[str]) -> None:
    for source in sources:
        slices = ["file"] if source == "rm_bench" else []
        found = run("evaluate", ctx, checkpoint=checkpoint, source={"dataset": source}, slice_by=slices)
        show(model=name, on=source, **rate(found), mean_margin=round(found["mean_margin"], 4))
        for value, part in found["slices"].get("file", {}).items():
            show(model=name, on=f"{source}/{value}", **rate(part))


def rate(found: dict[str, Any]) -> dict[str, Any]:
    return {key: round(value, 4) if key != "n" else value for key, value in found["accuracy"].items()}


def show(**row: Any) -> None:
    print(json.dumps(row), flush=True)


def study(name: str, options: argparse.Namespace) -> None:
    """Train on one set; evaluate it and both baselines on its held-out prompts and on RM-Bench."""
    pairs = load(name)
    _, rows = split_by_prompt(
        [pair.prompt_key for pair in pairs], validation_share=options.validation_share, seed=options.seed
    )
    sources = {name: pairs, f"{name} held out": [pairs[i] for i in rows]}
    if options.rm_bench:
        sources["rm_bench"] = load("rm_bench", options.rm_bench)
    config = {"backbone": options.backbone, "max_length": options.max_length, "pooling": options.pooling}
    ctx = context(sources, "scalar_head", config)
    ctx.echo = lambda line: print(line, file=sys.stderr, flush=True)
    spec = json.loads(options.spec)
    trained = run(
        "train_rm",
        ctx,
        reward_model="model",
        source={"dataset": name},
        validation_share=options.validation_share,
        seed=options.seed,
        epochs=options.epochs,
        learning_rate=options.learning_rate,
        **spec,
    )
    show(trained_on=name, **{key: value for key, value in trained.items() if key not in ("environment", "checkpoint")})
    evaluated = [source for source in sources if source != name]
    evaluate(
        "minilm scalar head" if options.backbone == "minilm" else options.backbone,
        ctx,
        trained["checkpoint"],
        evaluated,
    )
    for family, own in BASELINES.items():
        ctx = context(sources, family, own)
        uid = ctx.save_artifact(_nothing(ctx), kind="checkpoint", name=family, meta={})
        evaluate(family, ctx, uid, evaluated)


def _nothing(ctx: LocalJobContext) -> Path:
    (folder := ctx.work_dir / "rule").mkdir(exist_ok=True)
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", default="ultrafeedback,hh")
    parser.add_argument("--backbone", default="minilm")
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--pooling", default="auto")
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--validation-share", type=float, default=0.2)
    parser.add_argument("--rm-bench", type=int, default=0, help="examples of each of its four files, 0 for none")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--spec", default="{}", help="further fields of the spec of train_rm, as JSON")
    options = parser.parse_args()
    if not DATA.is_dir():
        print(f"skipped: there is no data pack in {DATA} (set SHARED_DATA)")
        return 0
    for name in options.sets.split(","):
        study(name, options)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Graded preferences of sixteen named evaluators on answers of language models (Wang et al. 2023, arXiv 2306.04751)."""

import gzip
import json

from bench.real_data import DATA
from workers.data.schema import PreferencePair, Verdict

VERDICTS: dict[str, Verdict] = {
    "a-is-better": "a",
    "a-is-slightly-better": "a",
    "tie": "tie",
    "b-is-slightly-better": "b",
    "b-is-better": "b",
}


def tulu_pairs() -> list[PreferencePair]:
    """One pair a judgement, its evaluator in the metadata."""
    made = []
    with gzip.open(DATA / "tulu-human-eval" / "eval_annotations_tulu_1.part.jsonl.gz", "rt", encoding="utf-8") as rows:
        for number, line in enumerate(rows):
            row = json.loads(line)
            made.append(
                PreferencePair(
                    pair_id=f"tulu-{number}",
                    prompt=[{"role": "user", "content": row["prompt"]}],
                    response_a=[{"role": "assistant", "content": row["completion_a"]}],
                    response_b=[{"role": "assistant", "content": row["completion_b"]}],
                    verdict=VERDICTS[row["preference"]],
                    response_a_id=2 * number,
                    response_b_id=2 * number + 1,
                    meta={"evaluator": row["evaluator"]},
                )
            )
    return made

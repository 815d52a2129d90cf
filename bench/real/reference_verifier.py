"""Reference verifier on real solutions of MR-GSM8K, with references swapped so that no text alone gives the label away.

python -m bench.real.reference_verifier

Four rows a question: the given solution beside the right answer (1) and beside the answer of a model's wrong solution
(0); the wrong solution beside its own answer (1) and beside the right one (0). The label is whether the completion
ends in its reference; completion alone and reference alone tell nothing.
"""

import json
import re
from typing import Any

import numpy as np

from bench.real.labelled import MR_GSM8K, examples, line, reference, train
from workers.data.examples import ParsedExample
from workers.data.schema import LabelledResponse
from workers.stats.intervals import wilson_interval

ANSWER = re.compile(r"####\s*(-?[\d.,]+)")
N_QUESTIONS = 110
LAST = 160
"""Characters kept of a completion, its end: the answer stands there."""


def rows() -> list[LabelledResponse]:
    made: list[LabelledResponse] = []
    for example in examples(*MR_GSM8K):
        made += _of(example)
        if len(made) >= 4 * N_QUESTIONS:
            break
    return made


def _of(example: ParsedExample) -> list[LabelledResponse]:
    given, own = str(example.meta.get("ground_truth_solution", "")), example.responses[0].messages[0]["content"]
    right, wrong = (_answer(text) for text in (given, own))
    if not right or not wrong or right == wrong:
        return []
    return [
        LabelledResponse(
            prompt=example.prompt,
            response=[{"role": "assistant", "content": text[-LAST:]}],
            ratings={"correct": float(said == ref)},
            reference=reference(ref),
        )
        for text, said in ((given, right), (own, wrong))
        for ref in (right, wrong)
    ]


def _answer(text: str) -> str:
    found = ANSWER.findall(text)
    return found[-1].rstrip(".,") if found else ""


def run() -> dict[str, Any]:
    """Fine-tune MiniLM; accuracy on questions not trained on, and how often a swapped reference flips the verdict."""
    made = rows()
    result = train(
        "reference_verifier", {"max_length": 160}, made, epochs=2, learning_rate=2e-4, batch_pairs=16, dtype="float32"
    )
    labels = np.array([row.ratings["correct"] for row in result["test"]])
    says = result["scores"].values > 0
    right = int((says == labels).sum())
    interval = wilson_interval(right, len(labels))
    by_completion = (says == labels).reshape(-1, 2)
    found = line(
        "reference_verifier", "mr-gsm8k, references swapped", result, "accuracy",
        (right / len(labels), interval.low, interval.high),
    )  # fmt: skip
    return {**found, "both_of_a_completion": round(float(by_completion.all(axis=1).mean()), 4)}


if __name__ == "__main__":
    print(json.dumps(run()))

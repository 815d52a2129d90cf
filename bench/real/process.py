"""Process reward model on real steps: PRMBench (injected errors) and MR-GSM8K (first wrong step, by people).

python -m bench.real.process [prmbench|mr-gsm8k]
"""

import json
import sys
from typing import Any

import numpy as np

from bench.real.labelled import MR_GSM8K, PRMBENCH, examples, line, rows_of, sample, train
from workers.stats.auroc import auroc

N = {"prmbench": 300, "mr-gsm8k": 300}
N_RESAMPLES = 500


def run(data: str = "prmbench") -> dict[str, Any]:
    """Fine-tune MiniLM; AUROC over the labelled steps of prompts not trained on, resampled by response."""
    rows = rows_of(examples(PRMBENCH) if data == "prmbench" else examples(*MR_GSM8K))
    rows = sample([row for row in rows if len(row.steps) > 1], N[data])
    result = train("process", {"max_length": 320}, rows, epochs=2, learning_rate=1e-4, batch_pairs=16)
    told = [_steps(row, part) for row, part in zip(result["test"], result["scores"].parts, strict=True)]
    told = [pair for pair in told if len(pair[0])]
    value = _auroc(told)
    rng = np.random.default_rng(0)
    again = [_auroc([told[i] for i in rng.integers(0, len(told), len(told))]) for _ in range(N_RESAMPLES)]
    low, high = np.nanpercentile(again, [2.5, 97.5])
    found = line("process", data, result, "step AUROC", (value, float(low), float(high)))
    return {
        **found,
        "n_steps": sum(len(labels) for _, labels in told),
        "share_right": round(float(np.concatenate([labels for _, labels in told]).mean()), 3),
        "n_response_cut": result["n_response_cut"],
        "auroc_of_place_alone": round(_auroc([(-np.arange(len(labels)), labels) for _, labels in told]), 4),
    }


def _steps(row: Any, part: Any) -> tuple[Any, Any]:
    """Probabilities and labels of the steps that were read and are labelled."""
    pairs = [
        (step["probability"], label)
        for step, label in zip(part["steps"], row.step_labels, strict=False)
        if label is not None
    ]
    return np.array([p for p, _ in pairs]), np.array([y for _, y in pairs])


def _auroc(told: Any) -> float:
    scores, labels = (np.concatenate([pair[k] for pair in told]).astype(np.float64) for k in (0, 1))
    return auroc(scores, labels > 0.5)


if __name__ == "__main__":
    print(json.dumps(run(*sys.argv[1:2])))

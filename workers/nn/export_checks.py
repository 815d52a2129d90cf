"""An exported folder, opened again as anybody would: it must give the probes what they must get."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import transformers
from torch import Tensor

from workers.data.loading_code import Reading
from workers.errors import JobError
from workers.jobs.export_checkpoint import PLAIN
from workers.nn.steps import aggregate

SAME_REWARD = 1e-5
Probes = Sequence[Mapping[str, Any]]


def verified(folder: Path, probes: Probes, reading: Reading, tokenizer: Any) -> float:
    """The largest difference of rewards, which must be rounding; of a folder with code padded and in batches too."""
    model = opened(folder, reading)
    found, wanted = [0.0], [0.0]
    for probe in probes:
        ids = torch.tensor([probe["input_ids"]])
        with torch.inference_mode():
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
        told, reward = read_logits(logits, probe, reading)
        found += [*told, reward]
        wanted += [*(probe.get("ratings") or {}).values(), *probe.get("probabilities", ()), probe["reward"]]
    if reading.brings_code and probes:
        insist_same_tokens(folder, probes, tokenizer, model.config)
        for side in ("left", "right"):
            found += padded_rewards(model, probes, reading, tokenizer.pad_token_id or 0, side)
            wanted += [probe["reward"] for probe in probes]
    difference = float(np.abs(np.array(found) - np.array(wanted)).max())
    if not difference <= SAME_REWARD * max(1.0, float(np.abs(wanted).max())):
        raise JobError(
            f"Opened by {type(model).__name__}, the exported folder gives other rewards (difference {difference:.2g}),"
            " so it was not kept.",
            PLAIN,
        )
    return difference


def opened(folder: Path, reading: Reading) -> Any:
    """The model, by its Auto class. Code is run in one case: it is this project's own, just written."""
    auto = (
        transformers.AutoModelForTokenClassification
        if reading.steps
        else transformers.AutoModelForSequenceClassification
    )
    options: dict[str, Any] = {"use_safetensors": True, "dtype": torch.float32}
    try:
        return auto.from_pretrained(folder, trust_remote_code=reading.brings_code, **options).eval()
    except OSError as error:
        raise JobError(
            f"The exported folder could not be opened again: {error}",
            "transformers copies the code of a folder to HF_HOME/modules before it runs it: the worker must be able to"
            " write there, or to the folder that HF_MODULES_CACHE names.",
        ) from error


def insist_same_tokens(folder: Path, probes: Probes, tokenizer: Any, config: Any) -> None:
    """JobError where the tokenizer, which transformers picks by the config too, comes back as another."""
    again = transformers.AutoTokenizer.from_pretrained(folder, config=config, trust_remote_code=False)
    texts = [turn["content"] for probe in probes for turn in (*probe["prompt"], *probe["response"])]
    if again(texts).input_ids != tokenizer(texts).input_ids or again.chat_template != tokenizer.chat_template:
        raise JobError("The tokenizer of the exported folder gives other tokens, so it was not kept.", PLAIN)


def padded_rewards(
    model: Any, probes: Probes, reading: Reading, pad_id: int, side: Literal["left", "right"]
) -> list[float]:
    """Rewards of all probes from one batch, with padding on one side."""
    width = max(len(probe["input_ids"]) for probe in probes)
    ids, mask = (torch.full((len(probes), width), fill) for fill in (pad_id, 0))
    for row, probe in enumerate(probes):
        n = len(probe["input_ids"])
        where = slice(0, n) if side == "right" else slice(width - n, width)
        ids[row, where], mask[row, where] = torch.tensor(probe["input_ids"]), 1
    with torch.inference_mode():
        logits = model(input_ids=ids, attention_mask=mask).logits
    return [read_logits(row, probe, reading)[1] for row, probe in zip(logits, probes, strict=True)]


def read_logits(logits: Tensor, probe: Mapping[str, Any], reading: Reading) -> tuple[list[float], float]:
    """Ratings or probabilities where there are some, and the reward."""
    if reading.steps:
        p = (logits[probe["positions"], 0] + reading.constant).sigmoid()
        aggregation: Any = reading.steps["aggregation"]
        return p.tolist(), float(aggregate(p[None], aggregation)[0])
    shift, weight = (torch.tensor([t[n] for n in reading.weights]) for t in (reading.constants, reading.weights))
    outputs = logits + shift
    return outputs.tolist() if "ratings" in probe else [], float(outputs @ weight)

"""Whether the sizes in a model's config.json can be those of its files, before anything of that size is made."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from safetensors import safe_open

from workers.errors import JobError

SIZES = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "vocab_size",
    "max_position_embeddings",
)
MOST_LAYERS = 4096
NUMBERS_A_BYTE = 8
"""Far more than the coarsest quantisation puts into one byte of a file."""
HINT = "Get its files again, or choose another model."


def check_sizes(name: str, config: Any) -> None:
    """JobError for a size that is no count of anything, or a number of layers that no model has."""
    for key in SIZES:
        value = getattr(config, key, None)
        if isinstance(value, int) and value < 1:
            raise JobError(f"The config.json of {name} says {key} {value}: at least 1 is needed.", HINT)
    window = getattr(config, "sliding_window", None)
    if window is not None and (not isinstance(window, int) or window < 0):
        raise JobError(f"The config.json of {name} says sliding_window {window!r}: a number of tokens is needed.", HINT)
    layers = getattr(config, "num_hidden_layers", None)
    if isinstance(layers, int) and layers > MOST_LAYERS:
        raise JobError(
            f"The config.json of {name} says num_hidden_layers {layers}: more than {MOST_LAYERS} are not read.", HINT
        )


def check_files_hold(name: str, config: Any, files: Iterable[Path]) -> None:
    """JobError where the config promises more than its safetensors can hold: memory for it would be taken in vain."""
    n_bytes = n_tensors = 0
    for file in files:
        n_bytes += file.stat().st_size
        with safe_open(file, framework="pt") as opened:
            n_tensors += len(opened.keys())
    told = {key: value for key in SIZES if isinstance(value := getattr(config, key, None), int)}
    width, layers = told.get("hidden_size", 1), told.get("num_hidden_layers", 1)
    heads = max(told.get("num_attention_heads", 1), told.get("num_key_value_heads", 1)) * told.get("head_dim", 1)
    largest = width * max(heads, told.get("vocab_size", 1), told.get("intermediate_size", 1))
    if largest > NUMBERS_A_BYTE * n_bytes or layers > n_tensors:
        raise JobError(
            f"The config.json of {name} does not fit its safetensors, which hold {n_tensors} tensors in {n_bytes} "
            f"bytes: it says {', '.join(f'{key} {value}' for key, value in told.items())}.",
            "Its files are not those of one model: get them again.",
        )


def check_length(tokenizer: Any) -> None:
    """JobError where the longest text of a tokenizer is no number of tokens."""
    longest = tokenizer.model_max_length
    if longest is None or (isinstance(longest, int | float) and not isinstance(longest, bool) and longest >= 0):
        return
    raise JobError(
        f"The tokenizer_config.json says model_max_length {longest!r}: a number of tokens is needed.",
        "Correct it, or take it out: the context then is what config.json says.",
    )

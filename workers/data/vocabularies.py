"""Do two tokenizers give the same tokens? Needed wherever the probabilities of two language models meet."""

from collections.abc import Mapping
from typing import Any, Protocol

PROBES = ("abc", "Hello, world!", "  two  spaces\n\ttab", "naïve café 日本語 🙂", "3.14159 == x_1", "ABC\u0301def")


class Tokenizer(Protocol):
    """What is used of a Hugging Face tokenizer."""

    def get_vocab(self) -> Mapping[str, int]: ...

    def __call__(self, text: str, **options: Any) -> Mapping[str, Any]: ...


def tokenizer_difference(
    left: Tokenizer, right: Tokenizer, *, names: tuple[str, str] = ("base", "reward model")
) -> str | None:
    """Why the two cannot be used together, in one sentence; None where they give the same tokens.

    The tables are compared id by id, as equal sizes prove nothing; then a few texts, as equal tables do not prove that
    texts are cut alike.
    """
    mine, other = _by_id(left), _by_id(right)
    who = f"{names[0]} and {names[1]}"
    if mine != other:
        sizes = f"sizes {len(mine)} vs {len(other)}, " if len(mine) != len(other) else f"both of {len(mine)} tokens, "
        return f"{who} use different tokenizers ({sizes}first mismatch at id {_first_mismatch(mine, other)})"
    for text in PROBES:
        if _ids(left, text) != _ids(right, text):
            return f"{who} tokenise {text!r} differently"
    return None


def _by_id(tokenizer: Tokenizer) -> dict[int, str]:
    return {number: token for token, number in tokenizer.get_vocab().items()}


def _first_mismatch(left: Mapping[int, str], right: Mapping[int, str]) -> int:
    return min(n for n in left.keys() | right.keys() if left.get(n) != right.get(n))


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])

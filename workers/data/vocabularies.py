"""Do two tokenizers give the same tokens? Needed wherever the probabilities of two language models meet."""

import json
from collections.abc import Mapping
from pathlib import Path
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
    if mine != other:
        return _table_difference(mine, other, names)
    for text in PROBES:
        if _ids(left, text) != _ids(right, text):
            return f"{names[0]} and {names[1]} tokenise {text!r} differently"
    return None


def folder_difference(left: Path, right: Path, *, names: tuple[str, str]) -> str | None:
    """The same of two folders by the tables of their tokenizer.json alone, without loading anything.

    None where a folder has no such file, or one that cannot be read: then only opening both can tell.
    """
    files = [folder / "tokenizer.json" for folder in (left, right)]
    if not all(file.is_file() for file in files):
        return None
    try:
        mine, other = (_file_by_id(file) for file in files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return None if mine == other else _table_difference(mine, other, names)


def _file_by_id(file: Path) -> dict[int, str]:
    told = json.loads(file.read_text(encoding="utf-8"))
    vocabulary = told["model"].get("vocab") or {}
    table = vocabulary if isinstance(vocabulary, dict) else {piece[0]: i for i, piece in enumerate(vocabulary)}
    added = {int(token["id"]): str(token["content"]) for token in told.get("added_tokens") or ()}
    return {number: token for token, number in table.items()} | added


def _table_difference(mine: Mapping[int, str], other: Mapping[int, str], names: tuple[str, str]) -> str:
    sizes = f"sizes {len(mine)} vs {len(other)}, " if len(mine) != len(other) else f"both of {len(mine)} tokens, "
    who = f"{names[0]} and {names[1]}"
    return f"{who} use different tokenizers ({sizes}first mismatch at id {_first_mismatch(mine, other)})"


def _by_id(tokenizer: Tokenizer) -> dict[int, str]:
    return {number: token for token, number in tokenizer.get_vocab().items()}


def _first_mismatch(left: Mapping[int, str], right: Mapping[int, str]) -> int:
    return min(n for n in left.keys() | right.keys() if left.get(n) != right.get(n))


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])

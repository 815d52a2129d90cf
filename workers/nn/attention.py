"""Which code computes a model's attention: always transformers' own."""

from typing import Any


def plain_attention(auto: Any, config: Any) -> str:
    """sdpa where the class that `auto` makes of a config has it, else eager.

    Said outright at every opening: a config.json may name a kernel of the hub, and that is code.
    """
    kinds = auto._model_mapping
    kind = kinds.get(type(config), None)
    return "sdpa" if getattr(kind, "_supports_sdpa", False) else "eager"

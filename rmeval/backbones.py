"""Names of backbones, as far as they can be judged without loading one: the web process never loads torch."""

import re

#: Built in, with what they are for.
BUILT_IN = {
    "minilm": "the small English encoder that comes with Steelyard",
    "tiny-encoder": "a random encoder for trying things out in seconds",
    "tiny-causal": "a random causal model for trying things out in seconds",
}
#: Of these those that are no language models.
ENCODERS = frozenset({"minilm", "tiny-encoder"})
ALLOWED_NAMES = (
    f"Give {', '.join(list(BUILT_IN)[:-1])} or {list(BUILT_IN)[-1]}, a Hugging Face id as owner/name "
    "(openai-community/gpt2 for gpt2), or the path of a folder with a config.json."
)
CAUSAL_NAMES = (
    f"Give {next(name for name in BUILT_IN if name not in ENCODERS)}, a causal model of the hub as owner/name "
    "(Qwen/Qwen2.5-0.5B), or the path of a folder with one."
)
#: As the hub names repositories: letters, digits, "-", "_" and "."; no part begins or ends with "-" or ".".
HUB_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
HUB_ID = re.compile(rf"{HUB_PART}/{HUB_PART}")


def is_hub_id(name: str) -> bool:
    """Whether a name has the form owner/name; not whether the hub has it."""
    return HUB_ID.fullmatch(name) is not None and "--" not in name and ".." not in name and not name.endswith(".git")


def is_path(name: str) -> bool:
    return name.startswith(("/", ".", "~"))

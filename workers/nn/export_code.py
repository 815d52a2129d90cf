"""A reward model as a folder that brings its class: `modeling_reward.py` beside the weights, named by config.json."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workers.errors import JobError
from workers.jobs.export_checkpoint import PLAIN
from workers.nn import modeling_reward
from workers.nn.export_heads import LinearHead, named_labels

FILE = Path(str(modeling_reward.__file__))
CONFIG: Any = modeling_reward.PooledRewardConfig
MODEL: Any = modeling_reward.PooledRewardForSequenceClassification
AUTO_MAP = {
    "AutoConfig": f"{FILE.stem}.{CONFIG.__name__}",
    "AutoModelForSequenceClassification": f"{FILE.stem}.{MODEL.__name__}",
}
OF_THE_PLACE = frozenset(
    {"_name_or_path", "architectures", "auto_map", "dtype", "id2label", "label2id", "problem_type", "torch_dtype"}
    | {"transformers_version"}
)
"""Settings of a backbone that say where it came from or what it was for, not what it computes."""


def with_code(net: Any, head: LinearHead, labels: list[str]) -> Any:
    """A model of the class that travels, with the weights of the net."""
    config = CONFIG(
        backbone_config=backbone_settings(net.backbone.config.to_dict()),
        pooling=net.pooling,
        head_sizes=[head.layers[0][0].shape[1], *(len(weight) for weight, _ in head.layers)],
        head_activation=head.activation,
        problem_type="regression",
        **named_labels(labels),
    )
    config.auto_map = AUTO_MAP
    model = MODEL(config).eval()
    given = {f"backbone.{name}": tensor for name, tensor in net.backbone.state_dict().items()}
    for i, (weight, bias) in enumerate(head.layers):
        given |= {f"head.{i}.weight": weight, f"head.{i}.bias": bias}
    if odd := sorted(model.state_dict().keys() ^ given.keys()):
        raise JobError(f"Made from its config, this backbone has other tensors: {', '.join(odd[:5])}.", PLAIN)
    model.load_state_dict(given)
    return model


def backbone_settings(told: Mapping[str, Any]) -> dict[str, Any]:
    """Of a backbone's config what its class is made from; rewards need no cache of keys and values."""
    kept = {k: v for k, v in told.items() if k not in OF_THE_PLACE and not k.endswith("_implementation")}
    return kept | ({"use_cache": False} if "use_cache" in kept else {})


def add_code(folder: Path) -> None:
    """The class itself, as it stands here."""
    shutil.copyfile(FILE, folder / FILE.name)

"""What a killed training run needs to go on exactly where it was: weights, optimiser, position, best so far."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from workers.errors import JobError
from workers.nn.checkpoints import WEIGHTS, load_weights, save_weights
from workers.nn.folders import remove_drafts, write_folder
from workers.nn.sharding import part_of, whole_tensors
from workers.nn.zero import ZeroOptimizer

OPTIMIZER, PROGRESS, MARGINS = "optimizer.safetensors", "progress.json", "margins.npy"
OBJECTIVE = "objective.npz"
Margins = NDArray[np.float32]
KEPT = 2


@dataclass
class Progress:
    """Everything about the position in a run that is not a tensor. The order of pairs follows from seed and step."""

    fingerprint: str
    """Of spec, texts and verdicts: other data or settings never continue a run."""
    dtype: str
    step: int = 0
    n_pairs_seen: int = 0
    n_worse: int = 0
    """Validations in a row without a lower loss."""
    best_step: int | None = None
    best: dict[str, Any] | None = None
    last: dict[str, Any] | None = None
    elapsed_s: float = 0.0


class StateStore:
    """States of one run in its work folder: step-00000120/, of which the newest two stay, and best-00000100/."""

    def __init__(self, folder: Path, *, is_reader: bool = False) -> None:
        self.folder, self.is_reader = folder, is_reader
        folder.mkdir(parents=True, exist_ok=True)
        if not is_reader:
            remove_drafts(folder)

    def save(
        self,
        progress: Progress,
        net: nn.Module,
        optimizer: Optimizer | ZeroOptimizer,
        margins: Margins,
        *,
        objective: Mapping[str, NDArray[Any]] = {},
    ) -> None:
        """Write a state. Processes that hold parts of a net all call this; the one that is no reader writes."""
        weights = self._weights(net)
        moments = dict(whole_tensors(_optimizer_tensors(optimizer), is_kept=not self.is_reader))
        if self.is_reader:
            return

        def fill(draft: Path) -> None:
            weights(draft / WEIGHTS)
            np.save(draft / MARGINS, margins)
            if objective:
                np.savez(draft / OBJECTIVE, **objective)  # type: ignore[arg-type]
            save_file(moments, draft / OPTIMIZER)
            (draft / PROGRESS).write_text(json.dumps(asdict(progress)))

        write_folder(self._of("step", progress.step), fill)
        self._prune(progress)

    def save_best(self, step: int, net: nn.Module) -> None:
        """Write the weights alone; called by all as save() is."""
        weights = self._weights(net)
        if not self.is_reader:
            write_folder(self._of("best", step), lambda draft: weights(draft / WEIGHTS))

    def _weights(self, net: nn.Module) -> Callable[[Path], None]:
        """A writer of what training changes; put together first where it lies in parts."""
        if not getattr(net, "is_sharded", False):
            return lambda path: save_trained(net, path)
        names = trained_names(net)
        own = {name: tensor for name, tensor in net.state_dict().items() if name in names}
        found = dict(whole_tensors(own.items(), is_kept=not self.is_reader))
        return lambda path: save_file(found, path)

    def load_best(self, step: int, net: nn.Module) -> None:
        load_trained(net, self._of("best", step) / WEIGHTS)

    def newest(self) -> Progress | None:
        """Progress of the newest state; a state is there whole or not at all."""
        states = self._all("step")
        return Progress(**json.loads((states[-1] / PROGRESS).read_text())) if states else None

    def restore(
        self, progress: Progress, net: nn.Module, optimizer: Optimizer | ZeroOptimizer, margins: Margins
    ) -> Margins:
        """Load weights and optimiser; the margins known then (those given, where none were kept)."""
        folder = self._of("step", progress.step)
        load_trained(net, folder / WEIGHTS)
        _restore_optimizer(optimizer, load_file(folder / OPTIMIZER))
        return np.load(folder / MARGINS) if (folder / MARGINS).is_file() else margins

    def objective_state(self, progress: Progress) -> dict[str, NDArray[Any]]:
        """What the objective remembered at a saved position."""
        path = self._of("step", progress.step) / OBJECTIVE
        if not path.is_file():
            return {}
        with np.load(path) as kept:
            return dict(kept)

    def load_weights(self, progress: Progress, net: nn.Module) -> None:
        """The best weights of a saved position, or its last where nothing was validated."""
        if progress.best_step and self._of("best", progress.best_step).is_dir():
            self.load_best(progress.best_step, net)
        else:
            load_trained(net, self._of("step", progress.step) / WEIGHTS)

    def clear(self) -> None:
        """Forget every state. A process that only reads leaves that to the one that writes."""
        if self.is_reader:
            return
        for folder in [*self._all("step"), *self._all("best")]:
            shutil.rmtree(folder)

    def _prune(self, progress: Progress) -> None:
        for folder in self._all("step")[:-KEPT]:
            shutil.rmtree(folder)
        for folder in self._all("best"):
            if folder != self._of("best", progress.best_step or 0):
                shutil.rmtree(folder)

    def _of(self, kind: str, step: int) -> Path:
        return self.folder / f"{kind}-{step:08d}"

    def _all(self, kind: str) -> list[Path]:
        return sorted(self.folder.glob(f"{kind}-????????"))


def trained_names(net: nn.Module) -> set[str]:
    """Names in the state of a net that training changes: not those of a frozen backbone."""
    frozen = {name for name, parameter in net.named_parameters(remove_duplicate=False) if not parameter.requires_grad}
    kept = set(net.state_dict()) - frozen
    return (
        {name for name in kept if name.startswith("head.") or name in dict(net.named_parameters())} if frozen else kept
    )


def save_trained(net: nn.Module, path: Path) -> None:
    """What does not change need not be kept with every state."""
    save_weights(net, path, only=trained_names(net))


def load_trained(net: nn.Module, path: Path) -> None:
    tensors = load_weights(path).tensors
    if set(tensors) != trained_names(net):
        raise JobError("The saved state of this run is of another model.", "Start the run again from the first step.")
    own = net.state_dict()
    net.load_state_dict({name: part_of(tensor, own[name]) for name, tensor in tensors.items()}, strict=False)


def _optimizer_tensors(optimizer: Optimizer | ZeroOptimizer) -> Iterator[tuple[str, Tensor]]:
    """State tensors by parameter number and name; learning rates follow from the step and are not stored."""
    if isinstance(optimizer, ZeroOptimizer):
        return optimizer.tensors()
    states = optimizer.state_dict()["state"].items()
    return ((f"{number}.{name}", value) for number, state in states for name, value in state.items())


def _restore_optimizer(optimizer: Optimizer | ZeroOptimizer, tensors: dict[str, Tensor]) -> None:
    if isinstance(optimizer, ZeroOptimizer):
        optimizer.restore(tensors)
        return
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    states: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, _, name = key.partition(".")
        states.setdefault(int(number), {})[name] = part_of(value, parameters[int(number)])
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})

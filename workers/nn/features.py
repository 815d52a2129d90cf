"""Features of a frozen backbone: computed once, kept on disk, read by every epoch and every training of a study."""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from workers.context import JobContext
from workers.data.collate import length_batches
from workers.data.render import Encoded
from workers.nn.failures import explaining_memory
from workers.nn.net import no_tick
from workers.nn.reward_net import RewardNet
from workers.nn.ticks import Throttle
from workers.nn.units import Features, UnitData

BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
ADVICE = "Lower token_budget (it changes no result) or max_length, or choose a smaller backbone."
NAMES_ALONE = frozenset({"_name_or_path", "transformers_version"})
KEPT = 4
"""Sets of features in one folder: a study over more backbones or lengths than this makes some of them again."""


def feature_folder(ctx: JobContext) -> Path:
    """Where the features of a run lie. All trainings of a study have one place for theirs."""
    shared: Path | None = getattr(ctx, "features_dir", None)
    return shared or ctx.work_dir / "features"


def compute_features(
    net: RewardNet, data: UnitData, folder: Path, *, budget: int, on_done: Callable[[int, int], None]
) -> list[Features]:
    """Vectors of every sequence, one entry a column; read from `folder` when the same were made before.

    The same: of the same token ids in the same order, by the same weights, in the same batches, so that what is read
    is bit for bit what would be computed. `on_done(done, total)` several times a second.
    """
    is_marked = any(item.marks is not None for column in data.columns for item in column)
    told = f"{_texts_sha256(data)} {_identity(net, is_marked=is_marked)} {budget} {net.device}"
    made = folder / hashlib.sha256(told.encode()).hexdigest()[:24]
    if made.is_dir():
        made.touch()
    else:
        half = folder / "half-made"
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(parents=True)
        _make(net, data, half, budget=budget, on_done=on_done)
        half.rename(made)
        _forget(folder)
    return [_load(made, column) for column in range(len(data.columns))]


def _forget(folder: Path) -> None:
    """Remove what was not used for longest, where there is more than KEPT."""
    for old in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns, reverse=True)[KEPT:]:
        shutil.rmtree(old)


def _texts_sha256(data: UnitData) -> str:
    digest = hashlib.sha256()
    for column in data.columns:
        for item in column:
            marks = b"" if item.marks is None else item.marks.tobytes()
            digest.update(f"{len(item)} {item.n_response} {len(marks)}:".encode())
            digest.update(item.ids.tobytes() + marks)
    return digest.hexdigest()


def encode_features(
    net: RewardNet,
    encoded: Sequence[Encoded],
    *,
    budget: int,
    on_batch: Callable[[int], None],
) -> Features:
    """Vectors of encoded sequences, in their order, in batches of similar length; equal ones are read once.

    Prompt vectors are as wide as the net makes them: some heads read more than one.
    """
    width = int(net.backbone.config.hidden_size)
    once, place = _once_each(encoded)
    n_same = np.bincount(place, minlength=len(once))
    response = np.empty((len(once), width), dtype=np.float32)
    prompt: NDArray[np.float32] | None = None
    net.eval()
    net.tick = Throttle(lambda: on_batch(0))
    try:
        with torch.inference_mode(), explaining_memory(ADVICE):
            lengths = [len(item) for item in once]
            for batch in length_batches(lengths, budget, is_padded=not net.is_packed()):
                vectors, prompts = net.features([once[i] for i in batch])
                response[batch] = vectors.float().cpu().numpy()
                if prompts is not None:
                    prompt = np.empty((len(once), prompts.shape[1]), np.float32) if prompt is None else prompt
                    prompt[batch] = prompts.float().cpu().numpy()
                on_batch(int(n_same[batch].sum()))
    finally:
        net.tick = no_tick
    return Features(response[place], None if prompt is None else prompt[place])


def _once_each(encoded: Sequence[Encoded]) -> tuple[list[Encoded], NDArray[np.int64]]:
    """The different sequences, and for each of the given ones its place among them.

    Several judgements of one pair, or several pairs of few responses, repeat their texts many times over.
    """
    places: dict[tuple[bytes, int, bytes | None], int] = {}
    once: list[Encoded] = []
    place = np.empty(len(encoded), dtype=np.int64)
    for i, item in enumerate(encoded):
        key = (item.ids.tobytes(), item.n_response, None if item.marks is None else item.marks.tobytes())
        if key not in places:
            places[key] = len(once)
            once.append(item)
        place[i] = places[key]
    return once, place


def _make(net: RewardNet, data: UnitData, folder: Path, *, budget: int, on_done: Callable[[int, int], None]) -> None:
    total, done = sum(len(column) for column in data.columns), 0

    def on_batch(n: int) -> None:
        nonlocal done
        done += n
        on_done(done, total)

    every = encode_features(net, [item for column in data.columns for item in column], budget=budget, on_batch=on_batch)
    end = 0
    for number, column in enumerate(data.columns):
        begin, end = end, end + len(column)
        np.save(folder / f"response-{number}.npy", every.response[begin:end])
        if every.prompt is not None:
            np.save(folder / f"prompt-{number}.npy", every.prompt[begin:end])


def _load(folder: Path, column: int) -> Features:
    prompt = folder / f"prompt-{column}.npy"
    return Features(_array(folder / f"response-{column}.npy"), _array(prompt) if prompt.is_file() else None)


def _array(path: Path) -> NDArray[np.float32]:
    found: NDArray[np.float32] = np.load(path)
    return found


def _identity(net: RewardNet, *, is_marked: bool = False) -> str:
    """Which backbone, pooling and way of reading these are: another is another set of features.

    Of every tensor its name, its first numbers and the sum of the bits of all, which is exact in any order. The head's
    count only where a net with a way of its own reads more than the text, so that another seed has the same features.
    Besides them what is in no tensor: rotations of positions, heads, activations. Dropout does nothing here.
    """
    told = {n: v for n, v in net.backbone.config.to_dict().items() if n not in NAMES_ALONE and "drop" not in n}
    way = (type(net).__qualname__, net.pooling, net.head.needs_prompt, net.head.prompt_at_mark, net.dtype)
    digest = hashlib.sha256(repr((way, sorted(told.items()))).encode())
    needs_head = is_marked and type(net).features is not RewardNet.features
    for name, tensor in (net if needs_head else net.backbone).state_dict().items():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.detach().float().cpu().numpy().ravel()[:64]).tobytes())
        digest.update(str(int(tensor.detach().cpu().contiguous().view(BITS[tensor.element_size()]).sum())).encode())
    return digest.hexdigest()

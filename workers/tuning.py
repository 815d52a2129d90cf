"""How many processes and threads, and how large a batch, score fastest here: tried once a machine, then remembered.

The trial scores some of the responses that are waiting, in each way for a few seconds. What it finds is a matter of
speed alone: no way changes a reward beyond rounding.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from workers.context import CheckpointRef
from workers.environment import available_cpus, cpu_name
from workers.families.base import Item, no_report
from workers.opening import Setting, open_scorer

USUAL_BUDGET = 2048
BUDGETS = (1024, 4096, 8192)
SAMPLE = 256
"""Responses the trial may use."""
SECONDS = 1.5
"""About how long each of the two tries of a way takes."""
CLEARLY = 1.05
"""The usual way is left only for one that is faster by this: timings on a shared machine vary."""
SPARE_MIB = 400
"""A process holds this beside twice its weights."""
FILE = "scoring_settings.json"


def usual(n_processes: int) -> Setting:
    return Setting(n_processes, 1 if n_processes > 1 else None, USUAL_BUDGET)


def most_processes(reference: CheckpointRef) -> int:
    """One a core, but no more than memory holds."""
    mib = weights_mib(reference)
    return max(1, min(available_cpus(), int(available_mib() * 0.8 / (2 * mib + SPARE_MIB))))


def weights_mib(reference: CheckpointRef) -> float:
    if reference.path is None:
        return 0.0
    return sum(file.stat().st_size for file in reference.path.glob("*.safetensors")) / 2**20


def available_mib() -> float:
    """Memory that new processes could have."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) / 2**10
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20


def shapes(most: int) -> Iterator[tuple[int, int]]:
    """(processes, threads) worth trying, the usual first."""
    cores = available_cpus()
    yield most, max(1, cores // most) if most < cores else 1
    for threads in (2, 4):
        if cores >= 2 * threads and cores // threads <= most:
            yield cores // threads, threads
    if most > 1:
        yield 1, cores


def machine_key(reference: CheckpointRef) -> str:
    """What a remembered setting is good for: this CPU, this number of cores, this size of backbone, this torch."""
    config: dict[str, Any] = {}
    if reference.path is not None:
        with suppress(OSError, ValueError):
            config = json.loads((reference.path / "backbone" / "config.json").read_text())
    backbone = [config.get(name, "?") for name in ("model_type", "hidden_size", "num_hidden_layers")]
    dtype = reference.config.get("scoring_dtype", "float32")
    memory = most_processes(reference)
    told = [cpu_name(), f"{available_cpus()} cores", f"{memory} processes fit", *backbone, dtype, _torch_version()]
    return " | ".join(str(part) for part in told)


def recall(reference: CheckpointRef) -> Setting | None:
    """The setting found here before; None where there is none that can be read."""
    found: Any = _known().get(machine_key(reference))
    try:
        return Setting(**{name: int(found["setting"][name]) for name in ("processes", "threads", "token_budget")})
    except (TypeError, KeyError, ValueError):
        return None


def remember(reference: CheckpointRef, setting: Setting, trial: Sequence[dict[str, Any]]) -> None:
    """Keep a setting. A folder that cannot be written only means that the next run tries again."""
    place = cache_folder() / FILE
    known = {**_known(), machine_key(reference): {"setting": asdict(setting), "trial": list(trial)}}
    with suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_name(f"{FILE}.{os.getpid()}.part")
        draft.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
        os.replace(draft, place)


def cache_folder() -> Path:
    """Where workers keep what they can find out again."""
    if given := os.environ.get("STEELYARD_CACHE_DIR"):
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "steelyard"


def run_trial(
    reference: CheckpointRef, sample: Sequence[Item], on_batch: Callable[[int], None] = no_report
) -> tuple[Setting, list[dict[str, Any]]]:
    """Try the shapes, then other budgets with the best of them. The setting to take, and every timing."""
    timings: list[tuple[float, Setting]] = []
    part = list(sample[:16])

    def timed(scorer: Any, setting: Setting) -> None:
        if setting.token_budget:
            scorer.token_budget = setting.token_budget
        found = []
        for _ in range(2):  # the better of two: others on the machine only ever slow one down
            started = time.perf_counter()
            scorer.score(part, on_batch=lambda _: on_batch(0))
            found.append(time.perf_counter() - started)
        timings.append((len(part) / min(found), setting))

    for processes, threads in dict.fromkeys(shapes(most_processes(reference))):
        setting = Setting(processes, threads, USUAL_BUDGET)
        with open_scorer(reference, processes, setting) as scorer:
            _warm_up(scorer, sample, on_batch)
            if not timings:
                timed(scorer, setting)  # only to learn how many responses take a few seconds
                part = list(sample[: max(16, min(len(sample), int(timings.pop()[0] * SECONDS)))])
            timed(scorer, setting)
    best = _best(timings)
    with open_scorer(reference, best.processes or 1, best) as scorer:
        _warm_up(scorer, sample, on_batch)
        for budget in BUDGETS:
            timed(scorer, replace(best, token_budget=budget))
    rows = [{**asdict(setting), "responses_per_s": round(speed, 2)} for speed, setting in timings]
    return _best(timings), rows


def _best(timings: Sequence[tuple[float, Setting]]) -> Setting:
    """The fastest, if it is clearly faster than the first, which is the usual way."""
    speed, fastest = max(timings, key=lambda entry: entry[0])
    return fastest if speed > CLEARLY * timings[0][0] else timings[0][1]


def _warm_up(scorer: Any, sample: Sequence[Item], on_batch: Callable[[int], None]) -> None:
    scorer.score(sample[:4], on_batch=lambda _: on_batch(0))


def _known() -> dict[str, Any]:
    try:
        found = json.loads((cache_folder() / FILE).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _torch_version() -> str:
    return f"torch {metadata.version('torch')}"

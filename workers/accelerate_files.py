"""Configuration files of accelerate that a run may name: found in one folder, read, and held to what is supported.

An administrator keeps them in the folder STEELYARD_ACCELERATE_DIR. A run gives a file's name, never a path; what
`accelerate launch` gets is that very file. What the engine would do otherwise than the file says is refused here.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from workers.errors import FieldProblem, JobError
from workers.families import FAMILIES
from workers.objectives import OBJECTIVES

FOLDER_VARIABLE = "STEELYARD_ACCELERATE_DIR"
SITE_VARIABLE = "STEELYARD_ACCELERATE_CONFIG"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\.ya?ml")
Kind = Literal["copies", "fsdp", "deepspeed"]
KINDS: dict[str, Kind] = {
    "NO": "copies",
    "MULTI_CPU": "copies",
    "MULTI_GPU": "copies",
    "FSDP": "fsdp",
    "DEEPSPEED": "deepspeed",
}
SPLIT = "split"
"""The capability of a family whose nets may lie in parts. The objective must be of one pass besides."""

DEEPSPEED_KEYS = frozenset(
    {
        "zero_stage",
        "gradient_accumulation_steps",
        "gradient_clipping",
        "offload_optimizer_device",
        "offload_param_device",
        "deepspeed_multinode_launcher",
        "deepspeed_hostfile",
        "deepspeed_inclusion_filter",
        "deepspeed_exclusion_filter",
        "zero3_init_flag",
        "zero3_save_16bit_model",
    }
)


@dataclass(frozen=True, slots=True)
class LaunchConfig:
    """What a configuration file asks for, as far as the engine has to know."""

    path: Path
    kind: Kind
    processes: int
    """On all machines together."""
    machines: int
    has_port: bool
    mixed_precision: str
    gradient_clipping: float | None = None

    @property
    def is_split(self) -> bool:
        return self.kind != "copies"


def config_names() -> list[str]:
    """Names of the files a run may give; none where no folder is set."""
    folder = os.environ.get(FOLDER_VARIABLE, "")
    if not folder or not Path(folder).is_dir():
        return []
    return sorted(path.name for path in Path(folder).iterdir() if NAME.fullmatch(path.name) and path.is_file())


def suggest_configs(schema: dict[str, Any]) -> None:
    """Let forms suggest the names there are."""
    if names := config_names():
        schema["examples"] = names


def find_config(name: str) -> LaunchConfig:
    """The file of that name in the folder. JobError says what is wrong with the name or the file."""
    folder = os.environ.get(FOLDER_VARIABLE, "")
    if not folder:
        raise JobError(
            "This site has no configurations of accelerate.",
            f"An administrator names a folder of them by {FOLDER_VARIABLE}; without one, set processes alone.",
        )
    path = Path(folder) / name
    inside = path.resolve().is_relative_to(Path(folder).resolve())
    if not NAME.fullmatch(name) or not inside or not path.is_file():
        known = ", ".join(config_names()) or "none"
        raise JobError(f"There is no configuration of accelerate called {name!r}.", f"Known: {known}.")
    return read_config(path)


def read_config(path: Path) -> LaunchConfig:
    """Read a file and refuse what it asks for in vain."""
    import yaml

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise _refused(path, f"cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(found, dict):
        raise _refused(path, "is not a list of settings")
    kind = KINDS.get(str(found.get("distributed_type")).upper())
    if kind is None or found.get("compute_environment", "LOCAL_MACHINE") != "LOCAL_MACHINE":
        named = f"{found.get('compute_environment', 'LOCAL_MACHINE')}, {found.get('distributed_type')}"
        raise _refused(path, f"asks for {named}", f"distributed_type may be {', '.join(KINDS)}, on LOCAL_MACHINE.")
    counts = {name: found.get(name, 1) for name in ("num_processes", "num_machines")}
    for name, value in counts.items():
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 4096:
            raise _refused(path, f"has {name}: {value}", "It is a whole number from 1.")
    if counts["num_processes"] % counts["num_machines"]:
        raise _refused(path, "has processes that cannot be dealt out evenly to its machines")
    CHECKS[kind](path, found)
    return LaunchConfig(
        path=path,
        kind=kind,
        processes=counts["num_processes"],
        machines=counts["num_machines"],
        has_port=found.get("main_process_port") is not None,
        mixed_precision=str(found.get("mixed_precision", "no")),
        gradient_clipping=_number((found.get("deepspeed_config") or {}).get("gradient_clipping")),
    )


def launch_config(spec: Any) -> LaunchConfig | None:
    """The file of a run: the one it names, or for several processes the site's own. None: accelerate needs no file."""
    if spec.accelerate_config is not None:
        return find_config(spec.accelerate_config)
    site = os.environ.get(SITE_VARIABLE)
    return read_config(Path(site)) if site and spec.processes > 1 else None


def n_processes(spec: Any) -> int:
    """How many processes a run takes: its own number, or that of the file it names."""
    return find_config(spec.accelerate_config).processes if spec.accelerate_config is not None else int(spec.processes)


def config_problem(spec: Any, family: str, objective: str) -> FieldProblem | None:
    """Why the run cannot go as its configuration says, before it starts."""
    if spec.accelerate_config is None:
        return None
    try:
        found = find_config(spec.accelerate_config)
        check_fit(found, spec, family, objective)
    except JobError as error:
        detail = f"{error.message} {error.hint}".strip()
        return FieldProblem(pointer="/accelerate_config", code="does_not_fit", detail=detail)
    return None


def check_fit(found: LaunchConfig, spec: Any, family: str, objective: str) -> None:
    """JobError where a run and a configuration contradict one another."""
    name = found.path.name
    if spec.processes not in (1, found.processes):
        raise JobError(
            f"{name} starts {found.processes} processes; the run says {spec.processes}.",
            "Leave processes at 1 to take the number of the file.",
        )
    precision = {"no": ("auto", "float32", "bf16"), "bf16": ("auto", "bf16"), "fp32": ("auto", "float32")}
    if spec.dtype not in precision.get(found.mixed_precision, ()):
        raise JobError(
            f"{name} has mixed_precision: {found.mixed_precision}; the run has dtype {spec.dtype}.",
            "The dtype of the run decides: set mixed_precision to 'no' in the file, or to bf16 as the run does.",
        )
    if found.gradient_clipping not in (None, spec.max_grad_norm):
        raise JobError(
            f"{name} has gradient_clipping: {found.gradient_clipping}; the run has max_grad_norm {spec.max_grad_norm}.",
            "Take it out of the file: the run decides.",
        )
    if not found.is_split:
        return
    _check_split(found, family, objective)
    if spec.compile:
        raise JobError(f"{name} splits the model, which is not compiled then.", "Set compile to no.")


def _check_split(found: LaunchConfig, family: str, objective: str) -> None:
    """JobError where the model of a family, or what an objective asks of it, cannot be split."""
    name, capabilities = found.path.name, FAMILIES.get(family).capabilities
    if SPLIT not in capabilities:
        known = ", ".join(n for n, entry in FAMILIES.items() if SPLIT in entry.capabilities)
        raise JobError(f"{name} splits the model, which is not built for the family {family}.", f"Families: {known}.")
    if not OBJECTIVES.get(objective).is_one_pass:
        fitting = [n for n, entry in OBJECTIVES.items() if entry.is_one_pass and entry.needs <= capabilities]
        raise JobError(
            f"{name} splits the model, which is not built for the objective {objective}.",
            f"Objectives of the family {family} that can: {', '.join(fitting)}.",
        )
    if found.kind == "deepspeed" and "scalar" not in capabilities:
        raise JobError(
            f"{name} asks for DeepSpeed, which has not been tried with the family {family}.",
            "Use a file with distributed_type: FSDP, which splits the parameters too.",
        )


def no_deepspeed() -> JobError:
    return JobError(
        "DeepSpeed is not installed on this worker.",
        "pip install --no-deps deepspeed einops hjson msgpack ninja py-cpuinfo; or use FSDP, which needs none of them.",
    )


def _check_copies(path: Path, found: Mapping[str, Any]) -> None: ...


def _check_fsdp(path: Path, found: Mapping[str, Any]) -> None:
    asked = found.get("fsdp_config") or {}
    if not isinstance(asked, dict):
        raise _refused(path, "has an fsdp_config that is not a list of settings")
    if str(asked.get("fsdp_version", 1)) != "2":
        raise _refused(path, "asks for the first version of FSDP", "Set fsdp_version: 2 in fsdp_config.")
    if _is_on(asked.get("fsdp_offload_params")):
        raise _refused(path, "keeps parameters in the memory of the host", "Set fsdp_offload_params: false.")
    if _is_on(asked.get("fsdp_activation_checkpointing")):
        advice = "Set it to false, and gradient_checkpointing in the run."
        raise _refused(path, "sets fsdp_activation_checkpointing", advice)
    if asked.get("fsdp_ignored_modules"):
        raise _refused(path, "leaves modules out by fsdp_ignored_modules", "Take the setting out.")
    if found.get("parallelism_config"):
        raise _refused(path, "has a parallelism_config", "Take it out: the model is split over all processes.")


def _check_deepspeed(path: Path, found: Mapping[str, Any]) -> None:
    asked = found.get("deepspeed_config") or {}
    if not isinstance(asked, dict):
        raise _refused(path, "has a deepspeed_config that is not a list of settings")
    if asked.get("deepspeed_config_file"):
        raise _refused(path, "names a deepspeed_config_file", "Write the settings into the file itself.")
    stage = str(asked.get("zero_stage", 2))
    if stage == "3":
        advice = "Use stage 1 or 2, or distributed_type: FSDP, which splits the parameters too."
        raise _refused(path, "asks for the third stage of ZeRO, which is not built", advice)
    if stage not in ("1", "2"):
        raise _refused(path, f"asks for the stage {stage} of ZeRO", "zero_stage may be 1 or 2.")
    for name in ("offload_optimizer_device", "offload_param_device"):
        if str(asked.get(name, "none")).lower() != "none":
            raise _refused(path, f"sets {name}, and nothing is offloaded here", f"Set {name}: none.")
    if str(asked.get("gradient_accumulation_steps", 1)) not in ("1", "auto"):
        advice = "Set it to 1: accumulation and token_budget of the run decide."
        raise _refused(path, "sets gradient_accumulation_steps", advice)
    if unknown := sorted(set(asked) - DEEPSPEED_KEYS):
        raise _refused(path, f"has settings that are not passed on: {', '.join(unknown)}", "Take them out.")


CHECKS: dict[Kind, Callable[[Path, Mapping[str, Any]], None]] = {
    "copies": _check_copies,
    "fsdp": _check_fsdp,
    "deepspeed": _check_deepspeed,
}


def _number(value: Any) -> float | None:
    """None where the file leaves it open."""
    return float(value) if isinstance(value, int | float) else None


def _is_on(value: Any) -> bool:
    return str(value).lower() in ("true", "1", "yes")


def _refused(path: Path, why: str, advice: str = "Write it anew with `accelerate config`.") -> JobError:
    return JobError(f"The configuration of accelerate {path.name} {why}.", advice)

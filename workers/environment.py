"""The machine a job runs on: versions and hardware for the record, and the settings that make torch fast on a CPU."""

import ctypes
import os
import platform
import resource
import sys
from importlib import metadata
from typing import Any

PACKAGES = (
    "torch", "transformers", "tokenizers", "safetensors", "numpy", "pydantic", "accelerate", "peft", "deepspeed",
)  # fmt: skip
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def describe_environment() -> dict[str, Any]:
    """Versions, hardware and threads as JSON: what is needed to repeat a run. torch is asked only if already loaded."""
    described: dict[str, Any] = {
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "n_cpus": available_cpus(),
        "memory_mib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20),
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        described["threads"] = torch.get_num_threads()
        described["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return described


def available_cpus() -> int:
    """Cores this process may use, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_rss_mib() -> float:
    """Largest resident memory of this process so far. (Linux counts KiB, macOS bytes.)"""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def keep_freed_memory() -> bool:
    """Tell glibc not to hand big blocks back to the kernel; False where there is no glibc.

    torch's CPU activations are freed and made anew each step, which otherwise page-faults every one of them: 10-15 %
    of a step's time. For processes that do little else than train or score.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return False
    kept = libc.mallopt(M_MMAP_THRESHOLD, 1 << 30)
    return bool(libc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1) and kept)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        return platform.processor()

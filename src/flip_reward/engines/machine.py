"""What this machine computes with: CPUs that this process may use, a GPU, OpenVINO, fast bfloat16."""

from __future__ import annotations

import os
import socket
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Where a container finds its share: microseconds of CPU time, or "max", and the period they are for."""


OBJECTS_BETWEEN_COLLECTIONS = 50_000
"""For `gc.set_threshold`, in a process that has many requests in flight. Python looks for circular garbage after 700
new objects, a dozen requests, and each time looks through all in flight: a quarter of the time of a run by HTTP."""


def count_usable_cpus(quota_file: Path = CGROUP_QUOTA) -> int:
    """Count the CPUs this process may use, at least 1: its affinity, and a container's quota where there is one."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = quota_file.read_text(encoding="ascii").split()
        return max(1, min(cpus, int(quota) // int(period)))
    except (OSError, ValueError):  # no such file, or "max"
        return cpus


def has_gpu(device: str | None = None) -> bool:
    """Whether torch computes on a GPU of Nvidia's: on the device that is named, or else by default."""
    if device is not None:
        return device.startswith("cuda")
    if find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()


def has_openvino() -> bool:
    """Whether OpenVINO can run GGUF models here: what it takes is installed, and llama.cpp can make its tokens."""
    return hasattr(socket, "AF_UNIX") and all(find_spec(name) for name in ("openvino_genai", "gguf", "xllamacpp"))


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 faster than in float32."""
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return device.type == "cpu" and any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16", "bf16"))

"""How many CPUs this process may use."""

from __future__ import annotations

import os
from pathlib import Path

CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Where a container finds its share: microseconds of CPU time, or "max", and the period they are for."""


def count_usable_cpus(quota_file: Path = CGROUP_QUOTA) -> int:
    """Count the CPUs this process may use, at least 1: its affinity, and a container's quota where there is one.

    Example:
        >>> count_usable_cpus() >= 1
        True
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = quota_file.read_text(encoding="ascii").split()
        return max(1, min(cpus, int(quota) // int(period)))
    except (OSError, ValueError):  # no such file, or "max"
        return cpus

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flip_reward.engines.machine import count_usable_cpus, has_fast_bfloat16


def count_with_quota(folder: Path, text: str) -> int:
    quota_file = folder / "cpu.max"
    quota_file.write_text(text)
    return count_usable_cpus(quota_file)


@pytest.mark.parametrize("quota", ["100000 100000\n", "150000 100000\n", "20000 100000\n"])
def test_a_containers_quota_counts_in_whole_cpus_and_at_least_one(tmp_path: Path, quota: str) -> None:
    assert count_with_quota(tmp_path, quota) == 1


@pytest.mark.parametrize("quota", ["max 100000\n", "", "nonsense\n", "6400000000 100000\n"])
def test_without_a_tighter_quota_the_affinity_counts(tmp_path: Path, quota: str) -> None:
    assert count_with_quota(tmp_path, quota) == count_usable_cpus(tmp_path / "absent")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no CPU affinity")
def test_cpus_taken_from_this_process_do_not_count(tmp_path: Path) -> None:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert count_usable_cpus(tmp_path / "absent") == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_bfloat16_is_fast_where_the_processor_has_it() -> None:
    torch = pytest.importorskip("torch")
    features = torch.cpu.get_capabilities()
    expected = any(features.get(name) for name in ("amx_bf16", "avx512_bf16", "bf16"))
    assert has_fast_bfloat16(torch.device("cpu")) == expected
    assert not has_fast_bfloat16(torch.device("mps"))

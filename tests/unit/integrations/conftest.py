from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flip_reward.integrations.base import forget_environment_reward

SetEnvironment = Callable[..., None]

STAND_INS = Path(__file__).with_name("stand_ins")
FRAMEWORKS = {
    "areal": "areal",
    "nemo_gym": "nemo_gym",
    "open_instruct": "open_instruct",
    "skyrl_gym": "skyrl_gym",
    "swift": "ms_swift",
    "verifiers": "verifiers",
}
"""Packages of trainers, and where what we use of them is kept."""
collect_ignore = ["stand_ins"]

_IMPORT_FRAMEWORKS = (
    "flip_reward.integrations.areal",
    "flip_reward.integrations.ms_swift.flip_reward_plugin",
    "flip_reward.integrations.nemo_gym",
    "flip_reward.integrations.open_instruct",
    "flip_reward.integrations.skyrl",
    "flip_reward.integrations.verifiers",
    "flip_reward_judge",
)


@pytest.fixture
def set_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[SetEnvironment]:
    """Describe the reward by these FLIP_REWARD_ variables alone, in lower case; the scripted model by default."""

    def describe(**variables: str) -> None:
        forget_environment_reward()
        for earlier in [name for name in os.environ if name.startswith("FLIP_REWARD_")]:
            monkeypatch.delenv(earlier)
        for name, value in {"model": "scripted", **variables}.items():
            monkeypatch.setenv(f"FLIP_REWARD_{name.upper()}", value)

    yield describe
    forget_environment_reward()


@pytest.fixture
def frameworks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make every trainer importable: the real one where it is installed, else what we use of it."""
    absent = [package for package in FRAMEWORKS if importlib.util.find_spec(package) is None]
    for package in absent:
        monkeypatch.syspath_prepend(STAND_INS / FRAMEWORKS[package])
    yield
    for module in list(sys.modules):
        if module.partition(".")[0] in absent or module in _IMPORT_FRAMEWORKS:
            del sys.modules[module]

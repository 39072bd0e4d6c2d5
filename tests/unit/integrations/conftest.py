from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from flip_reward.integrations.environment import forget_environment_reward

SetEnvironment = Callable[..., None]


@pytest.fixture
def set_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[SetEnvironment]:
    """Describe the reward by FLIP_REWARD_ variables, given in lower case; the scripted model by default."""

    def describe(**variables: str) -> None:
        forget_environment_reward()
        for name, value in {"model": "scripted", **variables}.items():
            monkeypatch.setenv(f"FLIP_REWARD_{name.upper()}", value)

    yield describe
    forget_environment_reward()

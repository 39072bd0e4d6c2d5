"""Rewards without a model."""

import pytest

from flip_reward.core.conversation import Group
from flip_reward.core.score import Outcome
from flip_reward.errors import OptionError
from flip_reward.rewards.controls import CONTROLS, ControlReward

GROUP = Group.of("Name a ripe fruit.", ["A ripe pear.", "Bread.", "<think>hm</think>Ripe fruit!", " ", "<think>hm"])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("longest", [12, 6, 11, None, None]),
        ("shortest", [-12, -6, -11, None, None]),
        ("copy", [0.4, 0, 0.8, None, None]),
    ],
)
def test_controls(name: str, expected: list[float | None]) -> None:
    reward = ControlReward(name)
    [scores] = reward.score_sync([GROUP])
    assert [score.value for score in scores] == pytest.approx(expected)
    assert [score.outcome for score in scores[3:]] == [Outcome.EMPTY_RESPONSE, Outcome.UNFINISHED_THINKING]
    assert reward.settings == {"reward": name}
    assert reward.independent


def test_nothing_to_copy() -> None:
    [[score]] = ControlReward("copy").score_sync([Group.of("?!", "Pear.")])
    assert score.outcome is Outcome.EMPTY_INSTRUCTION


def test_unknown_controls() -> None:
    with pytest.raises(OptionError, match="random"):
        ControlReward("random")
    assert {"longest", "shortest", "copy", "constant"} <= set(CONTROLS)

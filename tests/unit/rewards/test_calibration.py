"""Maps from rewards to probabilities, and the rewards that they make."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from flip_reward import Group, RewardConfig, RewardModel, ScriptedEngine
from flip_reward.core.cautions import Caution
from flip_reward.core.score import Outcome, Part
from flip_reward.errors import DataError, OptionError
from flip_reward.rewards.calibration import CalibratedReward, Calibration, IsotonicMap, LogisticMap
from tests.unit.rewards.scripted_judges import ScriptedJudge

LOGISTIC = LogisticMap(slope=4.0, intercept=-2.0)
GROUP = Group.of("Name a ripe fruit.", ["A ripe pear.", "Ripe fruit!", " "])


def write_calibration(path: Path, made_for: RewardModel, **changes: Any) -> Path:
    """Write a calibration for a reward."""
    fields = {"reward": dict(made_for.settings), "curve": LOGISTIC.model_dump(), "lowest": 0.0, "highest": 0.5}
    path.write_text(json.dumps({**fields, "format": 1, **changes}))
    return path


def infer(**settings: Any) -> RewardModel:
    return RewardConfig(reward="flip", **settings).load(ScriptedEngine(lambda _: "Name a fruit"))


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_maps_keep_the_order_and_are_probabilities(one: float, other: float) -> None:
    for curve in (LOGISTIC, IsotonicMap(rewards=(-1.0, 0.0, 3.0), probabilities=(0.1, 0.1, 0.7))):
        low, high = curve.apply(min(one, other)), curve.apply(max(one, other))
        assert 0 <= low <= high <= 1


@pytest.mark.parametrize(
    ("reward", "expected"), [(-9, 0.2), (0, 0.2), (1, 0.5), (2, 0.8), (9, 0.8), (0.5, 0.35), (1.5, 0.65)]
)
def test_an_isotonic_map_goes_straight_between_its_points(reward: float, expected: float) -> None:
    curve = IsotonicMap(rewards=(0.0, 1.0, 2.0), probabilities=(0.2, 0.5, 0.8))
    assert curve.apply(reward) == pytest.approx(expected)
    assert IsotonicMap(rewards=(1.0,), probabilities=(0.4,)).apply(reward) == 0.4


@pytest.mark.parametrize(
    ("rewards", "probabilities"), [((), ()), ((1.0,), ()), ((1.0, 1.0), (0.1, 0.2)), ((1.0, 2.0), (0.2, 0.1))]
)
def test_no_isotonic_map(rewards: tuple[float, ...], probabilities: tuple[float, ...]) -> None:
    with pytest.raises(ValidationError):
        IsotonicMap(rewards=rewards, probabilities=probabilities)


def test_a_calibrated_reward_gives_probabilities_and_keeps_the_reward(tmp_path: Path) -> None:
    path = write_calibration(tmp_path / "map.json", infer())
    reward = infer(calibration=path)
    [scores] = reward.score_sync([GROUP])
    [plain] = infer().score_sync([GROUP])
    for score, before in zip(scores[:2], plain[:2], strict=True):
        assert before.value is not None
        assert score.value == LOGISTIC.apply(before.value)
        [part] = score.parts
        assert (part.name, part.value, part.outcome) == ("flip", before.value, Outcome.SCORED)
        assert score.inferred_instruction == before.inferred_instruction
        assert score.cautions == (*before.cautions, Caution.OUTSIDE_CALIBRATION)
    assert (scores[2].outcome, scores[2].parts) == (Outcome.EMPTY_RESPONSE, ())
    assert reward.settings == {**infer().settings, "calibration": Calibration.read(path).name}
    assert (reward.model_name, reward.render(GROUP)) == (infer().model_name, infer().render(GROUP))


def test_known_rewards_have_no_caution(tmp_path: Path) -> None:
    path = write_calibration(tmp_path / "map.json", infer(), highest=1.0)
    [scores] = infer(calibration=path).score_sync([GROUP])
    assert not any(Caution.OUTSIDE_CALIBRATION in score.cautions for score in scores)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"template": "compact"}, "template is"),
        ({"similarity": "rouge-l"}, "similarity is 'f1' there and 'rouge-l' here"),
        ({"normalizer": "multilingual"}, "similarity"),
        ({"temperature": 0.5}, "temperature is 0.0 there and 0.5 here"),
        ({"thinking_marks": ("<a>", "</a>")}, "thinking_marks is None there"),
    ],
)
def test_a_calibration_is_for_one_reward(settings: dict[str, Any], named: str, tmp_path: Path) -> None:
    path = write_calibration(tmp_path / "map.json", infer())
    with pytest.raises(OptionError, match=named):
        infer(calibration=path, **settings)
    with pytest.raises(OptionError, match=named):  # before a model loads
        RewardConfig(calibration=path, model="scripted", **settings).check()


def test_another_reward_and_another_model_are_told(tmp_path: Path) -> None:
    path = write_calibration(tmp_path / "map.json", infer())
    for name in ("longest", "pointwise"):
        with pytest.raises(OptionError, match=f"reward is 'flip' there and '{name}' here\n"):
            RewardConfig(reward=name, calibration=path).load(ScriptedEngine())
    other = write_calibration(tmp_path / "other.json", infer(), reward={**infer().settings, "engine": "another"})
    RewardConfig(calibration=other).check()  # which model answers is known once it is loaded
    with pytest.raises(OptionError, match="engine is 'another' there"):
        infer(calibration=other)


def test_rewards_that_compare_responses(tmp_path: Path) -> None:
    def judge(**settings: Any) -> RewardModel:
        return RewardConfig(reward="pairwise", **settings).load(ScriptedEngine(ScriptedJudge(lambda _: 0)))

    path = write_calibration(tmp_path / "map.json", judge())
    reward = judge(calibration=path)
    [scores] = reward.score_sync([GROUP])
    assert not reward.independent
    assert [score.value for score in scores] == [0.5, 0.5, None]
    assert scores[0].parts[0].value == 0.5


def test_a_calibrated_part_of_a_formula(tmp_path: Path) -> None:
    path = write_calibration(tmp_path / "map.json", infer())
    config = RewardConfig(reward=f'0.5*flip[calibration="{path}"] + 0.5*copy')
    reward = config.load(ScriptedEngine(lambda _: "Name a fruit"))
    [scores] = reward.score_sync([GROUP])
    [plain], [copied] = infer().score_sync([GROUP]), RewardConfig(reward="copy").load().score_sync([GROUP])
    for score, before, copy in zip(scores[:2], plain[:2], copied[:2], strict=True):
        assert before.value is not None
        assert copy.value is not None
        assert score.value == pytest.approx(0.5 * LOGISTIC.apply(before.value) + 0.5 * copy.value)
    with pytest.raises(OptionError, match="template is"):
        RewardConfig(reward=f'flip[calibration="{path}", template=compact] + copy').load(ScriptedEngine())


@pytest.mark.parametrize("formula", ["0.5*flip + 0.5*copy", "0.5*longest + 0.5*copy"])
def test_a_calibrated_formula(formula: str, tmp_path: Path) -> None:
    def load(**settings: Any) -> RewardModel:
        return RewardConfig(reward=formula, **settings).load(ScriptedEngine(lambda _: "Name a fruit"))

    path = write_calibration(tmp_path / "map.json", load())
    [scores], [plain] = load(calibration=path).score_sync([GROUP]), load().score_sync([GROUP])
    for score, before in zip(scores[:2], plain[:2], strict=True):
        assert before.value is not None
        assert score.value == LOGISTIC.apply(before.value)
        assert score.parts == (Part(str(load().settings["reward"]), before.value, before.outcome), *before.parts)
    RewardConfig(reward=formula, calibration=path).check()
    if "flip" in formula:
        settings = {**load().settings, "flip.engine": "another"}
        other = write_calibration(tmp_path / "other.json", load(), reward=settings)
        RewardConfig(reward=formula, calibration=other).check()
        with pytest.raises(OptionError, match=r"flip\.engine is 'another' there"):
            load(calibration=other)


def test_a_calibration_of_the_environment(tmp_path: Path) -> None:
    path = write_calibration(tmp_path / "map.json", RewardConfig(reward="longest").load())
    config = RewardConfig.from_environment({"FLIP_REWARD_REWARD": "longest", "FLIP_REWARD_CALIBRATION": str(path)})
    assert isinstance(config.load(), CalibratedReward)
    assert config.to_record()["calibration"] == str(path)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"format": 2}, "another version"),
        ({"curve": {"method": "linear"}}, "curve"),
        ({"curve": {"method": "logistic", "slope": -1, "intercept": 0}}, "slope"),
        ({"curve": {"method": "isotonic", "rewards": [0], "probabilities": [2]}}, "probabilities"),
        ({"lowest": None}, "lowest"),
        ({"reward": "flip"}, "reward"),
    ],
)
def test_damaged_calibrations(changes: dict[str, Any], named: str, tmp_path: Path) -> None:
    path = write_calibration(tmp_path / "map.json", infer(), **changes)
    with pytest.raises(DataError, match=named):
        infer(calibration=path)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b'{"reward": {}}', b"{" * 10_000])
def test_no_calibration(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "map.json").write_bytes(content)
    with pytest.raises(DataError, match=r"map\.json is no calibration"):
        Calibration.read(tmp_path / "map.json")
    with pytest.raises(DataError, match="cannot be read"):
        Calibration.read(tmp_path)


def test_the_name_says_what_a_value_depends_on(tmp_path: Path) -> None:
    path = write_calibration(tmp_path / "map.json", infer(), figures={"auc": 0.7})
    same = write_calibration(tmp_path / "same.json", infer(), figures={"auc": 0.8})
    other = write_calibration(tmp_path / "other.json", infer(), highest=2.0)
    assert Calibration.read(path).name == Calibration.read(same).name != Calibration.read(other).name

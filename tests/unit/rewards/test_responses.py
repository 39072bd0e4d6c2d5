"""What is read of a response is the same for every reward, and is set once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from pydantic import ValidationError
from typer.testing import CliRunner

from flip_reward.cli.app import app as cli
from flip_reward.cli.options import expand_options
from flip_reward.core.conversation import Group
from flip_reward.core.score import Outcome, Score
from flip_reward.engines.base import ClassifyRequest, LogprobRequest, Request, Sampling
from flip_reward.engines.scripted import ScriptedEngine
from flip_reward.errors import OptionError
from flip_reward.evaluation.grid import load_rewards
from flip_reward.rewards.config import REWARDS, RewardConfig
from flip_reward.selection.policy import Policy, SampledReward

SECRET = "Name three ripe fruits"
RESPONSES = [
    "Apples, pears, plums.",
    f"analysisThey say: {SECRET}.assistantfinalApples, pears, plums.",
    f"<plan>{SECRET}</plan>Apples, pears, plums.<|im_end|>",
    f"<plan>{SECRET}",
    f"{SECRET}</plan>",
]
REPLY = '{"INFERRED INSTRUCTION": "Name fruits", "SCORE": 5, "BETTER_RESPONSE": "A", "BEST_RESPONSE_INDEX": 1}'


class Watched:
    """An engine's script that keeps what it was shown."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def complete(self, request: Request) -> str:
        self.shown.append(request.messages[-1].content)
        return REPLY

    def logprobs(self, request: LogprobRequest) -> list[float]:
        self.shown.append(str(request.prefix))
        return [-1.0]

    def classify(self, request: ClassifyRequest) -> float:
        self.shown.append(request.response)
        return float(len(request.response))


@pytest.mark.parametrize("name", REWARDS)
def test_no_reward_sees_the_thinking_of_a_response(name: str) -> None:
    watched = Watched()
    engine = ScriptedEngine(watched.complete, logprob_script=watched.logprobs, classify_script=watched.classify)
    reward = RewardConfig(reward=name, thinking_marks=("<plan>", "</plan>")).load(engine)
    [scores] = reward.score_sync([Group.of(f"{SECRET}.", RESPONSES)])
    assert [score.outcome for score in scores[3:]] == [Outcome.UNFINISHED_THINKING, Outcome.EMPTY_RESPONSE]
    assert {score.outcome for score in scores[:3]} == {Outcome.SCORED}
    if reward.independent:
        assert len({score.value for score in scores[:3]}) == 1, "three responses that look alike"
        assert not any(SECRET in shown for shown in watched.shown if name in ("flip", "backward-likelihood"))
    assert not any("<plan>" in shown or "analysis" in shown for shown in watched.shown)
    assert "</plan>" in str(reward.settings["thinking_marks"])


@pytest.mark.parametrize("name", REWARDS)
def test_what_a_template_has_opened_is_thinking_until_it_is_closed(name: str) -> None:
    own = RewardConfig(reward=name, thinking_opened=True).load(ScriptedEngine())
    for reward in (own, SampledReward(own, Policy(ScriptedEngine(), 2, Sampling(temperature=1.0)))):
        [scores] = reward.score_sync([Group.of("Name fruits.", [SECRET, f"{SECRET}, hm"])])
        assert {score.outcome for score in scores} == {Outcome.UNFINISHED_THINKING}
        assert reward.settings["thinking_opened"] is True
    assert "thinking_opened" not in RewardConfig(reward=name).load(ScriptedEngine()).settings, "runs can be resumed"


def test_an_evaluation_reads_all_its_rewards_alike() -> None:
    config = RewardConfig(model="scripted", thinking_opened=True)
    for grid in load_rewards(["flip", "copy"], [config.engine], config):
        scores: list[Score] = [*grid.runs[0].score_sync([Group.of("Name fruits.", [SECRET])])[0]]
        assert scores[0].outcome is Outcome.UNFINISHED_THINKING, grid.label


def test_the_setting_is_an_option_a_key_and_a_variable() -> None:
    seen: list[RewardConfig] = []
    app = typer.Typer()

    @app.command()
    @expand_options()
    def command(config: RewardConfig) -> None:
        seen.append(config)

    arguments = ["--thinking-marks", "Plan: ", "--thinking-marks", "Now:", "--thinking-opened"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert CliRunner().invoke(app, []).exit_code == 0
    assert isinstance(CliRunner().invoke(app, ["--thinking-marks", "<plan>"]).exception, OptionError)
    assert [one.flip.response.thinking_marks for one in seen] == [("Plan: ", "Now:"), ()]
    assert seen[0].control == seen[0].pairwise.response == seen[0].flip.response
    for text in ("<plan> </plan> [[ ]]", '["<plan>", "</plan>", "[[", "]]"]'):
        read = RewardConfig.from_environment({"FLIP_REWARD_THINKING_MARKS": text}).flip.response
        assert read.thinking_marks == ("<plan>", "</plan>", "[[", "]]")
        assert read.visible_answer("[[hm]]Pear.") == "Pear."


def test_the_option_takes_two_marks_and_may_be_given_several_times(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    responses = ("<plan>hm</plan>Pear.", "<idea>hm</idea>Plum.")
    rows.write_text("".join(json.dumps({"instruction": "Hi", "response": one}) + "\n" for one in responses))
    marks = ["--thinking-marks", "<plan>", "</plan>", "--thinking-marks", "<idea>", "</idea>"]
    shown = CliRunner().invoke(cli, ["score", str(rows), "--model", "scripted", "--dry-run", *marks]).output
    assert "Pear." in shown
    assert "Plum." in shown
    assert "hm" not in shown


@pytest.mark.parametrize("marks", [["<plan>"], ["<plan>", " "], ["", "</plan>"]])
def test_marks_come_in_pairs(marks: list[str]) -> None:
    with pytest.raises(ValidationError, match="needs a closing one"):
        RewardConfig(thinking_marks=marks)


def test_a_variable_with_half_a_pair_is_named() -> None:
    with pytest.raises(OptionError, match="FLIP_REWARD_THINKING_MARKS"):
        RewardConfig.from_environment({"FLIP_REWARD_THINKING_MARKS": "<plan>"})

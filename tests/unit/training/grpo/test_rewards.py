"""Which rewards rows get, and what a batch of mixed rows earns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flip_reward import Group, RewardModel, Score, ScriptedEngine
from flip_reward.core.response import InferenceTarget
from flip_reward.core.score import Outcome
from flip_reward.errors import EngineUnavailableError, OptionError
from flip_reward.integrations.trl import TrlReward
from flip_reward.integrations.trl.options import TrlOptions
from flip_reward.report.training.folder import Split
from flip_reward.rewards.options import Settings
from flip_reward.training.grpo.config import make_grpo_config
from flip_reward.training.grpo.rewards import GrpoRewardCall, GrpoRewards
from flip_reward.training.grpo.samples import SampleTable
from flip_reward.training.grpo.train import train_grpo
from flip_reward.training.prompts.rows import PromptRow, read_messages
from tests.unit.training.grpo_cases import Notes, make_folder, make_recipe


class Share(RewardModel):
    """Rewards a letter by its share; a response with "?" has no score."""

    def __init__(self, letter: str) -> None:
        self.engine = ScriptedEngine()
        self.letter = letter

    @property
    def settings(self) -> Settings:
        return {"reward": self.letter}

    async def score_responses(self, group: Group, target: InferenceTarget) -> tuple[Score, ...]:  # noqa: ARG002
        return tuple(
            Score(None, Outcome.UNPARSEABLE_REPLY)
            if self.letter + "?" in response
            else Score(response.count(self.letter) / 4, Outcome.SCORED, inferred_instruction=self.letter)
            for response in group.responses
        )


def wrap(letter: str) -> TrlReward:
    return TrlReward(Share(letter), TrlOptions(max_unscored_share=1.0))


def make_call(folder: Path) -> GrpoRewardCall:
    rewards = GrpoRewards({"general-flip": wrap("a"), "general-quality": wrap("b")}, {"other": wrap("c")})
    return GrpoRewardCall(rewards, SampleTable(folder, None), lambda _: None)


def test_every_reward_knows_how_the_template_of_the_policy_opens_the_thinking() -> None:
    class Tokenizer:
        def apply_chat_template(self, *_: object, thinking: str = "<think>", **__: object) -> str:
            return f"<turn>user\nHi<turn>model\n{thinking}\n"

    rewards = GrpoRewards({"general-flip": wrap("a")}, {"other": wrap("c")})
    rewards.know_template(Tokenizer(), {"thinking": "[THINK]"})
    assert [one.opening for one in (*rewards.by_dataset.values(), *rewards.held_out.values())] == ["[THINK]"] * 2
    rewards.know_template(Tokenizer(), {"thinking": "<think></think>"})
    assert rewards.held_out["other"].opening == ""


# What torch, transformers and TRL warn each other of is not ours to mend.
pytestmark = pytest.mark.filterwarnings("default")


async def test_rewards_of_a_row_are_added_up_and_one_that_lacks_leaves_none(tmp_path: Path) -> None:
    both = ["general-flip", "general-quality"]
    metrics: dict[str, float] = {}
    columns: dict[str, list[str | None]] = {}

    def add_column(column: str, values: list[str | None]) -> None:
        columns[column] = values

    rewards = await make_call(tmp_path)(
        ["Say a or b."] * 4,
        ["abab", "aab?", "a?bb", "bbbb"],
        [[1], [1], [1], [1]],
        dataset=[both] * 4,
        row=[0] * 4,
        log_extra=add_column,
        log_metric=metrics.__setitem__,
    )
    assert rewards == [1.0, None, None, 1.0]
    assert metrics["general-flip/mean"] == pytest.approx((2 + 2 + 0) / 4 / 3)
    assert metrics["general-quality/outcomes/unparseable_reply"] == 0.25
    assert columns["outcome"] == ["scored", "unparseable_reply", "unparseable_reply", "scored"]
    assert columns["inferred_instruction"] == ["a", None, None, "a"]


async def test_rows_of_a_batch_may_ask_for_different_rewards(tmp_path: Path) -> None:
    call, metrics = make_call(tmp_path), dict[str, float]()
    call.split = Split.HELD_OUT
    dataset = [["general-flip"]] * 2 + [["general-quality"]] * 2 + [["general-quality", "general-flip"]] * 2
    rewards = await call(
        ["One."] * 2 + ["Two."] * 2 + ["Three."] * 2,
        ["aabb", "bbbb", "bbbb", "a?bb", "abcc", "a?cc"],
        [[1]] * 6,
        dataset=dataset,
        row=[0, 0, 1, 1, 2, 2],
        log_metric=metrics.__setitem__,
    )
    assert rewards == [0.5, 0.0, 1.0, 0.5, 0.5, None]
    assert metrics["held_out_rewards/other"] == pytest.approx(4 / 4 / 6)
    assert metrics["general-flip/outcomes/scored"] == 0.75
    assert metrics["general-quality/outcomes/scored"] == 1.0


LISTWISE: dict[str, Any] = {
    "reward": {"reward": "listwise", "model": "scripted", "cache": "off"},
    "model": "no/such/policy",
}


def test_a_reward_that_compares_needs_two_responses_to_held_out_prompts(tmp_path: Path) -> None:
    make_folder(tmp_path)
    data = {"source": str(tmp_path / "rows.jsonl"), "switch_to": "general-listwise", "held_out": 0.2}
    with pytest.raises(OptionError, match="general-listwise") as caught:
        train_grpo(make_recipe(tmp_path, data=data, grpo={"num_generations_eval": 1}, **LISTWISE), tmp_path / "out")
    assert "grpo.num_generations_eval" in str(caught.value.hint)
    looked_at = {"held_out_rewards": [LISTWISE["reward"]], "model": "no/such/policy"}
    with pytest.raises(OptionError, match="'listwise'"):
        train_grpo(make_recipe(tmp_path, grpo={"num_generations_eval": 1}, **looked_at), tmp_path / "out")
    fitting: list[dict[str, object]] = [
        {"num_generations_eval": 2},
        {"num_generations_eval": 1, "eval_strategy": "no"},
    ]
    for grpo in fitting:
        with pytest.raises(EngineUnavailableError, match="no/such/policy"):
            train_grpo(make_recipe(tmp_path, data=data, grpo=grpo, **LISTWISE), tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        (
            {"per_device_train_batch_size": 2},
            "compares the 4 responses to a prompt, and a process has 2",
            "_train_batch",
        ),
        ({"per_device_eval_batch_size": 3}, "compares the 2 responses to a held-out prompt, .* has 3", "_eval_batch"),
    ],
)
def test_a_process_that_would_split_a_group_is_refused(
    tmp_path: Path, changes: dict[str, int], message: str, hint: str
) -> None:
    """As with several processes, of which TRL looks at the batch of all."""
    recipe = make_recipe(tmp_path, **LISTWISE)
    row = PromptRow.of(read_messages([{"role": "user", "content": "Hi"}]), "general-listwise")
    rewards = GrpoRewards.load(recipe, [row], TrlOptions(num_generations=4), lambda _: None)
    config = make_grpo_config(recipe, tmp_path, evaluate=True, resumed=False)
    rewards.check_groups(config, evaluate=True)
    for name, value in changes.items():
        setattr(config, name, value)
    with pytest.raises(OptionError, match=message) as caught:
        rewards.check_groups(config, evaluate=True)
    assert hint in str(caught.value.hint)
    GrpoRewards({"general-flip": wrap("a")}, {}).check_groups(config, evaluate=True)


def test_sections_of_a_recipe_are_found_by_the_name_in_the_rows(tmp_path: Path) -> None:
    row = PromptRow.of(read_messages([{"role": "user", "content": "Hi"}]), "general-quality")
    both = PromptRow(row.messages, ("general-flip", "general-quality"), ("Hi", "Hi"))
    recipe = make_recipe(tmp_path, rewards={"general-quality": {"model": "scripted", "cache": "off"}})
    rewards = GrpoRewards.load(recipe, [row, both], TrlOptions(), lambda _: None)
    assert {name: reward.load().settings["reward"] for name, reward in rewards.by_dataset.items()} == {
        "general-quality": "pointwise",
        "general-flip": "flip",
    }


@pytest.mark.parametrize("place", ["reward", "rewards", "held_out_rewards"])
def test_a_model_that_nobody_named_is_no_reward_to_train_on(tmp_path: Path, place: str) -> None:
    make_folder(tmp_path)
    unnamed: dict[str, Any] = {
        "reward": {}, "rewards": {"general-flip": {}}, "held_out_rewards": [{"reward": "pointwise"}]
    }  # fmt: skip
    with pytest.raises(OptionError, match=r"none was named: .*reward\.model"):
        train_grpo(make_recipe(tmp_path, **{place: unnamed[place]}), tmp_path / "out")


def test_the_models_are_named_before_anything_is_trained(tmp_path: Path) -> None:
    make_folder(tmp_path)
    held_out = [{"reward": "pointwise", "model": "scripted"}, {"reward": "longest"}]
    recipe = make_recipe(tmp_path, held_out_rewards=held_out, model="no/such/policy")
    notes = Notes()
    with pytest.raises(EngineUnavailableError, match="no/such/policy"):
        train_grpo(recipe, tmp_path / "out", observer=notes)
    assert notes.said[:3] == ["general-flip: model: scripted", "pointwise: model: scripted", "longest: model: none"]

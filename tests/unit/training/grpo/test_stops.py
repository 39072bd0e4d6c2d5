"""A completion that ends at a stop string is whole: for TRL's figures and masks, and for ours."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from flip_reward.core.conversation import Group
from flip_reward.core.response import InferenceTarget
from flip_reward.core.score import Outcome, Score
from flip_reward.integrations.trl.options import TrlOptions, ends_at_stop
from flip_reward.rewards.base import RewardModel
from flip_reward.rewards.options import Settings
from flip_reward.training.grpo.config import find_stop_strings, make_grpo_config
from flip_reward.training.grpo.recipe import GrpoRecipe
from tests.hf_models import save_model
from tests.unit.training.grpo.test_train import read_metrics, read_samples, run
from tests.unit.training.grpo_cases import Notes, make_folder, make_recipe

# What torch, transformers and TRL warn each other of is not ours to mend.
pytestmark = pytest.mark.filterwarnings("default")

LIMIT = 12
STOPS = ["e", "ar", "</answer>"]


class LengthReward(RewardModel):
    """Rewards length."""

    settings: ClassVar[Settings] = {"reward": "length"}

    async def score_responses(self, group: Group, target: InferenceTarget) -> tuple[Score, ...]:  # noqa: ARG002
        return tuple(Score(len(response) / 100, Outcome.SCORED) for response in group.responses)


def make_stopping_recipe(folder: Path, stops: list[str]) -> GrpoRecipe:
    make_folder(folder)
    save_model(folder / "tiny")  # whose tokens are bytes and stretches of them
    return make_recipe(
        folder,
        mask_truncated_completions=True,
        grpo={
            "generation_kwargs": {"stop_strings": stops}, "mask_truncated_completions": True, "max_steps": 2,
            "max_completion_length": LIMIT,
        },
    )  # fmt: skip


def test_generation_stops_there_and_is_not_cut_off(tmp_path: Path) -> None:
    recipe = make_stopping_recipe(tmp_path, STOPS)
    run(tmp_path, LengthReward(), "out", recipe, Notes())
    steps = [entry for entry in read_metrics(tmp_path / "out") if "completions/clipped_ratio" in entry]
    for step, samples in read_samples(tmp_path / "out", "train").items():
        ended = [ends_at_stop(sample["response"], STOPS) for sample in samples]
        assert any(ended), "or nothing is tried"
        early = [sample for sample, whole in zip(samples, ended, strict=True) if whole]
        assert min(sample["tokens"] for sample in early) < LIMIT
        assert all(sample["response"] and sample["tokens"] <= len(sample["response"].encode()) for sample in early), (
            "what the others took longer for is no part of it"
        )
        cut_off = [not whole and sample["tokens"] == LIMIT for sample, whole in zip(samples, ended, strict=True)]
        [logged] = [entry for entry in steps if entry["step"] == step]
        assert logged["completions/clipped_ratio"] == pytest.approx(sum(cut_off) / len(samples))
        assert logged["completions/min_terminated_length"] == min(sample["tokens"] for sample in early)


def test_what_ends_there_is_learned_from_and_what_is_cut_off_is_not(tmp_path: Path) -> None:
    letters = [*"abcdefghijklmnopqrstuvwxyz ,.?"]
    for name, stops, learns in (("whole", letters, True), ("cut", ["</answer>"], False)):
        folder = tmp_path / name
        folder.mkdir()
        run(folder, LengthReward(), "out", make_stopping_recipe(folder, stops), Notes())
        [first, *_] = [entry for entry in read_metrics(folder / "out") if "grad_norm" in entry]
        assert (first["completions/clipped_ratio"] < 1, first["grad_norm"] > 0) == (learns, learns)


def test_strings_by_either_name(tmp_path: Path) -> None:
    cases: list[tuple[dict[str, object], set[str]]] = [
        ({"generation_kwargs": {"stop_strings": "</answer>"}}, {"</answer>"}),
        ({"generation_kwargs": {"stop": ["</answer>", "END"]}, "use_vllm": True}, {"</answer>", "END"}),
        ({"generation_kwargs": {"top_p": 0.9}}, set()),
        ({}, set()),
    ]
    for grpo, expected in cases:
        config = make_grpo_config(make_recipe(tmp_path, grpo=grpo), tmp_path, evaluate=False, resumed=False)
        assert find_stop_strings(config) == expected


def test_a_reward_does_not_mask_what_ends_there_at_the_limit() -> None:
    options = TrlOptions.from_environment(
        {
            "FLIP_REWARD_ON_MASK_TRUNCATED_COMPLETIONS": "true",
            "FLIP_REWARD_ON_MAX_COMPLETION_LENGTH": "4",
            "FLIP_REWARD_ON_STOP_STRINGS": "</answer>",
        }
    )
    assert options.masks([7] * 4, "It rains.")
    assert not options.masks([7] * 4, "<answer>It rains.</answer>\n")
    assert options.masks([7] * 4, "The mark </answer> comes long before the end of this text.")

"""The reward inside of TRL's own trainer, with a tiny model."""

from __future__ import annotations

import importlib
import warnings
from collections import deque
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from flip_reward import FlipReward, Request, RewardModel, ScriptedEngine
from flip_reward.errors import OptionError, UnscoredError
from flip_reward.integrations.plain import flip_numbers
from flip_reward.integrations.trl import TrlReward
from tests.hf_models import save_model
from tests.unit.integrations.conftest import SetEnvironment

# What the libraries say of each other is not ours to mend.
pytestmark = pytest.mark.filterwarnings("default")


def infer(_: Request) -> str:
    """No verdict about every fourth response; about the others more or less of the instruction."""
    WORDS.rotate()
    return "no verdict" if WORDS[0] == "?" else f'{{"INFERRED INSTRUCTION": "Name {WORDS[0]}"}}'


WORDS = deque(["three fruits please", "three fruits", "three", "?"])


def train(folder: Path, reward: TrlReward, *, chat: bool) -> GRPOTrainer:
    save_model(folder / "tiny")
    text = "Name three fruits, please."
    prompt = [{"role": "user", "content": text}] if chat else text
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(folder / "tiny"),
            processing_class=AutoTokenizer.from_pretrained(folder / "tiny"),
            reward_funcs=reward,
            args=GRPOConfig(
                output_dir=str(folder / "out"),
                per_device_train_batch_size=8,
                num_generations=4,
                max_completion_length=6,
                max_steps=2,
                logging_steps=1,
                log_completions=True,
                num_completions_to_print=1,
                use_cpu=True,
                bf16=False,
                report_to=[],
                disable_tqdm=True,
                gradient_checkpointing=False,
            ),
            train_dataset=Dataset.from_dict({"prompt": [prompt] * 6, "answer": ["x"] * 6}),
        )
        trainer.train()
    return trainer


@pytest.mark.parametrize("chat", [True, False])
def test_unscored_samples_columns_and_metrics(tmp_path: Path, chat: bool) -> None:
    reward: RewardModel = FlipReward(ScriptedEngine(infer))
    trainer = train(tmp_path, TrlReward(reward), chat=chat)
    [first, *_] = trainer.state.log_history
    assert first["flip_reward/outcomes/unparseable_reply"] == 0.25
    assert first["flip_reward/mean"] == pytest.approx(first["rewards/flip_reward/mean"])
    assert first["flip_reward/zero_variance"] == 0
    rows = pq.read_table(tmp_path / "out/completions/completions_00001.parquet").to_pylist()
    assert [row["outcome"] for row in rows].count("unparseable_reply") == 2
    for row in rows:
        scored = row["outcome"] == "scored"
        assert (row["flip_reward"] is not None) == scored
        assert (row["inferred_instruction"] is not None) == scored
        assert scored or row["advantage"] == 0


def test_the_name_that_the_command_imports() -> None:
    """`trl grpo --reward_funcs flip_reward.integrations.trl.flip_reward` takes an attribute of a module."""
    from trl.trainer.utils import is_async_callable

    module, _, name = "flip_reward.integrations.trl.flip_reward".rpartition(".")
    function = getattr(importlib.import_module(module), name)
    assert is_async_callable(function)
    assert is_async_callable(TrlReward(FlipReward(ScriptedEngine())))


def test_online_dpo_takes_the_form_that_does_not_have_to_be_awaited(
    tmp_path: Path, set_environment: SetEnvironment
) -> None:
    from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

    save_model(tmp_path / "tiny")
    set_environment(reward="longest", model="")
    prompt = [{"role": "user", "content": "Name three fruits, please."}]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = OnlineDPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(tmp_path / "tiny"),
            processing_class=AutoTokenizer.from_pretrained(tmp_path / "tiny"),
            reward_funcs=flip_numbers,
            args=OnlineDPOConfig(
                output_dir=str(tmp_path / "out"),
                per_device_train_batch_size=2,
                max_new_tokens=6,
                max_steps=1,
                logging_steps=1,
                use_cpu=True,
                bf16=False,
                report_to=[],
                disable_tqdm=True,
            ),
            train_dataset=Dataset.from_dict({"prompt": [prompt] * 2}),
        )
        trainer.train()
    [first, *_] = trainer.state.log_history
    assert first["objective/scores"] > 1, "characters on average"


def test_a_trainer_that_adds_up_rewards_gets_no_none(set_environment: SetEnvironment) -> None:
    prompts, completions = ["Say that it rains."] * 2, ["It rains in Spain.", ""]
    set_environment(on_unscored="-1")
    [rated, blank] = flip_numbers(prompts, completions, completion_ids=[[1], [2]])
    assert (rated > 0, blank) == (True, -1)
    set_environment()
    with pytest.raises(UnscoredError):
        flip_numbers(prompts, completions)
    set_environment(on_unscored="none")
    with pytest.raises(OptionError, match="FLIP_REWARD_ON_UNSCORED"):
        flip_numbers(prompts, completions)

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
from flip_reward.integrations.trl import TrlReward
from tests.hf_models import save_model

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

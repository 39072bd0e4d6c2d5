"""A tiny policy, prompts and a recipe for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flip_reward.training.common.progress import Progress
from flip_reward.training.grpo.recipe import GrpoRecipe
from tests.e2e.command import write_rows
from tests.hf_models import save_model, train_word_pieces

WORDS = ("fruits", "trees", "apples", "pears", "plums", "names", "questions", "sentences", "answers", "words")


def make_folder(folder: Path) -> Path:
    """Save the policy, whose tokens are words and pieces of them, as "tiny" and twenty prompts as "rows.jsonl"."""
    save_model(folder / "tiny", tokenizer=train_word_pieces)
    texts = [f"Name {kind} {word}, please." for kind in ("three", "four") for word in WORDS]
    write_rows(
        folder / "rows.jsonl",
        [
            {"messages": [{"role": "user", "content": text}], "ground_truth": text, "dataset": "general-flip"}
            for text in texts
        ],
    )
    return folder


def make_recipe(folder: Path, *, grpo: dict[str, object] | None = None, **changes: Any) -> GrpoRecipe:
    """Make a recipe of seconds: 2 prompts with 4 responses of 8 tokens a step."""
    steps: dict[str, object] = {
        "learning_rate": 1e-2, "max_steps": 4, "num_generations": 4, "per_device_train_batch_size": 8,
        "max_completion_length": 8, "gradient_checkpointing": False, "use_cpu": True, "save_steps": 2,
        "num_generations_eval": 2, "per_device_eval_batch_size": 8, "eval_steps": 2,
    }  # fmt: skip
    values: dict[str, Any] = {
        "model": str(folder / "tiny"),
        "data": {"source": str(folder / "rows.jsonl"), "held_out": 0.2},
        "reward": {"model": "scripted", "cache": "off"},
        "grpo": steps | (grpo or {}),
    }
    return GrpoRecipe.model_validate(values | changes)


class Notes:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.progress: list[Progress] = []

    def say(self, message: str, *, warning: bool = False) -> None:
        self.said.append(f"Warning: {message}" if warning else message)

    def advanced(self, progress: Progress) -> None:
        self.progress.append(progress)

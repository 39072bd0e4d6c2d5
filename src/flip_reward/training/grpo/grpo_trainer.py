"""`GrpoTrainer`: TRL's GRPOTrainer with runs that repeat, and an end where nothing is scored.

Nothing of GRPO itself is changed.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from trl import GRPOTrainer
from trl.trainer.utils import RepeatSampler

from flip_reward.errors import RunStoppedError
from flip_reward.training.common.careful_trainer import CarefulTrainer
from flip_reward.training.common.checkpoints import find_last
from flip_reward.training.common.manifest import MANIFEST
from flip_reward.training.common.random_state import RandomState, drawing_apart
from flip_reward.training.grpo.grpo_reward_call import GrpoRewardCall
from flip_reward.training.grpo.samples import SampleTable, Split

_NO_PROBABILITIES = "probability tensor contains"  # as torch.multinomial says it


class EpochSampler(RepeatSampler):  # type: ignore[misc]
    """TRL's order of prompts, which here depends on seed and epoch alone.

    TRL draws the order of an epoch after that of the one before, so a run that is resumed in the second epoch would
    see the order of the first one again.
    """

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next."""
        if self.shuffle:
            self.generator.manual_seed((self.seed or 0) + epoch)


class GrpoTrainer(CarefulTrainer, GRPOTrainer):  # type: ignore[misc]
    """Trains a policy.

    Args:
        reward: What TRL calls.
        table: Where samples are collected.
        arguments: What `GRPOTrainer` takes.

    Attributes:
        lacks_rewards: It ended because a batch has too few rewards to learn from; the weights are good.
    """

    advice = "take a smaller grpo.learning_rate, in another folder"

    def __init__(self, reward: GrpoRewardCall, table: SampleTable, **arguments: Any) -> None:  # noqa: ANN401
        self._reward, self._table = reward, table
        self._sampler: EpochSampler | None = None
        self._before_step: RandomState | None = None
        self.lacks_rewards = False
        super().__init__(reward_funcs=reward, **arguments)

    def _get_train_sampler(self, dataset: object = None) -> EpochSampler:
        plain = super()._get_train_sampler(dataset)
        self._sampler = EpochSampler(
            data_source=plain.data_source,
            mini_repeat_count=plain.mini_repeat_count,
            batch_size=plain.batch_size,
            repeat_count=plain.repeat_count,
            shuffle=plain.shuffle,
            seed=plain.seed,
        )
        return self._sampler

    def _run_epoch(self, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - the signature of the trainer
        if self._sampler is not None:
            self._sampler.set_epoch(named["epoch"])
        return super()._run_epoch(*arguments, **named)

    def _generate_and_score_completions(self, inputs: Any) -> Any:  # noqa: ANN401 - the signature of the trainer
        if self.model.training and self._step % self.args.gradient_accumulation_steps == 0:
            self._before_step = RandomState()
        try:
            return super()._generate_and_score_completions(inputs)
        except RuntimeError as error:
            if _NO_PROBABILITIES not in str(error):
                raise
            raise RunStoppedError("the policy's probabilities are not numbers any more") from error

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, tokens: Any) -> torch.Tensor:  # noqa: ANN401
        training = self.model.training
        self._reward.split = Split.TRAIN if training else Split.HELD_OUT
        self._reward.num_generations = self.num_generations if training else self.num_generations_eval
        rewards: torch.Tensor = super()._calculate_rewards(inputs, prompts, completions, tokens)
        problems: Sequence[str | None] = gather_object([self._reward.problem])
        problem = next((one for one in problems if one), None)
        if problem is not None:
            if self._before_step is not None:
                self._before_step.restore()  # so that a resumed run draws what this one drew
            self._table.forget()
            self.lacks_rewards = True
            raise RunStoppedError(problem)
        return rewards

    def evaluate(self, *arguments: Any, **named: Any) -> dict[str, float]:  # noqa: ANN401
        """Look at held-out prompts: with the same draws each time, and without a change to those of the training."""
        with drawing_apart(self.args.seed):
            found: dict[str, float] = super().evaluate(*arguments, **named)
        self._table.write(Split.HELD_OUT, self.state.global_step)
        return found

    def save_now(self) -> Path | None:
        """Write a checkpoint of the last step that was done, unless there is one; None before the first step."""
        if not self.state.global_step:
            return None
        checkpoint = self._checkpoint()
        if find_last(checkpoint.parent) != checkpoint:
            self._save_checkpoint(self.model, None)
        return checkpoint

    def write_model(self, folder: Path) -> None:
        """Write the policy and its tokenizer.

        Raises:
            RunStoppedError: Its weights are not numbers.
            StorageError: The disk is full or not writable. The last checkpoint is kept.
        """
        self._check_weights()
        with self._writing("policy", folder):
            self.save_model(str(folder))
            if self.is_world_process_zero():
                self.processing_class.save_pretrained(folder)

    def _add_to(self, checkpoint: Path) -> None:
        shutil.copyfile(checkpoint.parent.parent / MANIFEST, checkpoint / MANIFEST)

"""Supervised tuning with TRL: tuning texts in, tuned weights out. Imported late, since it is heavy.

`InferrerTrainer` is TRL's SFTTrainer, quicker without a GPU; `ContrastTrainer` also learns to rank.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer

from flip_reward.engines.huggingface.inference import projecting_only
from flip_reward.engines.stopping import StopSignal
from flip_reward.errors import OptionError
from flip_reward.training.common.folder import CHECKPOINTS, TuningOutcome, find_last
from flip_reward.training.common.libraries import make_lora_config, make_trl_config
from flip_reward.training.common.progress import TrainingObserver
from flip_reward.training.common.trainer import ProgressCallback, RobustCheckpointMixin
from flip_reward.training.inferrer.contrastive import check_score_group, score_group
from flip_reward.training.inferrer.recipe import ContrastOptions, InferrerRecipe, TuningMethod
from flip_reward.training.inferrer.text import IGNORED, TuningText

if TYPE_CHECKING:
    from peft import PeftModel

_ADVICE = "take a smaller sft.learning_rate, or sft.bf16=false, and another folder with --output"
_METRICS = {
    "loss": "train_loss",
    "eval_loss": "held_out_loss",
    "learning_rate": "learning_rate",
    "grad_norm": "gradient_norm",
    "contrast_loss": "contrast_loss",
    "ranked_right": "ranked_right",
}
"""The figures in `metrics.jsonl`, by the trainer's names."""


class InferrerTrainer(RobustCheckpointMixin, SFTTrainer):  # type: ignore[misc]
    """Tunes on tokens and labels."""

    advice = _ADVICE

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: Mapping[str, torch.Tensor],
        return_outputs: bool = False,  # noqa: FBT001, FBT002 - the signature of the trainer
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the mean loss of the learned tokens.

        Without a GPU, TRL projects every position onto the vocabulary, which takes most of the time of a small model
        that learns few tokens of many.
        """
        labels = inputs["labels"]
        if labels.device.type == "cuda":
            loss: torch.Tensor = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            return loss
        following = labels.roll(-1, dims=1)  # the target of each position
        following[:, -1] = IGNORED
        wanted = following != IGNORED
        with projecting_only(self.accelerator.unwrap_model(model), wanted):
            logits = model(
                input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False
            ).logits
        if logits.shape[:2] == wanted.shape:
            logits = logits[wanted]  # a model whose head is not where its configuration says
        targets = following[wanted]
        total = torch.nn.functional.cross_entropy(logits.reshape(len(targets), -1).float(), targets, reduction="sum")
        return total / (len(targets) if num_items_in_batch is None else num_items_in_batch)


class ContrastTrainer(InferrerTrainer):
    """Tunes on groups of texts; see `contrastive`. Every batch is made of whole groups."""

    def __init__(self, *args: object, contrast: ContrastOptions, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self._contrast = contrast

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: Mapping[str, torch.Tensor],
        return_outputs: bool = False,  # noqa: FBT001, FBT002 - the signature of the trainer
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the mean loss of the learned tokens plus the weighted mean loss of the instructions' ranks."""
        if not model.training:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        texts = _read_texts(inputs)
        head = self.accelerator.unwrap_model(model)
        learned = sum(text.learned for text in texts) if num_items_in_batch is None else num_items_in_batch
        steps = 1 if num_items_in_batch is None else self.args.gradient_accumulation_steps
        total = torch.zeros((), device=inputs["input_ids"].device)
        for first in range(0, len(texts), self._contrast.alike):
            scores = score_group(model, texts[first : first + self._contrast.alike], head)
            rank = self._contrast.weight * scores.contrast / (len(texts) * steps)
            total = total + scores.likelihood / learned + rank
            # The trainer averages these into the next line of metrics.
            self._metrics["train"]["contrast_loss"].append(float(scores.contrast.detach()) / len(scores.ends))
            self._metrics["train"]["ranked_right"].append(scores.ranked_right / len(scores.ends))
        return total


def _read_texts(inputs: Mapping[str, torch.Tensor]) -> list[TuningText]:
    """Return the texts of a batch."""
    learned = (inputs["labels"] != IGNORED).sum(dim=1).tolist()
    rows = zip(inputs["input_ids"], inputs["attention_mask"].bool(), learned, strict=True)
    return [TuningText(tokens[mask].tolist(), count) for tokens, mask, count in rows]


@dataclass(frozen=True, slots=True)
class SftTexts:
    """The texts of all epochs in their order, and those to measure the loss on."""

    train: Sequence[TuningText]
    held_out: Sequence[TuningText]


@dataclass(frozen=True, slots=True)
class SftResult:
    """The tuned model, with LoRA inside PEFT's; the outcome is None when the tuning was stopped before the end."""

    network: PreTrainedModel | PeftModel
    outcome: TuningOutcome | None


def run_sft(
    network: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: SftTexts,
    recipe: InferrerRecipe,
    folder: Path,
    *,
    bfloat16: bool,
    observer: TrainingObserver,
    stop: StopSignal,
) -> SftResult:
    """Tune a model, or its adapter where it has one, from the last checkpoint if any; see `tune_inferrer`."""
    checkpoints = folder / CHECKPOINTS
    steps = count_steps(len(texts.train), recipe)
    tokens = [0, *accumulate(len(text.tokens) for text in texts.train)]
    progress = ProgressCallback(
        folder,
        observer,
        stop,
        figures={"loss": "loss", "eval_loss": "held out"},
        numbers={"loss": "loss", "eval_loss": "loss of held-out rows", "grad_norm": "gradient"},
        metrics=_METRICS,
        tokens=[tokens[min(step * recipe.rows_a_step, len(texts.train))] for step in range(steps + 1)],
        advice=_ADVICE,
    )
    has_adapter = hasattr(network, "get_base_model")
    make_trainer: Callable[..., InferrerTrainer] = InferrerTrainer
    if recipe.contrast is not None:
        check_score_group(network.get_base_model() if has_adapter else network, texts.train[: recipe.contrast.alike])
        make_trainer = partial(ContrastTrainer, contrast=recipe.contrast)
    trainer = make_trainer(
        model=network,
        args=_configure(recipe, checkpoints, network, steps=steps, bfloat16=bfloat16, evaluate=bool(texts.held_out)),
        train_dataset=_to_dataset(texts.train),
        eval_dataset=_to_dataset(texts.held_out) if texts.held_out else None,
        processing_class=tokenizer,
        callbacks=[progress],
        peft_config=make_lora_config(recipe.lora) if recipe.method is TuningMethod.LORA and not has_adapter else None,
    )
    trainer.resume(observer)
    if trainer.state.global_step < steps:
        return SftResult(trainer.model, None)
    history = trainer.state.log_history
    held_out = [float(entry["eval_loss"]) for entry in history if "eval_loss" in entry]
    losses = [float(entry["loss"]) for entry in history if "loss" in entry]
    outcome = TuningOutcome(
        steps=steps,
        train_loss=losses[-1] if losses else None,
        held_out_loss_before=held_out[0] if held_out else None,
        held_out_loss=held_out[-1] if held_out else None,
    )
    return SftResult(trainer.model, outcome)


def count_steps(texts: int, recipe: InferrerRecipe) -> int:
    """Return how many steps this many texts take, at most those that the recipe allows."""
    steps = math.ceil(texts / recipe.rows_a_step)
    most: int = recipe.trainer_values["max_steps"]
    return min(steps, most) if most > 0 else steps


def _to_dataset(texts: Sequence[TuningText]) -> Dataset:
    return Dataset.from_dict(
        {"input_ids": [text.tokens for text in texts], "labels": [text.labels for text in texts]}
    )


def _configure(
    recipe: InferrerRecipe, folder: Path, network: PreTrainedModel, *, steps: int, bfloat16: bool, evaluate: bool
) -> SFTConfig:
    wanted = recipe.trainer_values
    values = {
        "report_to": "none",
        "eval_strategy": "steps" if evaluate else "no",
        "eval_on_start": evaluate and wanted.get("eval_strategy", "steps") not in ("no", None),
        "per_device_eval_batch_size": recipe.batch_rows,
        "save_strategy": "steps",
        "save_total_limit": 2,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "dataloader_pin_memory": network.device.type == "cuda",
        **wanted,
        "output_dir": str(folder),
        # The texts are tokens already, in their final order, and must not be cut.
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "max_length": None,
        "train_sampling_strategy": "sequential",
        "num_train_epochs": 1,
        "max_steps": steps,
        "seed": recipe.seed,
        "bf16": bfloat16,
        "use_cpu": network.device.type == "cpu",
        "prediction_loss_only": True,
    }
    if not evaluate and values["eval_strategy"] not in ("no", None):
        raise OptionError("there are no held-out rows to evaluate on", hint="set held_out, or sft.eval_strategy=no")
    values["eval_on_start"] = bool(values["eval_on_start"]) and evaluate and find_last(folder) is None
    return make_trl_config(SFTConfig, values, section="sft")

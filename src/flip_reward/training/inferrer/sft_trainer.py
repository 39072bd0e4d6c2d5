"""`InferrerTrainer`: TRL's SFTTrainer, quicker without a GPU."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from trl import SFTTrainer

from flip_reward.engines.huggingface.inference import projecting_only
from flip_reward.training.common.careful_trainer import CarefulTrainer
from flip_reward.training.common.tuning_watch import SMALLER_STEPS
from flip_reward.training.inferrer.contrastive import score_group
from flip_reward.training.inferrer.recipe import ContrastOptions
from flip_reward.training.inferrer.text import IGNORED, TuningText


class InferrerTrainer(CarefulTrainer, SFTTrainer):  # type: ignore[misc]
    """Tunes on tokens and labels."""

    advice = SMALLER_STEPS

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: Mapping[str, torch.Tensor],
        return_outputs: bool = False,  # noqa: FBT001, FBT002 - the signature of the trainer
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the mean loss of the learned tokens.

        TRL projects every position onto the vocabulary where there is no GPU, which takes most of the time of a small
        model that learns a few tokens of many.
        """
        labels = inputs["labels"]
        if labels.device.type == "cuda":
            loss: torch.Tensor = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            return loss
        following = labels.roll(-1, dims=1)  # what each position is to predict
        following[:, -1] = IGNORED
        wanted = following != IGNORED
        with projecting_only(self.accelerator.unwrap_model(model), wanted):
            logits = model(
                input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False
            ).logits
        if logits.shape[:2] == wanted.shape:
            logits = logits[wanted]  # a model whose head is not where it says
        targets = following[wanted]
        total = torch.nn.functional.cross_entropy(logits.reshape(len(targets), -1).float(), targets, reduction="sum")
        return total / (len(targets) if num_items_in_batch is None else num_items_in_batch)


class ContrastTrainer(InferrerTrainer):
    """Tunes on groups of texts: see `contrast_loss`.

    Args:
        contrast: How. Every batch is made of whole groups.
    """

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
        """Return the mean loss of the learned tokens, and the weighted mean loss of the instructions' ranks."""
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
    """Take a batch apart again."""
    learned = (inputs["labels"] != IGNORED).sum(dim=1).tolist()
    rows = zip(inputs["input_ids"], inputs["attention_mask"].bool(), learned, strict=True)
    return [TuningText(tokens[mask].tolist(), count) for tokens, mask, count in rows]

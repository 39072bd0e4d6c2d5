"""Makes a completion that ends at a stop string a whole one. Imported late, since it is heavy.

TRL takes every completion without an end token for cut off: it counts it as such, and with
`mask_truncated_completions` learns nothing from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from trl import GRPOTrainer

from flip_reward.integrations.samples import TextOrChat, read_response
from flip_reward.integrations.trl.options import ends_at_stop
from flip_reward.training.grpo.config import find_stop_strings


class StoppingGrpoTrainer(GRPOTrainer):  # type: ignore[misc]
    """TRL's trainer, whose `generation_kwargs` may have "stop" (vLLM) or "stop_strings" (transformers)."""

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - the signature of the trainer
        super().__init__(*arguments, **named)
        self._stops = find_stop_strings(self.args)
        self._cut_off: list[bool] = []
        if self._stops:
            self.mask_truncated_completions = False  # done below
            # transformers looks for the strings with it, and TRL does not hand it over
            self.model.generate = partial(self.model.generate, tokenizer=self.processing_class)

    def _generate_single_turn(self, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401
        completion_ids, *others = super()._generate_single_turn(*arguments, **named)
        if self._stops:
            completion_ids = [self._without_padding(tokens) for tokens in completion_ids]
        return completion_ids, *others

    def _without_padding(self, tokens: list[int]) -> list[int]:
        """Cut off what transformers fills a completion up with that ended at a stop string before others did."""
        padding, end = self.processing_class.pad_token_id, len(tokens)
        while end and tokens[end - 1] == padding:
            end -= 1
        longest = max(len(stop.encode()) for stop in self._stops)  # in tokens too
        tail = self.processing_class.decode(tokens[max(0, end - longest) : end])
        return tokens[:end] if ends_at_stop(tail, self._stops) else tokens

    def _generate(self, prompts: list[TextOrChat]) -> Any:  # noqa: ANN401
        generated = super()._generate(prompts)
        if self._stops:
            _, completion_ids, _, completions, *_ = generated
            ends = {*self.eos_token_ids, self.processing_class.pad_token_id}
            self._cut_off = [
                tokens[-1] not in ends and not ends_at_stop(read_response(completion), self._stops)
                for tokens, completion in zip(completion_ids, completions, strict=True)
            ]
            self._count_cut_off([len(tokens) for tokens in completion_ids])
        return generated

    def _count_cut_off(self, lengths: Sequence[int]) -> None:
        """Put right what TRL has just logged."""
        metrics = self._metrics["train" if self.model.training else "eval"]
        measured = torch.tensor([*zip(lengths, self._cut_off, strict=True)], device=self.accelerator.device)
        everything, cut_off = self.accelerator.gather(measured).float().T
        metrics["completions/clipped_ratio"][-1] = cut_off.mean().item()
        whole = everything[cut_off == 0] if (cut_off == 0).any() else torch.zeros(1)
        for name, value in (("mean", whole.mean()), ("min", whole.min()), ("max", whole.max())):
            metrics[f"completions/{name}_terminated_length"][-1] = value.item()

    def _generate_and_score_completions(self, inputs: Any) -> Any:  # noqa: ANN401
        batch = super()._generate_and_score_completions(inputs)
        if self._stops and self.args.mask_truncated_completions:
            cut_off = torch.tensor(self._cut_off, device=self.accelerator.device)
            batch["completion_mask"] = batch["completion_mask"].masked_fill(cut_off.unsqueeze(1), 0)
            batch["num_items_in_batch"] = self.accelerator.gather(batch["completion_mask"].sum()).sum()
        return batch

"""`GrpoRewardCall`: what TRL calls for the rewards of a batch, and what is written down about it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flip_reward.core.conversation import Group
from flip_reward.errors import FlipRewardError
from flip_reward.integrations.trl import LogExtra, LogMetric, TrlReward
from flip_reward.integrations.trl.metrics import describe_call, measure_call_copying
from flip_reward.integrations.trl.patience import LEFT_OUT, Say, ScoredCall
from flip_reward.integrations.trl_groups import Text, read_completion
from flip_reward.training.grpo.rewards import GrpoRewards
from flip_reward.training.grpo.samples import SampleRow, SampleTable, Split


@dataclass(frozen=True, slots=True)
class _Part:
    """The samples of a batch that one reward scores."""

    name: str
    places: Sequence[int]
    call: ScoredCall
    copied: Sequence[float | None]


class GrpoRewardCall:
    """Scores a batch with the rewards that its rows ask for, several of them added up.

    A sample of which one reward is missing has none: with a part of the sum it would look worse than it is.

    Args:
        rewards: The rewards.
        table: Where samples are written down.
        say: Told what goes wrong while held-out prompts are scored, which does not end a training.

    Attributes:
        split: What the next batch is for. Set by the trainer.
        num_generations: How many responses a prompt has in it.
        problem: Why the last batch is nothing to learn from; None when it is.
    """

    def __init__(self, rewards: GrpoRewards, table: SampleTable, say: Say) -> None:
        self._rewards, self._table, self._say = rewards, table, say
        self.split = Split.TRAIN
        self.num_generations = 1
        self.problem: str | None = None
        self.__name__ = "flip_reward"  # what TRL's metrics call it

    async def __call__(
        self,
        prompts: Sequence[Text],
        completions: Sequence[Text],
        completion_ids: Sequence[list[int]],
        dataset: Sequence[Sequence[str]],
        row: Sequence[int],
        log_extra: LogExtra | None = None,
        log_metric: LogMetric | None = None,
        **_: object,
    ) -> list[float | None]:
        """Score a batch; nothing is raised, for that would leave the other processes waiting."""
        self.problem = None
        try:
            parts = await asyncio.gather(
                *(
                    self._score(name, reward, places, prompts, completions, completion_ids)
                    for name, reward in self._rewards.by_dataset.items()
                    if (places := [place for place, names in enumerate(dataset) if name in names])
                )
            )
            others = await self._score_otherwise(prompts, completions, completion_ids)
        except FlipRewardError as error:
            self.problem = str(error) + (f" ({error.hint})" if error.hint else "")
            return [None] * len(prompts)
        for part in (*parts, *others):
            if part.call.problem and self.split is Split.HELD_OUT:
                self._say(f"Held-out prompts, {part.name}: {part.call.problem}")
            elif part.call.problem:
                self.problem = self.problem or part.call.problem
        rewards = _add_up(len(prompts), parts)
        samples = _describe(prompts, completions, completion_ids, row, rewards, parts, others)
        self._table.add(self.split, samples)
        if log_metric is not None:
            self._log(parts, others, completion_ids, log_metric)
        if log_extra is not None:
            log_extra("inferred_instruction", [sample.inferred_instruction for sample in samples])
            log_extra("outcome", [sample.outcome for sample in samples])
        return rewards

    async def _score(
        self,
        name: str,
        reward: TrlReward,
        places: Sequence[int],
        prompts: Sequence[Text],
        completions: Sequence[Text],
        completion_ids: Sequence[list[int]],
    ) -> _Part:
        call = await reward.score(
            [prompts[place] for place in places],
            [completions[place] for place in places],
            [completion_ids[place] for place in places],
            self.num_generations,
        )
        return _Part(name, places, call, measure_call_copying(reward.load(), call))

    async def _score_otherwise(
        self, prompts: Sequence[Text], completions: Sequence[Text], completion_ids: Sequence[list[int]]
    ) -> list[_Part]:
        if self.split is Split.TRAIN:
            return []
        everything = range(len(prompts))
        return await asyncio.gather(
            *(
                self._score(name, reward, everything, prompts, completions, completion_ids)
                for name, reward in self._rewards.not_trained_on.items()
            )
        )

    def _log(
        self,
        parts: Sequence[_Part],
        others: Sequence[_Part],
        completion_ids: Sequence[list[int]],
        log_metric: LogMetric,
    ) -> None:
        for part in parts:
            lengths = [len(completion_ids[place]) for place in part.places]
            for name, value in describe_call(part.call, lengths, part.copied).items():
                log_metric(f"{part.name}/{name}", value)
        for part in others:
            known = [value for value in part.call.rewards if value is not None]
            if known:
                log_metric(f"not_trained_on/{part.name}", sum(known) / len(known))


def _add_up(count: int, parts: Sequence[_Part]) -> list[float | None]:
    sums: list[float | None] = [0.0] * count
    for part in parts:
        for place, value in zip(part.places, part.call.rewards, strict=True):
            known = sums[place]
            sums[place] = None if known is None or value is None else known + value
    return sums


def _describe(
    prompts: Sequence[Text],
    completions: Sequence[Text],
    completion_ids: Sequence[list[int]],
    rows: Sequence[int],
    rewards: Sequence[float | None],
    parts: Sequence[_Part],
    others: Sequence[_Part],
) -> list[SampleRow]:
    shown: dict[int, tuple[_Part, int]] = {}
    for part in parts:
        for index, place in enumerate(part.places):
            known = shown.get(place)
            if known is None or known[0].call.rewards[known[1]] is not None:  # the one that failed says more
                shown.setdefault(place, (part, index))
                if part.call.rewards[index] is None:
                    shown[place] = (part, index)
    further: list[Mapping[str, float | None]] = [
        {part.name: part.call.rewards[place] for part in others} for place in range(len(prompts))
    ]
    return [
        _describe_one(prompt, completion, tokens, row, reward, shown[place], further[place])
        for place, (prompt, completion, tokens, row, reward) in enumerate(
            zip(prompts, completions, completion_ids, rows, rewards, strict=True)
        )
    ]


def _describe_one(
    prompt: Text,
    completion: Text,
    tokens: Sequence[int],
    row: int,
    reward: float | None,
    shown: tuple[_Part, int],
    further: Mapping[str, float | None],
) -> SampleRow:
    part, index = shown
    score = part.call.scores[index]
    return SampleRow(
        row=row,
        messages=Group.of(prompt, "").messages,
        response=read_completion(completion),
        tokens=len(tokens),
        reward=reward,
        outcome=LEFT_OUT if score is None else score.outcome.value,
        inferred_instruction=None if score is None else score.inferred_instruction,
        precision=None if score is None else score.precision,
        recall=None if score is None else score.recall,
        copied_4grams=part.copied[index],
        not_trained_on=further,
    )

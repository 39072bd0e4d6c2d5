"""The reward for TRL's GRPOTrainer (and RLOOTrainer), 1.16 or newer.

From the command line, with the reward and its model as environment variables (see `RewardConfig`; those that begin
with FLIP_REWARD_ON_ are `TrlOptions`):

    export FLIP_REWARD_MODEL=Qwen/Qwen3-4B FLIP_REWARD_BASE_URL=http://localhost:8000/v1
    trl grpo --reward_funcs flip_reward.integrations.trl.flip_reward ...

From Python:

    GRPOTrainer(..., reward_funcs=TrlReward(RewardConfig(model="embedded"), processing_class=tokenizer))
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

from flip_reward.core.chat.template import ChatReader
from flip_reward.core.chat.thinking import find_opening
from flip_reward.errors import OptionError, RunStoppedError
from flip_reward.integrations.samples import SampleGroup, TextOrChat, group_samples, read_response
from flip_reward.integrations.trl.metrics import describe_call, describe_samples, measure_overlaps
from flip_reward.integrations.trl.options import TrlOptions
from flip_reward.integrations.trl.patience import PatientScorer, Say, ScoredCall
from flip_reward.rewards.base import RewardModel
from flip_reward.rewards.config import RewardConfig
from flip_reward.rewards.waiting import OncePerProcess

_LOGGER = logging.getLogger(__name__)

LogMetric = Callable[[str, float], None]


class LogExtra(Protocol):
    """TRL's way to add a column to the table of completions."""

    def __call__(self, column: str, values: list[str | None]) -> None:
        """Add a value for each sample."""


class ChatTokenizer(Protocol):
    """The part of a tokenizer, or of a processor, that is used."""

    def apply_chat_template(self, conversation: Any, *, add_generation_prompt: bool, tokenize: bool) -> Any:  # noqa: ANN401
        """Render messages as text."""


def find_template_opening(tokenizer: ChatTokenizer, fields: Mapping[str, object] = MappingProxyType({})) -> str:
    """Return the mark with which a chat template, given these fields, opens the thinking of responses, or nothing."""
    message = {"role": "user", "content": "Name a fruit."}
    try:
        prompt = tokenizer.apply_chat_template([message], add_generation_prompt=True, tokenize=False, **fields)
    except Exception:  # noqa: BLE001 - a template is a program of the model's authors, and the trainer tells of it
        return ""
    return find_opening(prompt) if isinstance(prompt, str) else ""


class TrlReward:
    """A reward as TRL calls it: asynchronous, a whole batch at once.

    A sample that could not be scored gets None, which TRL leaves out of its group's baseline and learns nothing from.
    It can be pickled when it was made from a `RewardConfig`.

    Args:
        reward: The reward, or its configuration; then the model is loaded by `load` or the first call.
        options: How it behaves inside a trainer.
        say: Told when the reward's model does not answer; by default a warning is logged.
        processing_class: The trainer's. Its chat template shows whether it opens the thinking of responses, so that
            one that was cut there has no answer. Without it, the setting `thinking_opened` says so.

    Example:
        >>> import asyncio
        >>> reward = TrlReward(RewardConfig(model="scripted"))
        >>> [rated, blank] = asyncio.run(reward(["Name three fruits."] * 2, ["Three fruits: apples, ...", " "]))
        >>> rated > 0, blank
        (True, None)
    """

    def __init__(
        self,
        reward: RewardModel | RewardConfig,
        options: TrlOptions | None = None,
        say: Say = _LOGGER.warning,
        *,
        processing_class: ChatTokenizer | None = None,
    ) -> None:
        self.options = options or TrlOptions()
        self._source, self._say = reward, say
        self._reward: RewardModel | None = None
        self._reader = ChatReader()
        self._scorer: PatientScorer | None = None
        self.opening = "" if processing_class is None else find_template_opening(processing_class)
        self.__name__ = "flip_reward"  # what TRL's metrics call it

    def __reduce__(self) -> tuple[type[TrlReward], tuple[RewardModel | RewardConfig, TrlOptions], dict[str, str]]:
        """Pickle how it is made, without models, connections and event loops."""
        return TrlReward, (self._source, self.options), {"opening": self.opening}

    def load(self) -> RewardModel:
        """Load the reward's model, once."""
        if self._reward is None:
            reward = self._source
            if isinstance(reward, RewardConfig):
                reward.require_model("FLIP_REWARD_MODEL", "FLIP_REWARD_BASE_URL")
                self._reader = reward.policy.load_reader()
                reward = reward.load()
            if not reward.independent and self.options.num_generations is None:
                raise OptionError(
                    "the reward compares the responses to a prompt, and must know how many there are",
                    hint="set FLIP_REWARD_ON_NUM_GENERATIONS to the trainer's num_generations",
                )
            self._reward = reward
        return self._reward

    async def __call__(
        self,
        prompts: Sequence[TextOrChat],
        completions: Sequence[TextOrChat],
        completion_ids: Sequence[list[int]] | None = None,
        log_extra: LogExtra | None = None,
        log_metric: LogMetric | None = None,
        **_columns: object,
    ) -> list[float | None]:
        """Score a batch.

        Args:
            prompts: One for each completion, as text or chat messages.
            completions: What the policy wrote, likewise.
            completion_ids: Their tokens.
            log_extra: Adds columns to TRL's table of completions.
            log_metric: Adds metrics to those of the step.

        Returns:
            The reward of each completion; None where there is none.

        Raises:
            RunStoppedError: More than `max_unscored_share` of the batch stayed unscored.
            UnscoredError: A response is unscored, and the options say to raise.
            EngineUnavailableError: The reward's model has never answered and never will.
            OptionError: The reward compares responses, and a group is not whole.
        """
        call = await self.score(prompts, completions, completion_ids)
        if call.problem is not None:
            raise RunStoppedError(call.problem, hint="the trainer's last checkpoint is where to go on from")
        if log_metric is not None:
            lengths = _lengths(call, completion_ids)
            overlaps = measure_overlaps(call, self.load().visible_answer)
            for name, value in describe_call(call, lengths, overlaps).items():
                log_metric(f"{self.__name__}/{name}", value)
        if log_extra is not None:
            for column, values in describe_samples(call).items():
                log_extra(column, values)
        rewards = iter(self.options.unscored.rewards([score for score in call.scores if score is not None]))
        return [None if score is None else next(rewards) for score in call.scores]

    async def score(
        self,
        prompts: Sequence[TextOrChat],
        completions: Sequence[TextOrChat],
        completion_ids: Sequence[list[int]] | None = None,
        num_generations: int | None = None,
    ) -> ScoredCall:
        """Score a batch, and return everything that is known about it; `num_generations` overrides the option."""
        reward = self.load()
        num_generations = num_generations or self.options.num_generations
        groups = group_samples(prompts, completions, num_generations, opening=self.opening, reader=self._reader)
        if not reward.independent and num_generations is not None:
            _check_whole(groups, num_generations)
        masked: list[int] = []
        if self.options.mask_truncated_completions:
            if completion_ids is None:
                raise OptionError("mask_truncated_completions needs completion_ids, which are not given")
            masked = [
                place
                for place, (tokens, text) in enumerate(zip(completion_ids, completions, strict=True))
                if self.options.masks(tokens, read_response(text))
            ]
        if self._scorer is None:
            self._scorer = PatientScorer(reward, self.options, self._say)
        return await self._scorer.score(groups, frozenset(masked))


def _check_whole(groups: Sequence[SampleGroup], num_generations: int) -> None:
    """Refuse a batch that does not hold every group as a whole, its samples one after the other."""
    for one in groups:
        if len(one.places) != num_generations or one.places[-1] - one.places[0] >= num_generations:
            raise OptionError(
                f"the reward compares the {num_generations} responses to a prompt, but this process does not have "
                "a whole group of them",
                hint="make per_device_train_batch_size x steps_per_generation (and per_device_eval_batch_size) a "
                "multiple of num_generations, so that no group is split between processes",
            )


def _lengths(call: ScoredCall, completion_ids: Sequence[list[int]] | None) -> list[int]:
    """Return the length of each sample: in tokens where they are known, else in characters."""
    if completion_ids is not None:
        return [len(tokens) for tokens in completion_ids]
    lengths = [0] * len(call.scores)
    for one in call.groups:
        for place, response in zip(one.places, one.group.responses, strict=True):
            lengths[place] = len(response)
    return lengths


def _load() -> TrlReward:
    options = TrlOptions.from_environment(os.environ)
    reward = TrlReward(RewardConfig.from_environment(os.environ), options)
    reward.load()
    return reward


environment_reward = OncePerProcess(_load)
"""Returns the reward of `os.environ`, loaded by the first call of each process."""


async def flip_reward(
    prompts: Sequence[TextOrChat],
    completions: Sequence[TextOrChat],
    completion_ids: Sequence[list[int]] | None = None,
    log_extra: LogExtra | None = None,
    log_metric: LogMetric | None = None,
    **columns: object,
) -> list[float | None]:
    """Score a batch with the reward that the environment describes; see `TrlReward`.

    The reward's model is loaded by the first call of the process.

    Raises:
        OptionError: An environment variable is misspelt or has a wrong value, or a group is not whole.
        RunStoppedError: More than FLIP_REWARD_ON_MAX_UNSCORED_SHARE of the batch stayed unscored.
        FlipRewardError: The model, a template or the similarity cannot be loaded.
    """
    reward = environment_reward()
    return await reward(prompts, completions, completion_ids, log_extra, log_metric, **columns)

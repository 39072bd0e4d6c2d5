"""The rewards of a recipe: loaded, asked once before anything else, and found for every row."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from flip_reward.core.conversation import Group
from flip_reward.errors import EngineUnavailableError, NoLogprobsError, OptionError
from flip_reward.integrations.trl import TrlReward
from flip_reward.integrations.trl.options import TrlOptions
from flip_reward.integrations.trl.patience import Say
from flip_reward.rewards.base import RewardModel
from flip_reward.rewards.catalogue import REWARDS
from flip_reward.rewards.config import RewardConfig
from flip_reward.rewards.constant_reward import CONSTANT, ConstantReward
from flip_reward.training.grpo.recipe import GrpoRecipe
from flip_reward.training.prompts.data_rewards import resolve_data_reward
from flip_reward.training.prompts.rows import PromptRow

if TYPE_CHECKING:
    from trl import GRPOConfig

_OPTION = re.compile(r"--([a-z-]+)")  # as hints name it; in a recipe it is a key
_PROBE = Group.of(
    "Name three fruits that grow on trees.", ["Apples, pears and plums grow on trees.", "It rains in the mountains."]
)


@dataclass(frozen=True, slots=True)
class GrpoRewards:
    """The rewards of a training.

    Attributes:
        by_dataset: Those that are learned from, by the name in the column "dataset".
        not_trained_on: Those that only look at held-out prompts, by a name that is good for a metric.
    """

    by_dataset: Mapping[str, TrlReward]
    not_trained_on: Mapping[str, TrlReward]

    @classmethod
    def load(cls, recipe: GrpoRecipe, rows: Sequence[PromptRow], options: TrlOptions, say: Say) -> GrpoRewards:
        """Load the rewards that the rows ask for.

        Raises:
            OptionError: A row asks for a reward that the recipe has no section for, or a section makes no sense.
            FlipRewardError: A model, a template or a similarity cannot be loaded.
        """
        names = dict.fromkeys(name for row in rows for name in row.datasets)
        by_dataset = {name: _wrap(_find_section(recipe, name), options, say) for name in names}
        others: dict[str, TrlReward] = {}
        for config in recipe.evaluation.rewards:
            label = config.reward if config.reward not in others else f"{config.reward}-{len(others) + 1}"
            others[label] = _wrap(config, options, say)
        for reward in (*by_dataset.values(), *others.values()):
            reward.load()
        return cls(by_dataset, others)

    def settings(self) -> dict[str, str | int | float | bool | None]:
        """Return what the rewards that are learned from depend on, one value a key."""
        return {
            f"{name}.{key}": value
            for name, reward in self.by_dataset.items()
            for key, value in reward.load().settings.items()
        }

    def check_groups(self, config: GRPOConfig, *, evaluate: bool) -> None:
        """Make sure that rewards that compare responses get those of a prompt together, and more than one.

        Args:
            config: How large batches are: those of one process.
            evaluate: Held-out prompts are looked at.

        Raises:
            OptionError: A batch splits a group, or held-out prompts get one response each.
        """
        comparing = [name for name, reward in self.by_dataset.items() if not reward.load().independent]
        held = config.per_device_train_batch_size * config.steps_per_generation
        if comparing and held % config.num_generations:
            raise OptionError(
                f"the reward {comparing[0]!r} compares the {config.num_generations} responses to a prompt, and a "
                f"process has {held} responses, which splits a group",
                hint="make grpo.per_device_train_batch_size x grpo.steps_per_generation (where it is not set, "
                "grpo.gradient_accumulation_steps) a multiple of grpo.num_generations",
            )
        comparing += [name for name, reward in self.not_trained_on.items() if not reward.load().independent]
        responses = config.num_generations_eval or config.num_generations
        if not comparing or not evaluate:
            return
        if responses < 2:
            raise OptionError(
                f"the reward {comparing[0]!r} compares the responses to a prompt, and held-out prompts get one",
                hint="set grpo.num_generations_eval to 2 or more",
            )
        if config.per_device_eval_batch_size % responses:
            raise OptionError(
                f"the reward {comparing[0]!r} compares the {responses} responses to a held-out prompt, and a process "
                f"has {config.per_device_eval_batch_size} responses, which splits a group",
                hint="make grpo.per_device_eval_batch_size a multiple of grpo.num_generations_eval",
            )

    def know_end_tokens(self, tokens: Iterable[int | None]) -> None:
        """Say which tokens end a completion; one that has them at the limit is not cut off."""
        known = frozenset(token for token in tokens if token is not None)
        for reward in (*self.by_dataset.values(), *self.not_trained_on.values()):
            reward.options = reward.options.model_copy(update={"end_tokens": known})

    async def probe(self) -> None:
        """Ask every reward once, so that what is not there is found before the policy is loaded.

        Raises:
            EngineUnavailableError: A reward's model does not answer.
        """
        for name, reward in (*self.by_dataset.items(), *self.not_trained_on.items()):
            model = reward.load()
            lacking = f"the model behind the reward {name!r} does not answer"
            try:
                [scores] = await model.score([_PROBE])
            except NoLogprobsError:
                raise
            except EngineUnavailableError as error:
                hint = _OPTION.sub(lambda option: option[1].replace("-", "_"), error.hint or "")
                raise EngineUnavailableError(f"{lacking}: {error}", hint=hint or None) from error
            lost = [score for score in scores if score.outcome.retryable]
            if lost:
                hint = "start its server first; the policy has not been loaded yet"
                raise EngineUnavailableError(f"{lacking}: {lost[0].detail}", hint=hint)


def load_training_reward(config: RewardConfig) -> RewardModel:
    """Make the reward of a section, which may be "constant" too.

    Raises:
        OptionError: There is no such reward or model, or an option does not go with the reward.
        FlipRewardError: The model, a template or the similarity cannot be loaded.
    """
    return ConstantReward() if config.reward == CONSTANT else config.load()


def _wrap(config: RewardConfig, options: TrlOptions, say: Say) -> TrlReward:
    return TrlReward(load_training_reward(config), options, say)


def _find_section(recipe: GrpoRecipe, name: str) -> RewardConfig:
    if name in recipe.rewards:
        return recipe.rewards[name]
    wanted = resolve_data_reward(name)
    given = recipe.reward.reward
    if given == wanted:
        return recipe.reward
    if given not in (*REWARDS, CONSTANT):
        near = get_close_matches(given, (*REWARDS, CONSTANT), n=1)
        suggestion = f"; did you mean {near[0]!r}?" if near else ""
        raise OptionError(
            f"unknown reward {given!r} in reward.reward{suggestion}",
            hint=f"rewards are {', '.join((*REWARDS, CONSTANT))}",
        )
    raise OptionError(
        f"rows ask for the reward {name!r} ({wanted}), and the recipe's reward is {given!r}",
        hint=f"set reward.reward={wanted}, data.switch_to to a name for {given!r}, or add a section rewards.{name}",
    )

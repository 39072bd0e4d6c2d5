"""The rewards of a recipe: loaded, asked once before anything else, and called by TRL for every batch."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flip_reward.core.conversation import Group
from flip_reward.core.score import Outcome
from flip_reward.errors import EngineUnavailableError, FlipRewardError, NoLogprobsError, OptionError, suggest_name
from flip_reward.integrations.samples import TextOrChat, read_response
from flip_reward.integrations.trl import ChatTokenizer, LogExtra, LogMetric, TrlReward, find_template_opening
from flip_reward.integrations.trl.metrics import describe_call, measure_overlaps
from flip_reward.integrations.trl.options import TrlOptions
from flip_reward.integrations.trl.patience import LEFT_OUT, Say, ScoredCall
from flip_reward.report.training.folder import Split
from flip_reward.rewards.composite.formula import is_formula
from flip_reward.rewards.config import REWARDS, RewardConfig
from flip_reward.rewards.function import is_function_name
from flip_reward.training.grpo.recipe import GrpoRecipe
from flip_reward.training.grpo.samples import SampleRow, SampleTable
from flip_reward.training.prompts.rows import PromptRow, resolve_data_reward

if TYPE_CHECKING:
    from trl import GRPOConfig


_OPTION = re.compile(r"--([a-z-]+)")  # hints name options of the command line; in a recipe they are keys
_PROBE = Group.of(
    "Name three fruits that grow on trees.", ["Apples, pears and plums grow on trees.", "It rains in the mountains."]
)


@dataclass(frozen=True, slots=True)
class GrpoRewards:
    """The rewards of a training."""

    by_dataset: Mapping[str, TrlReward]
    """By the name in the column "dataset"."""
    held_out: Mapping[str, TrlReward]
    """They only score held-out prompts; by their name in metrics."""
    models: Mapping[str, str] = field(default_factory=dict)
    """The model behind each of them and where it is, for a person."""

    @classmethod
    def load(cls, recipe: GrpoRecipe, rows: Sequence[PromptRow], options: TrlOptions, say: Say) -> GrpoRewards:
        """Load the rewards that the rows ask for, and the held-out ones."""
        names = dict.fromkeys(name for row in rows for name in row.datasets)
        sections = {name: _find_section(recipe, name) for name in names}
        others: dict[str, RewardConfig] = {}
        for config in recipe.held_out_rewards:
            others[config.reward if config.reward not in others else f"{config.reward}-{len(others) + 1}"] = config
        for config in (*sections.values(), *others.values()):
            config.require_model("its key model (reward.model)", "base_url")
        by_dataset, held_out = (
            {name: TrlReward(config, options, say) for name, config in part.items()} for part in (sections, others)
        )
        models = {name: config.describe_model() for name, config in (sections | others).items()}
        for reward in (*by_dataset.values(), *held_out.values()):
            reward.load()
        return cls(by_dataset, held_out, models)

    def settings(self) -> dict[str, str | int | float | bool | None]:
        """Return the settings of the rewards to learn from, one value a key."""
        return {
            f"{name}.{key}": value
            for name, reward in self.by_dataset.items()
            for key, value in reward.load().settings.items()
        }

    @property
    def maximum(self) -> float | None:
        """The largest reward of a sample, where that is known."""
        settings = [reward.load().settings for reward in self.by_dataset.values()]
        # Rows may ask for several rewards, which are added up.
        return 1.0 if len(settings) == 1 and settings[0].get("reward") == "flip" else None

    def check_groups(self, config: GRPOConfig, *, evaluate: bool, compare: bool = False) -> None:
        """Make sure that no batch of a process splits a group of a reward that compares responses."""
        comparing = [name for name, reward in self.by_dataset.items() if not reward.load().independent]
        others = [name for name, reward in self.held_out.items() if not reward.load().independent]
        comparing += others if compare else []
        held = config.per_device_train_batch_size * config.steps_per_generation
        if comparing and held % config.num_generations:
            raise OptionError(
                f"the reward {comparing[0]!r} compares the {config.num_generations} responses to a prompt, and a "
                f"process has {held} responses, which splits a group",
                hint="make grpo.per_device_train_batch_size x grpo.steps_per_generation (where it is not set, "
                "grpo.gradient_accumulation_steps) a multiple of grpo.num_generations",
            )
        comparing += others
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
        """Set the tokens that end a completion; one that ends with them at the limit is whole."""
        known = frozenset(token for token in tokens if token is not None)
        for reward in (*self.by_dataset.values(), *self.held_out.values()):
            reward.options = reward.options.model_copy(update={"end_tokens": known})

    def know_template(self, tokenizer: ChatTokenizer, fields: Mapping[str, object]) -> None:
        """Set how the policy's chat template, given these fields, opens the thinking of every response."""
        opening = find_template_opening(tokenizer, fields)
        for reward in (*self.by_dataset.values(), *self.held_out.values()):
            reward.opening = opening

    async def probe(self) -> None:
        """Ask every reward once, so that a missing model ends the training before the policy is loaded."""
        for name, reward in (*self.by_dataset.items(), *self.held_out.items()):
            model = reward.load()
            failed = f"the model behind the reward {name!r} does not answer"
            try:
                [scores] = await model.score([_PROBE])
            except NoLogprobsError:
                raise
            except EngineUnavailableError as error:
                hint = _OPTION.sub(lambda option: option[1].replace("-", "_"), error.hint or "")
                raise EngineUnavailableError(f"{failed}: {error}", hint=hint or None) from error
            lost = [score for score in scores if score.outcome.retryable]
            if lost:
                if not model.engines:
                    raise EngineUnavailableError(f"the reward {name!r} fails: {lost[0].detail}")
                hint = "start its server first; the policy has not been loaded yet"
                raise EngineUnavailableError(f"{failed}: {lost[0].detail}", hint=hint)


def _find_section(recipe: GrpoRecipe, name: str) -> RewardConfig:
    if name in recipe.rewards:
        return recipe.rewards[name]
    wanted = resolve_data_reward(name)
    given = recipe.reward.reward
    if given == wanted:
        return recipe.reward
    if given not in REWARDS and not is_formula(given, REWARDS) and not is_function_name(given):
        suggestion = suggest_name(given, REWARDS)
        raise OptionError(
            f"unknown reward {given!r} in reward.reward{suggestion}",
            hint=f"rewards are {', '.join(REWARDS)}",
        )
    raise OptionError(
        f"rows ask for the reward {name!r} ({wanted}), and the recipe's reward is {given!r}",
        hint=f"set reward.reward={wanted}, data.switch_to to a name for {given!r}, or add a section rewards.{name}",
    )


@dataclass(frozen=True, slots=True)
class _Batch:
    """The samples of a call as TRL hands them over."""

    prompts: Sequence[TextOrChat]
    completions: Sequence[TextOrChat]
    completion_ids: Sequence[list[int]]
    rows: Sequence[int]


@dataclass(frozen=True, slots=True)
class _Part:
    """The samples of a batch that one reward scores, by their places, and the result of each."""

    name: str
    places: Sequence[int]
    call: ScoredCall
    rewards: Sequence[float | None]
    overlaps: Sequence[float | None]


class GrpoRewardCall:
    """What TRL calls: scores a batch with the rewards that its rows ask for, and adds up several of them.

    A sample that lacks one of its rewards has none: with a part of the sum it would look worse than it is. The
    trainer sets what the next batch is for (`split`) and how many responses a prompt has in it (`num_generations`).
    `problem` says why there is nothing to learn from the last batch. `held_out_values` are those behind the means of
    an evaluation, by the names of metrics; the trainer clears them.
    """

    def __init__(self, rewards: GrpoRewards, table: SampleTable, say: Say, compared_samples: int = 0) -> None:
        self._rewards, self._table, self._say, self._compared = rewards, table, say, compared_samples
        self.split = Split.TRAIN
        self.num_generations = 1
        self.problem: str | None = None
        self.held_out_values: dict[str, list[float]] = {}
        self.__name__ = "flip_reward"  # what TRL's metrics call it

    async def __call__(
        self,
        prompts: Sequence[TextOrChat],
        completions: Sequence[TextOrChat],
        completion_ids: Sequence[list[int]],
        dataset: Sequence[Sequence[str]],
        row: Sequence[int],
        log_extra: LogExtra | None = None,
        log_metric: LogMetric | None = None,
        **_: object,
    ) -> list[float | None]:
        """Score a batch. It raises nothing, since the other processes would wait for this one."""
        self.problem = None
        batch = _Batch(prompts, completions, completion_ids, row)
        asked = {
            name: [place for place, names in enumerate(dataset) if name in names] for name in self._rewards.by_dataset
        }
        compared = self._choose_compared(len(prompts))
        try:
            parts = await asyncio.gather(
                *(
                    self._score(name, reward, asked[name], batch)
                    for name, reward in self._rewards.by_dataset.items()
                    if asked[name]
                )
            )
            held_out = self._rewards.held_out if compared else {}
            others = await asyncio.gather(
                *(self._score(name, reward, compared, batch) for name, reward in held_out.items())
            )
        except FlipRewardError as error:
            self.problem = str(error) + (f" ({error.hint})" if error.hint else "")
            return [None] * len(prompts)
        problems = [part for part in parts if part.call.problem]
        if self.split is Split.TRAIN and problems:
            self.problem = problems[0].call.problem
        for part in (*(problems if self.split is Split.HELD_OUT else ()), *others):
            if part.call.problem:
                where = "Held-out prompts" if self.split is Split.HELD_OUT else "Compared samples"
                self._say(f"{where}, {part.name}: {part.call.problem}")
        rewards = _add_up(len(prompts), parts)
        samples = _describe(batch, rewards, parts, others)
        self._table.add(self.split, samples)
        if self.split is Split.HELD_OUT:
            found = {"reward": rewards, f"rewards/{self.__name__}/mean": rewards, **_list_values(parts, others)}
            for name, values in found.items():
                self.held_out_values.setdefault(name, []).extend(value for value in values if value is not None)
        if log_metric is not None:
            _log(batch, parts, others, log_metric)
        if log_extra is not None:
            log_extra("inferred_instruction", [sample.inferred_instruction for sample in samples])
            log_extra("outcome", [sample.outcome for sample in samples])
        return rewards

    def _choose_compared(self, samples: int) -> range:
        """Return the places of the samples that the held-out rewards score: in training, whole groups of a few."""
        if self.split is Split.HELD_OUT:
            return range(samples)
        groups = -(-self._compared // self.num_generations)
        return range(min(samples, groups * self.num_generations))

    async def _score(self, name: str, reward: TrlReward, places: Sequence[int], batch: _Batch) -> _Part:
        call = await reward.score(
            [batch.prompts[place] for place in places],
            [batch.completions[place] for place in places],
            [batch.completion_ids[place] for place in places],
            self.num_generations,
        )
        return _Part(name, places, call, call.rewards, measure_overlaps(call, reward.load().visible_answer))


def _add_up(count: int, parts: Sequence[_Part]) -> list[float | None]:
    sums: list[float | None] = [0.0] * count
    for part in parts:
        for place, value in zip(part.places, part.rewards, strict=True):
            known = sums[place]
            sums[place] = None if known is None or value is None else known + value
    return sums


def _describe(
    batch: _Batch, rewards: Sequence[float | None], parts: Sequence[_Part], others: Sequence[_Part]
) -> list[SampleRow]:
    """Describe every sample, of several rewards by the first one that failed, or else by the first."""
    shown: dict[int, tuple[_Part, int]] = {}
    alone = Counter(place for part in parts for place in part.places)
    known = {other.name: dict(zip(other.places, other.rewards, strict=True)) for other in others}
    failed: set[int] = set()
    for part in parts:
        for index, place in enumerate(part.places):
            fails = part.rewards[index] is None
            if place not in shown or (fails and place not in failed):
                shown[place] = (part, index)
            if fails:
                failed.add(place)
    samples = []
    for place, reward in enumerate(rewards):
        part, index = shown[place]
        score = part.call.scores[index]
        samples.append(
            SampleRow(
                row=batch.rows[place],
                messages=Group.of(batch.prompts[place], "").messages,
                response=read_response(batch.completions[place]),
                tokens=len(batch.completion_ids[place]),
                reward=reward,
                outcome=LEFT_OUT if score is None else score.outcome.value,
                inferred_instruction=None if score is None else score.inferred_instruction,
                precision=None if score is None else score.precision,
                recall=None if score is None else score.recall,
                instruction_4gram_overlap=part.overlaps[index],
                # Of several rewards that are added up, the spread of one says nothing.
                spread=None if score is None or alone[place] > 1 else score.spread,
                samples=1 if score is None else max(1, sum(one.value is not None for one in score.samples)),
                held_out_rewards={name: rewards[place] for name, rewards in known.items() if place in rewards},
            )
        )
    return samples


def _list_values(parts: Sequence[_Part], others: Sequence[_Part]) -> dict[str, Sequence[float | None]]:
    """Return the values behind the metrics that are means over samples."""
    found: dict[str, Sequence[float | None]] = {f"held_out_rewards/{other.name}": other.rewards for other in others}
    for part in parts:
        scores = part.call.scores
        found[f"{part.name}/mean"] = part.rewards
        found[f"{part.name}/precision"] = [None if score is None else score.precision for score in scores]
        found[f"{part.name}/recall"] = [None if score is None else score.recall for score in scores]
        found[f"{part.name}/instruction_4gram_overlap"] = part.overlaps
        outcomes = [LEFT_OUT if score is None else score.outcome for score in scores]
        for name in (*Outcome, LEFT_OUT):
            found[f"{part.name}/outcomes/{name}"] = [float(outcome == name) for outcome in outcomes]
    return found


def _log(batch: _Batch, parts: Sequence[_Part], others: Sequence[_Part], log_metric: LogMetric) -> None:
    for part in parts:
        lengths = [len(batch.completion_ids[place]) for place in part.places]
        for name, value in describe_call(part.call, lengths, part.overlaps).items():
            log_metric(f"{part.name}/{name}", value)
    for part in others:
        known = [value for value in part.rewards if value is not None]
        if known:
            log_metric(f"held_out_rewards/{part.name}", sum(known) / len(known))

"""A recipe: how a policy is trained with GRPO, as a YAML file, so that one command repeats it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from flip_reward.audit.monitor.options import MonitorOptions
from flip_reward.errors import DataError, FlipRewardError
from flip_reward.recipe import read_recipe
from flip_reward.rewards.config import RewardConfig
from flip_reward.rewards.options import Settings
from flip_reward.training.common.folder import OnAlarm
from flip_reward.training.common.recipe import (
    NOT_LEARNED_FROM,
    LoraOptions,
    RecipePart,
    check_trl_fields,
    to_settings,
)
from flip_reward.training.prompts.rows import resolve_data_reward

_RESERVED = frozenset({"output_dir", "resume_from_checkpoint", "remove_unused_columns", "reward_weights"})


def _check_grpo_fields(values: Mapping[str, object]) -> dict[str, object]:
    return check_trl_fields("GRPOConfig", values, reserved=_RESERVED)


class GrpoData(RecipePart):
    """Prompts to learn from, and prompts to evaluate on."""

    source: str
    """Rows of `flip-reward data`, or prompts or chats in any shape and format that `flip-reward score` reads: a file,
    or a data set on the hub. Prompts that name no reward get that of the section `reward`."""
    switch_to: str | None = None
    """Give every row this reward in place of its own, such as "general-quality"."""
    columns: dict[str, str] = Field(default={})
    """Our column names to theirs, as for `--columns`: the rows are then prompts, not those of `flip-reward data`."""
    encoding: str | None = None
    """How the texts of files are written; by default UTF-8, or UTF-16 where that is certain."""
    rows: int | None = Field(default=None, ge=1)
    """How many of the rows to learn from, drawn with the seed."""
    held_out: float = Field(default=0.0, ge=0, le=0.5)
    """The share of the prompts that is held out."""
    held_out_source: str | None = None
    """Prompts of another source, in place of a share."""
    held_out_rows: int | None = Field(default=None, ge=1)
    """How many of the held-out rows, drawn with the seed."""
    max_prompt_tokens: int | None = Field(default=None, ge=1)
    """Longer prompts are left out, never cut."""
    skip_bad_rows: bool = False
    """Leave out invalid rows; by default they end the training before it begins."""
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        if self.held_out and self.held_out_source is not None:
            raise PydanticCustomError("data_keys", "held_out has no effect with held_out_source: set it to 0")
        return self


def _know_by_name(sections: dict[str, RewardConfig]) -> dict[str, RewardConfig]:
    """Give each section the reward that rows with its name ask for."""
    known = {}
    for name, section in sections.items():
        try:
            wanted = resolve_data_reward(name, "rewards")
        except DataError as error:
            raise PydanticCustomError("reward_name", "{reason}", {"reason": str(error)}) from error
        if "reward" in section.model_fields_set and section.reward != wanted:
            reason = "rows with {name} ask for {wanted}, and the section's reward is {given}"
            shown = {"name": repr(name), "wanted": repr(wanted), "given": repr(section.reward)}
            raise PydanticCustomError("reward_name", reason, shown)
        known[name] = section.model_copy(update={"reward": wanted})
    return known


def _guard(section: object, reward: object) -> object:
    """Turn on the copy guard of a section that says nothing of it, where its reward has one."""
    if not isinstance(section, Mapping) or "copy_guard" in section:
        return section
    try:
        has_guard = "copy_guard" in RewardConfig(reward=section.get("reward", reward)).own_settings
    except (FlipRewardError, ValidationError):
        return section  # what is wrong with it is said when it is read
    return {**section, "copy_guard": True} if has_guard else section


def _guard_named(name: str, section: object) -> object:
    try:
        return _guard(section, resolve_data_reward(name, "rewards"))
    except DataError:
        return section


class GrpoRecipe(RecipePart):
    """What is trained, on what, with which reward, and how."""

    renamed: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "evaluation": "held_out_rewards",
            "truncated": "mask_truncated_completions",
            "pause_seconds": "outage_poll_seconds",
            "patience_seconds": "outage_timeout_seconds",
        }
    )

    model: str
    """The policy: a folder, a name on the hub, or "smollm2-135m"."""
    data: GrpoData
    reward: RewardConfig = RewardConfig()
    """The reward of rows whose "dataset" names it. It and the others below have the copy guard on, unless a section
    says `copy_guard: false`."""
    rewards: Annotated[dict[str, RewardConfig], AfterValidator(_know_by_name)] = Field(default={})
    """Where rows have several rewards: one section for each name in "dataset", which implies the reward."""
    held_out_rewards: list[RewardConfig] = Field(default=[])
    """Rewards that only score the responses to held-out prompts. Where the trained reward rises and these do not, the
    policy games it. Without the guard copies would raise these too."""
    compared_samples: int = Field(default=0, ge=0)
    """How many samples of a step they score too, in whole groups: an alarm then need not wait for an evaluation."""
    monitor: MonitorOptions = MonitorOptions()
    """When an alarm is raised."""
    on_alarm: OnAlarm = OnAlarm.WARN
    """Whether the training goes on, pauses or stops where the reward is being gamed."""
    output: Path | None = None
    mask_truncated_completions: bool = False
    """A completion that ends at `max_completion_length` has no reward, and its group's baseline does without it.
    `grpo.mask_truncated_completions` only leaves it out of the loss."""
    max_unscored_share: float = Field(default=0.5, ge=0, le=1)
    """The training stops with a checkpoint when a larger share of a batch stays unscored."""
    outage_poll_seconds: float = Field(default=30.0, gt=0, allow_inf_nan=False)
    """How long to wait for a reward's model that does not answer, before asking again."""
    outage_timeout_seconds: float = Field(default=1800.0, ge=0, allow_inf_nan=False)
    """How long to go on asking."""
    lora: LoraOptions | None = None
    """Train a LoRA adapter, in place of all weights."""
    grpo: Annotated[dict[str, object], AfterValidator(_check_grpo_fields)] = Field(default={})
    """Fields of TRL's GRPOConfig, called as they are there."""

    @model_validator(mode="before")
    @classmethod
    def _guard_rewards(cls, given: object) -> object:
        if not isinstance(given, Mapping):
            return given
        guarded = {**given, "reward": _guard(given.get("reward", {}), "flip")}
        if isinstance(sections := given.get("rewards"), Mapping):
            guarded["rewards"] = {name: _guard_named(name, section) for name, section in sections.items()}
        if isinstance(held_out := given.get("held_out_rewards"), list):
            guarded["held_out_rewards"] = [_guard(section, "flip") for section in held_out]
        return guarded

    def without_guard(self) -> Self:
        """Return the recipe with the copy guard off, as all were before there was one."""
        return self.model_copy(
            update={
                "reward": self.reward.updated(copy_guard=False),
                "rewards": {name: one.updated(copy_guard=False) for name, one in self.rewards.items()},
                "held_out_rewards": [one.updated(copy_guard=False) for one in self.held_out_rewards],
            }
        )

    @classmethod
    def read(cls, path: Path, overrides: Sequence[str] = ()) -> Self:
        """Read a recipe; overrides are "key=value" or "part.key=value", values in YAML, in place of what it says."""
        return read_recipe(path, cls, overrides, extra="train")

    def to_record(self) -> dict[str, object]:
        """Return the whole recipe as JSON values that may be written down: without passwords and keys."""
        return self.model_dump(mode="json") | {
            "reward": self.reward.to_record(),
            "rewards": {name: reward.to_record() for name, reward in self.rewards.items()},
            "held_out_rewards": [reward.to_record() for reward in self.held_out_rewards],
        }

    def settings(self) -> Settings:
        """Return the settings that the result depends on, without the rewards and the rows, one value a key."""
        trained = {name: value for name, value in self.grpo.items() if name not in NOT_LEARNED_FROM}
        return {
            "model": self.model,
            "truncated": "leave_out" if self.mask_truncated_completions else "score",  # as it was called before
            # Another encoding makes other rows, whose fingerprint stands beside the settings.
            **to_settings(self.data.model_dump(mode="json", exclude={"encoding"}), "data."),
            **to_settings(self.lora.model_dump() if self.lora else {}, "lora."),
            **to_settings(trained, "grpo."),
        }

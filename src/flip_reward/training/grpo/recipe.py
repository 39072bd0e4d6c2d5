"""A recipe: how a policy is trained with GRPO, as a YAML file, so that one command repeats it.

The fields of TRL's GRPOConfig, as the installed version has them: which there are, and what they hold.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.errors import PydanticSchemaGenerationError
from pydantic_core import PydanticCustomError

from flip_reward.errors import DataError, MissingDependencyError
from flip_reward.recipe import read_recipe
from flip_reward.redact import is_secret_field, strip_user_info
from flip_reward.rewards.config import RewardConfig
from flip_reward.training.inferrer.recipe import LoraOptions
from flip_reward.training.prompts.rows import resolve_data_reward

OURS = frozenset({"output_dir", "resume_from_checkpoint", "remove_unused_columns", "reward_weights"})
"""What follows from the rest of a recipe."""


def check_grpo_fields(values: Mapping[str, object]) -> dict[str, object]:
    """Check values for fields of GRPOConfig, and return them with the types that it wants.

    Raises:
        PydanticCustomError: There is no such field (it names the nearest one), it takes another type, it holds a key
            or a password, or it would run code of a model.
        MissingDependencyError: TRL is not installed.
    """
    try:
        from trl import GRPOConfig
    except ImportError:
        raise MissingDependencyError("trl", extra="train") from None
    hints = typing.get_type_hints(GRPOConfig)
    known = {field.name for field in dataclasses.fields(GRPOConfig) if field.init}
    checked: dict[str, object] = {}
    for name, value in values.items():
        if name in OURS:
            raise PydanticCustomError("grpo_key", "{name} follows from the rest of the recipe", {"name": repr(name)})
        if name not in known:
            near = get_close_matches(name, known, n=1)
            suggestion = f"; did you mean {near[0]!r}?" if near else ""
            raise PydanticCustomError(
                "grpo_key",
                "unknown key {name}{suggestion} (keys are the fields of TRL's GRPOConfig)",
                {"name": repr(name), "suggestion": suggestion},
            )
        _refuse_unsafe(name, value)
        checked[name] = _check_type(name, value, hints[name])
    return checked


def _refuse_unsafe(name: str, value: object) -> None:
    """Refuse code of others, and what no checkpoint should hold: trainers keep their whole configuration there."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _refuse_unsafe(f"{name}.{key}", inner)
    elif name.rpartition(".")[2] == "trust_remote_code" and value:
        reason = "{name} would run code that comes with a model, and stays off"
        raise PydanticCustomError("grpo_key", reason, {"name": repr(name)})
    elif isinstance(value, str) and is_secret_field(name.rpartition(".")[2]):
        reason = "{name} would be written down: log in with 'hf auth login' instead"
        raise PydanticCustomError("grpo_key", reason, {"name": repr(name)})
    elif isinstance(value, str) and strip_user_info(value) != value:
        reason = "the password in {name} would be written down: put it into ~/.netrc instead"
        raise PydanticCustomError("grpo_key", reason, {"name": repr(name)})


def _check_type(name: str, value: object, hint: Any) -> object:  # noqa: ANN401 - any annotation
    try:
        adapter: TypeAdapter[object] = TypeAdapter(hint)
    except PydanticSchemaGenerationError:
        return value  # a class of another library, which looks at it itself
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        if value is False and name.endswith("_strategy"):  # so YAML reads a plain "no"
            return _check_type(name, "no", hint)
        reason = error.errors(include_url=False)[0]["msg"]
        raise PydanticCustomError("grpo_type", "{name}: {reason}", {"name": name, "reason": reason}) from None


TRACKERS = ("none", "tensorboard", "wandb", "trackio")
"""Names for `report_to` in the section `grpo`."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class GrpoData(_Part):
    """Prompts to learn from, and prompts kept apart to look at."""

    source: str
    """Rows of `flip-reward data`: a file in any format that `flip-reward score` reads, or a data set on the hub."""
    switch_to: str | None = None
    """Give every row this reward in place of its own, such as "general-quality". Plain prompts and chats are taken
    then as well, as `flip-reward data convert` takes them."""
    columns: dict[str, str] = {}
    """With `switch_to`: our column names to theirs, as for `--columns`."""
    rows: int | None = Field(default=None, ge=1)
    """Only so many of the rows to learn from, drawn with the seed."""
    held_out: float = Field(default=0.0, ge=0, le=0.5)
    """Which part of the prompts is kept apart."""
    held_out_source: str | None = None
    """Prompts of another source in their place."""
    held_out_rows: int | None = Field(default=None, ge=1)
    """Only so many of them, drawn with the seed."""
    max_prompt_tokens: int | None = Field(default=None, ge=1)
    """Longer prompts are left out, never cut."""
    skip_bad_rows: bool = False
    """Leave out rows that cannot be used; by default they end the training before it begins."""
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        if self.columns and self.switch_to is None:
            raise PydanticCustomError("data_keys", "columns have an effect only with switch_to")
        if self.held_out and self.held_out_source is not None:
            raise PydanticCustomError("data_keys", "held_out has no effect beside held_out_source: set it to 0")
        return self


class GrpoEvaluation(_Part):
    """What else the responses to held-out prompts are scored with.

    Where the trained reward rises and these do not, the reward is gamed.
    """

    rewards: list[RewardConfig] = []


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
            places = {"name": repr(name), "wanted": repr(wanted), "given": repr(section.reward)}
            raise PydanticCustomError("reward_name", reason, places)
        known[name] = section.model_copy(update={"reward": wanted})
    return known


_RENAMED = {
    "truncated": "mask_truncated_completions: true or false",
    "pause_seconds": "outage_poll_seconds",
    "patience_seconds": "outage_timeout_seconds",
}


class GrpoRecipe(_Part):
    """What is trained, on what, with which reward, and how.

    Example:
        >>> recipe = GrpoRecipe(
        ...     model="smollm2-135m", data=GrpoData(source="train.jsonl"), grpo={"learning_rate": "1e-6"}
        ... )
        >>> recipe.grpo["learning_rate"]
        1e-06
    """

    model: str
    """The policy: a folder, a name on the hub, or "smollm2-135m"."""
    data: GrpoData
    reward: RewardConfig = RewardConfig()
    """The reward of rows whose "dataset" names it."""
    rewards: Annotated[dict[str, RewardConfig], AfterValidator(_know_by_name)] = {}
    """Where rows have several rewards: those of the others, by the name in "dataset", which says the reward too."""
    evaluation: GrpoEvaluation = GrpoEvaluation()
    output: Path | None = None
    mask_truncated_completions: bool = False
    """A completion that ends at `max_completion_length` has no reward, and its group's baseline does without it.
    `grpo.mask_truncated_completions` only leaves it out of the loss."""
    max_unscored_share: float = Field(default=0.5, ge=0, le=1)
    """When more of a batch stays unscored, the training stops with a checkpoint."""
    outage_poll_seconds: float = Field(default=30.0, gt=0)
    """How long it waits for a reward's model that does not answer, before it asks again."""
    outage_timeout_seconds: float = Field(default=1800.0, ge=0)
    """How long it goes on asking."""
    lora: LoraOptions | None = None
    """Train a LoRA adapter, in place of all weights."""
    grpo: Annotated[dict[str, object], AfterValidator(check_grpo_fields)] = {}
    """Fields of TRL's GRPOConfig, called as they are there."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_renamed(cls, keys: object) -> object:
        for old, new in _RENAMED.items():
            if isinstance(keys, dict) and old in keys:
                raise PydanticCustomError("renamed", "{old} is now {new}", {"old": old, "new": new})
        return keys

    @classmethod
    def read(cls, path: Path, overrides: Sequence[str] = ()) -> Self:
        """Read a recipe.

        Args:
            path: The YAML file.
            overrides: "key=value" or "part.key=value", values in YAML, in place of what the file says.

        Raises:
            DataError: There is none, or it is not a recipe.
            OptionError: An override is malformed.
            MissingDependencyError: PyYAML or TRL is not installed.
        """
        return read_recipe(path, cls, overrides, extra="train")

    def to_record(self) -> dict[str, object]:
        """Return the whole recipe as JSON values that may be written down: without passwords and keys."""
        return self.model_dump(mode="json") | {
            "reward": self.reward.to_record(),
            "rewards": {name: reward.to_record() for name, reward in self.rewards.items()},
            "evaluation": {"rewards": [reward.to_record() for reward in self.evaluation.rewards]},
        }

    def settings(self) -> dict[str, str | int | float | bool | None]:
        """Return what the result depends on besides the rewards and the rows, one value a key."""
        truncated = "leave_out" if self.mask_truncated_completions else "score"  # as in manifests written before
        flat: dict[str, str | int | float | bool | None] = {"model": self.model, "truncated": truncated}
        data = {f"data.{name}": value for name, value in self.data.model_dump(mode="json").items()}
        lora = {} if self.lora is None else {f"lora.{name}": value for name, value in self.lora.model_dump().items()}
        trained = {f"grpo.{name}": value for name, value in self.grpo.items() if name not in _NOT_LEARNED}
        for key, value in (data | lora | trained).items():
            plain = value.value if isinstance(value, Enum) else value
            flat[key] = plain if isinstance(plain, str | int | float | bool | None) else str(plain)
        return flat


_NOT_LEARNED = frozenset(
    {
        "report_to", "run_name", "project", "logging_steps", "logging_first_step", "log_completions", "disable_tqdm",
        "num_completions_to_print", "log_unique_prompts", "save_steps", "save_strategy", "save_total_limit",
        "eval_steps", "eval_strategy", "eval_on_start", "per_device_eval_batch_size", "vllm_server_base_url",
        "vllm_server_host", "vllm_server_port", "vllm_server_timeout", "vllm_group_port", "ddp_timeout",
    }
)  # fmt: skip
"""Fields that may change when a training is resumed."""

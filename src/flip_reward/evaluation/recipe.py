"""A recipe: an evaluation as a YAML file, so that one command repeats it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from flip_reward.engines.config import EngineConfig
from flip_reward.errors import OptionError
from flip_reward.recipe import read_recipe
from flip_reward.rewards.config import RewardConfig
from flip_reward.settings import flatten


class RecipeModel(BaseModel):
    """A model and where it is; None is the embedded model, or what `reward` says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str | None = None
    base_url: str | None = None
    extra_body: dict[str, object] = {}
    no_thinking: bool = False

    def to_engine_config(self, shared: EngineConfig) -> EngineConfig:
        """Return how it is reached, with the settings that all models share."""
        return replace(
            shared,
            model=self.model or shared.model,
            base_url=self.base_url or shared.base_url,
            extra_body={**shared.extra_body, **self.extra_body},
            no_thinking=self.no_thinking or shared.no_thinking,
        )


class Recipe(BaseModel):
    """The options of `flip-reward evaluate`; those of the rewards are in the section `reward`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    benchmarks: list[str] = []
    rewards: list[str] = []
    models: list[RecipeModel] = [RecipeModel()]
    reward: RewardConfig = RewardConfig()
    """Settings of all rewards and models; each takes those that it has."""
    runs: int = Field(default=1, ge=1)
    limit: int | None = Field(default=None, ge=1)
    skip_bad_rows: bool = False
    columns: dict[str, str] = {}
    """Our column names to those of benchmarks that are files of preferences."""
    encoding: str | None = None
    """How the texts of benchmarks that are files are written; None for UTF-8, or UTF-16 where that is certain."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a recipe; a DataError says what is wrong with it."""
        return read_recipe(path, cls, extra="eval")

    def joined(self, options: Recipe) -> Self:
        """Join a recipe from a file with the command line, which may choose models, a limit and how to reach models.

        An OptionError names a model that the recipe does not have, or an option that the recipe sets.
        """
        changed = options.reward.changed()
        reached = {name: value for name, value in flatten(options.reward.engine).items() if name in changed}
        fields = type(self).model_fields
        given = [name for name in options.model_fields_set if getattr(options, name) != fields[name].default]
        for name in (*given, *changed):
            if name not in ("models", "limit", "reward", *reached):
                raise OptionError(
                    f"{name.replace('_', ' ')} is set by the recipe",
                    hint="change the recipe; only --model, --limit and how models are reached can be given beside it",
                )
        known = {model.model: model for model in self.models}
        wanted = [model.model for model in options.models if model.model is not None]
        for missing in (name for name in wanted if name not in known):
            raise OptionError(
                f"the recipe has no model {missing!r}", hint=f"its models are {', '.join(map(str, known))}"
            )
        return self.model_copy(
            update={
                "models": [known[name] for name in wanted] or self.models,
                "limit": options.limit or self.limit,
                "reward": self.reward.updated(**reached),
            }
        )

"""A recipe: an evaluation as a YAML file, so that one command repeats it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from flip_reward.core.replies import ReplyPolicy
from flip_reward.core.score import Aggregation
from flip_reward.engines.base import Sampling
from flip_reward.engines.config import EngineConfig
from flip_reward.errors import OptionError
from flip_reward.recipe import read_recipe
from flip_reward.rewards.backward_likelihood import LikelihoodValue
from flip_reward.rewards.catalogue import RewardOptions
from flip_reward.rewards.judges.pairwise import Tournament


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RecipeModel(_Part):
    """A model and where it is."""

    model: str | None = None
    """As with `--model`; None is the embedded model."""
    base_url: str | None = None
    extra_body: dict[str, object] = {}
    no_thinking: bool = False

    def to_engine_config(self, shared: EngineConfig) -> EngineConfig:
        """Say how it is reached, with what all models share."""
        return replace(
            shared,
            model=self.model,
            base_url=self.base_url or shared.base_url,
            extra_body={**shared.extra_body, **self.extra_body},
            no_thinking=self.no_thinking or shared.no_thinking,
        )


class RecipeSampling(_Part):
    """How replies are drawn; see `flip_reward.Sampling`."""

    temperature: float = Field(default=0.0, ge=0)
    max_tokens: int = Field(default=512, ge=1)
    top_p: float | None = Field(default=None, gt=0, le=1)
    seed: int | None = None


class Recipe(_Part):
    """What is evaluated on what. The fields are the options of `flip-reward evaluate`.

    Example:
        >>> Recipe(benchmarks=["llmbar"], rewards=["flip", "longest"]).runs
        1
    """

    benchmarks: list[str] = []
    rewards: list[str] = []
    models: list[RecipeModel] = [RecipeModel()]
    sampling: RecipeSampling = RecipeSampling()
    runs: int = Field(default=1, ge=1)
    limit: int | None = Field(default=None, ge=1)
    skip_bad_rows: bool = False
    template: str | None = None
    template_dir: Path | None = None
    structured: bool = False
    reply_policy: ReplyPolicy = ReplyPolicy.STRICT
    samples: int = Field(default=1, ge=1)
    aggregation: Aggregation = Aggregation.MEAN
    likelihood_value: LikelihoodValue = LikelihoodValue.MEAN
    orders: int = Field(default=1, ge=1)
    one_order: bool = False
    tournament: Tournament = Tournament.ROUND_ROBIN

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a recipe.

        Raises:
            DataError: There is none, or it is not a recipe.
            MissingDependencyError: PyYAML is not installed.
        """
        return read_recipe(path, cls, extra="eval")

    def joined(self, options: Recipe) -> Self:
        """Join a recipe from a file with what was said on the command line: only some of its models, or a limit.

        Raises:
            OptionError: The recipe has no such model, or the command line says what the recipe is there to say.
        """
        for name in type(self).model_fields:
            if name not in ("models", "limit") and getattr(options, name) != type(self).model_fields[name].default:
                raise OptionError(
                    f"{name.replace('_', ' ')}: a recipe says it all but --model and --limit",
                    hint="change the recipe, or leave the option out",
                )
        known = {model.model: model for model in self.models}
        wanted = [model.model for model in options.models if model.model is not None]
        for missing in (name for name in wanted if name not in known):
            raise OptionError(
                f"the recipe has no model {missing!r}", hint=f"its models are {', '.join(map(str, known))}"
            )
        models = [known[name] for name in wanted] or self.models
        return self.model_copy(update={"models": models, "limit": options.limit or self.limit})

    @property
    def reward_options(self) -> RewardOptions:
        """What is chosen about the rewards."""
        sampling = self.sampling
        return RewardOptions(
            template=self.template,
            template_dir=self.template_dir,
            sampling=Sampling(sampling.temperature, sampling.max_tokens, sampling.top_p, sampling.seed),
            structured=self.structured,
            reply_policy=self.reply_policy,
            samples=self.samples,
            aggregation=self.aggregation,
            likelihood_value=self.likelihood_value,
            both_orders=not self.one_order,
            tournament=self.tournament,
            orders=self.orders,
        )

"""`RewardConfig`: a reward and its model as one flat set of options, wherever they are written down."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from flip_reward.core.replies import ReplyPolicy
from flip_reward.core.response import Target
from flip_reward.core.score import Aggregation
from flip_reward.engines.base import Engine, Sampling
from flip_reward.engines.config import EngineConfig, resolve_engine
from flip_reward.redact import mask_secrets, strip_user_info
from flip_reward.rewards.backward_likelihood import LikelihoodValue
from flip_reward.rewards.base import RewardModel
from flip_reward.rewards.catalogue import RewardOptions, fit_to_model, load_reward
from flip_reward.rewards.environment import read_environment
from flip_reward.rewards.judges.pairwise import Tournament
from flip_reward.rewards.similarities import load_similarity

_PREFIX = "FLIP_REWARD_"


def _read_json(value: object) -> object:
    """Take a JSON text, which is all that an environment variable can hold, for what it says."""
    from json import loads

    return loads(value) if isinstance(value, str) else value


class RewardConfig(BaseModel):
    """A reward and how its model is reached, with the names and defaults of `flip-reward score`'s options.

    Recipes have it as their reward's section, and trainers that can only name a function give it as environment
    variables.

    Example:
        >>> config = RewardConfig.from_environment(
        ...     {"FLIP_REWARD_MODEL": "scripted", "FLIP_REWARD_SAMPLES": "4", "FLIP_REWARD_TEMPERATURE": "0.7"}
        ... )
        >>> config.load().settings["samples"]
        4
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    reward: str = "flip"
    model: str | None = None
    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: int = Field(default=64, ge=1)
    timeout_seconds: float = Field(default=600.0, ge=0.1)
    extra_body: Annotated[dict[str, object], BeforeValidator(_read_json)] = {}
    no_thinking: bool = False
    cache: str | None = None
    slots: int | None = Field(default=None, ge=1)
    threads: int | None = Field(default=None, ge=1)
    context_tokens: int | None = Field(default=None, ge=64)
    dtype: str = "auto"
    device: str | None = None
    batch_tokens: int | None = Field(default=None, ge=1)
    template: str | None = None
    template_dir: Path | None = None
    target: Target = Target.LAST_USER
    similarity: str = "f1"
    normalizer: str = "english"
    embedding_model: str | None = None
    reply_policy: ReplyPolicy = ReplyPolicy.STRICT
    samples: int = Field(default=1, ge=1)
    aggregation: Aggregation = Aggregation.MEAN
    likelihood_value: LikelihoodValue = LikelihoodValue.MEAN
    structured: bool = False
    orders: int = Field(default=1, ge=1)
    one_order: bool = False
    tournament: Tournament = Tournament.ROUND_ROBIN
    temperature: float = Field(default=0.0, ge=0)
    max_tokens: int = Field(default=512, ge=1)
    top_p: float | None = Field(default=None, gt=0, le=1)
    seed: int | None = Field(default=None, ge=0)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read the options from environment variables: FLIP_REWARD_ and the option's name in capitals.

        Those of them that begin with FLIP_REWARD_ON_ are left to whoever asked; empty ones count as not set.

        Args:
            environment: For example `os.environ`.

        Raises:
            OptionError: A variable is misspelt or has a wrong value.
        """
        return read_environment(cls, environment, _PREFIX, others=f"{_PREFIX}ON_")

    @property
    def engine_config(self) -> EngineConfig:
        """How the reward's model is reached."""
        return EngineConfig(
            model=self.model,
            base_url=self.base_url,
            api_key_env=self.api_key_env,
            concurrency=self.concurrency,
            timeout_seconds=self.timeout_seconds,
            extra_body=self.extra_body,
            no_thinking=self.no_thinking,
            cache=self.cache,
            slots=self.slots,
            threads=self.threads,
            context_tokens=self.context_tokens,
            dtype=self.dtype,
            device=self.device,
            batch_tokens=self.batch_tokens,
        )

    def to_record(self) -> dict[str, object]:
        """Return the options as JSON values that may be written down: without passwords and keys.

        Example:
            >>> RewardConfig(base_url="http://bob:hunter2@host/v1").to_record()["base_url"]
            'http://host/v1'
        """
        record = self.model_dump(mode="json")
        record["extra_body"] = mask_secrets(record["extra_body"])
        if self.base_url is not None:
            record["base_url"] = strip_user_info(self.base_url)
        return record

    def reward_options(self) -> RewardOptions:
        """Return what is chosen about the reward.

        Raises:
            FlipRewardError: The similarity cannot be loaded.
        """
        measure = load_similarity(self.similarity, normalizer=self.normalizer, embedding_model=self.embedding_model)
        return RewardOptions(
            template=self.template,
            template_dir=self.template_dir,
            sampling=Sampling(self.temperature, self.max_tokens, self.top_p, self.seed),
            structured=self.structured,
            order_seed=self.seed or 0,
            target=self.target,
            similarity=None if measure.name == "f1" else measure,
            reply_policy=self.reply_policy,
            samples=self.samples,
            aggregation=self.aggregation,
            likelihood_value=self.likelihood_value,
            both_orders=not self.one_order,
            tournament=self.tournament,
            orders=self.orders,
        )

    def load(self, engine: Engine | None = None) -> RewardModel:
        """Make the reward.

        Args:
            engine: The language model behind it, where it is at hand; by default the one that is named here.

        Raises:
            OptionError: There is no such reward or model, or an option does not go with the reward.
            FlipRewardError: The model, a template or the similarity cannot be loaded.
        """
        options = fit_to_model(self.reward_options(), self.reward, self.engine_config)
        return load_reward(self.reward, engine or resolve_engine(self.engine_config), options)

"""The options of every command that scores, declared once and given to a command by a decorator."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from typing import get_type_hints

from flip_reward.cli import options
from flip_reward.core.replies import ReplyPolicy
from flip_reward.core.response import Target
from flip_reward.core.score import Aggregation
from flip_reward.errors import OptionError
from flip_reward.rewards.backward_likelihood import LikelihoodValue
from flip_reward.rewards.config import RewardConfig
from flip_reward.rewards.judges.pairwise import Tournament
from flip_reward.scoring.runner import RunLimits
from flip_reward.scoring.summary import Prices


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringOptions:
    """What a user chose about the reward, its model and the run. `--help` lists the fields in this order."""

    reward: options.RewardName = "flip"
    model: options.ModelName = None
    base_url: options.BaseUrl = None
    api_key_env: options.ApiKeyEnv = "OPENAI_API_KEY"
    concurrency: options.Concurrency = 64
    timeout_seconds: options.TimeoutSeconds = 600.0
    extra_body: options.ExtraBody = None
    no_thinking: options.NoThinking = False
    cache: options.CacheOption = None
    slots: options.Slots = None
    threads: options.Threads = None
    context_tokens: options.ContextTokens = None
    dtype: options.Dtype = "auto"
    device: options.Device = None
    batch_tokens: options.BatchTokens = None
    template: options.TemplateName = None
    template_dir: options.TemplateDir = None
    target: options.TargetOption = Target.LAST_USER
    similarity: options.SimilarityName = "f1"
    normalizer: options.NormalizerName = "english"
    embedding_model: options.EmbeddingModel = None
    reply_policy: options.ReplyPolicyOption = ReplyPolicy.STRICT
    samples: options.SamplesOption = 1
    aggregation: options.AggregationOption = Aggregation.MEAN
    likelihood_value: options.LikelihoodValueOption = LikelihoodValue.MEAN
    structured: options.Structured = False
    orders: options.OrdersOption = 1
    one_order: options.OneOrder = False
    tournament: options.TournamentOption = Tournament.ROUND_ROBIN
    temperature: options.Temperature = 0.0
    max_tokens: options.MaxTokens = 512
    top_p: options.TopP = None
    seed: options.Seed = None
    run_folder: options.RunFolderOption = None
    output: options.Output = None
    columns: options.Columns = None
    limit: options.Limit = None
    strict: options.Strict = False
    dry_run: options.DryRun = False
    price_prompt: options.PricePrompt = None
    price_completion: options.PriceCompletion = None
    as_json: options.AsJson = False
    table: options.ShowTable = None

    def to_config(self) -> RewardConfig:
        """Return what is chosen about the reward and its model.

        Raises:
            OptionError: `--extra-body` is not a JSON object.
        """
        chosen = {name: getattr(self, name) for name in RewardConfig.model_fields}
        return RewardConfig.model_validate(chosen | {"extra_body": read_extra_body(self.extra_body)})

    @property
    def limits(self) -> RunLimits:
        """How many rows are in work at once, and when the run ends."""
        return RunLimits(workers=self.concurrency, strict=self.strict)

    @property
    def prices(self) -> Prices | None:
        """What tokens cost, where that was said."""
        return read_prices(self.price_prompt, self.price_completion)


RUN_OPTIONS = frozenset(
    {
        "run_folder", "output", "columns", "limit", "strict", "dry_run", "price_prompt", "price_completion",
        "as_json", "table",
    }
)  # fmt: skip
"""What is chosen about a run over a data set, and not about the reward and its model."""


def with_scoring_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the fields of `ScoringOptions` as options; it gets them as its argument `scoring`.

    Typer reads options from a function's signature, so the decorated function has one that names them all.
    """
    return _with_options(command, left_out=frozenset())


def with_reward_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the fields of `ScoringOptions` that are not about a run."""
    return _with_options(command, left_out=RUN_OPTIONS)


def _with_options(command: Callable[..., None], *, left_out: frozenset[str]) -> Callable[..., None]:
    own = list(inspect.signature(command, eval_str=True).parameters.values())
    hints = get_type_hints(ScoringOptions, include_extras=True)
    shared = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in fields(ScoringOptions)
        if field.name not in left_out
    ]

    @wraps(command)
    def run(**arguments: object) -> None:
        chosen = {parameter.name: arguments.pop(parameter.name) for parameter in shared}
        command(**arguments, scoring=ScoringOptions(**chosen))  # type: ignore[arg-type]  # typer has checked them

    parameters = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in (*(parameter for parameter in own if parameter.name != "scoring"), *shared)
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # inspect looks for it
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def read_extra_body(text: str | None) -> dict[str, object]:
    """Read `--extra-body`.

    Raises:
        OptionError: It is not a JSON object.

    Example:
        >>> read_extra_body('{"top_k": 20}')
        {'top_k': 20}
    """
    try:
        value = {} if text is None else json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise OptionError("--extra-body is not a JSON object", hint="""for example --extra-body '{"top_k": 20}'""")
    return value


def read_prices(prompt: float | None, completion: float | None) -> Prices | None:
    """Read `--price-prompt` and `--price-completion`; None when neither was given.

    Example:
        >>> read_prices(0.1, None)
        Prices(prompt=0.1, completion=0.0)
    """
    return None if prompt is None and completion is None else Prices(prompt or 0.0, completion or 0.0)

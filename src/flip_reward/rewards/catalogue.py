"""The catalogue of rewards: `load_reward` makes one from its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Self

from flip_reward.core.cautions import ReliabilityLimits
from flip_reward.core.prompts import (
    BUILT_IN,
    COMPLETION_PROMPTS,
    JudgeKind,
    Template,
    load_completion_prompt,
    load_judge_template,
    load_templates,
)
from flip_reward.core.replies import ReplyPolicy
from flip_reward.core.response import Target
from flip_reward.core.score import Aggregation
from flip_reward.core.similarity import Similarity, TokenF1
from flip_reward.engines.base import Engine, Sampling
from flip_reward.engines.config import EngineConfig, find_tuning
from flip_reward.errors import OptionError
from flip_reward.rewards.backward_likelihood import (
    BackwardLikelihoodOptions,
    BackwardLikelihoodReward,
    LikelihoodValue,
)
from flip_reward.rewards.base import RewardModel
from flip_reward.rewards.flip import FlipOptions, FlipReward
from flip_reward.rewards.judges.listwise import ListwiseJudge, ListwiseOptions
from flip_reward.rewards.judges.pairwise import PairwiseJudge, PairwiseOptions, Tournament
from flip_reward.rewards.judges.pointwise import PointwiseJudge, PointwiseOptions


@dataclass(frozen=True, slots=True)
class RewardOptions:
    """What can be chosen about the rewards of the catalogue, in one place. The defaults are theirs.

    Attributes:
        template: A template's name: for "flip" and "backward-likelihood" one of the package's, with a `template_dir`
            one of the folder's.
        template_dir: A user's own templates.
        sampling: How replies are drawn.
        structured: Constrain replies to the JSON schema, where the engine can.
        order_seed: For "pairwise" and "listwise": another seed draws other orders. The others do without.
        target: "flip", "backward-likelihood": which part of the conversation is the instruction.
        similarity: "flip": how instructions are compared; None is the paper's F1.
        reply_policy: "flip": what to do with a reply that has no verdict.
        samples: "flip": how many instructions are inferred from each response; several need a temperature.
        aggregation: "flip": how the values of several samples become one.
        reliability_limits: "flip", "backward-likelihood": the limits of the model, where they are known.
        likelihood_value: "backward-likelihood": what is made of the log-probabilities.
        both_orders: "pairwise": show each pair in both orders.
        tournament: "pairwise": which responses meet.
        orders: "listwise": in how many orders the responses are shown.
    """

    template: str | None = None
    template_dir: Path | None = None
    sampling: Sampling = Sampling()
    structured: bool = False
    order_seed: int = 0
    target: Target = Target.LAST_USER
    similarity: Similarity | None = None
    reply_policy: ReplyPolicy = ReplyPolicy.STRICT
    samples: int = 1
    aggregation: Aggregation = Aggregation.MEAN
    reliability_limits: ReliabilityLimits | None = None
    likelihood_value: LikelihoodValue = LikelihoodValue.MEAN
    both_orders: bool = True
    tournament: Tournament = Tournament.ROUND_ROBIN
    orders: int = 1

    def fitting(self, reward: str) -> Self:
        """Return the options without those that the reward called `reward` does not have.

        For whoever makes several rewards with one set of options. A template of the package is one for "flip", for
        "backward-likelihood", or for both.

        Example:
            >>> RewardOptions(orders=4, structured=True).fitting("flip") == RewardOptions(structured=True)
            True
        """
        defaults = RewardOptions()
        foreign = _foreign(self, reward)
        if self.template_dir is None and (
            reward not in _TEMPLATES or any(self.template in names for names in _foreign_templates(reward))
        ):
            foreign.append("template")
        return replace(self, **{name: getattr(defaults, name) for name in foreign})


def load_reward(name: str, engine: Engine, options: RewardOptions | None = None) -> RewardModel:
    """Make the reward called `name`.

    - "flip": infer the instruction behind each response (arXiv 2602.13551); 0 to 1.
    - "backward-likelihood": how likely the instruction is after each response; a logarithm, see `LikelihoodValue`.
    - "pointwise": a judge rates each response; 1 to 10.
    - "pairwise": a judge compares two responses at a time; 0 to 1.
    - "listwise": a judge chooses the best of all responses; 0 to 1.

    Args:
        name: One of the names above.
        engine: The language model behind it.
        options: What is chosen about it.

    Raises:
        OptionError: There is no such reward, or it does not have an option that was chosen.
        TemplateError: There is no such template, or it is malformed.

    Example:
        >>> from flip_reward import ScriptedEngine
        >>> load_reward("pairwise", ScriptedEngine()).settings["tournament"]
        'round-robin'
    """
    options = options or RewardOptions()
    if name not in _MAKERS:
        near = get_close_matches(name.lower(), REWARDS, n=1)
        suggestion = f"; did you mean {near[0]!r}?" if near else ""
        raise OptionError(f"unknown reward {name!r}{suggestion}", hint=f"rewards are {', '.join(REWARDS)}")
    for option in _foreign(options, name):
        owner = next(reward for reward, own in _OWN_OPTIONS.items() if option in own)
        raise OptionError(f"the reward {name!r} has no option {option.replace('_', ' ')!r}", hint=f"{owner!r} has it")
    return _MAKERS[name](engine, options)


def fit_to_model(options: RewardOptions, reward: str, config: EngineConfig) -> RewardOptions:
    """Take the template that a model was tuned with, where none is chosen, and its limits, where they are known.

    Raises:
        DataError: The model's adapter, which tells the template, is missing or damaged.

    Example:
        >>> fit_to_model(RewardOptions(), "flip", EngineConfig("smollm2-135m")).template is None
        True
    """
    tuning = find_tuning(config) if reward in _TEMPLATES else None
    if tuning is None:
        return options
    fitted = replace(options, reliability_limits=tuning.reliability_limits)
    if options.template or options.template_dir or options.target is not Target.LAST_USER:
        return fitted
    return replace(fitted, template=tuning.template) if tuning.template in _TEMPLATES[reward] else fitted


def _foreign(options: RewardOptions, reward: str) -> list[str]:
    """The options that were chosen and that a reward does not have."""
    common = {field.name for field in fields(options)}.difference(*_OWN_OPTIONS.values())
    known = common | _OWN_OPTIONS.get(reward, frozenset())
    return [
        field.name
        for field in fields(options)
        if field.name not in known and getattr(options, field.name) != field.default
    ]


def _make_flip(engine: Engine, options: RewardOptions) -> RewardModel:
    return FlipReward(
        engine,
        FlipOptions(
            load_templates(options.template, target=options.target, folder=options.template_dir),
            options.target,
            options.similarity or TokenF1(),
            options.sampling,
            options.reply_policy,
            options.structured,
            options.samples,
            options.aggregation,
            options.reliability_limits,
        ),
    )


def _foreign_templates(reward: str) -> list[set[str]]:
    """The package's templates for other rewards that are none for this one."""
    return [set(names) - set(_TEMPLATES[reward]) for other, names in _TEMPLATES.items() if other != reward]


def _make_backward_likelihood(engine: Engine, options: RewardOptions) -> RewardModel:
    frame = load_completion_prompt(options.template, folder=options.template_dir)
    return BackwardLikelihoodReward(
        engine,
        BackwardLikelihoodOptions(frame, options.likelihood_value, options.target, options.reliability_limits),
    )


def _make_pointwise(engine: Engine, options: RewardOptions) -> RewardModel:
    template = _load_template(JudgeKind.POINTWISE, options)
    return PointwiseJudge(engine, PointwiseOptions(template, options.sampling, options.structured))


def _make_pairwise(engine: Engine, options: RewardOptions) -> RewardModel:
    return PairwiseJudge(
        engine,
        PairwiseOptions(
            _load_template(JudgeKind.PAIRWISE, options),
            options.sampling,
            options.structured,
            options.both_orders,
            options.tournament,
            options.order_seed,
        ),
    )


def _make_listwise(engine: Engine, options: RewardOptions) -> RewardModel:
    template = _load_template(JudgeKind.LISTWISE, options)
    return ListwiseJudge(
        engine,
        ListwiseOptions(template, options.sampling, options.structured, options.orders, options.order_seed),
    )


def _load_template(kind: JudgeKind, options: RewardOptions) -> Template:
    return load_judge_template(kind, folder=options.template_dir, name=options.template)


_MAKERS: MappingProxyType[str, Callable[[Engine, RewardOptions], RewardModel]] = MappingProxyType(
    {
        "flip": _make_flip,
        "backward-likelihood": _make_backward_likelihood,
        "pointwise": _make_pointwise,
        "pairwise": _make_pairwise,
        "listwise": _make_listwise,
    }
)
_OWN_OPTIONS = MappingProxyType(
    {
        "flip": frozenset({"target", "similarity", "reply_policy", "samples", "aggregation", "reliability_limits"}),
        "backward-likelihood": frozenset({"target", "likelihood_value", "reliability_limits"}),
        "pairwise": frozenset({"both_orders", "tournament"}),
        "listwise": frozenset({"orders"}),
    }
)

_TEMPLATES = MappingProxyType({"flip": BUILT_IN, "backward-likelihood": COMPLETION_PROMPTS})

REWARDS = tuple(_MAKERS)
"""The names of the rewards."""

"""Names of rewards and models -> the rewards of a grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from difflib import get_close_matches

from flip_reward.core.aggregation import Aggregation
from flip_reward.engines.base import Engine
from flip_reward.engines.config import EngineConfig, resolve_engine, share_options
from flip_reward.errors import OptionError
from flip_reward.evaluation.grid import NamedReward
from flip_reward.rewards.backward_likelihood import LikelihoodValue
from flip_reward.rewards.catalogue import REWARDS, RewardOptions, fit_to_model, load_reward
from flip_reward.rewards.controls import CONTROLS, ControlReward


def line_up(
    rewards: Sequence[str], models: Sequence[EngineConfig], options: RewardOptions | None = None, *, runs: int = 1
) -> list[NamedReward]:
    """Make every reward with every model, and every control once.

    Args:
        rewards: Names of the catalogue or of controls.
        models: The models, each with the way to reach it; of the options that they share each takes its own.
        options: What is chosen about the rewards; each takes what concerns it.
        runs: How often everything is asked, with seeds that follow one another.

    Returns:
        Rewards whose labels tell FLIP with one sample, with several and with their best apart, so that all of them
        fit into one evaluation: "flip compact @ model", "flip compact x8 @ model", "flip compact x8 max @ model".

    Raises:
        OptionError: There is no such reward or model, or an option concerns none of them.
        TemplateError: There is no such template.
        MissingDependencyError: The library that runs a model is not installed.
    """
    options = options or RewardOptions()
    names = list(dict.fromkeys(rewards))
    for name in names:
        if name not in (*REWARDS, *CONTROLS):
            near = get_close_matches(name.lower(), (*REWARDS, *CONTROLS), n=1)
            suggestion = f"; did you mean {near[0]!r}?" if near else ""
            raise OptionError(
                f"unknown reward {name!r}{suggestion}",
                hint=f"rewards are {', '.join(REWARDS)}; controls without a model are {', '.join(CONTROLS)}",
            )
    with_model = [name for name in names if name in REWARDS]
    _refuse_options_of_nobody(with_model, options)
    fitted = {name: options.fitting(name) for name in with_model}
    _refuse_equal_runs(options, runs)
    lineup = [NamedReward(name, None, (ControlReward(name),)) for name in names if name in CONTROLS]
    for config in share_options(models) if with_model else ():
        engine = resolve_engine(config)
        chosen = {name: fit_to_model(own, name, config) for name, own in fitted.items()}
        lineup += [_with_model(name, engine, own, runs) for name, own in chosen.items()]
    return lineup


def _with_model(name: str, engine: Engine, options: RewardOptions, runs: int) -> NamedReward:
    rewards = tuple(
        load_reward(name, engine, replace(options, sampling=replace(options.sampling, seed=seed)))
        for seed in _draw_seeds(options, runs)
    )
    words = [name]
    if name in ("flip", "backward-likelihood"):
        words.append(str(rewards[0].settings["template"]))
    if options.likelihood_value is not LikelihoodValue.MEAN:
        words.append(options.likelihood_value)
    if options.samples > 1:
        words.append(f"x{options.samples}")
        words += [options.aggregation] if options.aggregation is not Aggregation.MEAN else []
    return NamedReward(f"{' '.join(words)} @ {engine.model}", engine.model, rewards)


def _draw_seeds(options: RewardOptions, runs: int) -> list[int | None]:
    seed = options.sampling.seed
    if runs == 1:
        return [seed]
    # The samples of a run have seeds that follow one another, and no two runs may share one.
    return [(seed or 0) + run * options.samples for run in range(runs)]


def _refuse_equal_runs(options: RewardOptions, runs: int) -> None:
    if runs > 1 and options.sampling.temperature == 0:
        raise OptionError("several runs at temperature 0 are all the same", hint="give a --temperature above 0")


def _refuse_options_of_nobody(rewards: Sequence[str], options: RewardOptions) -> None:
    fitted = [options.fitting(name) for name in rewards]
    for field in fields(options):
        wanted = getattr(options, field.name)
        if fitted and all(getattr(own, field.name) != wanted for own in fitted):
            raise OptionError(
                f"none of the rewards ({', '.join(rewards)}) has the option {field.name.replace('_', ' ')!r}"
            )

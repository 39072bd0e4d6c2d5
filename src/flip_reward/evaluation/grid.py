"""The experiment grid: every reward on every benchmark, run by run. Finished work is never repeated."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from flip_reward.core.conversation import Group
from flip_reward.core.copying import CAUTIOUS_SHARE
from flip_reward.core.response import Target
from flip_reward.core.score import Aggregation, Outcome
from flip_reward.data.groups import SourceRow
from flip_reward.engines.config import EngineConfig, split_engine_options
from flip_reward.engines.stopping import StopSignal
from flip_reward.errors import OptionError, RunError
from flip_reward.evaluation.benchmarks.base import Benchmark
from flip_reward.evaluation.folder import (
    BenchmarkEntry,
    Evaluation,
    EvaluationOptions,
    ExperimentEntry,
    RewardEntry,
    name_run,
    read_evaluation,
    write_evaluation,
    write_items,
)
from flip_reward.redact import describe_command
from flip_reward.rewards.backward_likelihood import LikelihoodValue
from flip_reward.rewards.base import RewardModel
from flip_reward.rewards.config import RewardConfig, SharedEngines, split_settings
from flip_reward.rewards.options import Settings
from flip_reward.scoring.folders import EVALUATION, FolderKind, how_to_go_on, recognise
from flip_reward.scoring.manifest import InputIdentity, RunConfiguration
from flip_reward.scoring.run_folder import CompletedRows, RunFolder
from flip_reward.scoring.runner import Observer, Run, RunLimits
from flip_reward.scoring.summary import Prices
from flip_reward.settings import flatten


@dataclass(frozen=True, slots=True)
class GridReward:
    """A reward of the grid."""

    label: str
    """Its name in results, unique in the grid."""
    model: str | None
    """None for controls."""
    runs: tuple[RewardModel, ...]
    """The reward of each run; they differ in their seed."""
    answered_by: str = ""
    """The model and where it is, for a person."""

    def to_entry(self) -> RewardEntry:
        """Describe it for `evaluation.json`."""
        settings = dict(self.runs[0].settings)
        name = str(settings["reward"])
        if len(self.runs) > 1:
            settings["runs"] = len(self.runs)
        return RewardEntry(label=self.label, reward=name, model=self.model, settings=settings)


@dataclass(frozen=True, slots=True)
class ExperimentGrid:
    """What to evaluate: every reward on every benchmark.

    An OptionError says that there is nothing to do, or that two benchmarks or two rewards have the same name.
    """

    benchmarks: Sequence[tuple[str, Benchmark]]
    """Each with the user's name for it."""
    rewards: Sequence[GridReward]
    """Those that share an engine stand together."""
    options: EvaluationOptions = EvaluationOptions()

    def __post_init__(self) -> None:
        for kind, names in (
            ("benchmark", [benchmark.name for _, benchmark in self.benchmarks]),
            ("reward", [reward.label for reward in self.rewards]),
        ):
            if not names:
                raise OptionError(f"name at least one {kind}")
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise OptionError(f"there are two {kind}s called {twice!r}")


@dataclass(frozen=True, slots=True)
class GridRun:
    """A run folder of a grid: who scores what into it."""

    folder: str
    """Relative to the folder of the grid."""
    title: str
    """What a person sees."""
    reward: RewardModel
    source: InputIdentity
    groups: Sequence[Group]


class GridObserver(Protocol):
    """Watches the runs of a grid."""

    def watch(self, run: GridRun, *, completed_groups: int) -> AbstractContextManager[Observer]:
        """A run begins; the observer is told of its records."""
        ...


def prepare_folder(folder: Path, grid: ExperimentGrid) -> Evaluation:
    """Write what is evaluated into an evaluation folder, or extend what it holds, and write the items.

    A RunMismatchError says where the folder holds another evaluation, a RunError where it holds something else.
    """
    kind = recognise(folder)
    if kind not in (None, FolderKind.EVALUATE):
        raise RunError(
            f"{folder} is {kind.description}",
            hint=f"{how_to_go_on(folder)}; evaluate into another folder with --run-folder",
        )
    evaluation = Evaluation(
        command=describe_command(),
        options=grid.options,
        benchmarks=[_describe(source, benchmark) for source, benchmark in grid.benchmarks],
        rewards=[reward.to_entry() for reward in grid.rewards],
        cells=[_list_runs(benchmark, reward) for reward in grid.rewards for _, benchmark in grid.benchmarks],
    )
    if (folder / EVALUATION).exists():
        evaluation = read_evaluation(folder).extended(evaluation)
    for _, benchmark in grid.benchmarks:
        write_items(folder, benchmark)
    write_evaluation(folder, evaluation)
    return evaluation


def _describe(source: str, benchmark: Benchmark) -> BenchmarkEntry:
    return BenchmarkEntry(
        name=benchmark.name,
        protocol=benchmark.protocol,
        source=source,
        items=len(benchmark.items),
        sha256=benchmark.sha256,
        bad_rows=len(benchmark.bad_rows),
    )


def _list_runs(benchmark: Benchmark, reward: GridReward) -> ExperimentEntry:
    runs = [run.folder for run in _plan_runs(benchmark, reward)]
    return ExperimentEntry(benchmark=benchmark.name, reward=reward.label, runs=runs)


def _plan_runs(benchmark: Benchmark, reward: GridReward) -> list[GridRun]:
    count, title = len(reward.runs), f"{benchmark.name}, {reward.label}"
    return [
        GridRun(
            name_run(benchmark.name, reward.label, number, count),
            title + (f", run {number + 1} of {count}" if count > 1 else ""),
            model,
            InputIdentity(name=benchmark.name, fingerprint=benchmark.sha256),
            [item.group for item in benchmark.items],
        )
        for number, model in enumerate(reward.runs)
    ]


async def run_grid(
    folder: Path,
    grid: ExperimentGrid,
    observer: GridObserver,
    *,
    limits: RunLimits | None = None,
    stop: StopSignal | None = None,
) -> bool:
    """Score an evaluation reward by reward; see `score_runs`."""
    runs = ([run for _, one in grid.benchmarks for run in _plan_runs(one, reward)] for reward in grid.rewards)
    return await score_runs(folder, runs, observer, limits=limits, stop=stop, prices=grid.options.prices)


async def score_runs(
    folder: Path,
    rewards: Iterable[Sequence[GridRun]],
    observer: GridObserver | None = None,
    *,
    limits: RunLimits | None = None,
    stop: StopSignal | None = None,
    prices: Prices | None = None,
) -> bool:
    """Score what is not completed yet, all runs of a reward before the next one.

    Returns:
        Whether every response has a record that stays, and every run scored something. Failures of the engine are
        tried again in the next session.
    """
    stop, limits = stop or StopSignal(), limits or RunLimits()
    complete = True
    for runs in rewards:
        try:
            for run in runs:
                if stop.requested:
                    return False
                complete &= await _score_run(folder, run, observer, limits, stop, prices)
        finally:
            await runs[0].reward.aclose()
    return complete


async def _score_run(
    folder: Path,
    run: GridRun,
    observer: GridObserver | None,
    limits: RunLimits,
    stop: StopSignal,
    prices: Prices | None,
) -> bool:
    run_folder = RunFolder(
        folder / run.folder,
        RunConfiguration(settings=dict(run.reward.settings), inputs=[run.source]),
        whole_groups=not run.reward.independent,
        retry_refused=limits.retry_refused,
    )
    with closing(run_folder):
        completed = len(run_folder.completed)
        if completed == len(run.groups):
            return bool(run_folder.tally.outcomes[Outcome.SCORED])
        limits = replace(limits, workers=min(_count_workers(run, limits.workers), len(run.groups) - completed))
        with observer.watch(run, completed_groups=completed) if observer else nullcontext() as watching:
            session = Run(run.reward, run_folder, limits=limits, observer=watching, stop=stop)
            summary = await session.score(_pending_rows(run, run_folder.completed), prices=prices)
        return summary.complete and summary.scored_any


def _count_workers(run: GridRun, requests: int) -> int:
    """As many groups at once as keep so many requests in flight: of large groups fewer, so that they are finished."""
    if not run.reward.independent:
        return requests
    responses = sum(len(group.responses) for group in run.groups) / len(run.groups)
    return math.ceil(requests / max(responses, 1)) + 1


def _pending_rows(run: GridRun, completed: CompletedRows) -> Iterator[SourceRow]:
    for position, group in enumerate(run.groups):
        if position not in completed:
            yield SourceRow(position, run.source.name, position + 1, group)


def load_rewards(
    rewards: Sequence[str], models: Sequence[EngineConfig], config: RewardConfig | None = None, *, runs: int = 1
) -> list[GridReward]:
    """Load every reward with every model, and every control once.

    Labels tell FLIP with one sample, with several and with their best apart, so that all of them fit into one
    evaluation: "flip compact @ model", "flip compact x8 @ model", "flip compact x8 max @ model".
    """
    config = config or RewardConfig()
    names = list(dict.fromkeys(rewards))
    with_model = [name for name in names if RewardConfig(reward=name).asks_model]
    engines = split_engine_options(models) if with_model else []
    configs = [
        config.updated(reward=name, engine=engine)
        for number, engine in enumerate(engines)
        for name in with_model
        if number == 0 or not _names_models(name)
    ]
    configs = split_settings(configs or [config.updated(reward=name) for name in names]) if names else []
    for one in configs:
        one.check()
    if runs > 1 and configs and not any("seed" in one.own_settings for one in configs):
        raise OptionError("several runs of rewards that sample nothing are all the same", hint="leave out --runs")
    without = [
        RewardConfig(reward=name, control=config.control, calibration=config.calibration)
        for name in names
        if name not in with_model
    ]
    loaded = [GridReward(_name_settings(one, {}), None, (one.load(),)) for one in without]
    asking = [one for one in configs if one.reward in with_model]
    shared = SharedEngines()
    while asking:  # rewards with the same model share its engine, and stand together
        first = asking[0]
        sharing = [one for one in asking if one.answering == first.answering and one.classifier == first.classifier]
        loaded += [_with_model(one, shared, runs) for one in sharing]
        asking = [one for one in asking if one not in sharing]
    return loaded


def _names_models(reward: str) -> bool:
    """Whether a formula names the model of each of its parts, so that no other model changes it."""
    parts = RewardConfig(reward=reward).parts.values()
    return bool(parts) and all(part.engine.model is not None for part in parts if part.asks_model)


def _with_model(config: RewardConfig, shared: SharedEngines, runs: int) -> GridReward:
    if any(own.get("order_seed", 0) is None for own in _list_options(config)):
        config = config.updated(order_seed=0)  # runs differ in their samples, not in the orders that judges see
    seeds = _draw_seeds(config, runs)
    rewards = tuple((config if seed is None else config.updated(seed=seed)).load(shared=shared) for seed in seeds)
    if len({tuple(reward.settings.items()) for reward in rewards}) < runs:
        raise OptionError(
            f"several runs of {config.reward!r} are all the same: its seeds stand in the formula",
            hint="leave the seeds out, or --runs",
        )
    model = rewards[0].model_name
    label = _name_settings(config, rewards[0].settings) + ("" if _names_models(config.reward) else f" @ {model}")
    return GridReward(label, model, rewards, config.describe_model())


def _list_options(config: RewardConfig) -> list[dict[str, Any]]:
    """The options of the reward, or of each part of a formula."""
    return [flatten(one.part) for one in config.parts.values() or (config,)]


def _name_settings(config: RewardConfig, settings: Settings) -> str:
    """The reward's name with the settings that tell it from others of its kind."""
    if config.formula is not None:
        told = config.changed_own().difference(_NOT_TOLD, flatten(config.engine))
        words = [str(config.formula), *(f"{name}={config.flat()[name]}" for name in sorted(told))]
        return " ".join(words + _CALIBRATED * (config.calibration is not None))
    own = flatten(config.part)
    words = [config.reward]
    if config.reward in ("flip", "backward-likelihood"):
        words.append(str(settings["template"]))
    if own.get("target", Target.LAST_USER) is not Target.LAST_USER:
        words.append(own["target"])
    if settings.get("similarity", "f1") != "f1":
        words.append(str(settings["similarity"]))
    if own.get("likelihood_value", LikelihoodValue.MEAN) is not LikelihoodValue.MEAN:
        words.append(own["likelihood_value"])
    if own.get("samples", 1) > 1:
        words.append(f"x{own['samples']}")
        words += [own["aggregation"]] if own["aggregation"] is not Aggregation.MEAN else []
    if own.get("copy_guard"):
        words.append("copy-guard")
        words += [f"{own['copy_guard_share']:g}"] if own["copy_guard_share"] != CAUTIOUS_SHARE else []
    return " ".join(words + _CALIBRATED * (config.calibration is not None))


_CALIBRATED = ["calibrated"]
_NOT_TOLD = ("reward", "calibration", "seed", "order_seed")


def _draw_seeds(config: RewardConfig, runs: int) -> list[int | None]:
    """A seed for each run; None leaves the reward's own. The samples of a run have seeds that follow one another."""
    drawing = [own for own in _list_options(config) if "seed" in own]
    if runs == 1 or not drawing:
        return [None] * runs
    if all(own["temperature"] == 0 for own in drawing):
        raise OptionError("several runs at temperature 0 are all the same", hint="give a --temperature above 0")
    most = max(own.get("samples", 1) for own in drawing)
    return [(drawing[0]["seed"] or 0) + run * most for run in range(runs)]

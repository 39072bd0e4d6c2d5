"""Every reward on every benchmark, cell by cell. What was finished is never asked again.

Names of rewards and models -> the rewards of a grid.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Protocol

from flip_reward.core.score import Aggregation
from flip_reward.data.sources import SourceRow
from flip_reward.engines.base import Engine
from flip_reward.engines.config import EngineConfig, resolve_engine, share_options
from flip_reward.errors import OptionError
from flip_reward.evaluation.benchmarks.base import Benchmark
from flip_reward.evaluation.folder import EVALUATION as EVALUATION_FILE
from flip_reward.evaluation.folder import (
    BenchmarkEntry,
    CellEntry,
    Evaluation,
    EvaluationOptions,
    RewardEntry,
    name_run,
    read_evaluation,
    write_evaluation,
    write_items,
)
from flip_reward.rewards.backward_likelihood import LikelihoodValue
from flip_reward.rewards.base import RewardModel
from flip_reward.rewards.catalogue import REWARDS, RewardOptions, fit_to_model, load_reward
from flip_reward.rewards.controls import CONTROLS, ControlReward
from flip_reward.scoring.manifest import InputIdentity, RunConfiguration
from flip_reward.scoring.run_folder import RunFolder, SettledRows
from flip_reward.scoring.runner import Observer, Run, RunLimits, StopSignal
from flip_reward.scoring.summary import Prices


@dataclass(frozen=True, slots=True)
class NamedReward:
    """A reward of the grid.

    Attributes:
        label: What results call it; unique in the grid.
        model: Its model; None for controls.
        runs: The reward of each run; they differ in their seed.
    """

    label: str
    model: str | None
    runs: tuple[RewardModel, ...]

    def to_entry(self) -> RewardEntry:
        """Describe it for `evaluation.json`."""
        settings = dict(self.runs[0].settings)
        name = str(settings["reward"])
        if len(self.runs) > 1:
            settings["runs"] = len(self.runs)
        return RewardEntry(label=self.label, reward=name, model=self.model, settings=settings)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to evaluate.

    Attributes:
        benchmarks: What is asked, each by what the user called it. Their names are unique.
        rewards: What is graded. Those that share an engine stand together.
        options: What was chosen besides.

    Raises:
        OptionError: There is nothing to do, or two benchmarks or rewards have the same name.
    """

    benchmarks: Sequence[tuple[str, Benchmark]]
    rewards: Sequence[NamedReward]
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
class CellRun:
    """One run of a reward on a benchmark.

    Attributes:
        benchmark: What is asked.
        reward: What is graded.
        run: Which of its runs, from 0.
    """

    benchmark: Benchmark
    reward: NamedReward
    run: int

    @property
    def folder(self) -> str:
        """The run folder, relative to the evaluation's."""
        return name_run(self.benchmark.name, self.reward.label, self.run, len(self.reward.runs))

    @property
    def title(self) -> str:
        """What a person sees."""
        runs = len(self.reward.runs)
        return f"{self.benchmark.name}, {self.reward.label}" + (f", run {self.run + 1} of {runs}" if runs > 1 else "")


class GridObserver(Protocol):
    """Watches a grid being filled."""

    def watch(self, cell: CellRun, *, settled_items: int) -> AbstractContextManager[Observer]:
        """A run begins; the observer is told of its records."""
        ...


def prepare_folder(folder: Path, plan: Plan) -> Evaluation:
    """Write what is evaluated into an evaluation folder, or extend what it holds, and write the items.

    Raises:
        RunMismatchError: The folder holds another evaluation.
        RunError: It holds something else, or one of another version.
        StorageError: It cannot be written to.
    """
    existing = (folder / EVALUATION_FILE).exists()
    evaluation = read_evaluation(folder) if existing else Evaluation.new(plan.options)
    evaluation = evaluation.extended(
        plan.options,
        [_describe(source, benchmark) for source, benchmark in plan.benchmarks],
        [reward.to_entry() for reward in plan.rewards],
        [_cell_entry(benchmark, reward) for reward in plan.rewards for _, benchmark in plan.benchmarks],
    )
    for _, benchmark in plan.benchmarks:
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


def _cell_entry(benchmark: Benchmark, reward: NamedReward) -> CellEntry:
    runs = [CellRun(benchmark, reward, run).folder for run in range(len(reward.runs))]
    return CellEntry(benchmark=benchmark.name, reward=reward.label, runs=runs)


async def fill_grid(
    folder: Path,
    plan: Plan,
    observer: GridObserver,
    *,
    limits: RunLimits | None = None,
    stop: StopSignal | None = None,
    prices: Prices | None = None,
) -> bool:
    """Score what is not settled yet, reward by reward.

    Args:
        folder: A folder from `prepare_folder`.
        plan: The same plan.
        observer: Is told of every cell and record.
        limits: How many items at once.
        stop: Lets somebody else end it in order.
        prices: What tokens cost.

    Returns:
        Whether every response of every cell has a record that stays.

    Raises:
        FlipRewardError: See `Run.score`.
    """
    stop = stop or StopSignal()
    complete = True
    for reward in plan.rewards:
        try:
            for _, benchmark in plan.benchmarks:
                for run in range(len(reward.runs)):
                    if stop.requested:
                        return False
                    cell = CellRun(benchmark, reward, run)
                    scoring = _score_cell(folder, cell, observer, limits or RunLimits(), stop, prices)
                    complete &= await scoring
        finally:
            await reward.runs[0].engine.aclose()
    return complete


async def _score_cell(
    folder: Path, cell: CellRun, observer: GridObserver, limits: RunLimits, stop: StopSignal, prices: Prices | None
) -> bool:
    reward, benchmark = cell.reward.runs[cell.run], cell.benchmark
    configuration = RunConfiguration(
        settings=dict(reward.settings),
        inputs=[InputIdentity(name=benchmark.name, fingerprint=benchmark.sha256)],
    )
    run_folder = RunFolder(folder / cell.folder, configuration, whole_groups=not reward.independent)
    try:
        settled = len(run_folder.settled)
        if settled == len(benchmark.items):
            return True
        with observer.watch(cell, settled_items=settled) as watching:
            run = Run(reward, run_folder, limits=limits, observer=watching, stop=stop)
            summary = await run.score(_rows(benchmark, run_folder.settled), prices=prices)
        return summary.complete
    finally:
        run_folder.close()


def _rows(benchmark: Benchmark, settled: SettledRows) -> Iterator[SourceRow]:
    for position, item in enumerate(benchmark.items):
        if position not in settled:
            yield SourceRow(position, benchmark.name, position + 1, item.group)


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

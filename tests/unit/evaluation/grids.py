"""Experiment grids with scripted inferences, evaluated in process."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from flip_reward.core.score import Score
from flip_reward.data.rows import InvalidRow
from flip_reward.engines.base import Request
from flip_reward.engines.scripted import ScriptedEngine
from flip_reward.engines.stopping import StopSignal
from flip_reward.errors import EngineServerError
from flip_reward.evaluation.benchmarks.base import Benchmark, BenchmarkItem
from flip_reward.evaluation.folder import EvaluationOptions, open_folder
from flip_reward.evaluation.grid import ExperimentGrid, GridReward, GridRun, prepare_folder, run_grid
from flip_reward.evaluation.results import EvaluationResults, ExperimentResult
from flip_reward.evaluation.tabulate import tabulate
from flip_reward.rewards.config import RewardConfig
from flip_reward.rewards.controls import ControlReward
from flip_reward.scoring.runner import Observer, RunLimits

ITEMS = tuple(
    BenchmarkItem.of(f"i{n}", "even" if n % 2 == 0 else "odd", f"say w{n}", [f"w{n}"], [f"no idea about {n}"])
    for n in range(12)
)


BENCHMARK = Benchmark("words", "preference", ITEMS)


class Inferrer:
    """Infers "say" and the response's first word; fails on demand; remembers how often it was asked what."""

    def __init__(self, *failing: str) -> None:
        self.failing = set(failing)
        self.asked: Counter[str] = Counter()

    def __call__(self, request: Request) -> str:
        word = request.messages[-1].content.split("\n")[-1].split()[0]
        self.asked[word] += 1
        if word in self.failing:
            raise EngineServerError("broken")
        return json.dumps({"REASONING": "scripted", "INFERRED INSTRUCTION": f"say {word}"})


class Watcher:
    """Remembers the runs it was told of, and stops after so many records."""

    def __init__(self, stop: StopSignal | None = None, *, stop_after: int = 10**9) -> None:
        self.runs: list[tuple[str, int]] = []
        self.records = 0
        self._stop = stop or StopSignal()
        self._stop_after = stop_after

    @contextmanager
    def watch(self, run: GridRun, *, completed_groups: int) -> Iterator[Observer]:
        self.runs.append((run.folder, completed_groups))
        yield self

    def scored(self, scores: tuple[Score, ...]) -> None:
        self.records += len(scores)
        self._stop.requested = self.records >= self._stop_after

    def rejected(self, row: InvalidRow) -> None:
        raise AssertionError(row)


def flip(inferrer: Inferrer) -> GridReward:
    return GridReward(
        "flip reasoned @ scripted", "scripted", (RewardConfig(model="scripted").load(ScriptedEngine(inferrer)),)
    )


def control(name: str) -> GridReward:
    return GridReward(name, None, (ControlReward(name),))


def evaluate(
    folder: Path,
    rewards: Sequence[GridReward],
    benchmarks: Sequence[Benchmark] = (BENCHMARK,),
    *,
    watcher: Watcher | None = None,
    stop: StopSignal | None = None,
    options: EvaluationOptions | None = None,
) -> bool:
    grid = ExperimentGrid([(one.name, one) for one in benchmarks], rewards, options or EvaluationOptions())
    limits = RunLimits(workers=2)
    with open_folder(folder):
        prepare_folder(folder, grid)
        return asyncio.run(run_grid(folder, grid, watcher or Watcher(), limits=limits, stop=stop))


def results_of(folder: Path) -> EvaluationResults:
    return tabulate(folder).results


def experiments(folder: Path) -> dict[str, ExperimentResult]:
    return {f"{cell.benchmark}/{cell.reward}": cell for cell in results_of(folder).cells}

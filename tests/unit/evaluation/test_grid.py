"""A grid from benchmarks and rewards to results, in process."""

import asyncio
import csv
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from flip_reward.core.score import Score
from flip_reward.data.rows import InvalidRow
from flip_reward.engines.base import Request
from flip_reward.engines.scripted import ScriptedEngine
from flip_reward.errors import EngineServerError, EngineUnavailableError, OptionError, RunError, RunMismatchError
from flip_reward.evaluation.benchmarks.base import Benchmark, BenchmarkItem
from flip_reward.evaluation.compare import compare_folders
from flip_reward.evaluation.folder import EvaluationOptions, open_folder, read_evaluation, read_items
from flip_reward.evaluation.grid import ExperimentGrid, GridReward, GridRun, prepare_folder, run_grid
from flip_reward.evaluation.results import EvaluationResults, ExperimentResult, write_results
from flip_reward.evaluation.tabulate import tabulate
from flip_reward.rewards.config import RewardConfig
from flip_reward.rewards.controls import ControlReward
from flip_reward.scoring.runner import Observer, RunLimits, StopSignal
from flip_reward.scoring.summary import Prices

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
    def watch(self, run: GridRun, *, completed_items: int) -> Iterator[Observer]:
        self.runs.append((run.folder, completed_items))
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
    prices: Prices | None = None,
) -> bool:
    grid = ExperimentGrid([(one.name, one) for one in benchmarks], rewards, options or EvaluationOptions())
    limits = RunLimits(workers=2)
    with open_folder(folder):
        prepare_folder(folder, grid)
        return asyncio.run(run_grid(folder, grid, watcher or Watcher(), limits=limits, stop=stop, prices=prices))


def results_of(folder: Path) -> EvaluationResults:
    return tabulate(folder).results


def experiments(folder: Path) -> dict[str, ExperimentResult]:
    return {f"{cell.benchmark}/{cell.reward}": cell for cell in results_of(folder).cells}


def test_every_reward_on_every_benchmark(tmp_path: Path) -> None:
    other = Benchmark("others", "preference", ITEMS[:4])
    assert evaluate(tmp_path, [flip(Inferrer()), control("longest")], [BENCHMARK, other])
    results = results_of(tmp_path)
    assert [(one.name, one.items) for one in results.benchmarks] == [("words", 12), ("others", 4)]
    assert [(size.name, size.items) for size in results.benchmarks[0].subsets] == [("even", 6), ("odd", 6)]
    found = experiments(tmp_path)
    assert list(found) == [
        "words/flip reasoned @ scripted", "words/longest", "others/flip reasoned @ scripted", "others/longest",
    ]  # fmt: skip
    cell = found["words/flip reasoned @ scripted"]
    assert (cell.folder, cell.runs) == ("cells/words--flip-reasoned--scripted", [cell.folder])
    assert (cell.overall.strict.value, cell.overall.unscored_items, cell.order_flips) == (1.0, 0, None)
    assert cell.outcomes == {"scored": 24}
    assert cell.tokens.prompt > cell.tokens.completion > 0
    assert cell.cost is None
    assert [subset.name for subset in cell.subsets] == ["even", "odd"]
    assert found["words/longest"].overall.strict.value == 0
    assert found["words/longest"].tokens.prompt == 0
    [first, second] = results.comparisons
    assert (first.benchmark, first.verdict, first.difference.value) == ("words", "a better", 1.0)
    assert (first.mcnemar_p, first.holm_p) == pytest.approx((2 / 2**12, 4 / 2**12))
    assert (second.benchmark, second.items) == ("others", 4)
    assert (second.holm_p, second.verdict) == (0.125, "not told apart"), "four items prove little"


def test_the_folder_holds_what_a_reader_needs(tmp_path: Path) -> None:
    options = EvaluationOptions(limit=12, price_prompt=2.0)
    evaluate(tmp_path, [flip(Inferrer())], options=options)
    write_results(tmp_path, results_of(tmp_path))
    assert read_items(tmp_path, "words") == ITEMS
    line = json.loads((tmp_path / "items/words.jsonl").read_text().splitlines()[0])
    assert line["messages"] == [{"role": "user", "content": "say w0"}]
    assert (line["responses"], line["chosen"]) == (["w0", "no idea about 0"], [True, False])
    evaluation = read_evaluation(tmp_path)
    assert (evaluation.format, evaluation.options, evaluation.benchmarks[0].sha256) == (1, options, BENCHMARK.sha256)
    results = EvaluationResults.model_validate_json((tmp_path / "results.json").read_bytes())
    assert results == results_of(tmp_path)
    assert results.rewards[0].settings["template"] == "reasoned"
    [cell] = results.cells
    assert cell.cost == pytest.approx(cell.tokens.prompt * 2e-6)
    rows = list(csv.DictReader((tmp_path / "results.csv").read_text().splitlines()))
    assert [(row["kind"], row["name"], row["items"]) for row in rows] == [
        ("overall", "", "12"), ("subset", "even", "6"), ("subset", "odd", "6"),
    ]  # fmt: skip
    assert float(rows[0]["strict"]) == 1


def test_what_was_scored_is_never_asked_again(tmp_path: Path) -> None:
    inferrer, stop = Inferrer(), StopSignal()
    assert not evaluate(tmp_path, [flip(inferrer)], watcher=Watcher(stop, stop_after=6), stop=stop)
    assert 6 <= inferrer.asked.total() < 24
    assert results_of(tmp_path).cells == [], "half an experiment is not a result"
    watcher = Watcher()
    assert evaluate(tmp_path, [flip(inferrer)], watcher=watcher)
    assert inferrer.asked.total() == 24
    assert watcher.records < 24
    before = results_of(tmp_path)
    again = Watcher()
    assert evaluate(tmp_path, [flip(inferrer), control("longest")], watcher=again)
    assert again.runs == [("cells/words--longest", 0)], "a finished run is not shown"
    assert inferrer.asked.total() == 24
    after = results_of(tmp_path)
    assert after.cells[0] == before.cells[0], "its speed is kept too"
    assert len(after.cells) == 2


def test_failures_are_unscored_until_they_are_tried_again(tmp_path: Path) -> None:
    inferrer = Inferrer("w3", "w4")
    assert not evaluate(tmp_path, [flip(inferrer)])
    [cell] = results_of(tmp_path).cells
    assert cell.overall.unscored_items == 2
    assert (cell.overall.strict.value, cell.overall.fractional.value) == pytest.approx((10 / 12, 11 / 12))
    assert (cell.overall.excluded.value, cell.overall.excluded.n) == (1, 10)
    assert cell.overall.as_wrong.value == pytest.approx(10 / 12)
    inferrer.failing.clear()
    assert evaluate(tmp_path, [flip(inferrer)])
    assert results_of(tmp_path).cells[0].overall.unscored_items == 0


def test_with_nothing_scored_the_interval_says_so(tmp_path: Path) -> None:
    evaluate(tmp_path, [flip(Inferrer("no", *(f"w{n}" for n in range(12))))])
    excluded = results_of(tmp_path).cells[0].overall.excluded
    assert (excluded.value, excluded.low, excluded.high, excluded.n) == (0.5, 0, 1, 0)


def test_runs_are_folders_of_their_own_and_averaged(tmp_path: Path) -> None:
    engine = ScriptedEngine(Inferrer())
    runs = tuple(RewardConfig(model="scripted", temperature=0.7, seed=seed).load(engine) for seed in (0, 1))
    watcher = Watcher()
    evaluate(tmp_path, [GridReward("flip", "scripted", runs)], watcher=watcher)
    assert [folder for folder, _ in watcher.runs] == ["cells/words--flip--run1", "cells/words--flip--run2"]
    [cell] = results_of(tmp_path).cells
    assert cell.runs == ["cells/words--flip--run1", "cells/words--flip--run2"]
    assert cell.outcomes == {"scored": 48}
    assert cell.overall.strict.n == 12
    assert read_evaluation(tmp_path).rewards[0].settings["runs"] == 2


def test_order_flips_of_a_pairwise_judge(tmp_path: Path) -> None:
    judge = RewardConfig(reward="pairwise", model="scripted").load(
        ScriptedEngine(lambda _request: '{"BETTER_RESPONSE": "A"}')
    )
    evaluate(tmp_path, [GridReward("pairwise", "scripted", (judge,))])
    [cell] = results_of(tmp_path).cells
    assert cell.order_flips is not None
    assert (cell.order_flips.rate, cell.order_flips.pairs) == (1.0, 12)
    assert (cell.overall.strict.value, cell.overall.fractional.value) == (0, 0.5)


def test_another_benchmark_or_setting_is_refused_with_the_difference(tmp_path: Path) -> None:
    evaluate(tmp_path, [control("longest"), flip(Inferrer())])
    with pytest.raises(RunMismatchError, match="benchmark words: 12 items there, 5 now"):
        evaluate(tmp_path, [control("longest")], [Benchmark("words", "preference", ITEMS[:5])])
    with pytest.raises(RunMismatchError, match="12 items there, 12 now, or the same number of others"):
        evaluate(tmp_path, [control("longest")], [Benchmark("words", "preference", ITEMS[::-1])])
    changed = RewardConfig(model="scripted", structured=True).load(ScriptedEngine())
    with pytest.raises(RunMismatchError, match="flip reasoned @ scripted, structured: False there, True now"):
        evaluate(tmp_path, [GridReward("flip reasoned @ scripted", "scripted", (changed,))])
    assert len(read_evaluation(tmp_path).rewards) == 2


def test_a_grid_needs_names_of_its_own() -> None:
    with pytest.raises(OptionError, match="two rewards called 'longest'"):
        ExperimentGrid([("a", BENCHMARK)], [control("longest"), control("longest")])
    with pytest.raises(OptionError, match="two benchmarks called 'words'"):
        ExperimentGrid([("a", BENCHMARK), ("b", BENCHMARK)], [control("longest")])
    with pytest.raises(OptionError, match="at least one reward"):
        ExperimentGrid([("a", BENCHMARK)], [])
    with pytest.raises(OptionError, match="at least one benchmark"):
        ExperimentGrid([], [control("longest")])


def test_an_engine_that_is_not_there_ends_it_and_keeps_what_is_finished(tmp_path: Path) -> None:
    def refuse(_request: Request) -> str:
        raise EngineUnavailableError("nobody listens")

    lost = GridReward("flip", "lost", (RewardConfig(model="scripted").load(ScriptedEngine(refuse)),))
    with pytest.raises(EngineUnavailableError):
        evaluate(tmp_path, [control("longest"), lost])
    assert list(experiments(tmp_path)) == ["words/longest"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"format": 2}', "format 2"),
        ("[]", "format None"),
        ("{", r"evaluation\.json"),
        ('{"format": 1}', r"evaluation\.json"),
    ],
)
def test_folders_of_another_kind(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "evaluation.json").write_text(content)
    with pytest.raises(RunError, match=message):
        tabulate(tmp_path)
    with pytest.raises(RunError, match=message):
        evaluate(tmp_path, [control("longest")])


def test_damaged_folders(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"evaluation\.json"):
        tabulate(tmp_path / "missing")
    evaluate(tmp_path, [control("longest")])
    records = (tmp_path / "cells/words--longest/records.jsonl").read_text()
    (tmp_path / "cells/words--longest/records.jsonl").write_text(records.replace('"i3"', '"i99"'))
    with pytest.raises(RunError, match="cells/words--longest"):
        tabulate(tmp_path)
    (tmp_path / "items/words.jsonl").write_text("{}\n")
    with pytest.raises(RunError, match=r"words\.jsonl, line 1"):
        tabulate(tmp_path)
    (tmp_path / "items/words.jsonl").unlink()
    with pytest.raises(RunError, match=r"words\.jsonl cannot be read"):
        tabulate(tmp_path)


class TestComparing:
    def test_two_evaluations(self, tmp_path: Path) -> None:
        one, other = tmp_path / "one", tmp_path / "other"
        evaluate(one, [flip(Inferrer())], [BENCHMARK, Benchmark("others", "preference", ITEMS[:4])])
        evaluate(other, [control("longest"), control("shortest")])
        comparison = compare_folders(one, other)
        assert [(result.a, result.b, result.verdict) for result in comparison.results] == [
            ("flip reasoned @ scripted", "longest", "a better"),
            ("flip reasoned @ scripted", "shortest", "not told apart"),
        ]
        assert comparison.left_out == ["others"]

    def test_two_cells_of_one_evaluation(self, tmp_path: Path) -> None:
        evaluate(tmp_path, [control("longest"), control("shortest")])
        places = tmp_path / "cells/words--longest", tmp_path / "cells/words--shortest"
        [result] = compare_folders(*places).results
        assert (result.a, result.b, result.verdict) == ("longest", "shortest", "b better")
        with pytest.raises(OptionError, match="the same folder"):
            compare_folders(places[0], places[0])

    def test_the_same_reward_twice_is_told_apart_by_its_folder(self, tmp_path: Path) -> None:
        for name in ("one", "other"):
            evaluate(tmp_path / name, [control("longest")])
        [result] = compare_folders(tmp_path / "one", tmp_path / "other").results
        assert result.a.endswith("one)")
        assert result.b.endswith("other)")
        assert (result.difference.value, result.mcnemar_p) == (0, 1)

    def test_other_items_are_listed(self, tmp_path: Path) -> None:
        changed = BenchmarkItem.of("i5", "odd", "say w5", ["w5"], ["something else"])
        contents = {
            "whole": ITEMS,
            "part": ITEMS[4:],
            "changed": (*ITEMS[:5], changed, *ITEMS[6:]),
            "turned": ITEMS[::-1],
        }
        for name, items in contents.items():
            evaluate(tmp_path / name, [control("longest")], [Benchmark("words", "preference", items)])
        evaluate(tmp_path / "foreign", [control("longest")], [Benchmark("foreign", "preference", ITEMS)])

        def refuse(other: str) -> str:
            with pytest.raises(RunError) as caught:
                compare_folders(tmp_path / "whole", tmp_path / other)
            return str(caught.value)

        assert "items only in the first: i0, i1, i2 and 1 more" in refuse("part")
        assert "items with other texts or labels: i5" in refuse("changed")
        assert "the same items in another order" in refuse("turned")
        assert "has words, and" in refuse("foreign")

    def test_what_cannot_be_compared(self, tmp_path: Path) -> None:
        evaluate(tmp_path / "one", [control("longest")])
        (tmp_path / "plain").mkdir()
        (tmp_path / "plain/records.jsonl").write_text("")
        with pytest.raises(OptionError, match="does not say which responses are good"):
            compare_folders(tmp_path / "one", tmp_path / "plain")
        with pytest.raises(RunError, match=r"nothing .* evaluation\.json"):
            compare_folders(tmp_path / "one", tmp_path / "nothing")
        stop = StopSignal()
        evaluate(tmp_path / "half", [flip(Inferrer())], watcher=Watcher(stop, stop_after=2), stop=stop)
        with pytest.raises(RunError, match="half"):
            compare_folders(tmp_path / "one", tmp_path / "half")

"""Results of evaluation folders."""

from pathlib import Path

import pytest

from flip_reward.engines.scripted import ScriptedEngine
from flip_reward.evaluation.benchmarks.base import Benchmark
from flip_reward.evaluation.grid import GridReward
from flip_reward.evaluation.results import write_results
from flip_reward.evaluation.tabulate import read_data, tabulate
from flip_reward.report.evaluation import build_report
from flip_reward.rewards.config import RewardConfig
from tests.unit.evaluation.grids import BENCHMARK, ITEMS, Inferrer, control, evaluate, experiments, flip, results_of


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


def test_with_nothing_scored_the_interval_says_so(tmp_path: Path) -> None:
    evaluate(tmp_path, [flip(Inferrer("no", *(f"w{n}" for n in range(12))))])
    excluded = results_of(tmp_path).cells[0].overall.excluded
    assert (excluded.value, excluded.low, excluded.high, excluded.n) == (0.5, 0, 1, 0)


def test_order_flips_of_a_pairwise_judge(tmp_path: Path) -> None:
    judge = RewardConfig(reward="pairwise", model="scripted").load(
        ScriptedEngine(lambda _request: '{"BETTER_RESPONSE": "A"}')
    )
    evaluate(tmp_path, [GridReward("pairwise", "scripted", (judge,))])
    [cell] = results_of(tmp_path).cells
    assert cell.order_flips is not None
    assert (cell.order_flips.rate, cell.order_flips.pairs) == (1.0, 12)
    assert (cell.overall.strict.value, cell.overall.fractional.value) == (0, 0.5)


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


def test_what_is_handed_over_is_what_stands_in_the_folder(tmp_path: Path) -> None:
    evaluate(tmp_path, [flip(Inferrer("w3")), control("longest")])
    data = tabulate(tmp_path)
    write_results(tmp_path, data.results)
    assert read_data(tmp_path) == data
    assert build_report(tmp_path, data).read_bytes() == build_report(tmp_path).read_bytes()

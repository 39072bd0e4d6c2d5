"""Results of evaluation folders."""

import csv
import json
from pathlib import Path

import pytest

from flip_reward.engines.scripted import ScriptedEngine
from flip_reward.evaluation.benchmarks.base import Benchmark, BenchmarkItem
from flip_reward.evaluation.grid import GridReward
from flip_reward.evaluation.results import read_results, write_results
from flip_reward.evaluation.tabulate import read_data, tabulate
from flip_reward.report.evaluation.page import build_report
from flip_reward.rewards.config import RewardConfig
from flip_reward.rewards.controls import ControlReward
from flip_reward.rewards.options import ResponseOptions
from tests.unit.evaluation.grids import BENCHMARK, ITEMS, Inferrer, control, evaluate, experiments, flip, results_of
from tests.unit.evaluation.items import known, turned


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
    assert (known(cell.overall.strict).value, cell.overall.unscored_items, cell.order_flips) == (1.0, 0, None)
    assert cell.outcomes == {"scored": 24}
    assert cell.tokens.prompt > cell.tokens.completion > 0
    assert cell.cost is None
    assert [subset.name for subset in cell.subsets] == ["even", "odd"]
    assert known(found["words/longest"].overall.strict).value == 0
    assert found["words/longest"].tokens.prompt == 0
    [first, second] = results.comparisons
    assert (first.benchmark, first.verdict, first.difference.value) == ("words", "a better", 1.0)
    assert (first.p, first.holm_p) == pytest.approx((2 / 2**12, 4 / 2**12))
    assert (second.benchmark, second.items) == ("others", 4)
    assert (second.holm_p, second.verdict) == (0.125, "not told apart"), "four items prove little"


def test_a_reward_without_any_score_has_no_verdict_and_is_compared_with_nothing(tmp_path: Path) -> None:
    silent = flip(Inferrer("no", *(f"w{n}" for n in range(12))))
    evaluate(tmp_path, [silent, control("longest"), control("shortest")])
    data = tabulate(tmp_path)
    [comparison] = data.results.comparisons
    assert (comparison.a, comparison.b) == ("longest", "shortest")
    assert comparison.holm_p == comparison.p, "the pairs without a verdict do not count"
    cell = data.results.cells[0]
    for accuracy in (cell.overall, *cell.subsets):
        rules = accuracy.strict, accuracy.fractional, accuracy.excluded, accuracy.as_wrong, accuracy.as_chance
        assert rules == (None,) * 5
    assert cell.overall.unscored_items == 12
    write_results(tmp_path, data.results)
    assert json.loads((tmp_path / "results.json").read_text())["cells"][0]["overall"]["fractional"] is None
    [overall, *_] = csv.DictReader((tmp_path / "results.csv").read_text().splitlines())
    assert (overall["items"], overall["unscored_items"], overall["strict"]) == ("12", "12", "")


def test_a_subset_without_any_score_has_no_verdict(tmp_path: Path) -> None:
    evaluate(tmp_path, [flip(Inferrer(*(f"w{n}" for n in range(0, 12, 2))))])
    [cell] = results_of(tmp_path).cells
    assert {subset.name: subset.fractional is None for subset in cell.subsets} == {"even": True, "odd": False}
    assert known(cell.overall.fractional).value == pytest.approx(0.75), "half of it is decided, by chance as before"


def test_order_flips_of_a_pairwise_judge(tmp_path: Path) -> None:
    judge = RewardConfig(reward="pairwise", model="scripted").load(
        ScriptedEngine(lambda _request: '{"BETTER_RESPONSE": "A"}')
    )
    evaluate(tmp_path, [GridReward("pairwise", "scripted", (judge,))])
    [cell] = results_of(tmp_path).cells
    assert cell.order_flips is not None
    assert (cell.order_flips.rate, cell.order_flips.pairs) == (1.0, 12)
    assert (known(cell.overall.strict).value, known(cell.overall.fractional).value) == (0, 0.5)


def test_failures_are_unscored_until_they_are_tried_again(tmp_path: Path) -> None:
    inferrer = Inferrer("w3", "w4")
    assert not evaluate(tmp_path, [flip(inferrer)])
    [cell] = results_of(tmp_path).cells
    assert cell.overall.unscored_items == 2
    found = {rule: known(getattr(cell.overall, rule)) for rule in ("strict", "fractional", "excluded", "as_wrong")}
    expected = {"strict": 10 / 12, "fractional": 11 / 12, "excluded": 1, "as_wrong": 10 / 12}
    assert {rule: one.value for rule, one in found.items()} == pytest.approx(expected)
    assert found["excluded"].n == 10
    inferrer.failing.clear()
    assert evaluate(tmp_path, [flip(inferrer)])
    assert results_of(tmp_path).cells[0].overall.unscored_items == 0


def test_what_is_handed_over_is_what_stands_in_the_folder(tmp_path: Path) -> None:
    evaluate(tmp_path, [flip(Inferrer("w3")), control("longest")])
    data = tabulate(tmp_path)
    write_results(tmp_path, data.results)
    assert read_data(tmp_path) == data
    assert build_report(tmp_path, data).read_bytes() == build_report(tmp_path).read_bytes()


def test_length_balanced_accuracy_stands_beside_the_others(tmp_path: Path) -> None:
    items = tuple(turned(one) if number % 3 else one for number, one in enumerate(ITEMS))
    evaluate(tmp_path, [control("longest"), control("shortest")], [Benchmark("words", "preference", items)])
    results = results_of(tmp_path)
    for cell in results.cells:
        for accuracy in (cell.overall, *cell.subsets):
            assert known(accuracy.length_balanced).value == 0.5
    assert known(results.comparisons[0].length_balanced_difference).value == 0
    assert results.comparisons[0].difference.value != 0
    write_results(tmp_path, results)
    [overall, *_] = csv.DictReader((tmp_path / "results.csv").read_text().splitlines())
    assert float(overall["length_balanced"]) == 0.5
    assert float(overall["length_balanced_low"]) < 0.5 < float(overall["length_balanced_high"])


def test_comparisons_of_earlier_versions_are_read(tmp_path: Path) -> None:
    evaluate(tmp_path, [control("longest"), control("shortest")])
    write_results(tmp_path, tabulate(tmp_path).results)
    written = json.loads((tmp_path / "results.json").read_text())
    earlier = written["comparisons"][0]
    earlier["mcnemar_p"] = earlier.pop("p")
    del earlier["test"], earlier["length_balanced_difference"]
    (tmp_path / "results.json").write_text(json.dumps(written))
    [comparison] = read_results(tmp_path).comparisons
    assert comparison.p == earlier["mcnemar_p"] == comparison.holm_p
    assert "McNemar" in comparison.test


@pytest.mark.parametrize("prefix", ["", "longest."])
def test_lengths_are_of_the_answers_that_a_reward_reads(tmp_path: Path, prefix: str) -> None:
    """The plan before the second answer makes it the longer one of its item, which it is not."""
    pairs = [("pears", "pea"), ("<plan>long</plan>fig", "melon"), ("fig", "melon")]
    items = tuple(
        BenchmarkItem.of(f"{number}", "all", f"Name fruit {number}.", [good], [bad])
        for number, (good, bad) in enumerate(pairs)
    )
    marks = ResponseOptions(thinking_marks=("<plan>", "</plan>"))
    evaluate(
        tmp_path,
        [GridReward("longest", None, (ControlReward("longest", marks),))],
        [Benchmark("plans", "preference", items)],
    )
    file = tmp_path / "evaluation.json"
    file.write_text(file.read_text().replace('"thinking_marks"', f'"{prefix}thinking_marks"'))
    assert known(results_of(tmp_path).cells[0].overall.length_balanced).value == 0.5

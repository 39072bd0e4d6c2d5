"""Evaluations and experiments compared on the same items."""

from pathlib import Path

import pytest

from flip_reward.engines.stopping import StopSignal
from flip_reward.errors import OptionError, RunError
from flip_reward.evaluation.benchmarks.base import Benchmark, BenchmarkItem
from flip_reward.evaluation.compare import compare_folders
from tests.unit.evaluation.grids import BENCHMARK, ITEMS, Inferrer, Watcher, control, evaluate, flip


def test_two_evaluations(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    evaluate(one, [flip(Inferrer())], [BENCHMARK, Benchmark("others", "preference", ITEMS[:4])])
    evaluate(other, [control("longest"), control("shortest")])
    comparison = compare_folders(one, other)
    assert [(result.a, result.b, result.verdict) for result in comparison.results] == [
        ("flip reasoned @ scripted", "longest", "a better"),
        ("flip reasoned @ scripted", "shortest", "not told apart"),
    ]
    assert comparison.left_out == ["others"]


def test_two_cells_of_one_evaluation(tmp_path: Path) -> None:
    evaluate(tmp_path, [control("longest"), control("shortest")])
    places = tmp_path / "cells/words--longest", tmp_path / "cells/words--shortest"
    [result] = compare_folders(*places).results
    assert (result.a, result.b, result.verdict) == ("longest", "shortest", "b better")
    with pytest.raises(OptionError, match="the same folder"):
        compare_folders(places[0], places[0])


def test_the_same_reward_twice_is_told_apart_by_its_folder(tmp_path: Path) -> None:
    for name in ("one", "other"):
        evaluate(tmp_path / name, [control("longest")])
    [result] = compare_folders(tmp_path / "one", tmp_path / "other").results
    assert result.a.endswith("one)")
    assert result.b.endswith("other)")
    assert (result.difference.value, result.p) == (0, 1)


def test_other_items_are_listed(tmp_path: Path) -> None:
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


def test_what_cannot_be_compared(tmp_path: Path) -> None:
    evaluate(tmp_path / "one", [control("longest")])
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain/records.jsonl").write_text("")
    with pytest.raises(OptionError, match="does not say which responses are good"):
        compare_folders(tmp_path / "one", tmp_path / "plain")
    with pytest.raises(RunError, match=r"no folder .*nothing"):
        compare_folders(tmp_path / "one", tmp_path / "nothing")
    stop = StopSignal()
    evaluate(tmp_path / "half", [flip(Inferrer())], watcher=Watcher(stop, stop_after=2), stop=stop)
    with pytest.raises(RunError, match="half"):
        compare_folders(tmp_path / "one", tmp_path / "half")


def test_a_reward_without_a_verdict_is_named_and_left_out(tmp_path: Path) -> None:
    evaluate(tmp_path / "one", [flip(Inferrer("no", *(f"w{n}" for n in range(12))))])
    evaluate(tmp_path / "other", [control("longest"), control("shortest")])
    comparison = compare_folders(tmp_path / "one", tmp_path / "other")
    assert (comparison.results, comparison.no_verdict) == ([], ["words: flip reasoned @ scripted"])

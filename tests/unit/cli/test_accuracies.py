"""The table of an evaluation, at the width of a terminal."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from flip_reward.cli.accuracies import print_accuracies
from flip_reward.cli.commands.compare import print_comparisons
from flip_reward.evaluation.results import (
    Accuracy,
    BenchmarkSummary,
    ComparisonResult,
    ExperimentResult,
    ProtocolFigure,
    Tokens,
    name_headline,
    rank,
)
from flip_reward.evaluation.statistics import Estimate

BENCHMARK = BenchmarkSummary(name="rm-bench", protocol="rm-bench", items=1300, subsets=[])
FLIP = "flip reasoned chrf:multilingual x8 @ Qwen/Qwen3-4B-Instruct-2507"


def around(value: float) -> Estimate:
    return Estimate(value, value - 0.05, value + 0.05, 1300)


def cell(
    reward: str, accuracy: float | None, balanced: float | None = None, headline: float | None = None
) -> ExperimentResult:
    found = None if accuracy is None else around(accuracy)
    figures = [ProtocolFigure(name="hard", value=0.123, low=0.1, high=0.2, note="")]
    if headline is not None:
        low, high = headline - 0.01, headline + 0.01
        figures.append(
            ProtocolFigure(name="average of domains", value=headline, low=low, high=high, note="", headline=True)
        )
    return ExperimentResult(
        benchmark="rm-bench", reward=reward, folder="cells/x", runs=["cells/x"], subsets=[],
        overall=Accuracy(
            strict=found, fractional=found, unscored_items=7, excluded=found, as_wrong=found, as_chance=found,
            length_balanced=None if balanced is None else around(balanced),
        ),
        protocol_figures=figures, outcomes={}, tokens=Tokens(prompt=0, completion=0), cost=None,
        rewards_per_second=41.25, order_flips=None,
    )  # fmt: skip


def printed(*cells: ExperimentResult, width: int = 80) -> str:
    shown = StringIO()
    print_accuracies(Console(file=shown, width=width), BENCHMARK, cells)
    return shown.getvalue()


def order(text: str, *names: str) -> list[str]:
    return sorted(names, key=text.index)


def test_the_headline_comes_first_and_all_fits_80_columns() -> None:
    text = printed(cell("shortest", 0.728, 0.5, 0.72), cell(FLIP, 0.613, 0.637, 0.401), cell("silent", None))
    assert max(map(len, text.splitlines())) <= 80
    for title in ("average of", "domains", "accuracy", "length-", "balanced", "ties", "wrong", "unscored"):
        assert title in text
    [flip] = [line for line in text.splitlines() if "0.401" in line]
    assert flip.split()[-5:] == ["0.401", "0.613", "0.637", "0.613", "7"]
    for interval in ("0.391-0.411", "0.563-0.663", "0.587-0.687"):
        assert interval in text
    assert "0.123" not in text, "only the headline of the authors' figures"
    assert order(text, "flip reasoned", "shortest", "silent") == ["flip reasoned", "shortest", "silent"]
    assert "no verdict" in text


def test_a_reward_whose_headline_could_not_be_computed_shows_no_other_figure_in_its_place() -> None:
    part = cell("b", 0.4, 0.5)
    others = [ProtocolFigure(name="average of one", value=0.777, low=0.7, high=0.8, note="", headline=True)]
    text = printed(cell("a", 0.6, 0.6, 0.5), part.model_copy(update={"protocol_figures": others}))
    assert "0.777" not in text


def test_the_cost_is_shown_where_prices_are_known_and_there_is_room() -> None:
    cells = cell(FLIP, 0.613, 0.637, 0.401), cell("shortest", 0.728, 0.5, 0.72)
    assert "cost" not in printed(*cells, width=160)
    priced = [one.model_copy(update={"cost": 0.25}) for one in cells]
    assert "cost" not in printed(*priced)
    assert printed(*priced, width=160).count("0.2500") == 2


def test_a_headline_that_is_the_accuracy_is_not_printed_twice() -> None:
    same = [cell("flip", 0.6, 0.6, 0.6), cell("longest", 0.4, 0.5, 0.4)]
    assert "average" not in printed(*same)
    assert name_headline(same) is None
    assert name_headline([*same, cell("copy", 0.4, 0.5, 0.41)]) == "average of domains"
    assert name_headline([cell("flip", 0.6)]) is None


def test_where_length_cannot_be_balanced_it_says_why_and_sorts_by_accuracy() -> None:
    text = printed(cell("longest", 0.2), cell("flip", 0.6))
    assert "rm-bench: no length-balanced accuracy" in text
    assert order(text, "flip", "longest") == ["flip", "longest"]
    assert "balanced" not in printed(cell("flip", None)), "there is no accuracy at all"


def test_a_comparison_tells_the_difference_with_lengths_balanced() -> None:
    found = ComparisonResult(
        benchmark="llmbar", a="shortest", b="flip", items=419, difference=around(0.1), strict_difference=around(0.1),
        length_balanced_difference=around(-0.1), p=0.001, holm_p=0.003, verdict="a better",
    )  # fmt: skip
    shown = StringIO()
    print_comparisons(Console(file=shown), [found, found.model_copy(update={"length_balanced_difference": None})])
    plain = "llmbar: shortest - flip: +0.100 (+0.050 to +0.150), p 0.003: shortest is better"
    assert shown.getvalue().splitlines() == [f"{plain}; length-balanced -0.100 (-0.150 to -0.050)", plain]


def test_no_verdict_beside_a_small_p_is_explained() -> None:
    found = ComparisonResult(
        benchmark="llmbar", a="shy", b="bold", items=40, difference=around(0.1), strict_difference=around(-0.1),
        p=0.001, holm_p=0.003, verdict="not told apart",
    )  # fmt: skip
    shown = StringIO()
    print_comparisons(Console(file=shown), [found, found.model_copy(update={"holm_p": 0.2})])
    small, large = shown.getvalue().splitlines()
    assert small.endswith("p 0.003: not told apart, as it depends on how ties and unscored items count")
    assert large.endswith("p 0.2: not told apart")


@pytest.mark.parametrize(
    ("a", "b", "title"),
    [
        ("longest", "0.5 * z(longest) + 0.5 * z(copy)", "longest - (0.5 * z(longest) + 0.5 * z(copy))"),
        ("flip / 2 @ qwen", "flip compact rouge-l", "(flip / 2 @ qwen) - flip compact rouge-l"),
    ],
)
def test_a_formula_is_not_read_as_part_of_the_difference(a: str, b: str, title: str) -> None:
    found = ComparisonResult(
        benchmark="llmbar", a=a, b=b, items=419, difference=around(0.1), strict_difference=around(0.1),
        p=0.001, holm_p=0.003, verdict="a better",
    )  # fmt: skip
    shown = StringIO()
    print_comparisons(Console(file=shown), [found])
    assert f"llmbar: {title}: +0.100" in shown.getvalue()


@pytest.mark.parametrize("reverse", [False, True])
def test_rewards_are_ranked_by_length_balanced_accuracy(reverse: bool) -> None:
    cells = [cell("a", 0.7, 0.5), cell("b", 0.6, 0.65), cell("c", 0.9, 0.5), cell("d", 0.95), cell("e", None)]
    assert [one.reward for one in rank(cells[::-1] if reverse else cells)] == ["b", "c", "a", "d", "e"]

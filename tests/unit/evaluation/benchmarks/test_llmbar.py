"""LLMBar: its rows, and figures computed by hand."""

import json
from pathlib import Path

import pytest

from flip_reward.errors import DataError
from flip_reward.evaluation.benchmarks.catalogue import load_benchmark
from flip_reward.evaluation.grading import ItemRewards
from tests.unit.evaluation.benchmarks.rows import PAIR, Row, read, refuse
from tests.unit.evaluation.items import figure, figures, grade, headline, item, said, verdict

LLMBAR: Row = {"input": "Write seven in words.", "output_1": "7", "output_2": "seven", "label": 2}


def test_llmbar_from_a_copy_of_its_repository(tmp_path: Path) -> None:
    for folder in (
        "Natural",
        "Adversarial/Neighbor",
        "Adversarial/GPTInst",
        "Adversarial/GPTOut",
        "Adversarial/Manual",
    ):
        (tmp_path / folder).mkdir(parents=True)
        rows = [{**LLMBAR, "input": f"{folder} {n}"} for n in range(2)]
        (tmp_path / folder / "dataset.json").write_text(json.dumps(rows), encoding="utf-8")
    benchmark = load_benchmark(f"llmbar={tmp_path}")
    assert benchmark.subsets == {"natural": 2, "neighbor": 2, "gptinst": 2, "gptout": 2, "manual": 2}
    assert (benchmark.items[1].id, benchmark.items[1].group.responses) == ("natural/1", ("seven", "7"))
    (tmp_path / "Natural/dataset.json").unlink()
    with pytest.raises(DataError, match=r"Natural/dataset\.json cannot be read"):
        load_benchmark(f"llmbar={tmp_path}")


def test_llmbar_as_a_preference_file_and_under_other_spellings(tmp_path: Path) -> None:
    spellings = ("Natural", "adv_neighbor", "Adversarial_GPTInst", "adversarial/gptout", "manual")
    rows = [{**PAIR, "id": name, "prompt": name, "subset": name} for name in spellings]
    names = ["natural", "neighbor", "gptinst", "gptout", "manual"]
    assert [item.subset for item in read(tmp_path, *rows, name="llmbar")] == names
    assert "LLMBar has no subset 'fruit'" in refuse(tmp_path, PAIR, name="llmbar")


class TestLLMBar:
    items = tuple(item(name, name) for name in ("natural", "neighbor", "gptinst", "gptout", "manual"))

    def test_the_adversarial_mean_is_of_its_four_subsets(self) -> None:
        right, wrong, tie = said(1, 0), said(0, 1), said(1, 1)
        graded = grade("llmbar", [*self.items, item("more", "neighbor")], [right, right, wrong, wrong, tie, wrong])
        assert figures(graded) == {
            "natural": 1,
            "adversarial mean": (0.5 + 0 + 0 + 0.5) / 4,
            "average": (1 + 0.5 + 0 + 0 + 0.5) / 5,
            "natural, authors' rule": 1,
            "adversarial mean, authors' rule": (0.5 + 0 + 0 + 0.5) / 4,
            "average, authors' rule": (1 + 0.5 + 0 + 0 + 0.5) / 5,
            "agreement between orders": 1,
        }
        assert headline(graded) == "average, authors' rule"
        assert "by itself" in figure(graded, "agreement between orders").note

    def test_a_verdict_that_follows_the_order_is_half_right_and_no_agreement(self) -> None:
        flipped = said(0.5, 0.5, judgements=[verdict((0, 1), 0), verdict((1, 0), 1)])
        steady = said(1, 0, judgements=[verdict((0, 1), 0), verdict((1, 0), 0)])
        broken = said(None, None, judgements=[verdict((0, 1), 0), verdict((1, 0), None)])
        items = [item(str(number), "natural") for number in range(4)]
        graded = grade("llmbar", items, [flipped, steady, steady, broken])
        assert figures(graded) == {
            "natural": (0.5 + 1 + 1 + 0.5) / 4,
            "natural, authors' rule": (0.5 + 1 + 1 + 0.5) / 4,
            "agreement between orders": round(2 / 3, 9),
        }
        agreement = figure(graded, "agreement between orders").estimate
        assert agreement is not None
        assert agreement.n == 3

    def test_by_the_authors_rule_each_order_counts_by_itself(self) -> None:
        """Right and missing is one half of two, wrong and missing none; a missing rating is one half."""
        rewards = [
            said(None, None, judgements=[verdict((0, 1), 0), verdict((1, 0), None)]),
            said(None, None, judgements=[verdict((0, 1), 1), verdict((1, 0), None)]),
            said(None, None, judgements=[verdict((0, 1), None), verdict((1, 0), None)]),
            said(1, 0, judgements=[verdict((0, 1), 0)]),
            said(None, 7),
        ]
        graded = grade("llmbar", [item(str(number), "natural") for number in range(5)], rewards)
        assert figures(graded)["natural, authors' rule"] == (0.5 + 0 + 0 + 1 + 0.5) / 5
        assert headline(graded) == "natural, authors' rule"

    def test_an_order_that_fails_everywhere_leaves_the_authors_figure(self) -> None:
        """Each order counts by itself, though no pair has a verdict in both; nor is one asked without an answer."""
        half = said(None, None, judgements=[verdict((0, 1), 0), verdict((1, 0), None)])
        unasked = ItemRewards((None, None), compared=True)
        graded = grade("llmbar", [item("1", "natural"), item("2", "natural")], [half, unasked])
        assert figures(graded) == {"natural, authors' rule": (0.5 + 0) / 2}

    @pytest.mark.parametrize(
        ("subsets", "expected"),
        [
            (("neighbor",), "neighbor, authors' rule"),
            (("neighbor", "gptinst", "gptout", "manual"), "adversarial mean, authors' rule"),
            (("natural", "neighbor"), None),
        ],
    )
    def test_a_headline_is_of_all_subsets_that_are_there(
        self, subsets: tuple[str, ...], expected: str | None
    ) -> None:
        graded = grade("llmbar", [item(name, name) for name in subsets], [said(1, 0)] * len(subsets))
        assert headline(graded) == expected

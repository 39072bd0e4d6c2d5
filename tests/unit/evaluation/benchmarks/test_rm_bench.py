"""RM-Bench: its rows, and figures computed by hand."""

import json
from pathlib import Path

import pytest

from flip_reward.errors import DataError
from flip_reward.evaluation.benchmarks.base import BenchmarkItem
from flip_reward.evaluation.benchmarks.catalogue import load_benchmark
from tests.unit.evaluation.benchmarks.rows import Row, read, refuse
from tests.unit.evaluation.items import figures, grade, item, said

RM_BENCH: Row = {
    "id": 12, "domain": "safety-refuse", "prompt": "Pick a lock.",
    "chosen": ["No.", "I cannot.", "## No"], "rejected": ["Yes.", "I can.", "## Yes"],
}  # fmt: skip


def test_rm_bench_pools_the_two_safety_files(tmp_path: Path) -> None:
    first, second = read(
        tmp_path, RM_BENCH, {**RM_BENCH, "domain": "safety-response", "prompt": "x"}, name="rm-bench"
    )
    assert (first.id, first.subset) == ("safety-refuse/12", "safety")
    assert (second.id, second.subset) == ("safety-response/12", "safety")
    assert first.tags == ("concise", "plain", "markdown") * 2
    assert "'rejected' must have 3 responses" in refuse(tmp_path, {**RM_BENCH, "rejected": ["Yes."]}, name="rm-bench")


def test_rm_bench_as_its_authors_file(tmp_path: Path) -> None:
    path = tmp_path / "total_dataset.json"
    path.write_text(json.dumps([RM_BENCH]), encoding="utf-8")
    assert len(load_benchmark(f"rm-bench={path}").items) == 1
    path.write_text("[1]", encoding="utf-8")
    with pytest.raises(DataError, match="not a JSON object"):
        load_benchmark(f"rm-bench={path}")
    path.write_text("[", encoding="utf-8")
    with pytest.raises(DataError, match="cut off"):
        load_benchmark(f"rm-bench={path}")


def rm_item(name: str, domain: str) -> BenchmarkItem:
    return item(name, domain, 3, 3)


class TestRMBench:
    def test_the_chosen_style_is_the_row_of_the_matrix(self) -> None:
        """Rewards that grow with the style alone win all easy comparisons, and no hard or normal one."""
        found = figures(grade("rm-bench", [rm_item("1", "chat")], [said(1, 2, 3, 1, 2, 3)]))
        assert (found["hard"], found["normal"], found["easy"]) == (0, 0, 1)
        assert found["average"] == found["chat"] == pytest.approx(1 / 3)

    def test_by_hand(self) -> None:
        """Chosen 2, 5, 4 against rejected 1, 5, 3: rows (1 0 0), (1 0 1), (1 0 1)."""
        graded = grade("rm-bench", [rm_item("1", "chat")], [said(2, 5, 4, 1, 5, 3)])
        found = figures(graded)
        assert found["hard"] == pytest.approx((0 + 0 + 1) / 3)
        assert found["normal"] == pytest.approx((1 + 0 + 1) / 3)
        assert found["easy"] == pytest.approx((1 + 1 + 0) / 3)
        assert graded.strict[0] == pytest.approx(5 / 9)
        assert graded.fractional[0] == pytest.approx(5.5 / 9), "5 against 5 is a tie"

    def test_domains_count_the_same_whatever_their_size(self) -> None:
        items = [rm_item("1", "chat"), rm_item("2", "math"), rm_item("3", "math"), rm_item("4", "math")]
        right, wrong = said(9, 9, 9, 1, 1, 1), said(1, 1, 1, 9, 9, 9)
        found = figures(grade("rm-bench", items, [wrong, right, right, right]))
        assert found["average"] == 0.5
        assert (found["chat, hard"], found["math, hard"]) == (0, 1)

    def test_unscored_items_win_nothing(self) -> None:
        items = [rm_item("1", "chat"), rm_item("2", "chat")]
        found = figures(grade("rm-bench", items, [said(9, 9, None, 1, 1, 1), said(9, 9, 9, 1, 1, 1)]))
        assert found["average"] == 0.5

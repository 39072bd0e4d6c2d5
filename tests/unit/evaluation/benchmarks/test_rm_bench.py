"""RM-Bench: its rows, and figures computed by hand."""

import json
from pathlib import Path

import pytest

from flip_reward.errors import DataError
from flip_reward.evaluation.benchmarks.base import BenchmarkItem
from flip_reward.evaluation.benchmarks.catalogue import load_benchmark
from tests.unit.evaluation.benchmarks.rows import Row, read, refuse
from tests.unit.evaluation.items import figures, grade, headline, item, said

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


def test_rm_bench_as_its_authors_files_per_domain(tmp_path: Path) -> None:
    """Their rows have no domain, but the name of a set that they are from."""
    domains = ("chat", "code", "math", "safety-refuse", "safety-response")
    for domain in domains:
        row = {key: value for key, value in RM_BENCH.items() if key != "domain"}
        path = tmp_path / "data" / f"{domain}_filtered.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps([{**row, "subset": "a set", "prompt": domain}]), encoding="utf-8")
    (tmp_path / "data/total_dataset.json").write_text(json.dumps([RM_BENCH]), encoding="utf-8")
    (tmp_path / "README.md").write_text("# Rows", encoding="utf-8")
    benchmark = load_benchmark(f"rm-bench={tmp_path}")
    assert [item.id for item in benchmark.items] == [f"{domain}/12" for domain in domains]
    assert benchmark.subsets == {"chat": 1, "code": 1, "math": 1, "safety": 2}
    assert load_benchmark(f"rm-bench={tmp_path}/data/code_filtered.json").subsets == {"code": 1}
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no files of the benchmark"):
        load_benchmark(f"rm-bench={tmp_path}/none")


def test_a_domain_that_rm_bench_has_not(tmp_path: Path) -> None:
    assert "RM-Bench has no subset 'sport'" in refuse(tmp_path, {**RM_BENCH, "domain": "sport"}, name="rm-bench")


def rm_item(name: str, domain: str) -> BenchmarkItem:
    return item(name, domain, 3, 3)


class TestRMBench:
    def test_the_chosen_style_is_the_row_of_the_matrix(self) -> None:
        """Rewards that grow with the style alone win all easy comparisons, and no hard or normal one."""
        graded = grade("rm-bench", [rm_item("1", "chat")], [said(1, 2, 3, 1, 2, 3)])
        third = pytest.approx(1 / 3)
        assert figures(graded) == {"chat": third, "chat, hard": 0, "chat, normal": 0, "chat, easy": 1}
        assert headline(graded) == "chat"

    def test_by_hand(self) -> None:
        """Chosen 2, 5, 4 against rejected 1, 5, 3: rows (1 0 0), (1 0 1), (1 0 1)."""
        graded = grade("rm-bench", [rm_item("1", "chat")], [said(2, 5, 4, 1, 5, 3)])
        found = figures(graded)
        assert found["chat, hard"] == pytest.approx((0 + 0 + 1) / 3)
        assert found["chat, normal"] == pytest.approx((1 + 0 + 1) / 3)
        assert found["chat, easy"] == pytest.approx((1 + 1 + 0) / 3)
        assert graded.strict[0] == pytest.approx(5 / 9)
        assert graded.fractional[0] == pytest.approx(5.5 / 9), "5 against 5 is a tie"

    def test_domains_count_the_same_whatever_their_size(self) -> None:
        domains = ("chat", "code", "safety", "math", "math", "math")
        items = [rm_item(str(number), domain) for number, domain in enumerate(domains)]
        right, wrong = said(9, 9, 9, 1, 1, 1), said(1, 1, 1, 9, 9, 9)
        graded = grade("rm-bench", items, [wrong, wrong, wrong, right, right, right])
        found = figures(graded)
        assert found["average"] == found["hard"] == found["normal"] == found["easy"] == 0.25
        assert (found["chat, hard"], found["math, hard"]) == (0, 1)
        assert headline(graded) == "average"

    def test_without_a_domain_there_is_no_average(self) -> None:
        graded = grade("rm-bench", [rm_item("1", "chat"), rm_item("2", "code")], [said(9, 9, 9, 1, 1, 1)] * 2)
        assert not {"average", "hard", "normal", "easy"} & figures(graded).keys()
        assert headline(graded) is None

    def test_unscored_items_win_nothing(self) -> None:
        items = [rm_item("1", "chat"), rm_item("2", "chat")]
        found = figures(grade("rm-bench", items, [said(9, 9, None, 1, 1, 1), said(9, 9, 9, 1, 1, 1)]))
        assert found["chat"] == 0.5

"""Benchmarks and protocols by name."""

from pathlib import Path

import pytest

from flip_reward.errors import DataError, OptionError
from flip_reward.evaluation.benchmarks.catalogue import BENCHMARKS, BenchmarkName, load_benchmark, load_protocol
from flip_reward.evaluation.benchmarks.rewardbench2 import FOUR_SUBSETS, SUBSETS
from tests.unit.evaluation.benchmarks.rows import PAIR, Row, write


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("llmbar", BenchmarkName("llmbar", None)),
        ("RewardBench2:Math,Precise IF", BenchmarkName("rewardbench2", None, ("Math", "Precise IF"))),
        ("judgebench=pairs.jsonl.gz", BenchmarkName("judgebench", "pairs.jsonl.gz")),
        ("data/pairs.jsonl", BenchmarkName(None, "data/pairs.jsonl")),
        (r"C:\data\pairs.jsonl", BenchmarkName(None, r"C:\data\pairs.jsonl")),
        ("hf://datasets/a/b:test", BenchmarkName(None, "hf://datasets/a/b:test")),
    ],
)
def test_names(text: str, expected: BenchmarkName) -> None:
    assert BenchmarkName.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "near"), [("rewardbnch2", "rewardbench2"), ("lmbar=x.jsonl", "llmbar"), ("xyz", "")]
)
def test_unknown_benchmarks(text: str, near: str) -> None:
    with pytest.raises(OptionError, match="unknown benchmark") as caught:
        load_benchmark(text)
    assert f"did you mean {near!r}" in str(caught.value) or not near
    assert all(name in (caught.value.hint or "") for name in BENCHMARKS)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file"):
        load_benchmark(str(tmp_path / "rows.jsonl"))


def test_labels_are_safe_as_file_names(tmp_path: Path) -> None:
    assert load_benchmark(write(tmp_path / "my pairs (2).jsonl", [PAIR])).name == "my-pairs-2-"
    assert BenchmarkName.parse("hf://datasets/a/b:test").label == "b-test"


JUDGED: Row = {
    "pair_id": "1", "source": "livebench-math", "question": "1 + 1?", "response_A": "2", "response_B": "3",
    "label": "A>B",
}  # fmt: skip
BEST_OF_FOUR: Row = {"id": "1", "subset": "Math", "prompt": "1 + 1?", "chosen": ["2"], "rejected": ["3", "4", "5"]}


@pytest.mark.parametrize(
    ("name", "row", "reason", "hint"),
    [
        ("rewardbench2", JUDGED, "no column 'id'", "rows of judgebench"),
        ("judgebench", BEST_OF_FOUR, "no column 'pair_id'", "rows of rewardbench2"),
        ("llmbar", JUDGED, "no column 'chosen'", "rows of judgebench"),
        ("rewardbench2", {**BEST_OF_FOUR, "subset": "Maths"}, "no subset 'Maths'", "have the columns id, subset"),
        ("rewardbench", BEST_OF_FOUR, "'chosen': Input should be a valid string", "rows of rewardbench2"),
        ("rmb", PAIR, "no column 'category_path'", "other preferences are given as -b FILE"),
    ],
)
def test_a_file_of_another_benchmark_is_told_in_one_line(
    tmp_path: Path, name: str, row: Row, reason: str, hint: str
) -> None:
    source = write(tmp_path / "rows.jsonl", [row] * 30)
    with pytest.raises(DataError, match="none of its 30 rows can be used") as caught:
        load_benchmark(f"{name}={source}")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("protocol", "subsets", "expected"),
    [
        ("rewardbench2", SUBSETS, None),
        ("rewardbench2", FOUR_SUBSETS, "there is no 'average of six subsets' without the subsets Safety, Ties"),
        ("rewardbench2", ("Math",), None),
        (
            "rm-bench",
            ("chat", "code"),
            "there is no 'average' and no 'hard' and no 'normal' and no 'easy' without the subsets math, safety",
        ),
        ("rewardbench", ("hep-go", "hep-js"), "and 15 more"),
        ("preference", ("a", "b"), None),
    ],
)
def test_figures_that_lack_subsets_are_named(protocol: str, subsets: tuple[str, ...], expected: str | None) -> None:
    found = load_protocol(protocol).describe_missing(subsets)
    assert found is expected is None or str(expected) in str(found)


def test_an_unknown_protocol() -> None:
    with pytest.raises(DataError, match="unknown protocol 'x'"):
        load_protocol("x")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("pairs.csv", "prompt,chosen,rejected\nGrüße?,Äpfel,Öl\n"),
        (
            "llmbar=rows.jsonl",
            '{"input": "Grüße?", "output_1": "Äpfel", "output_2": "Öl", "label": 1, "subset": "natural"}',
        ),
    ],
)
def test_a_file_in_another_encoding(tmp_path: Path, name: str, content: str) -> None:
    published, equals, file = name.rpartition("=")
    (tmp_path / file).write_bytes(content.encode("cp1252"))
    text = f"{published}{equals}{tmp_path / file}"
    with pytest.raises(DataError, match="not UTF-8"):
        load_benchmark(text)
    [item] = load_benchmark(text, encoding="cp1252").items
    assert item.group.responses == ("Äpfel", "Öl")

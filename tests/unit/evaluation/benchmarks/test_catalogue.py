"""Benchmarks and protocols by name."""

from pathlib import Path

import pytest

from flip_reward.errors import DataError, OptionError
from flip_reward.evaluation.benchmarks.catalogue import BENCHMARKS, BenchmarkName, load_benchmark, load_protocol
from tests.unit.evaluation.benchmarks.rows import PAIR, write


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
    ("text", "near"), [("rewardbench", "rewardbench2"), ("lmbar=x.jsonl", "llmbar"), ("xyz", "")]
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

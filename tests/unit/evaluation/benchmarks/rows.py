"""Rows of benchmarks in files."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from flip_reward.errors import DataError
from flip_reward.evaluation.benchmarks.base import BenchmarkItem
from flip_reward.evaluation.benchmarks.catalogue import load_benchmark

Row = Mapping[str, object]

PAIR: Row = {"id": "1", "subset": "fruit", "prompt": "Name a fruit.", "chosen": ["Pear."], "rejected": ["Bread."]}


def write(path: Path, rows: Sequence[Row]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def read(path: Path, *rows: Row, name: str = "", skip_bad_rows: bool = False) -> tuple[BenchmarkItem, ...]:
    source = write(path / "rows.jsonl", rows)
    return load_benchmark(f"{name}={source}" if name else source, skip_bad_rows=skip_bad_rows).items


def refuse(path: Path, *rows: Row, name: str = "") -> str:
    with pytest.raises(DataError) as caught:
        read(path, *rows, name=name)
    return str(caught.value)

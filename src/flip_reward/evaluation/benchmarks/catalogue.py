"""Benchmarks and protocols by name: a published benchmark, a file with its rows, or any file of preferences."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Self

from flip_reward.data.hub import HubName, open_hub
from flip_reward.data.readers import FORMATS, open_input
from flip_reward.data.rows import RawRow, Row
from flip_reward.data.shapes import Need, find_shape
from flip_reward.data.shapes.known import Better
from flip_reward.errors import DataError, OptionError, suggest_name
from flip_reward.evaluation.benchmarks import (
    helpsteer3,
    judgebench,
    llmbar,
    ppe,
    preference,
    rewardbench,
    rewardbench2,
    rm_bench,
    rmb,
)
from flip_reward.evaluation.benchmarks.base import Benchmark, BenchmarkItem, RowModel, make_benchmark
from flip_reward.evaluation.benchmarks.files import ColumnsOf, read_files
from flip_reward.evaluation.grading import Protocol


@dataclass(frozen=True, slots=True)
class _Published:
    """A published benchmark: its rows, how one becomes an item, where they are, and the name of its protocol."""

    row: type[RowModel]
    to_item: Callable[[RawRow], BenchmarkItem | None]
    source: HubName | Callable[[], Iterator[Row]]
    protocol: str
    columns_of: ColumnsOf | None = None
    """The columns that paths say, where its authors keep several files."""
    may_repeat: bool = False
    """Whether a prompt may have the same responses twice, which then count twice as in the authors' numbers."""


_PUBLISHED = MappingProxyType(
    {
        "rewardbench": _Published(
            rewardbench.RewardBenchRow, rewardbench.to_item, rewardbench.HUB, "rewardbench", may_repeat=True
        ),
        "rewardbench-prior": _Published(
            rewardbench.RewardBenchRow,
            rewardbench.to_item,
            rewardbench.open_with_prior,
            "rewardbench",
            may_repeat=True,
        ),
        "rewardbench2": _Published(
            rewardbench2.RewardBench2Row, rewardbench2.to_item, rewardbench2.HUB, "rewardbench2"
        ),
        "rm-bench": _Published(
            rm_bench.RMBenchRow, rm_bench.to_item, rm_bench.HUB, "rm-bench", columns_of=rm_bench.columns_of
        ),
        "judgebench": _Published(judgebench.JudgeBenchRow, judgebench.to_item, judgebench.HUB_GPT, "judgebench"),
        "judgebench-claude": _Published(
            judgebench.JudgeBenchRow, judgebench.to_item, judgebench.HUB_CLAUDE, "judgebench"
        ),
        "llmbar": _Published(llmbar.LLMBarRow, llmbar.to_item, llmbar.open_repository, "llmbar"),
        "ppe-preference": _Published(
            ppe.PreferenceRow, ppe.to_preference_item, ppe.HUB_PREFERENCE, "ppe-preference", may_repeat=True
        ),
        "ppe-correctness": _Published(
            ppe.CorrectnessRow,
            ppe.to_correctness_item,
            ppe.open_correctness,
            "ppe-correctness",
            columns_of=ppe.columns_of,
            may_repeat=True,
        ),
        "rmb": _Published(
            rmb.RMBRow, rmb.to_item, rmb.open_repository, "rmb", columns_of=rmb.columns_of, may_repeat=True
        ),
        "helpsteer3": _Published(
            helpsteer3.HelpSteer3Row, helpsteer3.to_item, helpsteer3.HUB, "helpsteer3", may_repeat=True
        ),
    }
)
BENCHMARKS = tuple(_PUBLISHED)
"""The names of the published benchmarks."""


@dataclass(frozen=True, slots=True)
class BenchmarkName:
    """What a user calls a benchmark: `NAME`, `FILE` or `NAME=FILE`, and `:SUBSET,SUBSET` after it or not."""

    name: str | None
    """A published benchmark's; None for any other file."""
    source: str | None
    """None to download the published benchmark."""
    subsets: tuple[str, ...] = ()
    """The only subsets wanted; all when empty."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what a user wrote; an OptionError when it is neither a benchmark nor looks like a file.

        Example:
            >>> BenchmarkName.parse("llmbar=pairs.jsonl:natural,manual")
            BenchmarkName(name='llmbar', source='pairs.jsonl', subsets=('natural', 'manual'))
        """
        rest, colon, listed = text.rpartition(":")
        if not colon or re.search(r"[/\\]", listed) or Path(text).exists() or text.startswith(_HUB):
            rest, listed = text, ""
        subsets = tuple(name.strip() for name in listed.split(",") if name.strip())
        name, equals, source = rest.partition("=")
        if equals and name.lower() in _PUBLISHED:
            return cls(name.lower(), source, subsets)
        if rest.lower() in _PUBLISHED:
            return cls(rest.lower(), None, subsets)
        if equals and re.fullmatch(r"[\w-]+", name) and not Path(rest).exists():
            raise _unknown(name)
        if not _looks_like_a_file(rest):
            raise _unknown(rest)
        return cls(None, rest, subsets)

    @property
    def label(self) -> str:
        """What results call it: the benchmark's name, or the file's without its ending."""
        if self.name is not None:
            return self.name
        if self.source == "-":
            return "stdin"
        stem = Path(self.source or "").name.partition(".")[0]
        return re.sub(r"[^\w-]+", "-", stem) or "benchmark"


_HUB = "hf://"


def _looks_like_a_file(text: str) -> bool:
    path = Path(text)
    endings = any(ending in path.suffixes for ending in FORMATS)
    return text == "-" or endings or path.exists() or bool(re.search(r"[/\\]", text)) or text.startswith(_HUB)


def _unknown(name: str) -> OptionError:
    suggestion = suggest_name(name.lower(), BENCHMARKS)
    return OptionError(
        f"unknown benchmark {name!r}{suggestion}",
        hint=f"benchmarks are {', '.join(BENCHMARKS)}, or a file of preferences",
    )


def load_benchmark(
    text: str,
    *,
    skip_bad_rows: bool = False,
    columns: Mapping[str, str] | None = None,
    encoding: str | None = None,
) -> Benchmark:
    """Load a benchmark by name.

    It is one of `BENCHMARKS`, which is downloaded; a file of preferences in any format that `flip-reward score`
    reads, whose columns are recognised or named by `columns`; or NAME=FILE for a file with a published benchmark's
    rows and protocol. ":SUBSET,SUBSET" after any of them keeps only these subsets. Texts of files are in `encoding`.
    """
    name = BenchmarkName.parse(text)
    if name.name is not None:
        published = _PUBLISHED[name.name]
        benchmark = make_benchmark(
            name.label,
            published.protocol,
            _open(name, published, encoding),
            published.to_item,
            source=name.source or name.label,
            skip_bad_rows=skip_bad_rows,
            may_repeat=published.may_repeat,
            guess=partial(_guess, name.name),
        )
    else:
        benchmark = _load_preferences(name, columns, encoding, skip_bad_rows=skip_bad_rows)
    return benchmark.keep_subsets(name.subsets) if name.subsets else benchmark


def _load_preferences(
    name: BenchmarkName, columns: Mapping[str, str] | None, encoding: str | None, *, skip_bad_rows: bool
) -> Benchmark:
    source = name.source or ""
    opened = open_input(source, encoding=encoding)
    shape = find_shape([opened], columns, need=Need.PREFERENCES)
    labelled = shape.preference is not None and shape.preference.better is Better.LABELLED
    rows = preference.join_labelled(opened.rows(), shape) if labelled else opened.rows()
    to_item = partial(preference.to_item, preference.JOINED if labelled else shape)
    protocol = preference.PreferenceProtocol.name
    benchmark = make_benchmark(name.label, protocol, rows, to_item, source=source, skip_bad_rows=skip_bad_rows)
    renamed = any(ours != theirs for ours, theirs in shape.columns.items())
    return replace(benchmark, read_as=shape.description if renamed else "")


def _guess(name: str, row: RawRow) -> str:
    """Say whose row this is that lacks columns of a benchmark, or which columns that one has."""
    for other, published in _PUBLISHED.items():
        with suppress(DataError):
            published.to_item(row)
            return f"they look like rows of {other}: -b {other}=FILE"
    columns = [column for column, field in _PUBLISHED[name].row.model_fields.items() if field.is_required()]
    return f"rows of {name} have the columns {', '.join(columns)}; other preferences are given as -b FILE"


def _open(name: BenchmarkName, published: _Published, encoding: str | None) -> Iterator[Row]:
    if name.source is None:
        source = published.source
        return open_hub(source).rows() if isinstance(source, HubName) else source()
    if name.name == "llmbar" and Path(name.source).is_dir():
        return llmbar.open_repository(name.source)
    if published.columns_of is not None:
        return read_files(name.source, published.columns_of, encoding)
    return open_input(name.source, encoding=encoding).rows()


_PROTOCOLS = MappingProxyType(
    {
        protocol.name: protocol
        for protocol in (
            preference.PreferenceProtocol(),
            rewardbench.RewardBenchProtocol(),
            rewardbench2.RewardBench2Protocol(),
            rm_bench.RMBenchProtocol(),
            judgebench.JudgeBenchProtocol(),
            llmbar.LLMBarProtocol(),
            ppe.PPEPreferenceProtocol(),
            ppe.PPECorrectnessProtocol(),
            rmb.RMBProtocol(),
            helpsteer3.HelpSteer3Protocol(),
        )
    }
)


def load_protocol(name: str) -> Protocol:
    """Return the protocol called `name`; a DataError when there is none."""
    if name not in _PROTOCOLS:
        raise DataError(f"unknown protocol {name!r}", hint=f"protocols are {', '.join(_PROTOCOLS)}")
    return _PROTOCOLS[name]

"""Benchmarks and protocols by name: a published benchmark, a file with its rows, or any file of preferences."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Self

from flip_reward.data.hub import HubName, open_hub
from flip_reward.data.readers import FORMATS, open_input
from flip_reward.data.rows import RawRow, Row
from flip_reward.data.shapes import Need, find_shape
from flip_reward.data.shapes.known import Better
from flip_reward.errors import DataError, OptionError
from flip_reward.evaluation.benchmarks import judgebench, llmbar, preference, rewardbench2, rm_bench
from flip_reward.evaluation.benchmarks.base import Benchmark, BenchmarkItem, make_benchmark
from flip_reward.evaluation.grading import Protocol


@dataclass(frozen=True, slots=True)
class _Published:
    """A published benchmark: the name of its protocol, how a row becomes an item, and where the rows are."""

    protocol: str
    to_item: Callable[[RawRow], BenchmarkItem]
    open_rows: Callable[[], Iterator[Row]]


def _read_hub(name: HubName) -> Iterator[Row]:
    return open_hub(name).rows()


_PUBLISHED = MappingProxyType(
    {
        "rewardbench2": _Published("rewardbench2", rewardbench2.to_item, partial(_read_hub, rewardbench2.HUB)),
        "rm-bench": _Published("rm-bench", rm_bench.to_item, partial(_read_hub, rm_bench.HUB)),
        "judgebench": _Published("judgebench", judgebench.to_item, partial(_read_hub, judgebench.HUB_GPT)),
        "judgebench-claude": _Published("judgebench", judgebench.to_item, partial(_read_hub, judgebench.HUB_CLAUDE)),
        "llmbar": _Published("llmbar", llmbar.to_item, llmbar.open_repository),
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
    near = get_close_matches(name.lower(), BENCHMARKS, n=1)
    suggestion = f"; did you mean {near[0]!r}?" if near else ""
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
    read_as = ""
    if name.name is not None:
        published = _PUBLISHED[name.name]
        protocol, rows, to_item = published.protocol, _open(name, published, encoding), published.to_item
    else:
        opened = open_input(name.source or "", encoding=encoding)
        shape = find_shape([opened], columns, need=Need.PREFERENCES)
        labelled = shape.preference is not None and shape.preference.better is Better.LABELLED
        protocol = preference.PreferenceProtocol.name
        rows = preference.join_labelled(opened.rows(), shape) if labelled else opened.rows()
        to_item = partial(preference.to_item, preference.JOINED if labelled else shape)
        if any(ours != theirs for ours, theirs in shape.columns.items()):
            read_as = shape.description
    source = name.source or name.label
    benchmark = make_benchmark(name.label, protocol, rows, to_item, source=source, skip_bad_rows=skip_bad_rows)
    benchmark = replace(benchmark, read_as=read_as)
    return benchmark.keep_subsets(name.subsets) if name.subsets else benchmark


def _open(name: BenchmarkName, published: _Published, encoding: str | None) -> Iterator[Row]:
    if name.source is None:
        return published.open_rows()
    if name.name == "llmbar" and Path(name.source).is_dir():
        return llmbar.open_repository(name.source)
    return open_input(name.source, encoding=encoding).rows()


_PROTOCOLS = MappingProxyType(
    {
        protocol.name: protocol
        for protocol in (
            preference.PreferenceProtocol(),
            rewardbench2.RewardBench2Protocol(),
            rm_bench.RMBenchProtocol(),
            judgebench.JudgeBenchProtocol(),
            llmbar.LLMBarProtocol(),
        )
    }
)


def load_protocol(name: str) -> Protocol:
    """Return the protocol called `name`; a DataError when there is none."""
    if name not in _PROTOCOLS:
        raise DataError(f"unknown protocol {name!r}", hint=f"protocols are {', '.join(_PROTOCOLS)}")
    return _PROTOCOLS[name]

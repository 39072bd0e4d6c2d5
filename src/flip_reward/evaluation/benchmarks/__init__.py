"""`load_benchmark`: a benchmark by its name, a file's, or both.

Protocols by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Self

from flip_reward.data.hub import HubName, open_hub
from flip_reward.data.readers import FORMATS
from flip_reward.data.rows import RawRow, Row
from flip_reward.errors import DataError, OptionError
from flip_reward.evaluation.benchmarks import judgebench, llmbar, preference, rewardbench2, rm_bench
from flip_reward.evaluation.benchmarks.base import Benchmark, BenchmarkItem, collect_items, open_rows
from flip_reward.evaluation.benchmarks.judgebench import JudgeBenchProtocol
from flip_reward.evaluation.benchmarks.llmbar import LLMBarProtocol
from flip_reward.evaluation.benchmarks.preference import PreferenceProtocol
from flip_reward.evaluation.benchmarks.rewardbench2 import RewardBench2Protocol
from flip_reward.evaluation.benchmarks.rm_bench import RMBenchProtocol
from flip_reward.evaluation.grading import Protocol

PREFERENCE = "preference"


@dataclass(frozen=True, slots=True)
class _Published:
    """A published benchmark: its protocol, how its rows read, and where they are."""

    protocol: str
    to_item: Callable[[RawRow], BenchmarkItem]
    open_published: Callable[[], Iterator[Row]]


def _from_hub(name: HubName) -> Iterator[Row]:
    return open_hub(name).rows()


_PUBLISHED = MappingProxyType(
    {
        "rewardbench2": _Published("rewardbench2", rewardbench2.to_item, partial(_from_hub, rewardbench2.HUB)),
        "rm-bench": _Published("rm-bench", rm_bench.to_item, partial(_from_hub, rm_bench.HUB)),
        "judgebench": _Published("judgebench", judgebench.to_item, partial(_from_hub, judgebench.HUB_GPT)),
        "judgebench-claude": _Published("judgebench", judgebench.to_item, partial(_from_hub, judgebench.HUB_CLAUDE)),
        "llmbar": _Published("llmbar", llmbar.to_item, llmbar.open_repository),
    }
)
BENCHMARKS = tuple(_PUBLISHED)
"""The names of the published benchmarks."""


@dataclass(frozen=True, slots=True)
class BenchmarkName:
    """What a user calls a benchmark: `NAME`, `FILE`, or `NAME=FILE`, each with `:SUBSET,SUBSET` behind it or not.

    Attributes:
        name: A published benchmark's name; None for any other file.
        source: The file; None where the published benchmark is.
        subsets: The only subsets wanted; all when empty.
    """

    name: str | None
    source: str | None
    subsets: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what a user wrote.

        Raises:
            OptionError: There is no such benchmark, and no such file either.

        Example:
            >>> BenchmarkName.parse("llmbar=pairs.jsonl:natural,manual")
            BenchmarkName(name='llmbar', source='pairs.jsonl', subsets=('natural', 'manual'))
        """
        rest, colon, listed = text.rpartition(":")
        if not colon or re.search(r"[/\\]", listed) or Path(text).exists() or _names_hub_data(text):
            rest, listed = text, ""
        subsets = tuple(name.strip() for name in listed.split(",") if name.strip())
        name, equals, source = rest.partition("=")
        if equals and name.lower() in _PUBLISHED:
            return cls(name.lower(), source, subsets)
        if rest.lower() in _PUBLISHED:
            return cls(rest.lower(), None, subsets)
        if equals and re.fullmatch(r"[\w-]+", name) and not Path(rest).exists():
            raise _unknown(name)
        if not (_looks_like_a_file(rest) or _names_hub_data(rest)):
            raise _unknown(rest)
        return cls(None, rest, subsets)

    @property
    def label(self) -> str:
        """What results call it: the benchmark's name, or the file's without its ending."""
        if self.name is not None:
            return self.name
        stem = Path(self.source or "").name.partition(".")[0]
        return re.sub(r"[^\w-]+", "-", stem) or "benchmark"


def _names_hub_data(text: str) -> bool:
    return text.startswith("hf://")


def _looks_like_a_file(text: str) -> bool:
    path = Path(text)
    return path.exists() or bool(re.search(r"[/\\]", text)) or any(ending in path.suffixes for ending in FORMATS)


def _unknown(name: str) -> OptionError:
    near = get_close_matches(name.lower(), BENCHMARKS, n=1)
    suggestion = f"; did you mean {near[0]!r}?" if near else ""
    return OptionError(
        f"unknown benchmark {name!r}{suggestion}",
        hint=f"benchmarks are {', '.join(BENCHMARKS)}, or a file of prompts with chosen and rejected responses",
    )


def load_benchmark(text: str, *, skip_bad_rows: bool = False) -> Benchmark:
    """Load a benchmark.

    Args:
        text: One of `BENCHMARKS`, which is downloaded; a file of {prompt, chosen, rejected} in any format that
            `flip-reward score` reads; or NAME=FILE for a file with a published benchmark's rows and protocol. Behind
            each of them, ":SUBSET,SUBSET" keeps only these subsets.
        skip_bad_rows: Leave out rows that cannot be used instead of refusing the benchmark.

    Raises:
        OptionError: There is no such benchmark.
        DataError: It cannot be read, has bad rows, or lacks a subset.
        MissingDependencyError: The library that reads it is not installed.
    """
    name = BenchmarkName.parse(text)
    published = _PUBLISHED[name.name] if name.name is not None else None
    items, bad_rows = collect_items(
        _open(name),
        published.to_item if published else preference.to_item,
        source=name.source or name.label,
        skip_bad_rows=skip_bad_rows,
    )
    benchmark = Benchmark(name.label, published.protocol if published else PREFERENCE, items, bad_rows)
    return benchmark.keep_subsets(name.subsets) if name.subsets else benchmark


def _open(name: BenchmarkName) -> Iterator[Row]:
    if name.source is None:
        return _PUBLISHED[name.label].open_published()
    if name.name == "llmbar" and Path(name.source).is_dir():
        return llmbar.open_repository(name.source)
    return open_rows(name.source)


_PROTOCOLS = MappingProxyType(
    {
        protocol.name: protocol
        for protocol in (
            PreferenceProtocol(),
            RewardBench2Protocol(),
            RMBenchProtocol(),
            JudgeBenchProtocol(),
            LLMBarProtocol(),
        )
    }
)


def load_protocol(name: str) -> Protocol:
    """Return the protocol called `name`.

    Raises:
        DataError: There is none.
    """
    if name not in _PROTOCOLS:
        raise DataError(f"unknown protocol {name!r}", hint=f"protocols are {', '.join(_PROTOCOLS)}")
    return _PROTOCOLS[name]

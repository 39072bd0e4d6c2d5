"""The evaluation folder: what is evaluated, the items, and a run folder for every run of every experiment.

EVAL/evaluation.json                      what is evaluated on what (`Evaluation`)
EVAL/items/BENCHMARK.jsonl                the items, a line each
EVAL/cells/BENCHMARK--REWARD--MODEL/      a run folder of `flip_reward.scoring.run_folder`, one for each run
EVAL/results.json, EVAL/results.csv       the results (see results.py)
EVAL/report.html                          the report

An experiment is a reward on a benchmark, a cell of the grid of all rewards and all benchmarks.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Self, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from flip_reward.core.conversation import Group
from flip_reward.data.files import storage_error, write_atomically
from flip_reward.errors import InputError, RunError, RunMismatchError
from flip_reward.evaluation.benchmarks.base import Benchmark, BenchmarkItem
from flip_reward.rewards.calibration import LabelledRewards
from flip_reward.scoring.folders import CELLS, EVALUATION, MANIFEST, FolderKind, how_to_go_on, recognise
from flip_reward.scoring.manifest import Manifest, go_on_with_engine, read_reward_settings
from flip_reward.scoring.run_folder import locked, read_records_in_input_order
from flip_reward.scoring.summary import Prices

FORMAT = 1
"""The layout of an evaluation or audit folder. A folder of another layout is refused."""

RESULTS, RESULTS_CSV = "results.json", "results.csv"
ITEMS = "items"


class Entry(BaseModel):
    """A part of what a folder with several runs says about itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class EvaluationOptions(Entry):
    """The options of an evaluation as a whole."""

    limit: int | None = None
    """The size of the sample taken from each benchmark."""
    sample_seed: int = 0
    price_prompt: float | None = None
    """Of a million tokens."""
    price_completion: float | None = None
    """Of a million tokens."""

    @property
    def prices(self) -> Prices | None:
        """What tokens cost; None when no price was given."""
        return Prices.of(self.price_prompt, self.price_completion)


class BenchmarkEntry(Entry):
    """A benchmark as it was asked."""

    name: str
    protocol: str
    source: str
    """What the user called it."""
    items: int
    sha256: str
    bad_rows: int = 0
    """Rows that cannot be used and were left out."""


class RewardEntry(Entry):
    """A reward with its model, by the label that results have for it."""

    label: str
    reward: str
    model: str | None
    settings: dict[str, str | int | float | bool | None]
    """Of the first run; the others differ in their seed."""


class ExperimentEntry(Entry):
    """A reward on a benchmark, and the folders of its runs."""

    benchmark: str
    reward: str
    runs: list[str] = Field(min_length=1)


class Evaluation(Entry):
    """The content of `evaluation.json`."""

    format: int = FORMAT
    created: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    command: str = ""
    """The last command line, without secrets."""
    options: EvaluationOptions
    benchmarks: list[BenchmarkEntry]
    rewards: list[RewardEntry]
    cells: list[ExperimentEntry]

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        labels = {entry.label for entry in self.rewards}
        for cell in self.cells:
            if cell.reward not in labels:
                raise ValueError(f"there is no reward {cell.reward!r}")
        return self

    def extended(self, other: Evaluation) -> Evaluation:
        """Return the evaluation with the benchmarks, rewards and experiments of another one, and its options.

        A RunMismatchError lists the benchmarks of the same name that have other items, and the rewards of the same
        label that have other settings.
        """
        differences = [
            f"benchmark {old.name}: {old.items} items there, {new.items} now"
            + (", or the same number of others" if old.items == new.items else "")
            for old, new in _same(self.benchmarks, other.benchmarks, "name")
            if old.sha256 != new.sha256 or old.protocol != new.protocol
        ]
        differences += compare_rewards(self.rewards, other.rewards)
        if differences:
            raise RunMismatchError(
                "the evaluation folder holds another evaluation:\n  " + "\n  ".join(differences),
                hint="give another folder with --run-folder, or the same benchmarks and options",
            )
        return self.model_copy(
            update={
                "options": other.options,
                "command": other.command,
                "benchmarks": merge_entries(self.benchmarks, other.benchmarks, "name"),
                "rewards": merge_entries(self.rewards, other.rewards, "label"),
                "cells": merge_entries(self.cells, other.cells, "runs"),
            }
        )


EntryT = TypeVar("EntryT", bound=Entry)


def _same(old: list[EntryT], new: list[EntryT], key: str) -> list[tuple[EntryT, EntryT]]:
    return [(one, other) for one in old for other in new if getattr(one, key) == getattr(other, key)]


def compare_rewards(old: list[RewardEntry], new: list[RewardEntry]) -> list[str]:
    """Describe, a line each, where rewards of the same label have other settings."""
    found = []
    for one, other in _same(old, new, "label"):
        found += [
            f"reward {one.label}, {name}: {one.settings.get(name)!r} there, {other.settings.get(name)!r} now"
            for name in sorted(one.settings.keys() | other.settings.keys())
            if one.settings.get(name) != other.settings.get(name)
        ]
        if go_on := go_on_with_engine(one.settings, other.settings):
            found.append(f"reward {one.label}: {go_on}")
    return found


def merge_entries(old: list[EntryT], new: list[EntryT], key: str) -> list[EntryT]:
    """Return the old entries, and those of the new ones that are not among them."""
    known = [getattr(entry, key) for entry in old]
    return old + [entry for entry in new if getattr(entry, key) not in known]


@contextmanager
def open_folder(folder: Path) -> Iterator[None]:
    """Make an evaluation folder where there is none, and keep other processes from writing to it meanwhile."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(folder, error) from error
    with locked(folder):
        yield


FileT = TypeVar("FileT", bound=BaseModel)


def read_file(path: Path, model: type[FileT], kind: FolderKind = FolderKind.EVALUATE) -> FileT:
    """Read a JSON file of a folder with several runs; a RunError when it is missing, damaged or of another layout."""
    what = kind.description.partition(" of ")[0]
    try:
        content = path.read_bytes()
    except OSError as error:
        if not path.parent.exists():
            raise RunError(f"there is no folder {path.parent}", hint="'flip-reward runs' lists the runs") from error
        found = recognise(path.parent)
        if found not in (None, kind):
            raise RunError(
                f"{path.parent} is {found.description}, not {what}", hint=how_to_go_on(path.parent)
            ) from error
        raise RunError(
            f"{path.parent} is not {what} folder: {path.name} cannot be read ({error.strerror or error})",
            hint=f"'flip-reward {kind}' writes such folders; 'flip-reward runs' lists runs",
        ) from error
    try:
        fields = orjson.loads(content)
        layout = fields.get("format") if isinstance(fields, dict) else None
        if layout == FORMAT:
            return model.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise RunError(f"{path} is damaged: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except ValueError as error:
        raise RunError(f"{path} is damaged: {error}") from error
    raise RunError(
        f"{path} has the format {layout!r}, and this version reads {FORMAT}",
        hint=f"{kind} into another folder, or use the version of flip-reward that wrote it",
    )


def read_evaluation(folder: Path) -> Evaluation:
    """Read `evaluation.json`."""
    return read_file(folder / EVALUATION, Evaluation)


def write_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Write `evaluation.json`."""
    write_atomically(folder / EVALUATION, evaluation.model_dump_json(indent=2).encode() + b"\n")


def write_items(folder: Path, benchmark: Benchmark) -> None:
    """Write the items of a benchmark."""
    path = folder / ITEMS / f"{benchmark.name}.jsonl"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(path, error) from error
    write_atomically(path, b"".join([orjson.dumps(item.to_json()) + b"\n" for item in benchmark.items]))


def read_items(folder: Path, benchmark: str) -> tuple[BenchmarkItem, ...]:
    """Read the items of a benchmark; a RunError when there are none or a line is damaged."""
    path = folder / ITEMS / f"{benchmark}.jsonl"
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror or error}") from error
    items = []
    for number, line in enumerate(lines, 1):
        try:
            fields = orjson.loads(line)
            group = Group.of(fields["messages"], fields["responses"], id=fields["id"])
            chosen, tags = tuple(fields["chosen"]), tuple(fields.get("tags", ()))
            items.append(BenchmarkItem(fields["id"], fields["subset"], group, chosen, tags))
        except (ValueError, KeyError, TypeError, InputError) as error:
            raise RunError(f"{path}, line {number} is damaged: {error}") from error
    return tuple(items)


def read_benchmark_labels(cell: Path) -> LabelledRewards:
    """Read the rewards of one of an evaluation's run folders, with the benchmark's labels: what is chosen is good."""
    settings = read_reward_settings(cell)
    benchmark = Manifest.read(cell / MANIFEST).configuration.inputs[0].name
    items = read_items(cell.resolve().parent.parent, benchmark)
    found = LabelledRewards(settings, source=f"those of the benchmark {benchmark!r}")
    for record in read_records_in_input_order(cell):
        if record.row >= len(items) or record.response_index >= len(items[record.row].chosen):
            raise RunError(f"{cell} is damaged: the benchmark has no response {record.id!r}")
        found.add(record.score.value, record.instruction, good=items[record.row].chosen[record.response_index])
    return found


def name_run(benchmark: str, label: str, run: int, runs: int) -> str:
    """Name a run folder, relative to the evaluation's folder.

    Example:
        >>> name_run("llmbar", "flip reasoned @ Qwen/Qwen3-4B", 1, 5)
        'cells/llmbar--flip-reasoned--Qwen-Qwen3-4B--run2'
        >>> name_run("llmbar", "flip - copy", 0, 1), name_run("llmbar", "flip + copy", 0, 1)
        ('cells/llmbar--flip-copy--851c0647', 'cells/llmbar--flip-copy--8d6c7345')
    """
    return f"{CELLS}/{name_folder(label, benchmark)}" + (f"--run{run + 1}" if runs > 1 else "")


def name_folder(label: str, *before: str) -> str:
    """Name a folder after a reward's label, so that no two labels have the same."""
    reward, *model = label.split(" @ ")
    parts = [re.sub(r"[^\w.]+", "-", part)[:_LONGEST_PART].strip("-") for part in (*before, reward, *model)]
    if not _WORDS.fullmatch(reward) or max(map(len, (reward, *model))) > _LONGEST_PART:
        parts.append(hashlib.sha256(label.encode(errors="surrogatepass")).hexdigest()[:8])
    return "--".join(parts)


_WORDS = re.compile(r"[\w.]+([ /:@-][\w.]+)*")
"""What stays readable in the name of a folder. Of anything else, such as a formula, another could look the same."""
_LONGEST_PART = 64

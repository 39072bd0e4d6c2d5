"""What the report reads of an evaluation folder: models of only the fields it shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from flip_reward.errors import RunError

FORMAT = 1
"""The layout of an evaluation folder. A folder of another layout is refused."""

EVALUATION, RESULTS, ITEMS, REPORT = "evaluation.json", "results.json", "items", "report.html"

_HINT = "the folder is written by 'flip-reward evaluate'"

Model = TypeVar("Model", bound=BaseModel)


class _Read(BaseModel):
    """Fields that the report does not show may come and go."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Estimate(_Read):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int


class Accuracies(_Read):
    """The share of right decisions, 0 to 1, under each rule about ties and about unscored items."""

    strict: Estimate
    """Ties and unscored items are wrong."""
    fractional: Estimate
    """A tie among k counts 1/k, an unscored item as chance."""
    unscored_items: int
    excluded: Estimate
    """A tie among k counts 1/k, unscored items are left out."""
    as_wrong: Estimate
    """A tie among k counts 1/k, unscored items are wrong."""


class SubsetAccuracies(Accuracies):
    """The same for the items of one subset."""

    name: str


class Subset(_Read):
    """A named part of a benchmark."""

    name: str
    items: int


class BenchmarkSummary(_Read):
    """A benchmark and its size."""

    name: str
    protocol: str
    items: int
    subsets: list[Subset]


class RewardSummary(_Read):
    """A reward model, by the label that is used for it everywhere."""

    label: str
    reward: str
    model: str | None
    settings: dict[str, str | int | float | bool | None]


class ProtocolFigure(_Read):
    """A figure that the benchmark's own protocol defines."""

    name: str
    value: float
    low: float
    high: float
    note: str


class Tokens(_Read):
    """Tokens that replies took, those from the response cache included."""

    prompt: int
    completion: int


class PositionBias(_Read):
    """How often a judge's verdict changed with the order of the responses."""

    rate: float
    pairs: int


class Cell(_Read):
    """One reward model on one benchmark."""

    benchmark: str
    reward: str
    runs: list[str]
    """The run folders. Accuracies are means over them."""
    overall: Accuracies
    subsets: list[SubsetAccuracies]
    protocol_figures: list[ProtocolFigure]
    outcomes: dict[str, int]
    tokens: Tokens
    cost: float | None
    rewards_per_second: float
    order_flips: PositionBias | None


class Comparison(_Read):
    """Two reward models on the same items of one benchmark."""

    benchmark: str
    a: str
    b: str
    items: int
    difference: Estimate
    """By the fractional rule."""
    strict_difference: Estimate
    mcnemar_p: float
    holm_p: float
    verdict: str


class Results(_Read):
    """`results.json`."""

    format: int
    benchmarks: list[BenchmarkSummary]
    rewards: list[RewardSummary]
    cells: list[Cell]
    comparisons: list[Comparison]


class Turn(_Read):
    """One message of a conversation."""

    role: str
    content: str


class Item(_Read):
    """One line of `items/BENCHMARK.jsonl`: a conversation, its candidates, and which of them are right."""

    id: str
    subset: str
    messages: list[Turn]
    responses: list[str]
    chosen: list[bool]


def read_results(folder: Path) -> Results:
    """Read `results.json`.

    Raises:
        RunError: There is none, it is damaged, or it is of another version.
    """
    path = folder / RESULTS
    content = _read(path)
    try:
        found = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise RunError(f"{path} is damaged: {error}", hint=_HINT) from error
    layout = found.get("format") if isinstance(found, dict) else None
    if layout != FORMAT:
        raise RunError(
            f"{path} has the format {layout!r}, and this version reads {FORMAT}",
            hint="evaluate again, or use the version of flip-reward that wrote it",
        )
    return _validate(Results, content, path)


def read_items(folder: Path, benchmark: str) -> Iterator[Item]:
    """Read the items of a benchmark.

    Raises:
        RunError: There are none, or a line is damaged.
    """
    path = folder / ITEMS / f"{benchmark}.jsonl"
    for number, line in enumerate(_read(path).splitlines(), start=1):
        item = _validate(Item, line, path, line=number)
        if len(item.chosen) != len(item.responses):
            raise RunError(f"{path}, line {number}: {len(item.responses)} responses, {len(item.chosen)} labels")
        yield item


def read_evaluation(folder: Path) -> dict[str, object]:
    """Read `evaluation.json`, which is shown as it is.

    Raises:
        RunError: There is none, or it is damaged.
    """
    path = folder / EVALUATION
    try:
        found = orjson.loads(_read(path))
    except orjson.JSONDecodeError as error:
        raise RunError(f"{path} is damaged: {error}", hint=_HINT) from error
    if not isinstance(found, dict):
        raise RunError(f"{path} is damaged: not an object", hint=_HINT)
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror or error}", hint=_HINT) from error


def _validate(model: type[Model], content: bytes, path: Path, *, line: int | None = None) -> Model:
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        where = str(path) if line is None else f"{path}, line {line}"
        raise RunError(f"{where}: {place}: {first['msg']}", hint=_HINT) from error

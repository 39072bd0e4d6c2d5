"""The columns that scores add to a user's rows: `added_columns`, and names for them that are free."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import count

from flip_reward.core.score import Score
from flip_reward.data.shapes import Shape

REJECTED = "rejected"
"""The outcome of a row that cannot be scored; `detail` says why."""

ADDED = (
    "reward",
    "outcome",
    "inferred_instruction",
    "precision",
    "recall",
    "reasoning",
    "detail",
    "cautions",
    "copied_share",
)
"""The columns, in their order, before they get names that are free."""
_NUMBERS = ("reward", "precision", "recall", "copied_share")
_PART = "part_"
"""Before the name of a part, where rewards are made of others; these columns come last, and hold numbers."""


def added_columns(scores: Sequence[Score | None], shape: Shape, parts: Sequence[str] = ()) -> dict[str, object]:
    """Lay out the scores of a row's responses as columns; None is a response without a score.

    A row with one response gets plain values. Where each candidate has a column of its own, so has its reward. A row
    with a list of responses gets lists. Where rewards are made of others, `parts` names these.

    Example:
        >>> from flip_reward import Outcome
        >>> scores = [Score(0.5, Outcome.SCORED), Score(None, Outcome.EMPTY_REPLY)]
        >>> pair = added_columns(scores, Shape(candidate_columns=("chosen", "rejected")))
        >>> pair["reward_chosen"], pair["outcome_rejected"]
        (0.5, 'empty_reply')
        >>> added_columns(scores, Shape(many=True))["reward"]
        [0.5, None]
    """
    names = _list_names(parts)
    laid_out = [[None] * len(names) if one is None else _lay_out(one, parts) for one in scores]
    return arrange({name: list(values) for name, *values in zip(names, *laid_out, strict=True)}, shape)


def _list_names(parts: Sequence[str]) -> list[str]:
    return [*ADDED, *(f"{_PART}{part}" for part in parts)]


def _lay_out(score: Score, parts: Sequence[str]) -> list[object]:
    cautions = ", ".join(score.cautions) or None
    texts = (score.inferred_instruction, score.precision, score.recall, score.reasoning, score.detail)
    values = {part.name: part.value for part in score.parts}
    return [score.value, score.outcome.value, *texts, cautions, score.copied_share, *map(values.get, parts)]


def rejected_columns(reason: str, shape: Shape, parts: Sequence[str] = ()) -> dict[str, object]:
    """Lay out why a row was rejected, in the columns that its scores would have had."""
    count = 1 if shape.many else len(shape.candidate_columns) or 1
    said = {"outcome": REJECTED, "detail": reason}
    return arrange({name: [said.get(name)] * count for name in _list_names(parts)}, shape)


def added_types(shape: Shape, parts: Sequence[str] = ()) -> dict[str, object]:
    """Return the columns that `added_columns` gives, with their types."""
    texts = [name for name in ADDED if name not in _NUMBERS]
    return arranged_types({name: str | None if name in texts else float | None for name in _list_names(parts)}, shape)


def arranged_types(types: Mapping[str, object], shape: Shape) -> dict[str, object]:
    """Return the columns that `arrange` gives, with their types."""
    if shape.many:
        return {name: list[kind] | None for name, kind in types.items()}  # type: ignore[valid-type]  # made at run time
    if shape.candidate_columns:
        return {f"{name}_{column}": kind for name, kind in types.items() for column in shape.candidate_columns}
    return dict(types)


def arrange(columns: Mapping[str, list[object]], shape: Shape) -> dict[str, object]:
    """Lay out columns that have a value for each response of a row: lists, a column each, or plain values."""
    if shape.many:
        return dict(columns)
    if shape.candidate_columns:
        return {
            f"{name}_{column}": value
            for name, values in columns.items()
            for column, value in zip(shape.candidate_columns, values, strict=True)
        }
    return {name: value for name, [value] in columns.items()}


def free_names(names: Iterable[str], taken: Collection[str]) -> dict[str, str]:
    """Find names for added columns that the user's do not have.

    Example:
        >>> free_names(["reward", "outcome"], {"prompt", "reward"})
        {'reward': 'flip_reward', 'outcome': 'outcome'}
    """
    found: dict[str, str] = {}
    for name in names:
        found[name] = next(free for free in _spell(name) if free not in taken and free not in found.values())
    return found


def _spell(name: str) -> Iterator[str]:
    yield name
    yield f"flip_{name}"
    for number in count(2):
        yield f"flip_{number}_{name}"

"""Labels of responses, and the rewards that a run gave these: what a calibration is made of."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from flip_reward.core.conversation import Message
from flip_reward.data.cells import is_missing, read_id
from flip_reward.data.rows import Input, InvalidRow
from flip_reward.data.shapes import Need, Shape, find_shape
from flip_reward.data.shapes.columns import list_columns, open_cell, suggest
from flip_reward.data.shapes.known import TIES, fold_name, is_id_name
from flip_reward.data.shapes.sample import RowSample
from flip_reward.errors import DataError, OptionError, RunError
from flip_reward.rewards.calibration import NOT_SCORED, LabelledRewards
from flip_reward.scoring.folders import MANIFEST
from flip_reward.scoring.job import reopen_inputs
from flip_reward.scoring.manifest import Manifest, read_reward_settings
from flip_reward.scoring.rescore import find_origin
from flip_reward.scoring.run_folder import read_records_in_input_order
from flip_reward.selection.scored import open_rows, open_scored
from flip_reward.selection.select import ScoredResponse

MOST_LABELS = 100_000
NO_LABEL = "a response without a label, or with a tie"
UNREADABLE = "a row that cannot be read, or prefers none of its responses"
_SHOWN = 5
_LONGEST = 200
_INDEX = "response_index"
_LABELS = (
    *("label", "labels", "human_label", "human_labels", "good", "is_good", "correct", "is_correct", "desirable"),
    *("acceptable", "win", "won", "thumbs", "thumb", "feedback", "vote", "verdict", "judgement", "judgment"),
)
_GRADES = (
    *("grade", "grades", "human_grade", "rating", "ratings", "human_rating", "human_score", "score", "scores"),
    *("stars", "quality"),
)
_GOOD = frozenset(
    {"good", "win", "won", "wins", "winner", "true", "yes", "y", "t", "up", "thumbs_up", "thumb_up", "thumbsup"}
    | {"upvote", "like", "liked", "pass", "passed", "correct", "right", "accept", "accepted", "acceptable"}
    | {"positive", "desirable", "chosen", "preferred", "better", "satisfied", "success", "\N{THUMBS UP SIGN}"}
)
_BAD = frozenset(
    {"bad", "lose", "lost", "loss", "loses", "loser", "false", "no", "n", "f", "down", "thumbs_down", "thumb_down"}
    | {"thumbsdown", "downvote", "dislike", "disliked", "fail", "failed", "incorrect", "wrong", "reject", "rejected"}
    | {"unacceptable", "negative", "undesirable", "dispreferred", "worse", "unsatisfied", "failure", "poor"}
    | {"\N{THUMBS DOWN SIGN}"}
)

Cell: TypeAlias = object
"""What stands for a label, before it is known whether all are words or numbers."""


def read_labelled_rewards(
    run: Path,
    labels: str | None = None,
    *,
    label: str | None = None,
    good: float | None = None,
    columns: Mapping[str, str] | None = None,
) -> LabelledRewards:
    """Read labels, and the rewards of a run for the responses that they are about.

    A label is of a response: by its text and that of its conversation, without regard to blanks; or where the rows
    have no texts, or those of the run are gone, by its id. Where a row has several responses there is a label for
    each in a list, or a preference among them: the better ones are good, the others bad.

    Args:
        run: A run folder.
        labels: What the labels are read from; by default the rows of the run.
        label: The column of the labels, where it is not recognised.
        good: From which grade on a response is good.
        columns: Our column names to those of the labels.

    Raises:
        DataError: The labels cannot be read, or are of no response of the run.
        OptionError: There is no such column.
        RunError: It is no run.
    """
    settings = read_reward_settings(run)
    origin = find_origin(run)
    known = Manifest.read(origin / MANIFEST).configuration.columns
    inputs = reopen_inputs(origin) if labels is None else [open_rows(labels)]
    file = _LabelFile(inputs, label, columns or {}, known)
    found = LabelledRewards(settings, left_out=file.left_out)
    if file.shape is not None:
        try:
            scored = open_scored(run)
        except RunError:
            if not file.id:
                raise
        else:
            _join_by_texts(found, _Goodness(file.read_by_texts(), file, good), run, scored.read())
            return found
    _join_by_ids(found, _Goodness(file.read_by_ids(), file, good), run)
    return found


class _LabelFile:
    """The rows of the labels: which column holds them, and how texts are read."""

    def __init__(
        self, inputs: Sequence[Input], label: str | None, columns: Mapping[str, str], known: Mapping[str, str]
    ) -> None:
        self._inputs = inputs
        self.name = ", ".join(source.name for source in inputs)
        self.left_out: Counter[str] = Counter()
        self._sample = sample = RowSample.of_input(inputs[0])
        if not sample.rows:
            raise DataError(f"{self.name}: there are no rows")
        if label is not None and label not in sample.values:
            raise OptionError(
                f"--label: there is no column {label!r}{suggest([label], sample.values)}",
                hint=list_columns(sample.values, "the rows have"),
            )
        self.shape = self._find_shape(columns, known)
        pairs = self.shape is not None and bool(self.shape.candidate_columns)
        self.column = label or (None if pairs else self._find_column())
        self._preferences = self._find_preferences(columns) if self.shape is not None else None
        if self.column is None and self._preferences is None:
            raise DataError(
                f"{self.name} has no column of labels; {list_columns(sample.values, 'it has')}",
                hint="name it with --label COLUMN; it holds good and bad, win and lose, 1 and 0, or grades",
            )
        ids = [name for fold, name in sample.folded.items() if is_id_name(fold)]
        self.id = columns.get("id") or sample.folded.get("id") or (ids[0] if len(ids) == 1 else "")

    def _find_shape(self, columns: Mapping[str, str], known: Mapping[str, str]) -> Shape | None:
        if columns:
            texts = any(name != "id" for name in columns)
            return find_shape(self._inputs, columns) if texts else None
        named = {name for theirs in known.values() for name in self._sample.columns_in(theirs)}
        try:
            return find_shape(self._inputs, known if named and named <= self._sample.values.keys() else None)
        except DataError:
            return None

    def _find_column(self) -> str | None:
        for names in (_LABELS, _GRADES):
            found = [self._sample.folded[name] for name in names if name in self._sample.folded]
            if len(found) > 1:
                raise DataError(
                    f"{self.name}: which column holds the labels, {' or '.join(map(repr, found))}?",
                    hint=f"name it: --label {found[0]}",
                )
            if found:
                return found[0]
        return None

    def _find_preferences(self, columns: Mapping[str, str]) -> Shape | None:
        try:
            return find_shape(self._inputs, columns, need=Need.PREFERENCES)
        except DataError:
            return None

    def read_by_texts(self) -> Iterator[tuple[str, Cell]]:
        assert self.shape is not None  # noqa: S101 - who calls has looked
        for values in self._rows():
            try:
                group = self.shape.to_group(values, "")
                cells = self._read_cells(values, len(group.responses))
            except DataError:
                self.left_out[UNREADABLE] += 1
                continue
            for response, cell in zip(group.responses, cells, strict=True):
                yield _name_response(group.messages, response), cell

    def read_by_ids(self) -> Iterator[tuple[str, Cell]]:
        if not self.id:
            raise DataError(
                f"{self.name} holds neither prompts and responses nor ids, so nothing says what the labels are of",
                hint="name the columns: --columns instruction=question,response=answer, or --columns id=COLUMN",
            )
        if self.column is None:
            raise DataError(f"{self.name} holds preferences, and the texts of the run's rows are gone")
        index = self._sample.folded.get(_INDEX)
        for values in self._rows():
            name = read_id(values.get(self.id))
            cell = open_cell("", values.get(self.column), lists=True)
            if name is None:
                self.left_out["a row without an id"] += 1
            elif isinstance(cell, list):
                yield from ((_name_place(name, place), one) for place, one in enumerate(cell))
            else:
                place = read_id(values.get(index)) if index else None
                yield (name if place is None or name.endswith(f"#{place}") else _name_place(name, place)), cell

    def _rows(self) -> Iterator[Mapping[str, object]]:
        for source in self._inputs:
            for row in source.rows():
                if isinstance(row, InvalidRow):
                    self.left_out[UNREADABLE] += 1
                else:
                    yield row.values

    def _read_cells(self, values: Mapping[str, object], count: int) -> Sequence[Cell]:
        if self.column is not None:
            cell = open_cell("", values.get(self.column), lists=True)
            if isinstance(cell, list) and count > 1:
                if len(cell) != count:
                    raise DataError(f"{self.column!r} has {len(cell)} labels for {count} responses")
                return cell
            if count == 1:
                return cell if isinstance(cell, list) and len(cell) == 1 else [cell]
        if self._preferences is None:
            raise DataError(f"{self.column!r} has one label for {count} responses")
        return self._preferences.choose(values)


def _name_place(name: str, place: int | str) -> str:
    return f"{name}#{place}"


def _name_response(messages: Sequence[Message], response: str) -> str:
    """Name a response by its words and those of its conversation: spreadsheets change blanks."""
    texts = [[message.role, " ".join(message.content.split())] for message in messages]
    return hashlib.sha256(json.dumps([texts, " ".join(response.split())]).encode()).hexdigest()[:32]


def _name_prompt(messages: Sequence[Message]) -> str:
    return _name_response(messages, "")


class _Goodness:
    """Labels by what they are of, each good or bad. Several of the same response, of several people, all count."""

    def __init__(self, labels: Iterator[tuple[str, Cell]], file: _LabelFile, threshold: float | None) -> None:
        names, cells = [], []
        for name, cell in labels:
            if _is_none(cell):
                file.left_out[NO_LABEL] += 1
                continue
            names.append(name)
            cells.append(cell)
            if len(cells) > MOST_LABELS:
                raise DataError(
                    f"{file.name} has more than {MOST_LABELS:,} labels", hint="a sample of them makes the same map"
                )
        self.file = file
        self.examples = names[:_SHOWN]
        self.left: dict[str, list[bool]] = {}
        for name, good in zip(names, read_goodness(cells, threshold, file.column or "the preferences"), strict=True):
            self.left.setdefault(name, []).append(good)
        several = sum(len(of_one) > 1 for of_one in self.left.values())
        self.repeated = f"; {several:,} responses have several labels, and all count" if several else ""

    def take(self, name: str) -> Sequence[bool]:
        """Return the labels of a name that were not taken before."""
        return self.left.pop(name, [])

    def finish(self, found: LabelledRewards, hint: str) -> None:
        """Count the labels that were not taken; a DataError where none was."""
        unused = sum(map(len, self.left.values()))
        if not found.rewards and not found.left_out[NOT_SCORED]:
            raise DataError(f"none of the {unused} labels is of a response of the run", hint=hint)
        if unused:
            found.left_out["a response that is not in the run"] += unused


def _join_by_texts(found: LabelledRewards, labels: _Goodness, run: Path, scored: Iterator[ScoredResponse]) -> None:
    found.source = f"found by the texts of their rows{labels.repeated}"
    for response in scored:
        for good in labels.take(_name_response(response.group.messages, response.text)):
            found.add(response.reward, _name_prompt(response.group.messages), good=good)
    labels.finish(found, f"label rows that {run} has scored: their prompts and responses are compared")


def _join_by_ids(found: LabelledRewards, labels: _Goodness, run: Path) -> None:
    found.source = f"found by {labels.file.id!r}{labels.repeated}"
    ids: list[str] = []
    for record in read_records_in_input_order(run):
        if len(ids) < _SHOWN:
            ids.append(record.id)
        if record.group_size > 1 and record.group_id in labels.left:
            raise DataError(
                f"{record.group_id!r} has {record.group_size} responses, and its label does not say of which it is",
                hint=f"add a column {_INDEX} (from 0), or give a list of labels",
            )
        name = record.id if record.group_size > 1 else record.group_id
        goods = labels.take(name)
        if record.group_size == 1:
            goods = [*goods, *labels.take(_name_place(name, record.response_index))]
        for good in goods:
            found.add(record.score.value, record.instruction, good=good)
    shown = (", ".join(map(repr, names)) for names in (ids, labels.examples))
    labels.finish(found, "ids of the run are such as {}; of the labels {}".format(*shown))


def read_goodness(cells: Sequence[Cell], threshold: float | None, column: str) -> list[bool]:
    """Read labels as good or bad.

    They are words, such as good, win, yes and thumbs up; 1 and 0, or 1 and -1; or grades, good from a threshold on.

    Raises:
        DataError: They are something else; or they are grades and there is no threshold.

    Example:
        >>> read_goodness(["Win", "lose", 1], None, "label")
        [True, False, True]
        >>> read_goodness([5, 3, "4"], 4, "grade")
        [True, False, True]
    """
    words = [_read_word(cell) if threshold is None else None for cell in cells]
    numbers = [_read_number(cell) if word is None else None for cell, word in zip(cells, words, strict=True)]
    read = zip(cells, words, numbers, strict=True)
    odd = [cell for cell, word, number in read if word is None and number is None]
    if odd:
        shown = ", ".join(dict.fromkeys(repr(cell)[:40] for cell in odd))
        wanted = (
            "numbers beside --good" if threshold is not None else "good and bad, win and lose, 1 and 0, or grades"
        )
        raise DataError(
            f"{column!r} holds what is no label: {shown[:_LONGEST]}{'...' * (len(shown) > _LONGEST)}",
            hint=f"labels are {wanted}; leave the cell empty where there is none",
        )
    values = {number for number in numbers if number is not None}
    if threshold is None and not (values <= {0.0, 1.0} or values <= {-1.0, 1.0}):
        low, high = min(values), max(values)
        if low == high:
            raise DataError(
                f"every label in {column!r} is {low:g}: nothing tells good responses from bad ones",
                hint="label some of both kinds",
            )
        raise DataError(
            f"{column!r} holds grades from {low:g} to {high:g}: from which one on is a response good?",
            hint=f"say it with --good, for example --good {math.ceil(low + 0.75 * (high - low)):g}",
        )
    least = 1.0 if threshold is None else threshold
    return [bool(word) if number is None else number >= least for word, number in zip(words, numbers, strict=True)]


def _is_none(cell: Cell) -> bool:
    return is_missing(cell) or (isinstance(cell, str) and (not cell.strip() or fold_name(cell) in TIES))


def _read_word(cell: Cell) -> bool | None:
    if isinstance(cell, bool):
        return cell
    if not isinstance(cell, str):
        return None
    word = fold_name(cell) or cell.strip()[:1]  # a thumb has a colour
    return True if word in _GOOD else False if word in _BAD else None


def _read_number(cell: Cell) -> float | None:
    if isinstance(cell, bool) or is_missing(cell):
        return None
    try:
        number = float(str(cell))
    except ValueError:
        return None
    return number if math.isfinite(number) else None

"""Find out how rows are read: `find_shape` looks at the first ones, once, and says what it found.

Columns are recognised by the names in `known`, and what stands in them by its type. Where two columns could be
the same thing, or none is known, the user is asked, with a line to copy; nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from enum import Enum
from itertools import islice

from flip_reward.data.rows import Input
from flip_reward.data.shapes.columns import (
    COLUMNS,
    CONVERSATION_COLUMNS,
    PAIR_COLUMNS,
    RESPONSE_COLUMNS,
    Column,
    check_columns,
    format_columns,
    read_mapping,
    split_columns,
)
from flip_reward.data.shapes.conversations import ends_with_reply, is_messages, is_transcript
from flip_reward.data.shapes.known import (
    CHOSEN,
    INSTRUCTIONS,
    KNOWN_SHAPES,
    MESSAGES,
    RATINGS,
    REJECTED,
    RESPONSES,
    WINNERS,
    Better,
    KnownShape,
    find_sides,
    fold_name,
    is_id_name,
)
from flip_reward.data.shapes.preference import Preference, find_first_number, read_label
from flip_reward.data.shapes.questions import no_instruction, no_response, no_such_column, no_winner, which_of
from flip_reward.data.shapes.sample import ROWS_SEEN, RowSample, Values
from flip_reward.data.shapes.shape import Shape
from flip_reward.errors import DataError

_SHAPE = "shape"
"""The key in a run's configuration for what no column's name says."""
_TRANSCRIPTS, _TURNS = "transcripts", "turns"

_CANDIDATES = (*RESPONSE_COLUMNS, *PAIR_COLUMNS)


class Need(Enum):
    """What the rows are wanted for."""

    RESPONSES = "a conversation and its responses"
    PROMPTS = "a conversation; responses are not read"
    PREFERENCES = "a conversation, its responses, and which of them are better"


def find_shape(
    rows: Sequence[Input] | Sequence[Values],
    columns: Mapping[str, str] | None = None,
    *,
    need: Need = Need.RESPONSES,
) -> Shape:
    """Find out how the rows of inputs, or rows in memory, are read. The first 100 of each input decide.

    Args:
        rows: Inputs that can be read again, or rows.
        columns: Our column names to the rows', where the user named them (see `parse_columns`), or where an earlier
            call did (`Shape.columns`).
        need: What the rows are wanted for.

    Raises:
        DataError: A column that is needed is missing, or more than one could be it; the hint is a line to copy.
        OptionError: `columns` makes no sense.

    Example:
        >>> find_shape([{"Question": "Name a fruit.", "Answer": "Apple."}]).description
        "instruction = 'Question', response = 'Answer'"
    """
    columns = read_mapping(columns)
    columns.pop(_SHAPE, None)  # it is found again
    check_columns(columns)
    samples = [RowSample.of_input(one) for one in rows if isinstance(one, Input)] or [
        RowSample([row for row in islice(rows, ROWS_SEEN) if isinstance(row, Mapping)])
    ]
    full = [sample for sample in samples if sample.rows]
    if not full:
        return _Finder(samples[0], columns, need).build()
    shapes = [_Finder(sample, columns, need).find() for sample in full]
    for sample, shape in zip(full, shapes, strict=True):
        if shape.columns != shapes[0].columns:
            raise DataError(
                f"the inputs differ. {full[0].name}: {shapes[0].description}. {sample.name}: {shape.description}",
                hint="score them one after the other, or name the columns with --columns",
            )
    return shapes[0]


class _Finder:
    """Finds the shape of one sample: what the user did not name is recognised, and the columns make the shape."""

    def __init__(self, sample: RowSample, columns: Mapping[str, str], need: Need) -> None:
        self._sample = sample
        self._given = columns
        self._columns = dict(columns)
        self._need = need
        self._title = ""

    def find(self) -> Shape:
        """Recognise what the user did not name."""
        self._check_given()
        if not self._has(CONVERSATION_COLUMNS) and not self._has(_CANDIDATES):
            self._find_known()
        if not self._has(_CANDIDATES) and self._need is not Need.PROMPTS:
            self._find_candidates()
        if not self._has(CONVERSATION_COLUMNS):
            self._find_conversation()
        if self._need is Need.PREFERENCES and not self._sides and self._match_known() is None:
            self._find_rating()
        if self._columns != self._given and not self._has(("id",)):
            ids = [name for fold, name in self._sample.folded.items() if is_id_name(fold)]
            if len(ids) == 1 and ids != ["id"]:
                self._columns["id"] = ids[0]
        if self._columns != self._given:
            self._columns = {ours: self._columns[ours] for ours in COLUMNS if ours in self._columns}
        shape = self.build()
        if self._need is Need.PREFERENCES and shape.preference is None:
            raise no_winner(self._sample, self._columns, shape.candidate_columns)
        return shape

    def build(self) -> Shape:
        """Make the shape of the columns."""
        columns, known = self._columns, self._match_known()
        sides = self._sides
        chats = tuple(self._column(columns[ours]) for ours in CONVERSATION_COLUMNS if ours in columns)
        if not chats and not self._is_implicit(sides):
            chats = Shape().conversations
        answers = next((columns[ours] for ours in RESPONSE_COLUMNS if ours in columns), None)
        alternatives = (self._column(answers),) if answers else Shape().alternatives
        transcripts = self._all_transcripts([one.name for one in chats]) or self._all_transcripts(sides)
        listed = [self._columns[ours] for ours in (*PAIR_COLUMNS, "responses") if ours in self._columns]
        lists = bool(listed) and all(map(self._sample.holds_lists, listed))
        whole = columns.get("messages") if self._has(CONVERSATION_COLUMNS) else "messages"
        is_wanted = chats and not lists and (sides or self._need is Need.PROMPTS)
        turns = bool(is_wanted) and all(map(self._sample.holds_lists, [chats[0].name, *sides]))
        special = _TRANSCRIPTS if transcripts else _TURNS if turns else None
        shape = Shape(
            columns={**columns, _SHAPE: special} if special else columns,
            candidate_columns=() if self._need is Need.PROMPTS and chats else sides,
            many=lists or any(self._sample.holds_many(name) for name in sides or [one.name for one in alternatives]),
            lists=lists,
            preference=self._make_preference(known),
            id=columns.get("id", "id"),
            subset=columns.get("subset", "subset"),
            conversations=chats,
            alternatives=alternatives,
            whole=None if answers or sides else whole,
            transcripts=transcripts,
            turns=turns,
            prompts_only=self._need is Need.PROMPTS,
        )
        if not self._sample.rows:
            return shape
        title = self._title or (known.title if known else "Human/Assistant transcripts" if transcripts else "")
        text, unread = _describe(shape, self._sample), self._find_unread()
        return replace(
            shape,
            description=(f"{title}: {text}" if title else text) + unread,
            found=columns != self._given or special is not None or bool(unread),
        )

    @property
    def _sides(self) -> tuple[str, ...]:
        """The columns that hold a candidate each."""
        pair = tuple(self._columns[ours] for ours in PAIR_COLUMNS if ours in self._columns)
        answers = next((self._columns[ours] for ours in RESPONSE_COLUMNS if ours in self._columns), "")
        several = split_columns(answers, self._sample.values)
        return pair or (several if len(several) > 1 else ())

    def _has(self, ours: Iterable[str]) -> bool:
        return any(name in self._columns for name in ours)

    def _column(self, theirs: str) -> Column:
        return Column.of(theirs, self._sample.values)

    def _check_given(self) -> None:
        known = self._sample.values
        for ours, theirs in self._given.items():
            for name in self._sample.columns_in(theirs):
                if name not in known:
                    raise no_such_column(self._sample, name, ours)

    def _find_known(self) -> None:
        if self._need is not Need.PREFERENCES and any(map(self._sample.get, RESPONSE_COLUMNS)):
            return
        folded = self._sample.folded
        for known in KNOWN_SHAPES:
            theirs = {ours: [folded.get(part) for part in names.split("+")] for ours, names in known.columns.items()}
            columns = {ours: "+".join(filter(None, names)) for ours, names in theirs.items()}
            if all(None not in names for names in theirs.values()) and self._is_rated(columns, known):
                if self._need is Need.PROMPTS and any(ours in columns for ours in CONVERSATION_COLUMNS):
                    columns = {ours: names for ours, names in columns.items() if ours in CONVERSATION_COLUMNS}
                self._columns |= columns
                return

    def _is_rated(self, columns: Mapping[str, str], known: KnownShape) -> bool:
        cells = self._sample.get(columns["responses"])[:1] if known.marks else ()
        objects = [one for cell in cells if isinstance(cell, list) for one in cell if isinstance(one, Mapping)]
        return not known.marks or any(mark in one for one in objects for mark in known.marks)

    def _match_known(self) -> KnownShape | None:
        """Return the known shape whose columns these are, whoever named them."""
        for known in KNOWN_SHAPES:
            named = {ours: self._columns.get(ours, "").split("+") for ours in known.columns}
            folded = {ours: "+".join(map(fold_name, names)) for ours, names in named.items()}
            if folded == known.columns and self._is_rated(self._columns, known):
                return known
        return None

    def _find_candidates(self) -> None:
        """Find the responses: a pair, columns side by side, our own column, the last turn, or another name's."""
        exact = any(map(self._sample.get, RESPONSE_COLUMNS))
        if (not exact or self._need is Need.PREFERENCES) and self._find_sides():
            return
        if exact or self._find_whole():
            return
        found = self._find_in(RESPONSES, "response", self._sample.holds_texts)
        if found is not None:
            self._columns["responses" if self._sample.holds_many(found) else "response"] = found
        elif not any(name in self._sample.values for name in RESPONSE_COLUMNS):
            if self._need is Need.PREFERENCES:
                raise no_winner(self._sample, self._columns, ())
            raise no_response(self._sample, self._columns)

    def _find_sides(self) -> bool:
        folded = {fold: name for fold, name in self._sample.folded.items() if self._sample.holds_texts(name)}
        pair = [next((folded[name] for name in names if name in folded), None) for names in (CHOSEN, REJECTED)]
        if self._need is Need.PREFERENCES and all(name in self._sample.values for name in PAIR_COLUMNS):
            pair = list(PAIR_COLUMNS)
        if pair[0] and pair[1]:
            self._columns |= {"chosen": pair[0], "rejected": pair[1]}
            return True
        sides = find_sides({fold: name for fold, name in folded.items() if self._holds_words(name)})
        if sides:
            self._columns["responses"] = "+".join(sides)
            self._find_winner(sides)
        return bool(sides)

    def _holds_words(self, name: str) -> bool:
        """Whether a column such as "model_a" holds what a model said, not which model it is."""
        values = self._sample.get(name)
        return not name.casefold().startswith("model") or any(
            " " in value for value in values if isinstance(value, str)
        )

    def _find_winner(self, sides: Sequence[str]) -> None:
        folded = self._sample.folded
        winner = next((folded[name] for name in WINNERS if name in folded and folded[name] not in sides), None)
        if winner and not self._has(("winner",)):
            self._columns["winner"] = winner

    def _find_rating(self) -> None:
        """Find which candidates of a list are better, or whether the only one of a row is good."""
        sample = self._sample
        named = ((ours, self._columns.get(ours, ours)) for ours in RESPONSE_COLUMNS)
        ours, answers = next(((ours, theirs) for ours, theirs in named if sample.get(theirs)), ("", ""))
        many = sample.holds_many(answers)
        names = [sample.folded[name] for name in (*WINNERS, *RATINGS) if name in sample.folded]
        fits = [name for name in names if name != answers and (many or self._holds_labels(name))]
        if ours and fits and not self._has(("winner",)):
            self._columns |= {ours: answers, "winner": fits[0]}

    def _holds_labels(self, name: str) -> bool:
        return all(read_label(value) is not None for value in self._sample.get(name))

    def _find_whole(self) -> bool:
        """Find a conversation whose last turn is the response."""
        for fold in ("messages", *MESSAGES):
            name = self._sample.folded.get(fold, "")
            cells = self._sample.get(name)
            if any(map(ends_with_reply, cells)):
                if name != "messages":
                    self._columns["messages"] = name
                first = next((one for cell in cells if isinstance(cell, list) for one in cell), None)
                self._title = "ShareGPT conversations" if isinstance(first, Mapping) and "from" in first else ""
                return True
        return False

    def _find_conversation(self) -> None:
        sample, sides = self._sample, self._sides
        if self._find_alpaca():
            return
        ours = [name for name in CONVERSATION_COLUMNS if sample.get(name)]
        if ours and not sides:
            return
        ours = [name for name in ours if not all(map(ends_with_reply, sample.get(name)))]
        if ours:
            self._columns[ours[0]] = ours[0]
            return
        found = self._find_in(INSTRUCTIONS, "instruction", self._can_be_asked)
        if found is not None:
            chat = any(map(is_messages, sample.get(found)))
            self._columns[
                "messages" if chat and not self._has(_CANDIDATES) else "prompt" if chat else "instruction"
            ] = found
            return
        if self._need is Need.PROMPTS and not sides:
            self._find_sides()
        if not self._is_implicit(self._sides) and not any(name in sample.values for name in CONVERSATION_COLUMNS):
            raise no_instruction(self._sample, self._columns)

    def _find_alpaca(self) -> bool:
        names = {fold_name(name): name for name in self._sample.values}
        instruction, text = names.get("instruction"), names.get("input")
        sides = self._sides or find_sides(names) or [name for name in CHOSEN if name in names]
        read = self._need is Need.PROMPTS or self._sides or self._columns.get("response") == names.get("output")
        if not (instruction and text and ("output" in names or sides) and read):
            return False
        self._columns["instruction"] = f"{{{instruction}}}\n\n{{{text}}}"
        self._title = "Alpaca"
        return True

    def _can_be_asked(self, name: str) -> bool:
        if self._sides and all(map(ends_with_reply, self._sample.get(name))):
            return False
        if fold_name(name) in INSTRUCTIONS[-1]:  # documents, as often as conversations
            return any(map(is_messages, self._sample.get(name)))
        return self._sample.holds_texts(name)

    def _is_implicit(self, sides: Sequence[str]) -> bool:
        """Whether the candidates' own cells hold the conversation too."""
        cells = [value for name in sides for value in self._sample.get(name)]
        return any(is_transcript(cell) or (isinstance(cell, list) and len(cell) > 1) for cell in cells)

    def _find_in(self, tiers: Sequence[Sequence[str]], ours: str, fits: Callable[[str], bool]) -> str | None:
        """Find the column by its name; an error where two are equally likely."""
        taken = {name for theirs in self._columns.values() for name in self._sample.columns_in(theirs)}
        folded = self._sample.folded
        for tier in tiers:
            found = [folded[name] for name in tier if name in folded and folded[name] not in taken]
            found = [name for name in found if fits(name)]
            if len(found) > 1:
                raise which_of(self._sample, self._columns, ours, found)
            if found:
                return found[0]
        return None

    def _all_transcripts(self, columns: Iterable[str]) -> bool:
        cells = [value for name in columns for value in self._sample.get(name)]
        return bool(cells) and all(map(is_transcript, cells))

    def _make_preference(self, known: KnownShape | None) -> Preference | None:
        sides, winner = self._sides, self._columns.get("winner", "")
        if self._has(PAIR_COLUMNS):
            return Preference(Better.CHOSEN, sides)
        if known:
            return Preference(known.better, sides, winner, marks=known.marks)
        if not winner:
            return None
        if sides:
            first = find_first_number((value, len(sides)) for value in self._sample.get(winner))
            return Preference(Better.WINNER, sides, winner, first)
        answers = next((self._columns[ours] for ours in RESPONSE_COLUMNS if ours in self._columns), "")
        if "response" in self._columns and not self._sample.holds_many(answers):
            return Preference(Better.LABELLED, (), winner)
        pairs = ((row.get(winner), self._sample.count_in(row, answers)) for row in self._sample.rows)
        return Preference(Better.LISTED, (), winner, find_first_number(pairs)) if answers else None

    def _find_unread(self) -> str:
        """Say which column was perhaps meant to be read with the instruction: Alpaca's input, Dolly's context."""
        sample = self._sample
        named = [self._columns.get(ours, "instruction") for ours in CONVERSATION_COLUMNS if ours in self._columns]
        if "instruction" in self._given or named not in ([], ["instruction"]) or not sample.get("instruction"):
            return ""
        name = next(
            (name for name in ("input", "context") if any(isinstance(v, str) for v in sample.get(name))), None
        )
        if name is None:
            return ""
        joined = format_columns({**self._given, "instruction": f"{{instruction}}\n\n{{{name}}}"})
        return f"; {name!r} is not read, to join it: {joined}"


def _describe(shape: Shape, sample: RowSample) -> str:
    """Say in words which column is what."""
    asked = [column for column in shape.conversations if sample.get(column.name) or column.fields]
    columns = shape.columns
    instruction = " + ".join(map(repr, asked[0].needs)) if asked else ""
    parts = []
    if shape.whole and not any(sample.get(column.name) for column in shape.alternatives) and not shape.prompts_only:
        name = shape.whole
        parts = [f"response = last turn of {name!r}, instruction = last human turn before it"]
    else:
        chat = bool(asked) and any(map(is_messages, sample.get(asked[0].name)))
        if asked:
            parts.append(f"{'conversation' if chat else 'instruction'} = {instruction}")
        elif shape.candidate_columns:
            parts.append(f"conversation = what {' and '.join(map(repr, shape.candidate_columns))} share")
        answers = (
            shape.candidate_columns
            or tuple(column.name for column in shape.alternatives if sample.get(column.name))[:1]
        )
        if answers and not shape.prompts_only:
            several = len(answers) > 1 or shape.many
            parts.append(f"{'responses' if several else 'response'} = {', '.join(map(repr, answers))}")
        if shape.turns:
            parts.append("each a list of turns")
        if shape.preference and shape.preference.winner:
            parts.append(f"better = {shape.preference.winner!r}")
    if "id" in columns:
        parts.append(f"id = {columns['id']!r}")
    return ", ".join(parts) or "by our own column names"

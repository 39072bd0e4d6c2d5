r"""Which columns of the rows stand for ours: `--columns`, its templates, and how columns are named in messages.

instruction=Question,response=Answer              names, with blanks as they are
responses=answer_a+answer_b,winner=pick           several columns with a candidate each
instruction={instruction}\n\n{input}              a template: columns that are joined
instruction="Question, in full"                   quotes, where a name could be misread
"""

from __future__ import annotations

import difflib
import re
import reprlib
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import orjson

from flip_reward.data.cells import is_missing
from flip_reward.errors import DataError, OptionError

CONVERSATION_COLUMNS = ("instruction", "prompt", "messages")
"""Where the conversation stands; the first one with a value counts."""
RESPONSE_COLUMNS = ("response", "responses")
"""Where the responses stand. Without any, the last assistant message of "messages" is the response."""
PAIR_COLUMNS = ("chosen", "rejected")
"""Where better and worse responses stand."""
COLUMNS = (*CONVERSATION_COLUMNS, *RESPONSE_COLUMNS, *PAIR_COLUMNS, "winner", "subset", "id")

ITEM_TYPES = ("text", "output_text", "input_text", "message", "reasoning")
"""What APIs call the parts of messages, and the items of an answer."""
_COLUMNS_SHOWN = 12
_COLUMN_NAME_SHOWN = 40
COLUMNS_EXAMPLE = "for example --columns instruction=question,response=answer"
_NEXT = re.compile(r',(?=\s*[\w-]*\s*=|\s*$)|"')
_FIELD = re.compile(r"\{([^{}]+)\}")
_PLAIN = re.compile(r"[^\",=]+")


def parse_columns(text: str, known: Sequence[str] = COLUMNS) -> dict[str, str]:
    r"""Read which columns of an input stand for ours, from `--columns`.

    A comma ends a column only where "name=" follows; what stands in double quotes is never cut. `known` are our
    names, where they are not those of data sets.

    Example:
        >>> parse_columns("instruction=question, response=answer")
        {'instruction': 'question', 'response': 'answer'}
        >>> parse_columns(r"instruction={instruction}\n\n{input},responses=Answer A+Answer B")
        {'instruction': '{instruction}\n\n{input}', 'responses': 'Answer A+Answer B'}
    """
    columns: dict[str, str] = {}
    for pair in _split_pairs(text):
        ours, equals, theirs = (part.strip() for part in pair.partition("="))
        if not (ours and equals and theirs):
            raise OptionError(f"--columns: {pair.strip()!r} is not of the form ours=theirs", hint=COLUMNS_EXAMPLE)
        if ours in columns:
            raise OptionError(f"--columns: {ours!r} is mapped twice")
        theirs = re.sub(r'"((?:[^"]|"")*)"', lambda quoted: quoted[1].replace('""', '"'), theirs)
        if _FIELD.search(theirs):
            theirs = theirs.replace(r"\n", "\n").replace(r"\t", "\t")
        columns[ours] = theirs
    check_columns(columns, known)
    return columns


def _split_pairs(text: str) -> list[str]:
    pairs, start, quoted = [], 0, False
    for mark in _NEXT.finditer(text):
        if mark[0] == '"':
            quoted = not quoted
        elif not quoted:
            pairs.append(text[start : mark.start()])
            start = mark.end()
    return [*pairs, text[start:]]


def read_mapping(columns: Mapping[str, str] | None) -> dict[str, str]:
    """Return a copy of columns as they are given in Python.

    Example:
        >>> read_mapping({"instruction": 0})
        Traceback (most recent call last):
        flip_reward.errors.OptionError: columns: the name 0 is no text
        hint: columns are a mapping of our names to yours, such as {"response": "answer"} or {"response": "1"}
    """
    hint = 'columns are a mapping of our names to yours, such as {"response": "answer"} or {"response": "1"}'
    if columns is not None and not isinstance(columns, Mapping):
        raise OptionError(f"columns: {reprlib.repr(columns)} is no mapping", hint=hint)
    found = dict(columns or {})
    for name in (*found, *found.values()):
        if not isinstance(name, str):
            raise OptionError(f"columns: the name {reprlib.repr(name)} is no text", hint=hint)
    return found


def check_columns(columns: Mapping[str, str], known: Sequence[str] = COLUMNS) -> None:
    """Make sure that our side of a mapping has names of ours, and none that exclude each other."""
    for ours in columns:
        if ours not in known:
            raise OptionError(
                f"--columns: there is no {ours!r} to map{suggest([ours], known)}",
                hint=f"our columns are {', '.join(known)}",
            )
    exclusive = (("instruction", "prompt"), RESPONSE_COLUMNS, *((one, "chosen") for one in RESPONSE_COLUMNS))
    for one, other in exclusive:
        if one in columns and other in columns:
            raise OptionError(f"--columns: {one!r} and {other!r} exclude each other")


def format_columns(columns: Mapping[str, str]) -> str:
    r"""Write a mapping as an option that can be copied into a shell.

    Example:
        >>> format_columns({"instruction": "Question", "response": "Answer, long"})
        '--columns \'instruction=Question,response="Answer, long"\''
    """
    pairs = (f"{ours}={_quote(columns[ours])}" for ours in COLUMNS if ours in columns)
    return f"--columns {shlex.quote(','.join(pairs))}"


def _quote(name: str) -> str:
    name = name.replace("\n", r"\n")
    return name if _PLAIN.fullmatch(name) else '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True, slots=True)
class Column:
    """One column, or a template that joins several."""

    name: str
    """Its name; a template's text."""
    fields: tuple[str, ...] = ()
    """The columns of a template."""

    @classmethod
    def of(cls, text: str, known: Iterable[str]) -> Column:
        """Read what a user or a table of shapes says; a known column is never taken for a template."""
        return cls(text) if text in known else cls(text, tuple(_FIELD.findall(text)))

    @property
    def needs(self) -> tuple[str, ...]:
        """The columns that rows must have."""
        return self.fields or (self.name,)

    def read(self, values: Mapping[str, object]) -> object:
        """Return the value in a row. A template is filled in one pass, so that braces in texts survive."""
        if not self.fields:
            return open_cell(self.name, values.get(self.name))
        if all(is_missing(values.get(field)) for field in self.fields):
            return None
        return _FIELD.sub(lambda field: self._text(field[1], values), self.name).strip()

    def _text(self, field: str, values: Mapping[str, object]) -> str:
        value = values.get(field)
        if is_missing(value):
            return ""
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            return str(value)
        raise DataError(f"{field!r} must be text to stand in a template, not {name_type(value)}")


def open_cell(column: str, value: object, *, lists: bool = False) -> object:
    """Return the list that stands as JSON in a cell, as tables without lists have it; any other value as it is.

    Lists of messages are opened in any column, lists of texts only where the column's name is plural, or with
    `lists`: a response may be such a list.

    Example:
        >>> open_cell("Responses", '["One.", "Two."]'), open_cell("response", '["One.", "Two."]')
        (['One.', 'Two.'], '["One.", "Two."]')
    """
    if not (isinstance(value, str) and value.startswith("[") and value.rstrip().endswith("]")):
        return value
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError:
        return value
    is_chat = all(isinstance(one, dict) and _is_message(one) for one in found)
    return found if found and (lists or is_chat or column.lower().endswith("s")) else value


def _is_message(value: Mapping[str, object]) -> bool:
    return "role" in value or "from" in value or value.get("type") in ITEM_TYPES


def split_columns(text: str, known: Iterable[str]) -> tuple[str, ...]:
    """Read "a+b" as two columns, unless there is a column with this name."""
    return (text,) if text in known or _FIELD.search(text) else tuple(part.strip() for part in text.split("+"))


def suggest(names: Iterable[str], known: Iterable[str]) -> str:
    """Suggest a name that is nearly one of these."""
    known = list(known)
    near = [match for name in names for match in difflib.get_close_matches(name, known, n=1)]
    return f" (did you mean {near[0]!r}?)" if near else ""


def list_columns(values: Iterable[str], whose: str = "the row has") -> str:
    """List the columns of a row, as far as a message may hold them."""
    names = list(values)
    if not names:
        return "the row is empty"
    shown = ", ".join(repr(column[:_COLUMN_NAME_SHOWN]) for column in islice(names, _COLUMNS_SHOWN))
    return f"{whose} {shown}" + (", ..." if len(names) > _COLUMNS_SHOWN else "")


def name_type(value: object) -> str:
    """Say what a value is, in the words of JSON."""
    for kind, name in _TYPE_NAMES:
        if isinstance(value, kind):
            return name
    return type(value).__name__


_TYPE_NAMES: tuple[tuple[type, str], ...] = (
    (type(None), "null"),
    (bool, "true or false"),
    (str, "text"),
    (int, "a number"),
    (float, "a number"),
    (list, "a list"),
    (Mapping, "an object"),
)

"""What is asked where rows do not say which column is what: one line, and one to copy, with the rows' own names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flip_reward.data.shapes.columns import CONVERSATION_COLUMNS, format_columns, list_columns, suggest
from flip_reward.data.shapes.conversations import is_messages
from flip_reward.data.shapes.known import INSTRUCTIONS, MESSAGES, RESPONSES
from flip_reward.data.shapes.sample import RowSample
from flip_reward.errors import DataError


def no_such_column(sample: RowSample, name: str, ours: str) -> DataError:
    """Say that a column that the user named is not there."""
    known = sample.values
    return DataError(
        f"{sample.name}: there is no column {name!r}{suggest([name], known)}; {list_columns(known, 'the rows have')}",
        hint=f"--columns names it for {ours!r}",
    )


def which_of(sample: RowSample, columns: Mapping[str, str], ours: str, found: Sequence[str]) -> DataError:
    """Ask which of several columns is meant."""
    return DataError(
        f"{sample.name}: which column is the {ours}, {' or '.join(map(repr, found))}? "
        f"{list_columns(sample.values, 'The rows have')}",
        hint=f"say it, for example {format_columns({**columns, ours: found[0]})}",
    )


def no_response(sample: RowSample, columns: Mapping[str, str]) -> DataError:
    """Ask for the response."""
    chats = [name for name in ("messages", *MESSAGES) if any(map(is_messages, sample.get(name)))]
    problem = f"there is no column with responses{suggest(RESPONSES[0], sample.values)}"
    if chats:
        columns = {**columns, "messages": chats[0]}
        problem = f"{chats[0]!r} does not end with an assistant message that could be scored"
    return _ask(sample, columns, "response", problem)


def no_instruction(sample: RowSample, columns: Mapping[str, str]) -> DataError:
    """Ask for the instruction."""
    if any(isinstance(answer, Mapping) and "body" in answer for answer in sample.get("response")):
        return DataError(
            f"{sample.name} holds answers of OpenAI's batch API, which do not say what was asked",
            hint="join it with the file of requests first: jq -cn --slurpfile asked REQUESTS.jsonl "
            "'($asked | INDEX(.custom_id)) as $of | inputs | . + {messages: $of[.custom_id].body.messages}' "
            f"{sample.name} > joined.jsonl",
        )
    return _ask(
        sample,
        columns,
        "instruction",
        f"there is no column with instructions{suggest(INSTRUCTIONS[0], sample.values)}",
    )


def no_winner(sample: RowSample, columns: Mapping[str, str], sides: Sequence[str]) -> DataError:
    """Ask which candidates are the better ones."""
    if sides:
        return DataError(
            f"{sample.name}: which of {', '.join(map(repr, sides))} is better? "
            f"{list_columns(sample.values, 'The rows have')}",
            hint=f"name the column that says it: {format_columns({**columns, 'winner': 'YOURS'})}",
        )
    return DataError(
        f"{sample.name}: there are no columns with better and worse responses; "
        f"{list_columns(sample.values, 'the rows have')}",
        hint="name them: --columns chosen=YOURS,rejected=YOURS, or responses=ONE+OTHER,winner=YOURS",
    )


def _ask(sample: RowSample, columns: Mapping[str, str], ours: str, problem: str) -> DataError:
    taken = {
        "id",
        *CONVERSATION_COLUMNS,
        *(name for theirs in columns.values() for name in sample.columns_in(theirs)),
    }
    free = [name for name in sample.values if name not in taken and sample.holds_texts(name)]
    free = [name for name in free if not all(map(_is_number, sample.get(name)))] or free
    if ours == "response" and len(free) > 1 and not _has_instruction(sample, columns):
        columns, free = {**columns, "instruction": free[0]}, free[1:]
    free.sort(key=lambda name: -max((len(str(value)) for value in sample.get(name)), default=0))
    if not free or (len(sample.values) == 1 and not columns):
        hint = "add it to the rows" + ", or sample some: best-of-n --generate N" * (ours == "response")
    else:
        hint = f"for example {format_columns({**columns, ours: free[0]})}"
    return DataError(f"{sample.name}: {problem}; {list_columns(sample.values, 'the rows have')}", hint=hint)


def _is_number(value: object) -> bool:
    """Whether a cell holds a number, such as a ticket's; in CSV all cells are texts."""
    return isinstance(value, str) and value.replace(".", "", 1).isdecimal()


def _has_instruction(sample: RowSample, columns: Mapping[str, str]) -> bool:
    known = any(name in sample.folded for names in INSTRUCTIONS for name in names)
    return known or any(ours in columns for ours in CONVERSATION_COLUMNS)

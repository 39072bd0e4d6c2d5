"""What a model refuses about requests that others take, found out from its refusals, once.

The table `CHANGES` says which refusals there are and how a request is sent instead. A change is kept for all requests
that follow only when the server has answered a request in the new form, for its refusals may quote texts.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import cast

from flip_reward.core.conversation import Message

logger = logging.getLogger(__name__)

Fields = dict[str, object]

FEWER_TOP_LOGPROBS = 5
"""What older vLLM, TGI, Fireworks and OpenAI's reasoning models give at most."""

REFUSALS = frozenset({400, 404, 422, 500, 501})
"""Statuses of refusals of a form. llama.cpp answers 500 where a chat template refuses the messages."""

_NOT_TAKEN = re.compile(
    r"not (?:be |an? )?(?:support|permit|allow|enabl|available|recogni)|n't support|unsupported|unrecogni|unavailable"
    r"|unknown|unexpected|extra_forbidden|deprecated|only (?:be set to )?1\b"
    r"|only the default|only temperature ?= ?1|only supports? 1\b|does not accept|cannot be used",
    re.IGNORECASE,
)
_OUT_OF_RANGE = re.compile(
    r"between|range|outside|above|below|<=|or (?:less|more)|(?:less|greater|more) than|at (?:most|least)"
    r"|m(?:ax|in)imum",
    re.IGNORECASE,
)
_SYSTEM = re.compile(r"\b(?:system|developer)\b", re.IGNORECASE)
_ROLE = re.compile(r"\b(?:role|instruction|message|prompt)s?\b", re.IGNORECASE)
_STRUCTURE = re.compile(r"response_format|json[_ ]?schema|structured[_ ]output|guided|grammar", re.IGNORECASE)
_TOP_LOGPROBS = re.compile(r"top_?logprobs|sample logprobs|top_n_tokens", re.IGNORECASE)  # OpenAI, vLLM, TGI
_ONLY_TWO_ROLES = re.compile(r"roles must alternate user|only user(?:,| and) assistant roles", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that a server wants otherwise."""

    field: str
    """The field that a request must have."""
    refused: Callable[[str], bool]
    """Whether the words of a refusal mean this."""
    apply: Callable[[Fields], None]
    description: str


def _names(field: str) -> Callable[[str], bool]:
    """Recognise words that say that a server does not take a field, and not that its value is out of a range."""
    name = re.compile(rf"(?<!\w){field}(?!\w)")
    return lambda words: bool(name.search(words) and _NOT_TAKEN.search(words) and not _OUT_OF_RANGE.search(words))


def _refuses_system(words: str) -> bool:
    refused = _NOT_TAKEN.search(words) or "nvalid role" in words
    return bool(_ONLY_TWO_ROLES.search(words) or (refused and _SYSTEM.search(words) and _ROLE.search(words)))


def _rename_max_tokens(fields: Fields) -> None:
    fields["max_completion_tokens"] = fields.pop("max_tokens")


def _move_system_text(fields: Fields) -> None:
    """Put the text of system messages before that of the first user message."""
    messages = cast("tuple[Message, ...]", fields["messages"])
    system = [message.content for message in messages if message.role == "system"]
    others = [message for message in messages if message.role != "system"]
    first = next((index for index, message in enumerate(others) if message.role == "user"), None)
    asked = [] if first is None else [others.pop(first).content]
    others.insert(first or 0, Message("user", "\n\n".join(system + asked)))
    fields["messages"] = tuple(others)


def _delete(field: str) -> Callable[[Fields], None]:
    def apply(fields: Fields) -> None:
        del fields[field]

    return apply


def _leave_out(field: str, description: str = "") -> Change:
    return Change(field, _names(field), _delete(field), description or f"{field} is left out")


CHANGES = (
    Change(
        "max_tokens",
        lambda words: "max_completion_tokens" in words and bool(_NOT_TAKEN.search(words) or "instead" in words),
        _rename_max_tokens,
        "max_completion_tokens takes the place of max_tokens",
    ),
    Change("messages", _refuses_system, _move_system_text, "the system text stands at the head of the user's"),
    _leave_out("temperature", "temperature is left out, so replies are drawn at random and not cached"),
    _leave_out("top_p"),
    _leave_out("seed", "seed is left out, so samples are others each time"),
    Change(
        "response_format",
        lambda words: bool(_STRUCTURE.search(words) and (_NOT_TAKEN.search(words) or "must be" in words)),
        _delete("response_format"),
        "response_format is left out, so replies are not constrained",
    ),
    Change(
        "top_logprobs",
        lambda words: bool(_TOP_LOGPROBS.search(words) and _OUT_OF_RANGE.search(words)),
        lambda fields: fields.update(top_logprobs=FEWER_TOP_LOGPROBS),
        f"{FEWER_TOP_LOGPROBS} alternatives to a token are asked for",
    ),
    _leave_out("chat_template_kwargs", "chat_template_kwargs is left out, so thinking is not switched off"),
)
"""In the order in which they are tried on a refusal."""


class Dialect:
    """The changes that one model wants.

    Attributes:
        changes: Those that it has answered to.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self.changes: tuple[Change, ...] = ()

    def restore(self, fields: Iterable[str]) -> None:
        """Send everything with the changes of these fields, which were found out before."""
        self.changes = tuple(change for change in CHANGES if change.field in set(fields))

    def find_change(self, refusal: str, fields: Fields) -> Change | None:
        """Find what a refusal of a request with these fields asks for; None where nothing helps.

        Example:
            >>> refusal = "Unsupported value: 'temperature' does not support 0 with this model."
            >>> Dialect("o1").find_change(refusal, {"messages": (), "temperature": 0.0}).field
            'temperature'
        """
        possible = (change for change in CHANGES if change.field in fields and change.refused(refusal))
        return next((change for change in possible if _helps(change, fields)), None)

    def keep(self, changes: tuple[Change, ...]) -> None:
        """Send everything that follows with these changes, too, and say so."""
        new = [change for change in changes if change not in self.changes]
        self.changes += tuple(new)
        for change in new:
            logger.warning("%s refused a request as it was; from here on %s", self._model, change.description)


def _helps(change: Change, fields: Fields) -> bool:
    if change.field == "top_logprobs":
        return cast("int", fields["top_logprobs"]) > FEWER_TOP_LOGPROBS
    if change.field != "messages":
        return True
    return any(message.role == "system" for message in cast("tuple[Message, ...]", fields["messages"]))

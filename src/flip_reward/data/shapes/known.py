"""The shapes that are known by the names of their columns, and the names that columns of one kind have elsewhere.

Names are compared without case, blanks and marks: "Ticket ID" and "ticket_id" are the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Better(Enum):
    """How rows say which candidate is the better one."""

    CHOSEN = "what stands in 'chosen'"
    FIRST = "always the first"
    WINNER = "a column names it, or counts from 0 or 1"
    SIGN = "a column is negative where it is the first, positive where it is the second"
    ONE_IS_FIRST = "a column is 1 where it is the first, 0 where it is the second"
    HIGHEST = "the candidate with the highest rating"
    LOWEST = "the candidate with the lowest rank"
    FLAGGED = "a column for each candidate is 1 where it is the better one"
    LISTED = "a column names one of a list of candidates, counts to it, or has a rating for each"
    LABELLED = "each row holds one candidate, and a column says whether it is good"


@dataclass(frozen=True, slots=True)
class KnownShape:
    """The columns of a published set."""

    title: str
    columns: Mapping[str, str]
    """Ours to theirs; all of theirs must be there."""
    better: Better = Better.CHOSEN
    marks: tuple[str, ...] = ()
    """Where the objects that hold candidates keep their rating or rank."""


KNOWN_SHAPES = (
    KnownShape(
        "HelpSteer3",
        {"prompt": "context", "responses": "response1+response2", "winner": "overall_preference"},
        Better.SIGN,
    ),
    KnownShape(
        "SHP",
        {"prompt": "history", "responses": "human_ref_a+human_ref_b", "winner": "labels"},
        Better.ONE_IS_FIRST,
    ),
    KnownShape(
        "PKU-SafeRLHF",
        {"prompt": "prompt", "responses": "response_0+response_1", "winner": "better_response_id"},
        Better.WINNER,
    ),
    KnownShape(
        "paired answers of Stack Exchange",
        {"prompt": "question", "responses": "response_j+response_k"},
        Better.FIRST,
    ),
    KnownShape("RMB pairs", {"prompt": "conversation_input", "chosen": "chosen", "rejected": "reject"}),
    KnownShape("RMB best-of-n", {"prompt": "conversation_input", "chosen": "bon_best", "rejected": "loser_list"}),
    KnownShape(
        "OpenAI preferences",
        {"messages": "input", "chosen": "preferred_output", "rejected": "non_preferred_output"},
    ),
    KnownShape(
        "UltraFeedback",
        {"instruction": "instruction", "responses": "completions"},
        Better.HIGHEST,
        ("overall_score", "fine_grained_score", "fine-grained_score", "score", "rating"),
    ),
    KnownShape("Nectar", {"prompt": "prompt", "responses": "answers"}, Better.LOWEST, ("rank",)),
    KnownShape(
        "LMSYS arena, as on Kaggle",
        {"prompt": "prompt", "responses": "response_a+response_b", "winner": "winner_model_a+winner_model_b"},
        Better.FLAGGED,
    ),
    KnownShape(
        "conversations side by side",
        {"responses": "conversation_a+conversation_b", "winner": "winner"},
        Better.WINNER,
    ),
)

MESSAGES = ("conversations", "conversation", "dialogue", "dialog", "chat", "chats", "turns")
"""Lists of messages; the last one may be the response."""
INSTRUCTIONS = (
    ("instruction", "prompt", "messages"),
    (
        *MESSAGES,
        *("question", "query", "user_prompt", "user_input", "user_message", "user_query", "prompt_text"),
        *("human", "request", "conversation_input", "input_text", "instructions", "questions"),
    ),
    ("input", "inputs", "user", "task"),
    ("context", "history", "chat_history"),
)
"""Where the instruction stands, the surest first; two that are equally sure are asked for."""
RESPONSES = (
    ("response", "responses"),
    (
        *("answer", "answers", "output", "outputs", "completion", "completions", "generation", "generations"),
        *("reply", "replies", "candidates", "samples", "generated_text", "generated_answer", "prediction"),
        *("model_response", "model_output", "model_answer", "model_completion", "llm_response", "llm_output"),
        *("assistant_response", "ai_response", "bot_response", "response_text", "choices", "predictions"),
    ),
    ("text", "texts", "assistant", "gpt", "chatbot", "result"),
)
"""Where the response stands, likewise."""
CHOSEN = ("chosen", "preferred", "chosen_response", "preferred_response", "response_chosen", "better_response")
REJECTED = (
    *("rejected", "reject", "rejected_response", "dispreferred", "non_preferred", "nonpreferred", "unpreferred"),
    *("dispreferred_response", "response_rejected", "worse_response"),
)
WINNERS = (
    *("winner", "preference", "preferred", "better", "best", "choice", "verdict", "human_preference"),
    *("overall_preference", "winning_response", "preferred_response", "chosen", "label", "labels"),
)
IDS = ("id", "uid", "uuid", "guid")
_ID_OF = re.compile(
    r"(ticket|prompt|question|query|example|sample|row|item|record|custom|problem|conversation|instance|case|pair|bon)"
    r"_(id|uid|uuid)"
)
_SIDE = re.compile(
    r"(response|answer|completion|output|generation|candidate|reply|summary|assistant|text|model)_?"
    r"([a-d]|\d{1,3}|left|right|[jk])"
)
_WINNING_SIDE = re.compile(r"([^\W\d_]+)(?:_(?=[^\W\d])|_?(?=\d))([a-d]|\d{1,3}|left|right|[jk])")
_BASES = (
    *("response", "answer", "completion", "output", "generation", "candidate", "reply", "summary"),
    *("assistant", "text", "model"),
)
RATINGS = (
    *("best_response", "best_index", "chosen_index", "winner_index", "best_id", "scores", "ratings", "rewards"),
    *("desirable", "is_good", "is_correct", "correct"),
)
"""Beside `WINNERS`, what says it of a list of candidates, or of one."""
TIES = (
    *("tie", "tied", "both", "both_good", "both_bad", "bothbad", "tie_bothbad", "neither", "draw", "equal", "same"),
    *("none", "neutral"),
)


def fold_name(name: str) -> str:
    """Write a column's name without case, blanks and marks.

    Example:
        >>> fold_name("Ticket ID"), fold_name("Model-Answer.")
        ('ticket_id', 'model_answer')
    """
    return re.sub(r"\W+|_+", "_", name).strip("_").casefold()


def is_id_name(folded: str) -> bool:
    """Whether a column of this name tells rows apart."""
    return folded in IDS or _ID_OF.fullmatch(folded) is not None


def side_of(folded: str) -> str:
    """Return which of several candidates a column's name stands for: its last letter, number or word."""
    match = _SIDE.fullmatch(folded)
    return match[2] if match else folded.rpartition("_")[2]


def side_in(folded: str) -> str:
    """Return which candidate a winner such as "option_b" stands for; nothing where it may say something else.

    Example:
        >>> side_in("model_a"), side_in("option_b"), side_in("player2"), side_in("not_a"), side_in("a_over_b")
        ('a', 'b', '2', '', '')
    """
    match = _SIDE.fullmatch(folded) or _WINNING_SIDE.fullmatch(folded)
    return match[2] if match and match[1] != "not" else ""


def find_sides(folded: Mapping[str, str]) -> tuple[str, ...]:
    """Find the columns that hold a candidate each, in their order, among folded names and the rows' own."""
    found: dict[str, dict[str, str]] = {}
    for name, theirs in folded.items():
        if match := _SIDE.fullmatch(name):
            found.setdefault(match[1], {})[match[2]] = theirs
    for base in _BASES:
        sides = found.get(base, {})
        if len(sides) > 1:
            return tuple(sides.values())
    return ()

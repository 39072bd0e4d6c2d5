"""A tokenizer with merges and a model over its tokens, both small enough to compute every number by hand."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Sequence

BOS = 1
_FIRST_BYTE = 3
MERGES = [
    b"bc", b"ab", b"Th", b"The", b" c", b" ca", b" car", b" cart", b" carts", b" s", b" sa", b" sat",
]  # fmt: skip
"""Byte pair encoding: what comes first is joined first. So "ab" is one token, and "abc" is "a" and "bc"."""


def tokenize(text: str) -> list[int]:
    """Split a text into tokens, after the one that every text begins with."""
    parts = [bytes([byte]) for byte in text.encode()]
    while True:
        ranks = [_rank(one + other) for one, other in itertools.pairwise(parts)]
        best = min(ranks, default=len(MERGES))
        if best == len(MERGES):
            return [BOS, *(_number(part) for part in parts)]
        index = ranks.index(best)
        parts[index : index + 2] = [MERGES[best]]


def spell(token: int) -> str:
    """Decode one token alone, as servers do: the parts of a character become replacement characters."""
    return "<s>" if token == BOS else _spell(token).decode(errors="replace")


def logprob(before: Sequence[int], token: int) -> float:
    """Return how likely a token is after all before it."""
    return -(1 + zlib.crc32(repr((*before, token)).encode()) % 9000) / 1000


def score(prefix: str, continuation: str) -> tuple[float, ...]:
    """Compute the log-probabilities of a continuation's tokens directly."""
    tokens = tokenize(prefix + continuation)
    end, values = 0, []
    for index, token in enumerate(tokens[1:], start=1):
        end += len(_spell(token))
        if end > len(prefix.encode()):
            values.append(logprob(tokens[:index], token))
    return tuple(values)


def _rank(part: bytes) -> int:
    return MERGES.index(part) if part in MERGES else len(MERGES)


def _number(part: bytes) -> int:
    return _FIRST_BYTE + part[0] if len(part) == 1 else _FIRST_BYTE + 256 + MERGES.index(part)


def _spell(token: int) -> bytes:
    number = token - _FIRST_BYTE
    return bytes([number]) if number < 256 else MERGES[number - 256]

"""Where the tokens stand that two texts share, as the token F1 counts them."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

from flip_reward.core.similarity import find_normalizer
from flip_reward.core.tokens import load_normalizer
from flip_reward.rewards.options import Settings, find_setting

_LONGEST_SEARCH = 64  # characters within which a token has to end; keeps the search linear
_LONGEST_KEPT = 32  # characters of a word that is remembered; a server marks whatever strangers send
_CHUNK = re.compile(r"\S+")
_CORE = re.compile(r"\w(?:.*\w)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class SharedTokens:
    """Where the shared tokens stand in both texts: starts and ends in turn, in characters, ascending."""

    inferred: tuple[int, ...]
    original: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Piece:
    start: int
    end: int
    tokens: tuple[str, ...]


def choose_normalizer(settings: Settings) -> str:
    """Return the normaliser of a reward with these settings; of a formula, that of the first part that has one.

    Example:
        >>> choose_normalizer({"reward": "flip/2", "flip.similarity": "f1:multilingual"})
        'multilingual'
    """
    return find_normalizer(str(next(iter(find_setting(settings, "similarity").values()), "")))


def find_shared_tokens(inferred: str, original: str, normalizer: str = "english") -> SharedTokens:
    """Find the tokens that two instructions share, each as often as it occurs in both.

    Shared tokens with nothing but white space between them are one stretch.

    The normaliser says what a token is; see `flip_reward.core.tokens.load_normalizer`.

    Example:
        >>> shared = find_shared_tokens("What is soil degradation?", "Define 'soil degradation'.")
        >>> "What is soil degradation?"[slice(*shared.inferred)]
        'soil degradation'
    """
    pieces, others = _cut(inferred, normalizer), _cut(original, normalizer)
    shared = _count(pieces) & _count(others)
    return SharedTokens(_mark(inferred, pieces, shared.copy()), _mark(original, others, shared))


def _count(pieces: tuple[_Piece, ...]) -> Counter[str]:
    return Counter([token for piece in pieces for token in piece.tokens])


def _mark(text: str, pieces: tuple[_Piece, ...], left: Counter[str]) -> tuple[int, ...]:
    bounds: list[int] = []
    for piece in pieces:
        if min(map(left.__getitem__, piece.tokens)) > 0:
            left.subtract(piece.tokens)
            if bounds and not text[bounds[-1] : piece.start].strip():
                bounds[-1] = piece.end
            else:
                bounds += (piece.start, piece.end)
    return tuple(bounds)


@lru_cache(maxsize=8)  # an original instruction is compared with one inferred instruction after the other
def _cut(text: str, normalizer: str) -> tuple[_Piece, ...]:
    return tuple(
        _Piece(chunk.start() + piece.start, chunk.start() + piece.end, piece.tokens)
        for chunk in _CHUNK.finditer(text)
        for piece in (_cut_word if len(chunk[0]) <= _LONGEST_KEPT else _cut_chunk)(chunk[0], normalizer)
    )


def _cut_chunk(chunk: str, normalizer: str) -> tuple[_Piece, ...]:
    """Cut text without white space into pieces of one token each, or one piece where that cannot be done."""
    tokenize = load_normalizer(normalizer).tokenize
    tokens = tokenize(chunk)
    if len(tokens) <= 1:
        core = _CORE.search(chunk)
        start, end = core.span() if core and tokenize(core[0]) == tokens else (0, len(chunk))
        return (_Piece(start, end, tuple(tokens)),) if tokens else ()
    pieces: list[_Piece] = []
    start = 0
    for token in tokens:
        for end in range(start + 1, min(len(chunk), start + _LONGEST_SEARCH) + 1):
            found = tokenize(chunk[start:end])
            if found == [token] and (end == len(chunk) or tokenize(chunk[start : end + 1]) != found):
                break
        else:
            return (_Piece(0, len(chunk), tuple(tokens)),)
        pieces.append(_Piece(start, end, (token,)))
        start = end
    return tuple(pieces)


_cut_word = lru_cache(maxsize=16_384)(_cut_chunk)  # the same words come again and again

"""Which tokens of a text belong to its continuation, from their numbers or from their texts."""

from __future__ import annotations

from collections.abc import Sequence

_PART = "\N{REPLACEMENT CHARACTER}"
"""What servers show for a token that is a part of a character."""


def count_shared_tokens(prefix_ids: Sequence[int], whole_ids: Sequence[int]) -> int:
    """Count the tokens that a prefix and the whole text begin with alike.

    If that is all tokens of the prefix, the continuation's tokens are the rest. If not, the tokenizer has joined the
    end of the prefix and the beginning of the continuation, and the texts of the tokens have to tell where it begins.

    Example:
        >>> count_shared_tokens([1, 5, 7], [1, 5, 7, 8]), count_shared_tokens([1, 5, 7], [1, 5, 9])
        (3, 2)
    """
    pairs = zip(prefix_ids, whole_ids, strict=False)
    return next(
        (index for index, (one, other) in enumerate(pairs) if one != other), min(len(prefix_ids), len(whole_ids))
    )


def find_first_token(texts: Sequence[str | None], text: str, boundary: int) -> int | None:
    """Find the first token that holds a character at or after a boundary, going back from the end.

    Args:
        texts: The text of each token. The last one ends where `text` ends.
        text: What the tokens spell.
        boundary: Where the continuation begins in it, below its length.

    Returns:
        The token's index; None where the texts of the tokens do not tell. Either those of the continuation do not
        spell it (a character of several tokens, white space that decoding leaves out), or a token stands before it
        that may be a part of its first character.

    Example:
        >>> [find_first_token(["<s>", "the", " ca", "ts"], "the cats", boundary) for boundary in (3, 5, 6)]
        [2, 2, 3]
        >>> find_first_token(["the", "�", "�"], "the🍎", 3) is None
        True
    """
    position = len(text)
    for index in range(len(texts) - 1, -1, -1):
        token = texts[index]
        if token is None or _PART in token or not text.endswith(token, 0, position):
            return None
        position -= len(token)
        if position < boundary:
            return index
        if position == boundary:
            return index if index == 0 or _is_whole(texts[index - 1], token) else None
    return None


def find_first_token_forwards(texts: Sequence[str | None], text: str, boundary: int) -> int | None:
    """Find the same going forward from the beginning, for a continuation whose tokens do not spell it.

    The first token may be one that the tokenizer puts before every text, and that the text does not hold.

    Example:
        >>> find_first_token_forwards(["<s>", "the", "�", "�"], "the🍎", 3)
        2
    """
    position = 0
    for index, token in enumerate(texts):
        if position == boundary and index > 0:
            return index if texts[index - 1] else None
        if token is None or _PART in token or (index > 0 and not text.startswith(token, position)):
            return None
        if text.startswith(token, position):
            position += len(token)
        if position > boundary:
            return index
    return None


def _is_whole(before: str | None, token: str) -> bool:
    """Whether the token before another one ends with a whole character, which the other does not complete."""
    return before is not None and before != "" and (token.isascii() or not before.endswith(_PART))

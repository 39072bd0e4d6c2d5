from __future__ import annotations

import pytest

from flip_reward.engines.http.tokenizer import (
    count_shared_tokens,
    find_first_token,
    find_first_token_forwards,
)


@pytest.mark.parametrize(
    ("prefix", "whole", "shared"), [([], [1], 0), ([1, 2], [1, 2], 2), ([1, 2], [1], 1), ([2, 1], [3, 1], 0)]
)
def test_counts_what_both_begin_with(prefix: list[int], whole: list[int], shared: int) -> None:
    assert count_shared_tokens(prefix, whole) == shared


@pytest.mark.parametrize(
    ("texts", "text", "boundary", "first"),
    [
        (["a", "b"], "ab", 1, 1),
        (["a", "bc"], "abc", 2, 1),  # one token of both sides
        (["<s>", "ab"], "ab", 0, 1),
        (["ab"], "ab", 0, 0),
        ([None, "�", "a", "b"], "xab", 2, 3),  # what comes before does not matter
        (["a", "", "", "🍎"], "a🍎", 1, None),  # the empty ones may be parts of the last one
        (["a", "�", "🍎"], "a🍎", 1, None),
        (["🍎�", "b"], "🍎b", 1, 1),
        (["a", None], "ab", 1, None),
        (["a", "c"], "ab", 1, None),
        (["�", "�", "�"], "a�", 1, None),  # a replacement character of the text itself has three parts
        (["b"], "ab", 0, None),
    ],
)
def test_going_back_from_the_end(texts: list[str | None], text: str, boundary: int, first: int | None) -> None:
    assert find_first_token(texts, text, boundary) == first


@pytest.mark.parametrize(
    ("texts", "text", "boundary", "first"),
    [
        (["a", "�", "�"], "a🍎", 1, 1),
        (["<s>", "a", "�", "�"], "a🍎", 1, 2),
        (["<s>", "ab", "�", "�"], "ab🍎", 1, 1),  # one token of both sides
        (["a", "", "�"], "a🍎", 1, 1),
        (["a", "x", "�"], "ab🍎", 2, None),
        (["a", None, "�"], "ab🍎", 2, None),
        (["a", "�", "�"], "a🍎b", 2, None),
        (["a"], "ab", 1, None),
    ],
)
def test_going_forwards_from_the_beginning(
    texts: list[str | None], text: str, boundary: int, first: int | None
) -> None:
    assert find_first_token_forwards(texts, text, boundary) == first

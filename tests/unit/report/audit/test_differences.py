from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.report.audit.differences import find_new_words


def new_words(text: str, other: str) -> list[str]:
    bounds = find_new_words(text, other)
    return [text[start:end] for start, end in zip(bounds[::2], bounds[1::2], strict=True)]


@pytest.mark.parametrize(
    ("text", "other", "expected"),
    [
        ("Name a fruit. Pears are sweet.", "Pears are sweet.", ["Name a fruit."]),
        ("Pears are sweet. Name a fruit.", "Pears are sweet.", ["Name a fruit."]),
        ("Pears are", "Pears are sweet.", []),
        ("It rains and it snows.", "It rains. And it snows.", ["and"]),
        (
            "Paris is the captial of Frnace, I think.",
            "Paris is the capital of France, I think.",
            ["captial", "Frnace"],
        ),
        ("Rome is not big. Rome is old.", "Rome is big. Paris is old.", ["not", "Rome"]),
        ("PEARS are sweet.", "Pears are sweet.", ["PEARS"]),
        ("我爱北京天安门。", "我爱天安门。", ["北京"]),
        ("The iPhone手机很贵。", "The iPhone手机贵。", ["很"]),
        ("anything", "", ["anything"]),
        ("", "anything", []),
    ],
)
def test_what_was_put_in_is_found(text: str, other: str, expected: list[str]) -> None:
    assert new_words(text, other) == expected


def test_a_repeated_text_is_new_once() -> None:
    assert new_words("Pears are sweet. Pears are sweet.", "Pears are sweet.") == ["Pears are sweet."]


@given(st.text(), st.text())
def test_marks_are_in_order_and_within_the_text(text: str, other: str) -> None:
    bounds = find_new_words(text, other)
    assert sorted(set(bounds)) == list(bounds)
    assert all(0 <= bound <= len(text) for bound in bounds)
    assert find_new_words(text, text) == ()
    assert find_new_words(text, f"{other}\n{text}") == ()


@pytest.mark.parametrize("unit", ["a b ", "a ", "(", "诗", "a\n\n"])
def test_time_grows_with_the_length(unit: str) -> None:
    start = process_time()
    find_new_words(unit * 50_000, (unit * 50_000)[::-1])
    assert process_time() - start < 3

import pytest

from flip_reward.core.json_verdict import Verdict, VerdictKey, find_verdict

SCORE = VerdictKey.of("score", "rating")


def test_key_spellings_fold_case_spaces_and_underscores() -> None:
    key = VerdictKey.of("better response")
    for spelling in ("BETTER_RESPONSE", "better response", "Better-Response", "betterResponse"):
        assert find_verdict(f'{{"{spelling}": "A"}}', key) == Verdict("A")


def test_values_of_any_type_come_back_as_they_are() -> None:
    assert find_verdict('{"SCORE": 7.5}', SCORE) == Verdict(7.5)
    assert find_verdict('{"score": null}', SCORE) == Verdict(None)
    assert find_verdict('{"rating": [1]}', SCORE) == Verdict([1])


def test_the_last_of_two_objects_counts() -> None:
    assert find_verdict('{"SCORE": 2} no: {"SCORE": 9}', SCORE) == Verdict(9)


def test_objects_without_the_key_do_not_hide_one_with_it() -> None:
    assert find_verdict('{"SCORE": 2} and {"note": "done"}', SCORE) == Verdict(2)


def test_no_verdict() -> None:
    assert find_verdict("seven out of ten", SCORE) is None
    assert find_verdict("{}", SCORE) is None
    assert find_verdict('<think>{"SCORE": 3}', SCORE) is None
    assert find_verdict('analysis{"SCORE": 3}', SCORE) is None
    assert find_verdict('<|channel|>analysis<|message|>{"SCORE": 3}', SCORE) is None


def test_a_nested_verdict_counts_but_none_inside_the_reasoning() -> None:
    assert find_verdict('{"result": {"SCORE": 7, "reasoning": "right"}}', SCORE) == Verdict(7, "right")
    assert find_verdict('{"reasoning": {"SCORE": 3}}', SCORE) is None
    assert find_verdict('{"a": {"b": {"c": {"d": {"SCORE": 1}}}}}', SCORE) is None, "too deep"


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ('{"SCORE": 7, "REASONING": "it says "good""', Verdict(7, 'it says "good"')),
        ("{“SCORE”: “7”}", Verdict("7")),
        ('{"SCORE": 7', Verdict(7)),
        ('{"x": {"SCORE": 7', None),
        ('{"SCORE": 7, "SCORE": 8', None),
        ('"SCORE": 7 {', None),
    ],
)
def test_one_malformed_object_is_repaired(reply: str, expected: Verdict | None) -> None:
    assert find_verdict(reply, SCORE) == expected
    assert find_verdict(reply, SCORE, truncated=True) is None

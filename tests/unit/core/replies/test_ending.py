"""`Ending`: what a finish reason says about a text."""

import pytest

from flip_reward.core.replies.ending import Ending


@pytest.mark.parametrize(
    ("reason", "ending"),
    [
        ("stop", Ending.NATURAL),
        ("STOP", Ending.NATURAL),
        ("eos_token", Ending.NATURAL),
        ("length", Ending.CUT),
        ("MAX_TOKENS", Ending.CUT),
        ("content_filter", Ending.FILTERED),
        ("content-filter", Ending.FILTERED),
        ("content_filter: RECITATION", Ending.FILTERED),
        ("refusal", Ending.FILTERED),
        ("abort", Ending.FAILED),
        ("cancelled", Ending.FAILED),
        ("error", Ending.FAILED),
        ("tool_calls", Ending.UNKNOWN),
        ("something new", Ending.UNKNOWN),
        ("", Ending.UNKNOWN),
        (None, Ending.UNKNOWN),
    ],
)
def test_reads_a_reason_in_any_spelling(reason: str | None, ending: Ending) -> None:
    assert Ending.of(reason) is ending

from __future__ import annotations

import pickle
import traceback

import pytest

from flip_reward.errors import (
    ContextTooLongError,
    EngineBusyError,
    FlipRewardError,
    MissingDependencyError,
    NoLogprobsError,
    OptionError,
    RequestRefusedError,
)

ERRORS = [
    OptionError("no such option", hint="choose another"),
    MissingDependencyError("torch", extra="hf"),
    RequestRefusedError("refused", status=422, hint="see the server's log"),
    EngineBusyError("busy", retry_after_seconds=3.0),
    NoLogprobsError("that engine"),
    ContextTooLongError("too long"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_cross_processes_whole(error: FlipRewardError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


def test_a_traceback_ends_with_the_hint() -> None:
    shown = traceback.format_exception(ERRORS[0])
    assert shown[-1] == "hint: choose another\n"
    assert traceback.format_exception(ERRORS[3])[-1].endswith("busy\n")

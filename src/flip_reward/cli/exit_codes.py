"""The exit statuses of the command."""

from __future__ import annotations

from enum import IntEnum

from flip_reward.errors import EngineError, FlipRewardError, RunStoppedError, StorageError


class ExitCode(IntEnum):
    """Exit statuses, as `flip-reward --help` and the README list them."""

    DONE = 0
    BAD_USAGE = 2
    PARTLY_DONE = 3
    ENGINE_LOST = 4
    DISK_FULL = 5
    THRESHOLD_PASSED = 6
    INTERRUPTED = 130


EXPLANATION = (
    "Exit status: 0 done; 2 a wrong option, input or run folder; 3 done, but rows were rejected or undecided, the "
    "engine failed for some responses, or nothing could be scored; 4 the engine is not there or was lost; 5 the disk "
    "is full or not writable; 6 a threshold of an audit is passed, or an alarm ended a training; 130 interrupted."
)


def exit_code(error: FlipRewardError) -> ExitCode:
    """Return the exit status that an error ends the command with."""
    if isinstance(error, StorageError):
        return ExitCode.DISK_FULL
    if isinstance(error, EngineError | RunStoppedError):
        return ExitCode.ENGINE_LOST
    return ExitCode.BAD_USAGE

"""Standard output and error as a command has them: whatever happens to what is printed, the work goes on."""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

from flip_reward.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_GONE = frozenset({errno.EPIPE, errno.ECONNRESET, errno.EIO, errno.EBADF})
"""The reader has closed its end, such as `head`, or the terminal."""


@contextmanager
def unbreakable_output() -> Iterator[None]:
    """Let printing never fail while the block runs.

    A character that a stream has no code for is replaced. What nobody reads any more is dropped, and so is what a
    full disk does not take; then the block ends with an error, once its work is done.
    """
    _reopen_closed()
    before = sys.stdout, sys.stderr
    outlets = []
    for name, errors in (("stdout", "replace"), ("stderr", "backslashreplace")):
        stream: TextIO = getattr(sys, name)
        outlet = _find_outlet(stream)
        if outlet is not None:
            outlets.append(outlet)
            setattr(sys, name, _open_text(outlet, like=stream, errors=errors))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
    try:
        yield
    except SystemExit as end:
        sys.stdout.flush()
        lost = next((outlet.failure for outlet in outlets if outlet.failure), None)
        if lost is None or lost.errno in _GONE:
            raise
        sys.stderr.write(f"Error: cannot write the output: {lost.strerror}\n")
        raise SystemExit(end.code or ExitCode.DISK_FULL) from None
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


class _Outlet(io.FileIO):
    """The file of a stream. It drops what cannot be written, and remembers why."""

    failure: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        """Write, or drop."""
        if self.failure is None:
            try:
                while (written := super().write(data)) is None:  # another program has made it non-blocking
                    select.select((), (self,), ())
            except OSError as error:
                self.failure = error
            else:
                return written
        return memoryview(data).nbytes


def _find_outlet(stream: TextIO) -> _Outlet | None:
    """Open the file behind a stream a second time; None where there is none, and for the console of Windows."""
    if sys.platform == "win32":
        return None
    with suppress(OSError, ValueError, AttributeError):
        return _Outlet(stream.fileno(), "w", closefd=False)
    return None


def _open_text(outlet: _Outlet, *, like: TextIO, errors: str) -> TextIO:
    like.flush()
    lines = like.line_buffering if isinstance(like, io.TextIOWrapper) else True
    return io.TextIOWrapper(io.BufferedWriter(outlet), encoding=like.encoding, errors=errors, line_buffering=lines)


def _reopen_closed() -> None:
    """Put the null device where a stream was closed: the next file would get its number, and what is printed."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, number)
            if null != number:
                os.close(null)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))

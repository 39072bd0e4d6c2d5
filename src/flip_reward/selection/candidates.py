"""Candidates that a policy sampled, and the file of a run folder that keeps them.

RUN/candidates.jsonl      a line for every candidate, in the order of finishing; the last line of a candidate counts,
                          since one that the engine failed to write is sampled again when the run is resumed
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Container, Sequence
from dataclasses import astuple, dataclass, replace
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import orjson
from pydantic import TypeAdapter

from flip_reward.core.conversation import Group
from flip_reward.core.replies.ending import Ending
from flip_reward.core.score import Outcome, Score, Usage
from flip_reward.data.files import AppendOnlyFile
from flip_reward.errors import RunError
from flip_reward.scoring.folders import CANDIDATES
from flip_reward.scoring.records import MOST_COUNTED, MOST_ROWS

_TRUNCATED = {Ending.CUT: True, Ending.NATURAL: False}


@dataclass(frozen=True, slots=True)
class Candidate:
    """One response of a policy, or why there is none."""

    row: int
    """The position of its row in the input, from 0."""
    group_id: str
    index: int
    """Which of the row's candidates it is, from 0."""
    seed: int
    response: str | None
    """None when the policy gave none; `failure` then says why."""
    failure: Outcome | None = None
    detail: str | None = None
    finish_reason: str | None = None
    usage: Usage = Usage()
    attempts: int = 0
    latency_seconds: float = 0.0
    """From asking to the answer or the last failure."""
    cached: bool = False
    """It came from the response cache."""

    @property
    def truncated(self) -> bool | None:
        """Whether the text ended at the token limit; None where nobody knows how it ended."""
        return _TRUNCATED.get(Ending.of(self.finish_reason))

    @property
    def completed(self) -> bool:
        """Whether the policy answered, or refused: its engine did not fail."""
        return self.is_final()

    def is_final(self, *, retry_refused: bool = False) -> bool:
        """Whether a resumed run leaves it as it is; a failure of the engine is tried again, a refusal on request."""
        return self.failure is None or self.failure.is_final(retry_refused=retry_refused)

    def to_score(self) -> Score | None:
        """Return the score of a candidate that is not there; None for one that can be scored.

        The request was the policy's, so it is not among the attempts and the tokens of the reward.
        """
        if self.failure is None:
            return None
        return Score(None, self.failure, detail=f"not generated: {self.detail or 'the policy answered nothing'}")

    def to_line(self) -> bytes:
        """Return the candidate as one line of JSON."""
        return orjson.dumps(self, option=orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def from_line(cls, line: bytes) -> Candidate:
        """Read a candidate back. A ValueError where it is damaged."""
        candidate = _line_reader().validate_json(line, strict=True)
        if not 0 <= candidate.row < MOST_ROWS or max(*astuple(candidate.usage), candidate.attempts) > MOST_COUNTED:
            raise ValueError("not a candidate: a number in it is impossible")
        return candidate


@cache
def _line_reader() -> TypeAdapter[Candidate]:
    return TypeAdapter(Candidate)


def read_candidates(folder: Path, rows: Container[int]) -> dict[int, dict[int, Candidate]]:
    """Read the last candidates of some rows, by row and index; what is damaged is left out."""
    found: dict[int, dict[int, Candidate]] = {}
    with (folder / CANDIDATES).open("rb") as file:
        for line in file:
            try:
                candidate = Candidate.from_line(line)
            except ValueError:
                continue
            if candidate.row in rows:
                found.setdefault(candidate.row, {})[candidate.index] = candidate
    return found


@dataclass(frozen=True, slots=True)
class SampledGroup(Group):
    """A group whose responses a policy sampled. One that it failed to write is blank among the responses."""

    candidates: tuple[Candidate, ...] = ()

    @classmethod
    def of_candidates(cls, group: Group, candidates: Sequence[Candidate]) -> Self:
        """Put candidates in the place of a group's responses."""
        responses = tuple(candidate.response or "" for candidate in candidates)
        return cls(group.messages, responses, group.id, tuple(candidates))

    def only(self, indices: Sequence[int]) -> Self:
        """Return the same conversation with the candidates at `indices`, in that order."""
        return replace(
            self,
            responses=tuple(self.responses[index] for index in indices),
            candidates=tuple(self.candidates[index] for index in indices),
        )


class CandidateFile:
    """The candidates of a run, in 8 bytes of memory each.

    With `retry_refused` those refused earlier are pending. `before_append` is called before a candidate is written.

    Attributes:
        found: How many candidates earlier sessions left that are not sampled again.
    """

    def __init__(
        self,
        folder: Path,
        count: int,
        *,
        retry_refused: bool = False,
        before_append: Callable[[], None] = lambda: None,
    ) -> None:
        self._path = folder / CANDIDATES
        self._retry_refused = retry_refused
        self._before_append = before_append
        self._count = count
        self._offsets = array("q")
        self._end = 0
        self.found = 0
        self._file = AppendOnlyFile(self._path)
        self._reader: BinaryIO = self._path.open("rb")
        try:
            for number, line in enumerate(self._reader, start=1):
                self._index(self._parse(line, f"line {number}"), len(line))
        except BaseException:
            self.close()
            raise
        self.found = sum(offset >= 0 for offset in self._offsets)

    def pending(self, row: int) -> list[int]:
        """Return the indices of a row's candidates that have to be sampled."""
        return [index for index, offset in enumerate(self._offsets_of(row)) if offset < 0]

    def append(self, candidate: Candidate) -> None:
        """Write a candidate, so that it has reached the operating system."""
        line = candidate.to_line()
        self._before_append()
        self._file.append(line)
        self._index(candidate, len(line), failed_too=True)

    def read(self, row: int) -> dict[int, Candidate]:
        """Read the candidates of a row by their index. Those that were not sampled yet are missing."""
        candidates = {}
        for index, offset in enumerate(self._offsets_of(row)):
            if offset >= 0:
                self._reader.seek(offset)
                candidates[index] = self._parse(self._reader.readline(), f"byte {offset}")
        return candidates

    def _offsets_of(self, row: int) -> Sequence[int]:
        first = row * self._count
        return self._offsets[first : first + self._count] or [-1] * self._count

    def _index(self, candidate: Candidate, length: int, *, failed_too: bool = False) -> None:
        place = candidate.row * self._count + candidate.index
        if place >= len(self._offsets):
            whole_rows = (candidate.row + 1) * self._count
            self._offsets.extend(array("q", [-1]) * (whole_rows - len(self._offsets)))
        if failed_too or candidate.is_final(retry_refused=self._retry_refused):
            self._offsets[place] = self._end
        self._end += length

    def _parse(self, line: bytes, place: str) -> Candidate:
        try:
            candidate = Candidate.from_line(line)
        except ValueError:
            candidate = None
        if candidate is None or not 0 <= candidate.index < self._count:
            raise RunError(
                f"{self._path}, {place}: damaged candidate",
                hint="remove the line; it is sampled again when the run is resumed",
            )
        return candidate

    def close(self) -> None:
        """Close the file, which is gone where it holds nothing."""
        self._file.close()
        self._reader.close()
        if not self._end:
            self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

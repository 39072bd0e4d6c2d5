"""The run folder: a manifest, append-only records, the rejected rows and the summary.

RUN/manifest.json         what is scored, by what (see manifest.py)
RUN/records.jsonl         a line for every scored response, in the order of finishing; the last line of a
                          response counts, since a failed one is tried again when the run is resumed
RUN/rejected_rows.jsonl   rows that could not be read: row, input, line and reason
RUN/summary.json          written when a session ends
"""

from __future__ import annotations

import errno
import os
import re
from array import array
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter
from pathlib import Path, PurePath
from typing import TypeVar

import orjson

from flip_reward.data.files import AppendOnlyFile, storage_error, write_atomically
from flip_reward.data.grouping import UniqueIds
from flip_reward.data.rows import InvalidRow
from flip_reward.errors import OptionError, RunError, RunLockedError, StorageError
from flip_reward.scoring.folders import CANDIDATES, MANIFEST, recognise
from flip_reward.scoring.manifest import Manifest, RunConfiguration, Session
from flip_reward.scoring.record_index import RecordIndex, damaged
from flip_reward.scoring.records import CountedRecord, Record
from flip_reward.scoring.shards.marks import mark, remove_mark
from flip_reward.scoring.summary import Summary, Tally

T = TypeVar("T")


class CompletedRows:
    """Remembers which responses of which rows need no more work: a byte a row, and four more where it has several.

    A group may have grown since, where its first responses were scored under a limit on rows.
    """

    def __init__(self) -> None:
        self._whole = bytearray()
        self._sizes = array("I")
        self._partial: dict[int, set[int]] = {}

    def __contains__(self, row: int) -> bool:
        """Whether every response of a row is completed."""
        return row < len(self._whole) and self._whole[row] == 1

    def __len__(self) -> int:
        """How many rows are completed."""
        return self._whole.count(1)

    def add(self, *, row: int, group_size: int, response_index: int) -> None:
        """Complete one response."""
        if group_size > 1:
            done = self._done(row)
            done.add(response_index)
            if len(done) < group_size:
                self._partial[row] = done
                if row in self:
                    self._whole[row] = 0
                return
            self._partial.pop(row, None)
            self._sizes.extend([1] * (row + 1 - len(self._sizes)))
            self._sizes[row] = len(done)
        if row >= len(self._whole):
            self._whole.extend(bytes(row + 1 - len(self._whole)))
        self._whole[row] = 1

    def pending(self, row: int, *, group_size: int) -> list[int]:
        """Return the indices of a row's responses that are not completed."""
        if row not in self and row not in self._partial:
            return list(range(group_size))
        done = self._done(row)
        return [index for index in range(group_size) if index not in done]

    def _done(self, row: int) -> set[int]:
        if row in self:
            return set(range(self._sizes[row] if row < len(self._sizes) else 1))
        return self._partial.get(row, set())


RECORDS, REJECTED, SUMMARY = "records.jsonl", "rejected_rows.jsonl", "summary.json"
LOCK = ".lock"
_MOST_TRIES = 20

LOCK_VARIABLE = "FLIP_REWARD_LOCK"
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})


class RunFolder:
    """A run folder, open for one process to write to.

    It is made when missing, and resumed when it holds the same configuration. With `whole_groups` the reward looks at
    the responses of a group together, so a group is completed as a whole or not. With `retry_refused` responses whose
    request was refused in an earlier session are not completed. `sources` and their `encoding` are noted for
    `reopen_inputs`.

    A run begins with its first record: until then there is no manifest, and `close` leaves no folder.
    """

    def __init__(
        self,
        path: Path,
        configuration: RunConfiguration,
        *,
        sources: Sequence[str] = (),
        encoding: str | None = None,
        model: str | None = None,
        whole_groups: bool = False,
        retry_refused: bool = False,
    ) -> None:
        self.path = path
        self._retry_refused = retry_refused
        self._servers: dict[str, str] = {}
        _refuse_other_files(path)
        with ExitStack() as held:
            self._made = _make_and_lock(path, held)
            self._shard = configuration.shard
            if self._shard:
                remove_mark(path)
            self._begun = (path / MANIFEST).exists()
            self._manifest = self._find_manifest(configuration).reading(sources, encoding, model)
            held.callback(self._leave_no_trace)
            if self._begun:
                self._manifest.write(path / MANIFEST)
            self._open(held, whole_groups=whole_groups)
            self._held = held.pop_all()

    def _find_manifest(self, configuration: RunConfiguration) -> Manifest:
        if self._begun or recognise(self.path) is not None:
            return Manifest.read(self.path / MANIFEST).resume_with(configuration, self.path)
        records = self.path / RECORDS
        if records.exists() and records.stat().st_size:
            raise RunError(f"{self.path} holds records but no manifest", hint="give another folder with --run-folder")
        return Manifest(configuration=configuration, sessions=[Session.now()])

    def _open(self, held: ExitStack, *, whole_groups: bool) -> None:
        self._records = held.enter_context(AppendOnlyFile(self.path / RECORDS))
        self.dropped_bytes = self._records.dropped_bytes
        self.completed, self.tally = CompletedRows(), Tally()
        self.ids = held.enter_context(closing(UniqueIds(_read_names(self.path))))
        lines = _read_lines(self.path, CountedRecord.read)
        for line in filter(self._stays, self._whole_groups(lines) if whole_groups else lines):
            self.completed.add(row=line.row, group_size=line.group_size, response_index=line.response_index)
            self.tally.add_line(line)
        self.resumed_responses = self.tally.responses
        (self.path / REJECTED).unlink(missing_ok=True)  # every session lists them again, since none is ever completed
        self._rejected: AppendOnlyFile | None = None
        self.rejected_rows = 0

    def _whole_groups(self, lines: Iterable[CountedRecord]) -> Iterator[CountedRecord]:
        """Leave out groups of which a response is missing or is scored again."""
        for _, group in groupby(lines, key=attrgetter("row")):
            found = list(group)
            found = found[-found[-1].group_size :]
            if len(found) == found[-1].group_size and all(map(self._stays, found)):
                yield from found

    def _stays(self, line: CountedRecord) -> bool:
        return line.outcome.is_final(retry_refused=self._retry_refused)

    def addresses(self, engine: str) -> set[str]:
        """Return where earlier sessions reached an engine, by its name in the settings."""
        return {session.servers[engine] for session in self._manifest.sessions if engine in session.servers}

    def note_servers(self, servers: dict[str, str]) -> None:
        """Keep in mind where this session reaches its engines; see `begin`."""
        self._servers = servers

    def begin(self) -> None:
        """Write the manifest and those addresses, once, before the first answer: a session without one has none."""
        if self._servers or not self._begun:
            self._manifest = self._manifest.reached_at(self._servers)
            self._manifest.write(self.path / MANIFEST)
            self._servers, self._begun = {}, True

    def append(self, records: Sequence[Record]) -> None:
        """Write the records of some groups, all or none of them, and count them."""
        self.begin()
        self._records.append(b"".join([record.to_line() for record in records]))
        for record in records:
            if record.completed:
                self.completed.add(row=record.row, group_size=record.group_size, response_index=record.response_index)
            self.tally.add(record.score)

    def reject(self, row: InvalidRow) -> None:
        """List a row that cannot be scored."""
        if self._rejected is None:
            self._rejected = self._held.enter_context(AppendOnlyFile(self.path / REJECTED))
        fields = {"row": row.position, "input": row.source, "line": row.line, "reason": row.reason}
        self._rejected.append(orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE))
        self.rejected_rows += 1

    def write_summary(self, summary: Summary, adaptations: Sequence[str] = ()) -> None:
        """Write the closing summary, and into the manifest how the session's requests were changed.

        A shard that is complete is marked. It is kept where rows were rejected, as the whole run would be.
        """
        if self._shard and self.rejected_rows:
            self.begin()
        if self._begun:
            if adaptations:
                self._manifest.adapted(adaptations).write(self.path / MANIFEST)
            write_atomically(self.path / SUMMARY, summary.model_dump_json(indent=2).encode() + b"\n")
        if self._shard and summary.complete:
            mark(self.path, self._shard, self._manifest.configuration, summary)

    def close(self) -> None:
        """Close the files and let go of the folder. Where nothing was recorded there is none any more."""
        self._held.close()

    @property
    def kept(self) -> Path | None:
        """Where the run is kept; None as long as nothing was recorded."""
        return self.path if self._begun else None

    def _leave_no_trace(self) -> None:
        if self._begun:
            return
        with suppress(OSError):  # not empty: somebody keeps other things there
            for name in (RECORDS, REJECTED):
                (self.path / name).unlink(missing_ok=True)
            if self._made:
                (self.path / LOCK).unlink(missing_ok=True)
            for folder in self._made:
                folder.rmdir()


def _refuse_other_files(path: Path) -> None:
    """Refuse a folder without a run that holds more than a session leaves that was killed before it began one."""
    if (path / MANIFEST).exists() or recognise(path) is not None:
        return
    names: list[str] = []
    with suppress(OSError):  # there is none yet, or it cannot be made, which is said then
        names = [one.name for one in path.iterdir() if one.is_file() and not one.name.startswith(".")]
    if others := set(names) - {RECORDS, REJECTED, CANDIDATES}:
        raise RunError(
            f"{path} holds other files, such as {min(others)}", hint="give a new or an empty folder with --run-folder"
        )


def read_records(path: Path) -> Iterator[Record]:
    """Read the records of a run folder in the order of finishing. A half-written last line is left out."""
    return _read_lines(path, Record.from_line)


def _read_names(path: Path) -> Iterator[tuple[str, int]]:
    """Read what the groups of the records are called, each with its row."""
    return ((fields["group_id"], fields["row"]) for fields in _read_lines(path, orjson.loads))


def _read_lines(path: Path, read: Callable[[bytes], T]) -> Iterator[T]:
    try:
        file = (path / RECORDS).open("rb")
    except OSError as error:
        raise RunError(f"{path} is not a run folder", hint="it has no readable records.jsonl") from error
    with file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                found = read(line)
            except ValueError as error:
                raise damaged(path / RECORDS, number) from error
            yield found


def read_records_in_input_order(path: Path, rows: Container[int] | None = None) -> Iterator[Record]:
    """Read the last record of every response, or of those in some rows, ordered by row and response.

    A half-written last line is left out.

    Takes 16 bytes of memory a record, and more while it sorts when the records are not in order already.
    """
    with RecordIndex(path / RECORDS, rows) as index:
        yield from index


def read_summary(path: Path) -> Summary | None:
    """Read the summary of a run folder; None when no session has ended in order yet."""
    try:
        return Summary.model_validate_json((path / SUMMARY).read_bytes())
    except (OSError, ValueError):
        return None


def count_lines(path: Path) -> int:
    """Count the lines of a file; there are none where it cannot be read."""
    try:
        with path.open("rb") as file:
            return sum(1 for _ in file)
    except OSError:
        return 0


def check_local(path: Path) -> None:
    """Refuse an address where a folder belongs."""
    if path.is_file():
        raise OptionError(f"{path} is a file", hint="give a folder with --run-folder")
    if re.match(r"[a-z][a-z0-9+.-]+:/", str(path)):  # a path has lost the second slash
        raise OptionError(
            f"{str(path).replace(':/', '://', 1)} is an address, and run folders are on a disk",
            hint="inputs may be addresses; give a folder on a local or a mounted file system",
        )


def _make_and_lock(path: Path, held: ExitStack) -> list[Path]:
    """Make a folder where there is none, and lock it; return the folders that are ours to remove again.

    Another run that never began may remove it meanwhile, so this is tried several times.
    """
    check_local(path)
    for tries_left in reversed(range(_MOST_TRIES)):
        made = [each for each in (path, *path.parents) if not each.exists()]
        try:
            path.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(path))
            # Where a lock is all there is, whoever made the folder was killed, or came second.
            made = made or [path] * ({one.name for one in path.iterdir()} <= {LOCK, RECORDS, REJECTED})
        except OSError as error:
            if not tries_left:
                raise storage_error(path, error) from error
        except StorageError:
            if not tries_left:
                raise
        else:
            break
    return made


@contextmanager
def locked(path: Path, *, wait_seconds: float = 0) -> Iterator[None]:
    """Keep others from writing to a run folder while the block runs; a RunLockedError when somebody does for so long.

    `FLIP_REWARD_LOCK=off` goes without, for file systems that have no locks.
    """
    from filelock import FileLock, Timeout

    wanted = os.environ.get(LOCK_VARIABLE, "").strip().lower()
    if wanted == "off":
        yield
        return
    if wanted:
        raise OptionError(f"{LOCK_VARIABLE} is {wanted!r}", hint="set it to off, or not at all")
    with ExitStack() as held:
        try:
            held.enter_context(FileLock(path / LOCK).acquire(timeout=wait_seconds))
        except Timeout as error:
            raise RunLockedError(f"another process is writing to {path}") from error
        except NotImplementedError as error:  # what filelock makes of ENOSYS
            raise _no_locks(path, "they are not implemented") from error
        except OSError as error:
            if error.errno in _NO_LOCKS:
                raise _no_locks(path, error.strerror) from error
            raise storage_error(path, error) from error
        yield


def _no_locks(path: Path, reason: str | None) -> StorageError:
    return StorageError(
        f"the file system of {path} has no locks: {reason}",
        hint="choose a folder on a local disk with --run-folder, or make sure that no other process writes to this "
        f"one, and set {LOCK_VARIABLE}=off",
    )


def default_folder(configuration: RunConfiguration, model: str | None = None, *, shards: bool = False) -> Path:
    """Name a run folder after the first input, the reward, its model and a hash of the configuration.

    The same configuration finds its folder again, also where an earlier version named it, except where an input
    cannot be recognised (standard input). A run in shards has the folder above them, however many they are.
    """
    stem = configuration.inputs[0].name.replace("/", "-").partition(".")[0] or "run"
    if configuration.resumable:
        ending = configuration.digest[:8]
    else:
        ending = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{configuration.digest[:8]}"
    more = f"+{len(configuration.inputs) - 1}" if len(configuration.inputs) > 1 else ""
    reward = str(configuration.settings.get("reward", ""))
    asked = PurePath("" if model in (None, "none") else model).name.removesuffix(".gguf")
    parts = [_shorten(stem, 40) + more, _shorten(reward, 24), _shorten(asked, 32), ending]
    path = Path("runs") / "-".join(part for part in parts if part)
    if shards:
        return path.with_name(f"{path.name}-shards")
    return path if path.exists() else _find_earlier(stem, configuration) or path


def _shorten(name: str, length: int) -> str:
    """Cut a name, without what shells or file systems might read as something else."""
    return re.sub(r"[^\w.]+", "-", name)[:length].strip("-.")


def _find_earlier(stem: str, configuration: RunConfiguration) -> Path | None:
    """Find the folder that an earlier version named, which had the limit in its name; the one with most records."""
    named = re.compile(re.escape(stem) + "-[0-9a-f]{8}")
    found = []
    for path in Path("runs").iterdir() if Path("runs").is_dir() else ():
        with suppress(RunError, OSError):
            if named.fullmatch(path.name) and not Manifest.read(path / MANIFEST).configuration.differences(
                configuration
            ):
                found.append(((path / RECORDS).stat().st_size, path))
    return max(found, default=(0, None))[1]

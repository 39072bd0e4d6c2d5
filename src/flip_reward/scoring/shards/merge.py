"""Make one run of its shards: `merge`."""

from __future__ import annotations

import heapq
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from itertools import count, groupby
from operator import attrgetter
from pathlib import Path

import orjson

from flip_reward.data.files import atomic_file, storage_error, write_atomically
from flip_reward.data.grouping import UniqueIds
from flip_reward.errors import RunError, list_some
from flip_reward.scoring.folders import MANIFEST, MERGED
from flip_reward.scoring.manifest import Manifest, Session
from flip_reward.scoring.records import Record
from flip_reward.scoring.run_folder import (
    RECORDS,
    REJECTED,
    SUMMARY,
    count_lines,
    locked,
    read_records_in_input_order,
    read_summary,
)
from flip_reward.scoring.shards.marks import ShardMark, shard_folder
from flip_reward.scoring.shards.parent import Shards
from flip_reward.scoring.shards.spec import find_number
from flip_reward.scoring.summary import Summary, Tally

_MOST_OPEN = 128
"""Files that are read at once."""
JOINED = ".joined"
"""What is made beside the merged run until it is whole."""
_MOST_NAMED = 20


def merge(parent: Path) -> Path:
    """Make a run of finished shards, in the order of the input, and return its folder.

    It holds what one process would have written, and is a run folder like any other.

    Raises:
        RunError: The folder holds no shards; or some are missing, unfinished or not whole; or the run that was merged
            before holds more than they do.
        RunLockedError: It is being merged already.
        StorageError: The disk is full or not writable.
    """
    started = time.perf_counter()
    shards = Shards.read(parent)
    marks = _find_marks(shards, parent)
    folders = [folder for shard in shards.all() if (folder := shard_folder(parent, shard)).is_dir()]
    target, joined = parent / MERGED, parent / MERGED / JOINED
    try:
        target.mkdir(exist_ok=True)
        with locked(target), ExitStack() as held:
            shutil.rmtree(joined, ignore_errors=True)  # of a process that was killed
            joined.mkdir()
            held.callback(shutil.rmtree, joined, ignore_errors=True)
            few = _join_until_few(folders, joined)
            tally, rows = Tally(), Counter[int]()
            with atomic_file(joined / RECORDS) as file:
                for record in _rename(_in_order(few)):
                    file.write(record.to_line())
                    tally.add(record.score)
                    rows[find_number(record.row, shards.count)] += record.response_index == 0
            _check_rows(shards, parent, marks, rows)
            if count_lines(target / RECORDS) > tally.responses:
                raise RunError(
                    f"{target} holds more than the shards: the merged run was gone on with",
                    hint="that is the whole run now; remove it where only what is in the shards is wanted",
                )
            _write_rejected(few, joined / REJECTED)
            for name in (SUMMARY, REJECTED):
                (target / name).unlink(missing_ok=True)  # of what was merged before
            for path in (joined / RECORDS, joined / REJECTED):
                if path.exists():
                    path.replace(target / path.name)
            _describe(shards, folders).write(target / MANIFEST)
            summary = _summarise(tally, marks, folders, seconds=time.perf_counter() - started)
            write_atomically(target / SUMMARY, summary.model_dump_json(indent=2).encode() + b"\n")
    except OSError as error:
        raise storage_error(target, error) from error
    return target


def _find_marks(shards: Shards, parent: Path) -> list[ShardMark]:
    """Find the marks of all shards; a RunError names those without one, or with one of fewer rows than others."""
    marks = shards.find_marks(parent)
    limit = _widest(marks.values())
    whole = shards.find_marks(parent, limit)
    left = [shard for shard in shards.all() if shard.number not in whole]
    if not left:
        return list(whole.values())
    begun = {shard.number for shard in left if (shard_folder(parent, shard) / MANIFEST).exists()}
    kinds = {
        "missing": [shard.number for shard in left if shard.number not in begun | marks.keys()],
        "unfinished": sorted(begun - marks.keys()),
        "of fewer rows (--limit)": sorted(marks.keys() - whole.keys()),
    }
    said = "; ".join(f"{list_some(numbers, _MOST_NAMED)} {what}" for what, numbers in kinds.items() if numbers)
    like = next((mark for mark in marks.values() if mark.limit == limit), None)
    command = shards.name_command(parent, left[0], like)
    raise RunError(
        f"{parent}: {len(left)} of {shards.count} shards are not done: {said}",
        hint=f"'{command}' does shard {left[0]}" if command else "score them, then merge",
    )


def _widest(marks: Iterable[ShardMark]) -> int | None:
    limits = [mark.limit for mark in marks]
    return None if None in limits else max((limit for limit in limits if limit is not None), default=None)


def _check_rows(shards: Shards, parent: Path, marks: Iterable[ShardMark], rows: Mapping[int, int]) -> None:
    for mark in marks:
        if rows[mark.shard.number] != mark.rows:
            folder, command = shard_folder(parent, mark.shard), shards.name_command(parent, mark.shard, mark)
            again = f": '{command}'" if command else ""
            raise RunError(
                f"{folder} holds {rows[mark.shard.number]:,} rows, and had {mark.rows:,} when it was done",
                hint=f"remove {folder}.done, and score shard {mark.shard} again{again}",
            )


def _join_until_few(folders: Sequence[Path], joined: Path) -> Sequence[Path]:
    """Merge folders by the hundred until all that are left can be open at once."""
    for turn in count():
        if len(folders) <= _MOST_OPEN:
            break
        made = []
        for first in range(0, len(folders), _MOST_OPEN):
            some, folder = folders[first : first + _MOST_OPEN], joined / f"{turn}-{first}"
            folder.mkdir()
            with (folder / RECORDS).open("wb") as file:
                file.writelines(map(Record.to_line, _in_order(some)))
            _write_rejected(some, folder / REJECTED)
            made.append(folder)
        folders = made
    return folders


def _in_order(folders: Iterable[Path]) -> Iterator[Record]:
    return heapq.merge(*map(read_records_in_input_order, folders), key=attrgetter("row", "response_index"))


def _rename(records: Iterable[Record]) -> Iterator[Record]:
    """Name groups as one process does: a shard does not see the ids of the others."""
    with closing(UniqueIds()) as ids:
        for row, group in groupby(records, key=attrgetter("row")):
            for record in group:
                yield replace(record, group_id=ids.claim(record.group_id, row=row))


def _write_rejected(folders: Iterable[Path], path: Path) -> None:
    """Write the rejected rows of several folders in the order of the input; no file where there are none."""
    with ExitStack() as held:
        paths = [folder / REJECTED for folder in folders]
        files = [held.enter_context(one.open("rb")) for one in paths if one.exists()]
        lines = heapq.merge(*files, key=_find_row)
        if not files:
            return
        with atomic_file(path) as file:
            file.writelines(lines)


def _find_row(line: bytes) -> int:
    row: int = orjson.loads(line)["row"]
    return row


def _describe(shards: Shards, folders: Iterable[Path]) -> Manifest:
    """Make the manifest of the whole: the sessions of all shards, and this one."""
    paths = [folder / MANIFEST for folder in folders]
    sessions = [session for path in paths if path.exists() for session in Manifest.read(path).sessions]
    manifest = Manifest(configuration=shards.configuration, sessions=[*sessions, Session.now()])
    return manifest.reading(shards.sources, shards.encoding, shards.model)


def _summarise(tally: Tally, marks: Sequence[ShardMark], folders: Iterable[Path], *, seconds: float) -> Summary:
    costs = [summary.cost for summary in map(read_summary, folders) if summary is not None]
    summary = tally.summarise(
        complete=True,
        limit=_widest(marks),
        rows=sum(mark.rows for mark in marks),
        rejected_rows=sum(mark.rejected_rows for mark in marks),
        resumed_responses=tally.responses,
        seconds=seconds,
    )
    known = None if None in costs or not costs else sum(cost for cost in costs if cost is not None)
    return summary.model_copy(update={"cost": known})

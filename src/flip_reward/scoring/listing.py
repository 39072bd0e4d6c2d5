"""The runs below a folder: listed, found by their names, and removed."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import orjson

from flip_reward.core.score import Outcome
from flip_reward.data.files import storage_error
from flip_reward.errors import RunError, RunLockedError, StorageError, list_some
from flip_reward.scoring.batch.store import remove_batches
from flip_reward.scoring.folders import (
    MANIFEST,
    MERGED,
    ROLLOUT_SAMPLES,
    ROLLOUTS,
    SHARD_RUNS,
    SHARDS,
    FolderKind,
    how_to_go_on,
    recognise,
)
from flip_reward.scoring.manifest import Manifest
from flip_reward.scoring.records import MOST_ROWS
from flip_reward.scoring.run_folder import (
    LOCK,
    RECORDS,
    REJECTED,
    SUMMARY,
    CompletedRows,
    count_lines,
    locked,
    read_summary,
)
from flip_reward.scoring.shards.marks import remove_mark, shard_folder
from flip_reward.scoring.shards.merge import JOINED
from flip_reward.scoring.shards.parent import Shards

RESCORED = "rescored"
_OF_BEST_OF_N = ("best.jsonl", "undecided.jsonl", "candidates.jsonl", "choices.jsonl")
_WRITTEN = (RECORDS, REJECTED, SUMMARY, *_OF_BEST_OF_N, "report.html")
"""What commands write into a run folder, besides the manifest."""
_WRITTEN_OF_ROLLOUTS = (ROLLOUT_SAMPLES, "report.html")
_MOST_NAMED = 5
_ELSEWHERE = ("evaluations", "audits", "trained", "tuned")


class RunState(StrEnum):
    """How far a run is."""

    COMPLETE = "complete"
    """Everything that was asked for; with a limit that is a part of the input."""
    INTERRUPTED = "interrupted"
    """Rows are left, or failures to be tried again."""
    RUNNING = "running"
    """A process is writing to it."""
    DAMAGED = "damaged"
    """Its manifest cannot be read."""


@dataclass(frozen=True, slots=True)
class ListedRun:
    """A run folder at a glance."""

    name: str
    """Its place below the folder that was listed."""
    kind: FolderKind
    state: RunState
    command: str = ""
    """The command line of the last session; empty in runs of earlier versions."""
    inputs: tuple[str, ...] = ()
    reward: str = ""
    model: str = ""
    started_at: str = ""
    """When the last session began, as an ISO date."""
    limit: int | None = None
    """How many rows of the input the run covers at most."""
    rows: int = 0
    """How many are completed."""
    rejected: int = 0
    mean: float | None = None
    """Of the rewards; None where nothing is scored."""
    shards: tuple[int, int] | None = None
    """Of a run in shards, how many are done, and how many there are."""


def list_runs(folder: Path) -> list[ListedRun]:
    """List the runs below a folder, the newest first, with those of `rescore` and what was found in rollouts.

    Links are not followed.
    """
    runs = [_describe(path, path.relative_to(folder).as_posix()) for path in _find(folder)]
    return sorted(runs, key=lambda run: (run.started_at, run.name), reverse=True)


def find_run(folder: Path, name: str) -> Path:
    """Find a run below a folder by its path, its name, or a beginning of the name that only it has."""
    wanted, root = name.rstrip("/"), folder.resolve()
    runs = {path.relative_to(folder).as_posix(): path for path in _find(folder)}
    place = Path(wanted).parent.resolve() / Path(wanted).name  # a link to a run is not the run
    exact = [path for key, path in runs.items() if key == wanted or path.resolve() == place]
    found = exact or [path for key, path in runs.items() if wanted and key.startswith(wanted) and "/" not in key]
    if len(found) == 1:
        return found[0]
    if found:
        names = list_some([path.name for path in found], _MOST_NAMED)
        raise RunError(f"{name!r} may be {names}", hint="give more of the name")
    raise _no_run(root, folder, wanted)


def _no_run(root: Path, folder: Path, name: str) -> RunError:
    for path in (Path(name), folder / name, *(Path(place, name) for place in _ELSEWHERE)):
        if path.is_symlink():
            return RunError(f"{path} is a link, and links are not followed")
        kind = recognise(path)
        if kind is not None and not path.resolve().is_relative_to(root):
            hint = how_to_go_on(path)
            if kind.is_listed:
                hint = f"say where it is: --folder {path.parent}"
            return RunError(f"{path} is {kind.description}, and not a run below {folder}", hint=hint)
        if path.is_dir() and name:
            return RunError(f"{path} is not a run folder")
    return RunError(f"there is no run {name!r} below {folder}", hint="'flip-reward runs' lists them")


def remove_run(path: Path) -> list[str]:
    """Remove what commands wrote into a run folder, and the folder where nothing else is in it.

    Returns:
        What else is in it, and stays.

    Raises:
        RunError: It is no run folder, or a link to one.
        RunLockedError: A process is writing to it.
    """
    kind = recognise(path)
    if path.is_symlink() or kind is None or not kind.is_listed or kind.whole:
        raise RunError(f"{path} is not a run folder")
    return _remove_shards(path) if kind is FolderKind.SHARDS else _remove(path, kind)


def _remove_shards(path: Path) -> list[str]:
    shards = Shards.read(path).all()
    folders = [folder for shard in shards if (folder := shard_folder(path, shard)).is_dir()]
    for folder in folders:
        if _is_running(folder):
            raise RunLockedError(f"another process is writing to {folder}")
    with locked(path):
        for folder in folders:
            _remove(folder, FolderKind.SHARD)
        if (path / MERGED).is_dir() and not (path / MERGED).is_symlink():
            shutil.rmtree(path / MERGED / JOINED, ignore_errors=True)
            _remove(path / MERGED, FolderKind.SCORE)
        try:
            for shard in shards:
                remove_mark(shard_folder(path, shard))
            inner = path / SHARD_RUNS
            if inner.is_dir() and not any(inner.iterdir()):
                inner.rmdir()
            return _remove_files(path, [SHARDS])
        except OSError as error:
            raise storage_error(path, error) from error


def _remove(path: Path, kind: FolderKind) -> list[str]:
    with locked(path):
        try:
            for inner in _find(path / RESCORED):
                remove_run(inner)
            remove_batches(path)
            if (path / RESCORED).is_dir() and not any((path / RESCORED).iterdir()):
                (path / RESCORED).rmdir()
            rollouts = kind is FolderKind.ROLLOUTS
            written = (*_WRITTEN_OF_ROLLOUTS, ROLLOUTS) if rollouts else (*_WRITTEN, MANIFEST)
            return _remove_files(path, written)
        except OSError as error:
            raise storage_error(path, error) from error


def _remove_files(path: Path, written: Iterable[str]) -> list[str]:
    for name in written:  # what tells the kind comes last: until then it is known what this is
        (path / name).unlink(missing_ok=True)
    left = sorted(entry.name for entry in path.iterdir() if entry.name != LOCK)
    (path / LOCK).unlink(missing_ok=True)
    if not left:
        path.rmdir()
    return left


def _find(folder: Path) -> Iterator[Path]:
    """Run folders right below a folder, and those that `rescore` and `merge` put into them."""
    if not folder.is_dir() or (folder.is_symlink() and folder.name == RESCORED):
        return
    for path in sorted(folder.iterdir()):
        if path.is_symlink() or not path.is_dir():
            continue
        kind = recognise(path)
        if kind is not None and kind.is_listed:
            yield path
            yield from _find(path / RESCORED)
            if kind is FolderKind.SHARDS and recognise(path / MERGED) and not (path / MERGED).is_symlink():
                yield path / MERGED
                yield from _find(path / MERGED / RESCORED)


def _describe(path: Path, name: str) -> ListedRun:
    kind = recognise(path) or FolderKind.SCORE
    if kind is FolderKind.ROLLOUTS:
        return _describe_rollouts(path, name)
    if kind is FolderKind.SHARDS:
        return _describe_shards(path, name)
    try:
        manifest = Manifest.read(path / MANIFEST)
    except RunError:
        return ListedRun(name, kind, RunState.DAMAGED)
    configuration, last = manifest.configuration, manifest.sessions[-1] if manifest.sessions else None
    progress = _read_progress(path)
    return ListedRun(
        name,
        kind,
        progress.state,
        command=last.command if last else "",
        inputs=tuple(source.name for source in configuration.inputs),
        reward=str(configuration.settings.get("reward", "")),
        model=(last.model if last else None) or str(configuration.settings.get("engine", "none")),
        started_at=last.started_at if last else "",
        limit=progress.limit,
        rows=progress.rows,
        rejected=progress.rejected,
        mean=progress.mean,
    )


def _describe_rollouts(path: Path, name: str) -> ListedRun:
    file, kind = path / ROLLOUTS, FolderKind.ROLLOUTS
    try:
        fields = orjson.loads(file.read_bytes())
        written = datetime.fromtimestamp(file.stat().st_mtime, UTC).isoformat()
        return ListedRun(
            name,
            kind,
            RunState.COMPLETE,
            inputs=tuple(str(log["source"]) for log in fields["logs"]),
            reward=" + ".join(fields["logs"][0]["reward"]),
            model="none",
            started_at=written,
            rows=fields["samples"],
            rejected=fields["rejected"],
        )
    except (OSError, ValueError, LookupError, TypeError):
        return ListedRun(name, kind, RunState.DAMAGED)


def _describe_shards(path: Path, name: str) -> ListedRun:
    try:
        shards = Shards.read(path)
        written = datetime.fromtimestamp((path / SHARDS).stat().st_mtime, UTC).isoformat()
    except (RunError, OSError):
        return ListedRun(name, FolderKind.SHARDS, RunState.DAMAGED)
    marks = shards.find_marks(path)
    others = [shard_folder(path, shard) for shard in shards.all() if shard.number not in marks]
    begun = [_read_progress(folder) for folder in others if (folder / MANIFEST).exists()]
    running = any(one.state is RunState.RUNNING for one in begun)
    state = RunState.RUNNING if running else RunState.INTERRUPTED if others else RunState.COMPLETE
    return ListedRun(
        name,
        FolderKind.SHARDS,
        state,
        command=shards.command,
        inputs=tuple(source.name for source in shards.configuration.inputs),
        reward=str(shards.configuration.settings.get("reward", "")),
        model=shards.model or "none",
        started_at=written,
        limit=next((mark.limit for mark in marks.values() if mark.limit), None),
        rows=sum(mark.rows for mark in marks.values()) + sum(one.rows for one in begun),
        rejected=sum(mark.rejected_rows for mark in marks.values()) + sum(one.rejected for one in begun),
        shards=(len(marks), shards.count),
    )


class _Progress(NamedTuple):
    state: RunState
    limit: int | None
    rows: int
    rejected: int
    mean: float | None


def _read_progress(path: Path) -> _Progress:
    running, summary = _is_running(path), read_summary(path)
    if summary is not None and summary.rows is not None and not running and _is_newer(path / SUMMARY, path / RECORDS):
        state = RunState.COMPLETE if summary.complete else RunState.INTERRUPTED
        mean = summary.rewards.mean if summary.rewards else None
        return _Progress(state, summary.limit, summary.rows, summary.rejected_rows, mean)
    rows, mean = _count_records(path / RECORDS)
    complete = summary is not None and summary.complete and _is_newer(path / SUMMARY, path / RECORDS)
    state = RunState.RUNNING if running else RunState.COMPLETE if complete else RunState.INTERRUPTED
    return _Progress(state, None, rows, count_lines(path / REJECTED), mean)


def _is_running(path: Path) -> bool:
    if not (path / LOCK).exists():
        return False
    try:
        with locked(path):
            return False
    except RunLockedError:
        return True
    except StorageError:
        return False


def _is_newer(one: Path, other: Path) -> bool:
    try:
        return one.stat().st_mtime_ns >= other.stat().st_mtime_ns
    except OSError:
        return False


def _count_records(path: Path) -> tuple[int, float | None]:
    """Count the completed rows of a run that has no summary, and average their rewards."""
    completed, total, scored = CompletedRows(), 0.0, 0
    try:
        with path.open("rb") as file:
            for line in file:
                try:
                    fields = orjson.loads(line)
                    if Outcome(fields["outcome"]).retryable:
                        continue
                    row, size, index = fields["row"], fields["group_size"], fields["response_index"]
                    if not 0 <= row < MOST_ROWS:
                        continue
                    completed.add(row=row, group_size=size, response_index=index)
                    if fields["reward"] is not None:
                        total, scored = total + fields["reward"], scored + 1
                except (ValueError, KeyError, TypeError):
                    continue  # half-written, or damaged: the run itself will say so
    except OSError:
        return 0, None
    return len(completed), total / scored if scored else None

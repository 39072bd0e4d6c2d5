"""A run's requests as files for `vllm run-batch`, and its replies taken over from files."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flip_reward.data.files import atomic_file, storage_error
from flip_reward.engines.stopping import StopSignal
from flip_reward.errors import OptionError, RunError
from flip_reward.scoring.batch.steps import Progress, prepare, record
from flip_reward.scoring.batch.store import EXPORTED, UNSENT, BatchStore, SubmittedBatch, Taken
from flip_reward.scoring.job import OpenedJob
from flip_reward.scoring.runner import Observer

_REQUESTS = re.compile(r"requests-\d+\.jsonl")


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote."""

    progress: Progress
    files: Mapping[Path, int]
    """How many requests each has."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import found."""

    progress: Progress
    files: int
    taken: Taken


async def export_requests(
    opened: OpenedJob,
    store: BatchStore,
    folder: Path,
    *,
    observer: Observer | None = None,
    stop: StopSignal | None = None,
) -> Exported:
    """Write what is to be asked into `folder`, and once more what was exported and not imported.

    Requests that a server was sent are left to it.
    """
    _check_folder(folder)
    summary = await prepare(opened, store, observer=observer, stop=stop)
    for_files = [batch for batch in store.batches if batch.state == UNSENT or batch.in_files]
    files = {_write(store, batch, folder): batch.requests for batch in for_files}
    store.save()
    return Exported(Progress.of(store, summary), files)


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise OptionError(f"{folder} is a file", hint="name a folder for the requests: --batch export DIR")


def _write(store: BatchStore, batch: SubmittedBatch, folder: Path) -> Path:
    source = store.requests_file(batch)
    path = folder / source.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with source.open("rb") as requests, atomic_file(path) as file:
            shutil.copyfileobj(requests, file)
    except OSError as error:
        raise storage_error(path, error) from error
    batch.state, batch.id = EXPORTED, str(folder.resolve())
    return path


async def import_replies(
    opened: OpenedJob,
    store: BatchStore,
    place: Path,
    *,
    observer: Observer | None = None,
    stop: StopSignal | None = None,
) -> Imported:
    """Take over the replies in a folder or file, and record what is whole by now.

    Of a folder every file that ends in .jsonl is read, except those that an export wrote. What a file with replies
    lacks counts as not answered: the next batch asks it.
    """
    files = _find_files(place)
    taken = _add([store.take(path) for path in files])
    if not taken.replies and not taken.known:
        if taken.unknown:
            raise RunError(
                f"the replies in {place} are not to requests of this run",
                hint="import them with the command that exported the requests, and its options",
            )
        if taken.damaged:
            raise RunError(f"{place} holds no replies", hint="import what 'vllm run-batch -o' wrote")
    for batch in store.batches:
        if batch.in_files:
            batch.completed = store.count_replies(batch)
            if batch.completed:
                store.collect(batch)
    summary = await record(opened, store, observer=observer, stop=stop)
    return Imported(Progress.of(store, summary), len(files), taken)


def _find_files(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise OptionError(f"there is no folder {place}", hint="name the one with the replies: --batch import DIR")
    found = sorted(path for path in place.glob("*.jsonl") if path.is_file() and not _REQUESTS.fullmatch(path.name))
    if not found:
        raise RunError(
            f"{place} holds no replies",
            hint=f"for example: vllm run-batch -i {place}/requests-0001.jsonl "
            f"-o {place}/replies-0001.jsonl --model NAME",
        )
    return found


def _add(each: list[Taken]) -> Taken:
    return Taken(
        replies=sum(one.replies for one in each),
        known=sum(one.known for one in each),
        unknown=sum(one.unknown for one in each),
        damaged=sum(one.damaged for one in each),
        unfinished=any(one.unfinished for one in each),
    )

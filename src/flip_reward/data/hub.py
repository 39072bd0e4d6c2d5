"""Data sets on the Hugging Face hub, streamed without storing them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

from flip_reward.data.formats.limits import LONGEST_ROW, TOO_LONG, count_bytes
from flip_reward.data.rows import Input, InvalidRow, RawRow, Row, Skip
from flip_reward.errors import DataError, MissingDependencyError

_PART = r"[\w][\w.-]*"
_NAME = re.compile(
    rf"(?:hf://datasets/)?(?P<repository>{_PART}/{_PART})(?:@(?P<revision>[^:/]+))?"
    rf"(?:/(?P<config>{_PART}))?(?::(?P<split>{_PART}))?",
    re.ASCII,
)
_TIMEOUT_SECONDS = 30
_REACH_SECONDS = 3


@dataclass(frozen=True, slots=True)
class HubName:
    """Which rows of which data set."""

    repository: str
    """OWNER/NAME."""
    revision: str | None = None
    """A branch, tag or commit; None for the newest."""
    config: str | None = None
    """One of the data set's configurations ("subsets"); None for its default."""
    split: str | None = None
    """None for its only one, or "train"."""

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read "owner/name:split" or "hf://datasets/owner/name@revision/config:split"; None if it is neither.

        Example:
            >>> HubName.parse("openai/gsm8k/main:test")
            HubName(repository='openai/gsm8k', revision=None, config='main', split='test')
            >>> HubName.parse("/data/rows.jsonl") is None
            True
        """
        found = _NAME.fullmatch(text)
        return cls(**found.groupdict()) if found else None

    def __str__(self) -> str:
        text = self.repository
        text += f"@{self.revision}" if self.revision else ""
        text += f"/{self.config}" if self.config else ""
        return text + (f":{self.split}" if self.split else "")


def is_hub_reachable(endpoint: str | None = None) -> bool:
    """Find out in seconds whether the hub answers at all. Its client tries for a minute before it says so."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(endpoint or constants.ENDPOINT, timeout=_REACH_SECONDS)
    except Exception:  # noqa: BLE001 - those of its HTTP library, which changes, and of its offline mode
        return False
    return True


def open_hub(name: HubName) -> Input:
    """Open a data set on the hub, pinned to the revision it has now."""
    try:
        from datasets import load_dataset
        from huggingface_hub import HfApi
        from huggingface_hub.errors import RepositoryNotFoundError
    except ImportError:
        raise MissingDependencyError("datasets", extra="hub") from None
    if not is_hub_reachable():
        raise DataError(
            f"the data set {name} cannot be read: the Hugging Face hub cannot be reached",
            hint="download it elsewhere, and name its files or its folder",
        )
    with _reported(name):
        try:
            info = HfApi().dataset_info(name.repository, revision=name.revision, timeout=_TIMEOUT_SECONDS)
        except RepositoryNotFoundError:
            raise DataError(
                f"there is no data set {name} on the hub, or it is not public",
                hint="for a private or gated one, log in: hf auth login",
            ) from None
        splits = load_dataset(name.repository, name.config, revision=info.sha, streaming=True)
    split = name.split or _choose_split(name, list(splits))
    if split not in splits:
        raise DataError(f"the data set {name} has no such split", hint=f"its splits are {', '.join(splits)}")
    rows = splits[split]
    if rows.features:
        # Decoding images or audio would need more libraries, for columns that are not read.
        rows = rows.decode(enable=False)
    counts = rows.info.splits or {}
    size_hint = counts[split].num_examples if split in counts else None
    opened = open_rows(replace(name, revision=info.sha, split=split), rows, size_hint=size_hint)
    return replace(opened, schema=rows.features.arrow_schema if rows.features else None)


def _choose_split(name: HubName, splits: list[str]) -> str:
    if len(splits) == 1:
        return splits[0]
    if "train" in splits:
        return "train"
    raise DataError(
        f"the data set {name} has several splits: {', '.join(splits)}", hint=f"name one: {name}:{splits[0]}"
    )


def open_rows(name: HubName, rows: Iterable[Mapping[str, object]], *, size_hint: int | None = None) -> Input:
    """Make an input of a data set's rows, which may be iterated more than once and keep their order.

    With a commit as the name's revision, the rows never change.
    """
    return Input(name.repository, partial(_read_rows, name, rows), partial(str, name), size_hint)


def _read_rows(name: HubName, rows: Iterable[Mapping[str, object]], skip: Skip) -> Iterator[Row]:
    with _reported(name):
        for position, values in enumerate(rows):
            if skip(position):
                continue
            if count_bytes(values) > LONGEST_ROW:
                yield InvalidRow(position, position + 1, TOO_LONG)
            else:
                yield RawRow(position, position + 1, values)


@contextmanager
def _reported(name: HubName) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        # The errors of datasets, huggingface_hub, httpx, fsspec and pyarrow have no common root.
        reason = " ".join(str(error).split())
        raise DataError(f"the data set {name} cannot be read: {reason}") from error

"""A table as a data set on the Hugging Face hub, where `load_dataset("owner/name")` finds it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from flip_reward.errors import MissingDependencyError, OptionError, StorageError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_NAME = re.compile(r"[\w][\w.-]{0,95}/[\w][\w.-]{0,95}", re.ASCII)
_FILE = "data/train-00000-of-00001.parquet"


def check_push(name: str) -> None:
    """Make sure before a run that a table could be pushed: the library, the name and a token are there."""
    try:
        from huggingface_hub import get_token
    except ImportError:
        raise MissingDependencyError("huggingface_hub", extra="hub") from None
    if not _NAME.fullmatch(name):
        raise OptionError(f"--push-to-hub: {name!r} is not of the form owner/name")
    if get_token() is None:
        raise OptionError("--push-to-hub: there is no Hugging Face token", hint="hf auth login, or set HF_TOKEN")


def push_table(path: Path, name: str) -> str:
    """Put a Parquet file on the hub as a data set, and return its address.

    The data set is made when missing, as a private one. Its table of an earlier push is replaced.
    """
    from huggingface_hub import HfApi

    hub: HfApi = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), library_name="flip-reward")
    try:
        address = hub.create_repo(name, repo_type="dataset", private=True, exist_ok=True)
        hub.upload_file(
            path_or_fileobj=path, path_in_repo=_FILE, repo_id=name, repo_type="dataset", commit_message="Add rewards"
        )
    except Exception as error:
        # The errors of huggingface_hub, its HTTP client and hf_xet have no common root.
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise StorageError(
            f"cannot push to {name}: {reason}", hint="the run is kept; the same command again only pushes"
        ) from error
    return str(address)

"""`score_file`: what `flip-reward score` does, for callers in Python."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeAlias, TypedDict, Unpack, overload

from flip_reward.data.rows import check_count
from flip_reward.data.shapes.columns import read_mapping
from flip_reward.errors import OptionError
from flip_reward.redact import current_arguments
from flip_reward.rewards.base import RewardModel
from flip_reward.rewards.config import RewardConfig
from flip_reward.rewards.shared import load_shared
from flip_reward.rewards.waiting import run_blocking
from flip_reward.scoring.job import ScoringJob, open_job
from flip_reward.scoring.output import Output
from flip_reward.scoring.runner import RunLimits
from flip_reward.scoring.shards.spec import ShardSpec
from flip_reward.scoring.summary import Summary
from flip_reward.settings import check_names

Source: TypeAlias = str | Path | Sequence[str | Path]
"""What `score_file` reads: one name or several."""

_LOGGER = logging.getLogger(__name__)


class FileOptions(TypedDict, total=False):
    """How `score_file` goes about it."""

    run_folder: str | Path | None
    """The folder of records. None derives one below `runs/` from the source and the settings."""
    columns: Mapping[str, str] | None
    """Our column names to the source's, such as {"response": "answer"}."""
    limit: int | None
    """Score at most this many rows. Another call with a larger limit, or none, goes on in the same folder."""
    shard: str | None
    """Which part of the rows to score, such as "3/8"; the run folder is then the one above the shards."""
    group_by: str | None
    """Rows with the same value of this column form a group. Without it those do that have the same id and prompt, or
    that follow each other with the same prompt."""
    workers: int
    """How many rows are scored at once. The engine has its own limit on requests."""
    strict: bool
    """Stop at the first row that cannot be read, instead of listing it in the run folder."""
    retry_refused: bool
    """Ask again what the engine refused in an earlier call."""
    same_model: bool
    """A server at another address than in earlier calls has the same model, whatever it says of itself."""
    only_scores: bool
    """Let the output hold the scores without the rows."""
    push_to_hub: str | None
    """A data set on the Hugging Face hub, "owner/name", that takes the rows with columns added, too."""
    encoding: str | None
    """How the source's text is encoded, such as "cp1252"; None for UTF-8, or UTF-16 where that is certain."""


@overload
def score_file(
    reward: RewardModel, source: Source, output: str | Path | None = None, **options: Unpack[FileOptions]
) -> Summary: ...
@overload
def score_file(
    source: Source,
    output: str | Path | None = None,
    *,
    reward: RewardModel | str = "flip",
    **options: Any,  # noqa: ANN401 - of FileOptions and RewardConfig
) -> Summary: ...
def score_file(*files: Any, **options: Any) -> Summary:
    """Score the rows of a file into a run folder, as `flip-reward score` does, from synchronous code.

    Whatever ends the run, everything scored is kept. The same call goes on where it ended: the model is asked again
    only about responses that its engine failed to answer.

    Args:
        files: The reward model, if it comes first, the source and the output. The source is a file, a folder or a
            pattern of files, an address, "-" for standard input, or a data set on the Hugging Face hub such as
            "owner/name:split", see `open_input`; or a list of these, read one after the other. A row holds an
            instruction or a conversation, and one response or several. The output takes the rows with columns added:
            ".jsonl", ".csv", ".tsv" (these also with ".gz" or ".zst"), ".parquet" or ".xlsx".
        options: `reward`, a reward model or the name of a reward, by default "flip"; those of `FileOptions`, such as
            `columns` and `run_folder`; and with a name those of `RewardConfig`, such as `model` and `samples`. Equal
            options load a model once.

    Returns:
        What the run amounts to: counts of outcomes, the distribution of the reward, tokens and time.

    Raises:
        DataError: The source cannot be read, or a row of it and `strict` is set.
        OptionError: An option is wrong, the output has no known format, or it would overwrite something.
        RunError: The run folder holds another run.
        EngineUnavailableError: The engine will not answer before somebody mends it.
        RunStoppedError: The engine has failed too many times in a row.
        StorageError: The disk is full or not writable.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     rows = Path(folder, "rows.jsonl")
        ...     _ = rows.write_text('{"prompt": "Name a fruit.", "response": "A pear is a fruit."}')
        ...     summary = score_file(rows, run_folder=Path(folder, "run"), model="scripted")
        >>> summary.outcomes, summary.rewards.mean
        ({'scored': 1}, 0.25)
    """
    return run_blocking(score_file_async(*files, **options))


@overload
async def score_file_async(
    reward: RewardModel, source: Source, output: str | Path | None = None, **options: Unpack[FileOptions]
) -> Summary: ...
@overload
async def score_file_async(
    source: Source,
    output: str | Path | None = None,
    *,
    reward: RewardModel | str = "flip",
    **options: Any,  # noqa: ANN401 - of FileOptions and RewardConfig
) -> Summary: ...
async def score_file_async(*files: Any, **options: Any) -> Summary:
    """Score the rows of a file into a run folder; see `score_file` for the arguments, errors and what is returned.

    Example:
        >>> import asyncio
        >>> from tempfile import TemporaryDirectory
        >>> from flip_reward import FlipReward, ScriptedEngine
        >>> async def main(folder):
        ...     rows = Path(folder, "rows.jsonl")
        ...     _ = rows.write_text('{"prompt": "Say hi.", "response": "Hi!"}')
        ...     return await score_file_async(FlipReward(ScriptedEngine()), rows, run_folder=Path(folder, "run"))
        >>> with TemporaryDirectory() as folder:
        ...     asyncio.run(main(folder)).responses
        1
    """
    with ExitStack() as held:
        held.callback(current_arguments.reset, current_arguments.set(("score_file",)))
        opened = open_job(_make_job(*files, **options))
        held.callback(opened.folder.close)
        if opened.shape.found:
            _LOGGER.info("%s: read as %s", opened.inputs[0].name, opened.shape.description)
        if opened.groups.grouping:
            _LOGGER.info("%s", opened.groups.description)
        summary = await opened.run()
        for line in await asyncio.to_thread(opened.write_output):
            _LOGGER.info("%s", line)
    return summary


def _make_job(*files: Any, **options: Any) -> ScoringJob:  # noqa: ANN401 - see the overloads
    if files and isinstance(files[0], RewardModel):
        return _describe_job(*files[1:], reward=files[0], **options)
    return _describe_job(*files, **options)


def _describe_job(
    source: Source,
    output: str | Path | None = None,
    *,
    reward: RewardModel | str = "flip",
    run_folder: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    limit: int | None = None,
    shard: str | None = None,
    group_by: str | None = None,
    workers: int = 64,
    strict: bool = False,
    retry_refused: bool = False,
    same_model: bool = False,
    only_scores: bool = False,
    push_to_hub: str | None = None,
    encoding: str | None = None,
    **settings: object,
) -> ScoringJob:
    check_names(settings, [*FileOptions.__annotations__, *RewardConfig.options()])
    sources = [source] if isinstance(source, str | Path) or not isinstance(source, Sequence) else source
    for one in sources:
        if not isinstance(one, str | Path):
            raise OptionError(
                f"score_file reads files, and not {type(one).__name__}",
                hint="score_sync of a reward model scores rows, score_table a table",
            )
    if not sources:
        raise OptionError("score_file reads files, and none is named")
    limit = None if limit is None else check_count("limit", limit)
    workers = check_count("workers", workers)
    limits = RunLimits(workers=workers, strict=strict, retry_refused=retry_refused, same_model=same_model)
    folder, path = (None if place is None else Path(place) for place in (run_folder, output))
    given, target = read_mapping(columns), Output(path, only_scores, push_to_hub)
    target.check()
    model = load_shared(reward, settings)
    part = None if shard is None else ShardSpec.parse(shard, os.environ)
    names = [str(one) for one in sources]
    return ScoringJob(
        model, names, folder, target, given, limit, group_by, limits=limits, encoding=encoding, shard=part
    )

"""Score rows that are a Ray Data set: `score_dataset`, and `write_scored`, which goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from flip_reward.core.conversation import Group
from flip_reward.core.score import Score
from flip_reward.data.added import added_columns, added_types, free_names, rejected_columns
from flip_reward.data.shapes import Shape, find_shape
from flip_reward.data.tables.arrow import make_fields
from flip_reward.distributed.actor import Job, on_node
from flip_reward.distributed.cluster import (
    Workers,
    check_resources,
    choose_resources,
    import_ray,
    pick_environment,
)
from flip_reward.errors import ConversationError, DataError, EngineUnavailableError, FlipRewardError, OptionError
from flip_reward.rewards.base import RewardModel
from flip_reward.rewards.config import RewardConfig
from flip_reward.rewards.options import find_parts
from flip_reward.rewards.waiting import gather_all
from flip_reward.scoring.runner import FailureStreak

if TYPE_CHECKING:
    from pyarrow import Table
    from ray.data import Dataset
    from ray.exceptions import RayTaskError

WorkerCount: TypeAlias = int | tuple[int, int]
_ROWS_SEEN = 100
_CPUS_TO_READ = 1.0
_FILTER_BYTES = 256 << 20
"""What Ray's filter of finished rows reserves at least. It takes more where their ids do."""


def score_dataset(
    ds: Dataset,
    config: RewardConfig,
    *,
    columns: Mapping[str, str] | None = None,
    workers: WorkerCount = (1, 8),
    batch_size: int = 256,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
) -> Dataset:
    """Score the rows of a Ray Data set in a pool of workers, each with an engine of its own.

    Nothing is scored before the result is read or written. A row is a group: responses in several rows are not
    compared with each other, and a reward that compares rejects a row with one. A row that cannot be read has the
    outcome "rejected"; one that could not be scored has its outcome and no reward.

    Args:
        ds: Rows in any shape of a file.
        config: The reward. Its `concurrency` is each worker's limit on requests in flight.
        columns: Our column names to theirs, such as {"response": "answer"}. Without it the first 100 rows are read
            now, to find out.
        workers: How many, or from how many to how many.
        batch_size: How many rows a worker takes at a time; it has several such batches in flight.
        num_cpus: CPUs that one takes; by default a quarter, and a whole one for a model that runs on it.
        num_gpus: GPUs that one takes; by default one for a model in its process where the cluster has any.

    Returns:
        The rows with columns added: reward, outcome, inferred_instruction, precision, recall, reasoning, detail,
        cautions and copied_share.

    Raises:
        OptionError: A setting has no effect, or the cluster has no room for the workers and for reading.
        DataError: The columns are not known.
        EngineUnavailableError: The engine will never answer; it is raised where the result is read.
        RunStoppedError: The engine failed many times in a row; likewise.
    """
    return _score(ds, config, columns, workers, batch_size, num_cpus, num_gpus)


def write_scored(
    ds: Dataset,
    config: RewardConfig,
    path: str,
    *,
    id_column: str,
    columns: Mapping[str, str] | None = None,
    workers: WorkerCount = (1, 8),
    batch_size: int = 256,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
) -> None:
    """Score the rows of a Ray Data set and write them as Parquet; the same call again goes on where it stopped.

    Ray notes in the folder PATH.checkpoint which rows are written. Rows that the engine failed to answer are not
    written, so that the next call asks for these, and for nothing else. Rows of a batch that was not written when
    everything ended are asked again.

    Args:
        ds: Rows that are read from files, which Ray can read again; see `score_dataset`.
        config: See `score_dataset`.
        path: A folder that every node sees: on a mounted file system, or s3://.
        id_column: A column of the files, with another value in every row. Ray holds all of them in memory.
        columns: See `score_dataset`.
        workers: See `score_dataset`.
        batch_size: See `score_dataset`.
        num_cpus: See `score_dataset`.
        num_gpus: See `score_dataset`.

    Raises:
        OptionError: See `score_dataset`; or the rows are not read from files, or have no such column.
    """
    from ray.data.checkpoint import CheckpointConfig
    from ray.exceptions import RayError, RayTaskError

    if not ds.input_files():  # Ray would score all of them at each call, and write them again
        raise OptionError("the rows are not read from files", hint="ray.data.read_parquet and the like read them")
    scored = _score(ds, config, columns, workers, batch_size, num_cpus, num_gpus, id_column)
    checkpoint = CheckpointConfig(id_column, f"{path.rstrip('/')}.checkpoint", delete_checkpoint_on_success=False)
    checkpoint.checkpoint_actor_memory_bytes = _FILTER_BYTES
    cpus = import_ray().cluster_resources().get("CPU", 0)
    checkpoint.checkpoint_actor_pool_max_size = max(1, int(cpus) // 8)
    before, scored.context.checkpoint_config = scored.context.checkpoint_config, checkpoint
    try:
        scored.write_parquet(path)
    except RayTaskError as error:
        raise _find_cause(error) from error
    except RayError as error:
        raise EngineUnavailableError(f"Ray ended the job: {str(error).strip().rpartition(chr(10))[2]}") from error
    finally:
        scored.context.checkpoint_config = before  # `ds` has the same context


def _score(
    ds: Dataset,
    config: RewardConfig,
    columns: Mapping[str, str] | None,
    workers: WorkerCount,
    batch_size: int,
    num_cpus: float | None,
    num_gpus: float | None,
    id_column: str | None = None,
) -> Dataset:
    from ray.data import ActorPoolStrategy

    config.check()
    pool = Workers(*((workers, workers) if isinstance(workers, int) else workers))
    each = choose_resources(config, num_cpus, num_gpus)
    beside = _CPUS_TO_READ if id_column is None else _CPUS_TO_READ + 1
    what = "reading" if id_column is None else "reading and the filter of finished rows"
    check_resources(pool.least, each, beside=beside, what=what)
    shape = None if columns else find_shape(ds.take(_ROWS_SEEN))
    job = Job(config, pick_environment(config), str(Path.cwd()))
    scored = ds.map_batches(
        ScoreBatches,
        fn_constructor_args=(job, shape or dict(columns or {}), id_column),
        batch_size=batch_size,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(min_size=pool.least, max_size=pool.most),
        num_cpus=each["CPU"],
        num_gpus=each["GPU"] or None,
    )
    scored.context.raise_original_map_exception = True
    return scored


class ScoreBatches:
    """What a worker of Ray Data runs. With an id column, rows that the engine failed to answer are left out.

    Where the shape is not known yet, the columns that were named make it, with what the first batch has in them.
    """

    def __init__(self, job: Job, shape: Shape | Mapping[str, str], id_column: str | None) -> None:
        self._job = job
        self._known = shape
        self._id_column = id_column
        self._failures = FailureStreak("the engine")

    @cached_property
    def _reward(self) -> RewardModel:
        return self._job.load()

    async def __call__(self, table: Table) -> Table:
        """Score a batch; several are under way at once."""
        import pyarrow as pa

        if self._id_column is not None:
            _check_ids(table, self._id_column)
        rows = table.to_pylist()
        if not isinstance(self._known, Shape):
            self._known = find_shape(rows, self._known)
        shape = self._known
        found = await gather_all(self._score(shape.to_group, row, place) for place, row in enumerate(rows))
        self._failures.raise_if_lost()
        parts = find_parts(self._reward.settings)
        cells = [_lay_out(one, shape, parts) for one in found]
        types = added_types(shape, parts)
        names = free_names(types, table.column_names)
        for field in make_fields(types):
            values = pa.array([one[field.name] for one in cells], field.type)
            table = table.append_column(pa.field(names[field.name], field.type), values)
        if self._id_column is None:
            return table
        return table.filter(pa.array([not _is_retryable(one) for one in found], pa.bool_()))

    async def _score(
        self, to_group: Callable[[Mapping[str, object], str], Group], row: Mapping[str, object], place: int
    ) -> tuple[Score, ...] | str:
        try:
            scored = await self._reward.score_group(to_group(row, f"row-{place}"))
        except (ConversationError, DataError) as error:
            return str(error)
        except EngineUnavailableError as error:
            raise on_node(error) from error
        self._failures.count(scored.scores)
        return scored.scores


def _check_ids(table: Table, column: str) -> None:
    """Refuse ids by which Ray could not find the rows again; in a batch, and so before any of it is written."""
    if column not in table.column_names:
        raise OptionError(f"the rows have no column {column!r}", hint="name one that tells rows apart")
    ids = table[column]
    if ids.null_count or len(ids.unique()) < len(ids):
        raise OptionError(
            f"the column {column!r} does not tell rows apart: a value is missing, or comes twice",
            hint="name one that tells rows apart",
        )


def _lay_out(found: tuple[Score, ...] | str, shape: Shape, parts: Sequence[str]) -> dict[str, object]:
    return rejected_columns(found, shape, parts) if isinstance(found, str) else added_columns(found, shape, parts)


def _is_retryable(found: tuple[Score, ...] | str) -> bool:
    return not isinstance(found, str) and any(score.outcome.retryable for score in found)


def _find_cause(error: RayTaskError) -> Exception:
    """Return the error behind one of Ray's; the package's own without what Ray adds."""
    cause: Exception = error.cause
    if not isinstance(cause, FlipRewardError):
        return cause
    cause.args = (str(cause).partition("\n")[0],)
    return cause

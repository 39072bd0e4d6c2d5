"""A whole run from inputs to output: what `flip-reward score` does, for callers in Python."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from flip_reward.data.readers import open_input
from flip_reward.data.rows import Input, InvalidRow, RowMapper, skip_nothing
from flip_reward.data.sources import SourceRow, read_sources
from flip_reward.data.tables import check_output, write_table
from flip_reward.errors import OptionError
from flip_reward.rewards.base import RewardModel
from flip_reward.scoring.manifest import InputIdentity, RunConfiguration
from flip_reward.scoring.records import RecordLine
from flip_reward.scoring.run_folder import RunFolder, read_records_in_input_order
from flip_reward.scoring.runner import Observer, Run, RunLimits, StopSignal
from flip_reward.scoring.summary import Prices, Summary


@dataclass(frozen=True, slots=True)
class ScoringJob:
    """What to score, and where to put it.

    Attributes:
        reward: The reward model.
        inputs: Files, "-" or data sets on the hub (see `open_input`).
        folder: The run folder. None derives one below `runs/` from the inputs and the settings, so that the same job
            finds its folder again and resumes.
        output: A JSONL or Parquet file that also takes the records, in input order.
        columns: Our column names to the inputs' (see `parse_columns`).
        limit: Score only so many rows from the start.
        limits: How many rows at once, and when to end.
        prices: What tokens cost.
    """

    reward: RewardModel
    inputs: Sequence[str]
    folder: Path | None = None
    output: Path | None = None
    columns: dict[str, str] = field(default_factory=dict)
    limit: int | None = None
    limits: RunLimits = RunLimits()
    prices: Prices | None = None


@dataclass(frozen=True, slots=True)
class OpenedJob:
    """A job whose inputs and run folder are open.

    Attributes:
        job: The job.
        inputs: Its inputs.
        folder: Its run folder. Close it in the end.
    """

    job: ScoringJob
    inputs: Sequence[Input]
    folder: RunFolder

    @property
    def rows(self) -> int | None:
        """How many rows the inputs have, where that is known without reading them."""
        known = [source.size_hint for source in self.inputs]
        total = None if None in known else sum(hint or 0 for hint in known)
        return self.job.limit if total is None else min(total, self.job.limit or total)

    def read_rows(self, *, settled_too: bool = False) -> Iterator[SourceRow | InvalidRow]:
        """Read the rows of the inputs, those that are settled only if wanted.

        Raises:
            DataError: See `read_sources`.
        """
        skip = skip_nothing if settled_too else self.folder.settled.__contains__
        return read_sources(self.inputs, RowMapper(self.job.columns), is_completed=skip, limit=self.job.limit)

    async def run(
        self,
        *,
        observer: Observer | None = None,
        stop: StopSignal | None = None,
        rows: Iterator[SourceRow | InvalidRow] | None = None,
    ) -> Summary:
        """Score what is not settled yet.

        Args:
            observer: Is told of every record.
            stop: Lets somebody else end the run in order.
            rows: What `read_rows` gave, where something was added to it.

        Raises:
            FlipRewardError: See `Run.score`.
        """
        job = self.job
        if rows is None:
            rows = self.read_rows()
        run = Run(job.reward, self.folder, limits=job.limits, observer=observer, stop=stop)
        try:
            return await run.score(rows, prices=job.prices)
        finally:
            await job.reward.engine.aclose()

    def write_output(self) -> None:
        """Write the records in input order to the output, if one is wanted.

        Raises:
            StorageError: The disk is full or not writable.
        """
        if self.job.output is not None:
            records = read_records_in_input_order(self.folder.path)
            write_table(self.job.output, map(RecordLine.of, records), RecordLine)


def open_job(job: ScoringJob, *, open_source: Callable[[str], Input] = open_input) -> OpenedJob:
    """Open a job's inputs and run folder, and check its output, before anything is asked.

    Raises:
        FlipRewardError: An input, the folder or the output cannot be used.
    """
    if not job.inputs:
        raise OptionError("there is nothing to score", hint="name at least one input")
    inputs = [open_source(name) for name in job.inputs]
    configuration = RunConfiguration(
        settings=dict(job.reward.settings),
        inputs=[InputIdentity(name=source.name, fingerprint=source.fingerprint()) for source in inputs],
        columns=job.columns,
        limit=job.limit,
    )
    path = job.folder or default_folder(configuration)
    if job.output is not None:
        _check_output(job.output, job.inputs, path)
    return OpenedJob(job, inputs, RunFolder(path, configuration, whole_groups=not job.reward.independent))


def _check_output(output: Path, inputs: Sequence[str], folder: Path) -> None:
    place = output.resolve()
    if place.is_relative_to(folder.resolve()):
        raise OptionError(f"{output} lies in the run folder", hint="the run folder holds the records already")
    if any(place == Path(name).resolve() for name in inputs):
        raise OptionError(f"{output} is an input and would be overwritten")
    check_output(output)


def default_folder(configuration: RunConfiguration) -> Path:
    """Name a run folder after the first input and a hash of the configuration.

    The same configuration finds its folder again, except where an input cannot be recognised (standard input).
    """
    digest = hashlib.sha256(configuration.model_dump_json().encode()).hexdigest()
    stem = configuration.inputs[0].name.replace("/", "-").partition(".")[0] or "run"
    if not configuration.resumable:
        stem = f"{stem}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    return Path("runs") / f"{stem}-{digest[:8]}"

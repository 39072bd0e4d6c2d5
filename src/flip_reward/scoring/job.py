"""A whole run from inputs to output: a job, opened, scored and written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from flip_reward.data.cloud import is_address
from flip_reward.data.grouping import FoundGrouping, find_grouping
from flip_reward.data.groups import SourceRow, read_sources
from flip_reward.data.readers import open_input
from flip_reward.data.rows import Input, InvalidRow, Skip, skip_nothing
from flip_reward.data.shapes import Need, Shape, find_shape
from flip_reward.data.tables import STANDARD_OUTPUT, check_overwrites
from flip_reward.data.tables.survey import Survey
from flip_reward.engines.stopping import StopSignal
from flip_reward.errors import DataError, OptionError, RunError
from flip_reward.redact import describe_command, show_address
from flip_reward.rewards.base import RewardModel
from flip_reward.rewards.options import find_parts
from flip_reward.scoring.folders import MANIFEST
from flip_reward.scoring.manifest import InputIdentity, Manifest, RunConfiguration
from flip_reward.scoring.output import Output, RunRows, write_scores
from flip_reward.scoring.run_folder import RunFolder, check_local, default_folder
from flip_reward.scoring.runner import Observer, Run, RunLimits, Scorer
from flip_reward.scoring.servers import check_servers
from flip_reward.scoring.shards.marks import shard_folder
from flip_reward.scoring.shards.parent import Shards, is_finished
from flip_reward.scoring.shards.spec import ShardSpec
from flip_reward.scoring.summary import Prices, Summary


@dataclass(frozen=True, slots=True)
class ScoringJob:
    """What to score, and where to put it."""

    reward: RewardModel
    inputs: Sequence[str]
    folder: Path | None = None
    """None derives one below `runs/` from the inputs and the settings, so that the same job resumes in its folder."""
    output: Output = Output()
    columns: dict[str, str] = field(default_factory=dict)
    """Our column names to the inputs' (see `parse_columns`); what is missing is recognised."""
    limit: int | None = None
    group_by: str | None = None
    """Rows with the same value of this column form a group. None finds out whether rows do; see `find_grouping`."""
    compares: bool = False
    """It is about the best of several responses, so a group with several is needed."""
    limits: RunLimits = RunLimits()
    prices: Prices | None = None
    need: Need = Need.RESPONSES
    """What the rows hold: prompts where something else adds the responses."""
    encoding: str | None = None
    """How the inputs' texts are encoded; None for UTF-8, or UTF-16 where that is certain."""
    shard: ShardSpec | None = None
    """Score a part of the rows; `folder` is then the one above the shards."""
    scorer: Scorer | None = None
    """Where the reward scores: None for this process."""


@dataclass(frozen=True, slots=True)
class OpenedJob:
    """A job whose inputs and run folder are open; close the folder in the end."""

    job: ScoringJob
    inputs: Sequence[Input]
    folder: RunFolder
    shape: Shape
    groups: FoundGrouping
    survey: Survey | None = None
    """What columns the rows have, where the output takes them."""

    @property
    def rows(self) -> int | None:
        """How many groups there are at most, of a shard about, where that is known without reading the inputs."""
        if self.groups.grouping:
            return None
        shards = self.job.shard.count if self.job.shard else 1
        known = [source.size_hint for source in self.inputs]
        total = None if None in known else sum(hint or 0 for hint in known)
        total = self.job.limit if total is None else min(total, self.job.limit or total)
        return None if total is None else -(-total // shards)

    def read_rows(self, *, include_completed: bool = False) -> Iterator[SourceRow | InvalidRow]:
        """Read the rows of the inputs, the completed ones only if wanted; see `read_sources`."""
        completed = self.folder.completed

        def is_whole(row: SourceRow) -> bool:  # a group may have grown since, under a larger limit
            size = len(row.group.responses)
            return not include_completed and not completed.pending(row.position, group_size=size)

        return read_sources(
            self.inputs,
            self.shape,
            is_completed=skip_nothing if include_completed else completed.__contains__,
            is_whole=is_whole,
            limit=self.job.limit,
            grouping=self.groups.grouping,
            ids=self.folder.ids,
            is_elsewhere=_elsewhere(self.job.shard),
        )

    @property
    def all_rows(self) -> RunRows:
        """The rows of the inputs as they stand there."""
        parts = find_parts(self.job.reward.settings)
        elsewhere = _elsewhere(self.job.shard)
        return RunRows(self.inputs, self.shape, self.groups.grouping, self.job.limit, parts, elsewhere)

    async def run(
        self,
        *,
        observer: Observer | None = None,
        stop: StopSignal | None = None,
        rows: Iterator[SourceRow | InvalidRow] | None = None,
    ) -> Summary:
        """Score what is not completed yet; see `Run.score` for what ends a run.

        `rows` is what `read_rows` gave, where something was added to it.
        """
        job = self.job
        if rows is None:
            rows = self.read_rows()
        run = Run(job.reward, self.folder, scorer=job.scorer, limits=job.limits, observer=observer, stop=stop)
        try:
            return await run.score(rows, prices=job.prices, limit=self.job.limit)
        finally:
            if job.scorer is not None:
                await job.scorer.aclose()
            await job.reward.aclose()

    async def checked(self, rows: Iterator[SourceRow | InvalidRow]) -> Iterator[SourceRow | InvalidRow]:
        """Make sure that servers are those of earlier sessions; see `check_servers`."""
        same_model = self.job.limits.same_model
        return await check_servers(rows, self.folder, self.job.reward.engines, same_model=same_model)

    def write_output(self) -> list[str]:
        """Write what is wanted besides the run folder, and return what is to be said about it."""
        return write_scores(self.job.output, self.survey, self.folder.path, self.all_rows)


def open_job(job: ScoringJob, *, open_source: Callable[[str], Input] | None = None) -> OpenedJob:
    """Open a job's inputs and run folder, and check its output, before anything is asked.

    `open_source` is for inputs to which something is added; it replaces `open_input`.
    """
    if not job.inputs:
        raise OptionError("there is nothing to score", hint="name at least one input")
    _check_places(job)
    open_source = open_source or partial(open_input, encoding=job.encoding)
    inputs = [open_source(name) for name in job.inputs]
    shape = find_shape(inputs, job.columns, need=job.need)
    groups = find_groups(inputs, shape, job.group_by, limit=job.limit, compares=job.compares)
    configuration = _configure(job.reward, inputs, shape, groups)
    sources, model = [_note_source(name) for name in job.inputs], job.reward.model_name
    path = job.folder or default_folder(configuration, model, shards=job.shard is not None)
    check_destination(job.output, job.inputs, path)
    if job.shard is not None:
        shards = Shards(
            count=job.shard.count,
            configuration=configuration,
            sources=sources,
            encoding=job.encoding,
            model=model,
            command=describe_command(),
        )
        shards.enter(path)
        path, configuration = shard_folder(path, job.shard), shards.configure(job.shard)
    survey = job.output.survey(inputs, limit=job.limit)
    folder = RunFolder(
        path,
        configuration,
        sources=sources,
        encoding=job.encoding,
        model=model,
        whole_groups=not job.reward.independent,
        retry_refused=job.limits.retry_refused,
    )
    return OpenedJob(job, inputs, folder, shape, groups, survey)


def find_finished(job: ScoringJob, model: str) -> Path | None:
    """Find the folder of a shard that a mark says is finished, so that starting it again needs no model.

    The job's reward has none yet; `model` is what it is called.
    """
    _check_places(job)
    shard = job.shard
    if shard is None or job.limits.retry_refused:
        return None
    parents = sorted(Path("runs").glob("*-shards")) if job.folder is None else [job.folder]
    marked = [parent for parent in parents if is_finished(parent, shard, job.limit)]
    if not marked:
        return None
    inputs = [open_input(name, encoding=job.encoding) for name in job.inputs]
    shape = find_shape(inputs, job.columns, need=job.need)
    groups = find_groups(inputs, shape, job.group_by, limit=job.limit, compares=False)
    configuration = _configure(job.reward, inputs, shape, groups)
    for parent in marked:
        shards = Shards.read(parent)
        known = {**shards.configuration.settings, **configuration.settings}  # all but the engine's
        same = not shards.configuration.differences(configuration.model_copy(update={"settings": known}))
        if same and shards.model == model:
            return shard_folder(parent, shard)
    return None


def _check_places(job: ScoringJob) -> None:
    if job.folder is not None:
        check_local(job.folder)
    if job.shard is None:
        return
    if job.output != Output():
        raise OptionError("a shard has no output of its own", hint="'flip-reward merge -o' writes that of all")
    if "-" in job.inputs:
        raise OptionError("standard input cannot be divided into shards", hint="give a file that all processes see")


def _elsewhere(shard: ShardSpec | None) -> Skip:
    return skip_nothing if shard is None else shard.leaves_out


def _configure(reward: RewardModel, inputs: Sequence[Input], shape: Shape, groups: FoundGrouping) -> RunConfiguration:
    return RunConfiguration(
        settings=dict(reward.settings),
        inputs=[InputIdentity(name=source.name, fingerprint=source.fingerprint()) for source in inputs],
        columns=dict(shape.columns),
        grouping=groups.grouping,
    )


def find_groups(
    inputs: Sequence[Input], shape: Shape, group_by: str | None, *, limit: int | None, compares: bool
) -> FoundGrouping:
    """Find out how rows form groups, and refuse to compare where every group has one response."""
    groups = find_grouping(inputs, shape, group_by)
    if compares and not (groups.groups and limit is None):
        rows = read_sources(inputs, shape, limit=limit, grouping=groups.grouping)
        sizes = (len(row.group.responses) for row in rows if isinstance(row, SourceRow))
        if next(sizes, 0) == 1 and all(size == 1 for size in sizes):
            raise OptionError(
                "there is one response to each instruction, so nothing to choose from",
                hint="for responses in several rows: --group-by COLUMN; in several columns: --columns "
                "responses=COLUMN+COLUMN; for new ones: --generate N",
            )
    return groups


def _note_source(name: str) -> str:
    if is_address(name):
        return show_address(name)
    return str(Path(name).resolve()) if Path(name).exists() else name


def reopen_inputs(folder: Path) -> list[Input]:
    """Open the inputs of a run again; a RunError where one is gone, or is not what it was."""
    manifest = Manifest.read(folder / MANIFEST)
    session = manifest.last_reading
    if session is None or "-" in session.sources or not manifest.configuration.resumable:
        raise RunError(f"the rows of {folder} were not kept", hint="score a file, not standard input")
    found = []
    for source, identity in zip(session.sources, manifest.configuration.inputs, strict=True):
        try:
            opened = open_input(source, encoding=session.encoding)
        except DataError as error:
            raise RunError(f"the rows of {folder} are gone: {error}", hint=error.hint) from error
        if opened.fingerprint() != identity.fingerprint:
            raise RunError(f"the rows of {folder} are gone: {source} has changed", hint="score it again")
        found.append(opened)
    return found


def reopen_rows(folder: Path) -> RunRows:
    """Open the rows of a run again, also those that it did not come to; see `reopen_inputs`."""
    configuration = Manifest.read(folder / MANIFEST).configuration
    inputs = reopen_inputs(folder)
    shape = find_shape(inputs, configuration.columns)
    parts, elsewhere = find_parts(configuration.settings), _elsewhere(configuration.shard)
    return RunRows(inputs, shape, configuration.grouping, parts=parts, is_elsewhere=elsewhere)


def write_run_output(output: Output, run: Path, folder: Path | None = None, *, limit: int | None = None) -> list[str]:
    """Write the rows of a finished run, with its scores or with those of another folder made of the run.

    `limit` is how many rows to write at most.

    Example:
        >>> write_run_output(Output(), Path("runs/rows-1a2b3c4d"))  # nothing is wanted
        []
    """
    if output == Output():
        return []
    rows = replace(reopen_rows(run), limit=limit)
    reading = Manifest.read(run / MANIFEST).last_reading
    check_destination(output, [str(run), *(reading.sources if reading else [])], folder or run)
    return write_scores(output, output.survey(rows.inputs, limit=rows.limit), folder or run, rows)


def check_destination(output: Output, inputs: Sequence[str], folder: Path) -> None:
    """Make sure that an output can be written, and overwrites neither an input nor what is in the run folder."""
    if output.path is not None and output.path != STANDARD_OUTPUT:
        if output.path.resolve().is_relative_to(folder.resolve()):
            raise OptionError(
                f"{output.path} lies in the run folder", hint="the run folder holds the records already"
            )
        check_overwrites(output.path, inputs)
    output.check()

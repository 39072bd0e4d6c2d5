"""Run a scoring job in front of a person: progress, Ctrl-C, the table and the closing summary."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TypeVar

import typer
from rich.console import Console
from rich.text import Text

from flip_reward.cli.console import (
    ProgressDisplay,
    drain_on_interrupt,
    print_records,
    print_summary,
    printable,
    run_in_event_loop,
)
from flip_reward.cli.exit_codes import ExitCode
from flip_reward.cli.options import RunOptions
from flip_reward.core.conversation import Group
from flip_reward.data.grouping import FoundGrouping
from flip_reward.data.groups import SourceRow, read_sources
from flip_reward.data.readers import open_input
from flip_reward.data.rows import Input, InvalidRow, skip_nothing
from flip_reward.data.shapes import Need, Shape, find_shape
from flip_reward.data.tables import STANDARD_OUTPUT
from flip_reward.engines.base import ClassifyRequest, LogprobRequest, Request
from flip_reward.engines.files import SMOLLM2_135M
from flip_reward.engines.stopping import StopSignal
from flip_reward.errors import ConversationError, EngineUnavailableError
from flip_reward.rewards.backward_likelihood import BackwardLikelihoodReward
from flip_reward.rewards.base import Rendered, RewardModel
from flip_reward.rewards.calibration import without_calibration
from flip_reward.rewards.composite.reward import CompositeReward
from flip_reward.rewards.judges.base import Judge
from flip_reward.rewards.trained import TrainedReward
from flip_reward.scoring.batch.store import BatchStore
from flip_reward.scoring.job import OpenedJob, ScoringJob, find_groups, open_job
from flip_reward.scoring.run_folder import REJECTED, read_records_in_input_order, read_summary
from flip_reward.scoring.shards.parent import Shards
from flip_reward.scoring.summary import Summary

LONGEST_TABLE = 50
_PROMPTS_SHOWN = 3
STOPPED = "Stopped. The same command goes on from here."
_TINY_MODEL = (
    f"Note: {SMOLLM2_135M.name} is a tiny model: it ranks responses hardly better than chance. It shows that "
    "everything works; for rewards that mean something use a model of 1B parameters or more (--base-url, or "
    "--model PATH.gguf)."
)

T = TypeVar("T")


def run_job(job: ScoringJob, *, as_json: bool, table: bool | None) -> None:
    """Run a job and print its results, with `as_json` the summary alone; messages go to standard error."""
    opened = open_job(job)
    with closing(opened.folder):
        _tell_of_batches(opened)
        summary = score_opened(opened, Console(stderr=True), StopSignal())
        finish_job(opened, summary, as_json=as_json, table=table)


def _tell_of_batches(opened: OpenedJob) -> None:
    """Say that a run without `--batch` asks once more what batches were asked."""
    with closing(BatchStore(opened.folder.path)) as store:
        asked = sum(batch.requests for batch in store.batches if batch.awaited or batch.in_files)
    if asked:
        print_note(
            f"batches that are not collected hold {asked:,} requests, which are now asked once more where their rows "
            "are not scored; '--batch collect' or '--batch import DIR' takes the replies instead"
        )


def finish_job(opened: OpenedJob, summary: Summary, *, as_json: bool, table: bool | None) -> None:
    """Write the output of a job and print its results; leave with the status of what became of it."""
    output = opened.job.output.path
    if not summary.interrupted:
        for line in opened.write_output():
            print_note(line)
    if as_json:
        typer.echo(json.dumps({"run_folder": name_folder(opened), **summary.model_dump()}, indent=2))
    else:
        console = Console(stderr=output == STANDARD_OUTPUT)
        wanted = table or (table is None and summary.responses <= LONGEST_TABLE)
        if wanted and summary.responses and opened.folder.kept:
            _print_first(console, opened)
            if summary.responses > LONGEST_TABLE:
                console.print(f"The first {LONGEST_TABLE} of {summary.responses} responses.")
        print_summary(console, summary)
        if not summary.interrupted:
            print_places(console, opened, output=output)
            if opened.job.shard and summary.complete:
                print_shards(console, opened.folder.path)
    if summary.interrupted:
        print_places(Console(stderr=True), opened, STOPPED)
        raise typer.Exit(ExitCode.INTERRUPTED)
    empty = opened.job.shard is not None and not summary.responses  # a shard need not hold any row
    if summary.rejected_rows or not summary.complete or not (summary.scored_any or empty):
        raise typer.Exit(ExitCode.PARTLY_DONE)


def tell_finished(folder: Path, *, as_json: bool) -> None:
    """Say that a shard was finished before, so that nothing is done; as JSON what it amounts to."""
    typer.echo(f"This shard is done: {folder}", err=True)
    summary = read_summary(folder)
    if as_json:
        fields = {} if summary is None else summary.model_dump()
        typer.echo(json.dumps({"run_folder": None if summary is None else str(folder), **fields}, indent=2))
    else:
        print_shards(Console(), folder)


def print_shards(console: Console, folder: Path) -> None:
    """Print how many shards are done, given the folder of one, and what comes next."""
    parent = folder.parents[1]
    shards = Shards.read(parent)
    done = len(shards.find_marks(parent))
    line = f"Shards: {done} of {shards.count} done"
    if done == shards.count:
        line += f"; 'flip-reward merge {parent}' makes one run of them"
    console.print(Text(line), soft_wrap=True)


def _print_first(console: Console, opened: OpenedJob) -> None:
    """Print the first records, with the texts of the responses from the rows."""
    texts: dict[int, Sequence[str]] = {}
    records = list(islice(read_records_in_input_order(opened.folder.path), LONGEST_TABLE))
    for row in opened.read_rows(include_completed=True):
        if row.position > records[-1].row:
            break
        if isinstance(row, SourceRow):
            texts[row.position] = row.group.responses
    print_records(console, records, texts, judged=isinstance(without_calibration(opened.job.reward), Judge))


def score_opened(
    opened: OpenedJob, console: Console, stop: StopSignal, rows: Iterator[SourceRow | InvalidRow] | None = None
) -> Summary:
    """Score what is not completed yet, with a progress bar."""
    warn_of_tiny_model(opened.job.reward, console)
    return watch_opened(opened, console, stop, lambda display: opened.run(observer=display, stop=stop, rows=rows))


def watch_opened(
    opened: OpenedJob,
    console: Console,
    stop: StopSignal,
    work: Callable[[ProgressDisplay], Coroutine[object, object, T]],
) -> T:
    """Work on an opened job with its progress shown, and say how its rows are read."""
    tell_groups(opened.groups)
    tell_shape(opened.shape, opened.inputs)
    if opened.folder.dropped_bytes:
        console.print("The last record was half-written and is scored again.")
    completed = len(opened.folder.completed)
    if opened.rows is not None:
        completed = min(completed, opened.rows)
    display = ProgressDisplay(console, rows=opened.rows, completed_rows=completed)
    done = run_until_interrupted(opened, console, stop, display, lambda: work(display))
    _tell_of_ids(opened)
    return done


def _tell_of_ids(opened: OpenedJob) -> None:
    """Say which groups are not called by their ids, and how rows with one id become a group."""
    column, ids = opened.shape.id, opened.folder.ids
    if ids.repeated:
        note = f"{column!r} of an earlier row in {_count_rows(ids.repeated)}, named ID-row-N instead"
        together = "" if opened.groups.grouping else f"; --group-by {column!r} makes a group of rows that share it"
        typer.echo(note + together, err=True)
    if ids.odd:
        typer.echo(f"{column!r} neither text nor a number in {_count_rows(ids.odd)}, named row-N instead", err=True)


def _count_rows(count: int) -> str:
    return f"{count} {'row' if count == 1 else 'rows'}"


def warn_of_tiny_model(reward: RewardModel, console: Console) -> None:
    """Say what the model that comes with the package is worth, where its replies are asked for."""
    reward = without_calibration(reward)
    parts = reward.parts.values() if isinstance(reward, CompositeReward) else (reward,)
    without_replies = BackwardLikelihoodReward | TrainedReward
    asked = [part for part in map(without_calibration, parts) if part.engine is not None]
    if any(part.model_name.startswith(SMOLLM2_135M.name) for part in asked if not isinstance(part, without_replies)):
        console.print(Text(_TINY_MODEL, style="yellow"), soft_wrap=True)


def run_until_interrupted(
    opened: OpenedJob,
    console: Console,
    stop: StopSignal,
    display: ProgressDisplay,
    work: Callable[[], Coroutine[object, object, T]],
) -> T:
    """Run a part of a job with its progress shown. Ctrl-C asks it to stop, and a second one stops it at once."""

    async def watched() -> T:
        with display.shown(), drain_on_interrupt(stop, display.say):
            return await work()

    try:
        return run_in_event_loop(watched)
    except asyncio.CancelledError:
        print_places(console, opened, "Stopped at once. The same command goes on from here.")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    except EngineUnavailableError:
        if opened.folder.tally.responses:
            print_places(console, opened, STOPPED)
        raise


def check_rows(
    inputs: Sequence[str], run: RunOptions, need: Need = Need.RESPONSES, *, compares: bool = False
) -> None:
    """Make sure that there are rows that can be read, grouped and compared, before a model loads.

    Where standard input is among the inputs, only the shape of the others is looked at.
    """
    sources = [open_input(name, encoding=run.encoding) for name in inputs if name != "-"]
    shape = find_shape(sources, run.column_names, need=need)
    if len(sources) == len(inputs):
        find_groups(sources, shape, run.group_by, limit=run.limit, compares=compares)
        next(read_sources(sources, shape, limit=run.limit))


def tell_shape(shape: Shape, sources: Sequence[Input]) -> None:
    """Say how the inputs and their rows are read, where that had to be found out."""
    for source in sources:
        if source.remark:
            typer.echo(f"{source.name}: {source.remark}", err=True)
    if shape.found:
        typer.echo(f"Read as {shape.description}", err=True)


def tell_groups(groups: FoundGrouping) -> None:
    """Say how rows form groups, where they do."""
    if groups.description:
        typer.echo(groups.description, err=True)


def show_prompts(reward: RewardModel, inputs: Sequence[str], run: RunOptions, *, compares: bool = False) -> None:
    """Print the prompts of the first rows, as they would be sent, and call nothing."""
    sources = [open_input(name, encoding=run.encoding) for name in inputs]
    shape = find_shape(sources, run.column_names)
    tell_shape(shape, sources)
    groups = find_groups(sources, shape, run.group_by, limit=run.limit, compares=compares)
    tell_groups(groups)
    elsewhere = skip_nothing if run.shard_spec is None else run.shard_spec.leaves_out
    rows = read_sources(sources, shape, limit=run.limit, grouping=groups.grouping, is_elsewhere=elsewhere)
    one_each = reward.independent and not isinstance(without_calibration(reward), CompositeReward)
    show_requests(rows, reward.render, unit="response" if one_each else "request")


def show_requests(
    rows: Iterator[SourceRow | InvalidRow], render: Callable[[Group], Sequence[Rendered]], *, unit: str
) -> None:
    """Print what the first rows would be asked; a dry run in which every row is rejected has failed."""
    console = Console(soft_wrap=True)
    shown = rejected = 0
    for row in rows:
        title = f"{row.source}, line {row.line}"
        rendered = row if isinstance(row, InvalidRow) else _render(render, row)
        if isinstance(rendered, InvalidRow):
            rejected += 1
            if rejected <= _PROMPTS_SHOWN:
                console.print(Text(f"--- {title}: rejected, {rendered.reason}", style="yellow"))
            continue
        if not rendered:
            console.print(Text(f"--- {title}: nothing to ask", style="bold"))
        for number, request in enumerate(rendered):
            what = "nothing to ask" if request is None else "prompt"
            console.print(Text(f"--- {title}, {unit} {number}: {what}", style="bold"))
            for part, text in _parts(request):
                console.print(Text(f"[{part}]", style="cyan"))
                console.print(printable(text))
        shown += 1
        if shown == _PROMPTS_SHOWN:
            break
    if not shown:
        Console(stderr=True).print(f"Nothing would be scored: every row is rejected ({rejected:,} of {rejected:,}).")
        raise typer.Exit(ExitCode.PARTLY_DONE)


def _parts(request: Rendered) -> list[tuple[str, str]]:
    """The texts of a question, each with what it is."""
    if request is None:
        return []
    if isinstance(request, LogprobRequest):
        prefix = [("text", request.prefix)] if isinstance(request.prefix, str) else _parts(Request(request.prefix))
        return [*prefix, ("how likely is", request.continuation)]
    turns: list[tuple[str, str]] = [(message.role, message.content) for message in request.messages]
    return [*turns, ("assistant", request.response)] if isinstance(request, ClassifyRequest) else turns


def _render(render: Callable[[Group], Sequence[Rendered]], row: SourceRow) -> Sequence[Rendered] | InvalidRow:
    try:
        return render(row.group)
    except ConversationError as error:
        return row.reject(str(error))


def name_folder(opened: OpenedJob) -> str | None:
    """Return where a run is kept, for JSON; None where nothing was recorded."""
    return None if opened.folder.kept is None else str(opened.folder.kept)


def print_note(line: str) -> None:
    """Tell on standard error what was noticed about the output."""
    typer.echo(f"note: {line}", err=True)


def print_made(summary: Summary, folder: Path, output: Path | None) -> None:
    """Print the summary of a run that was made of others, and where it and its output are."""
    console = Console(soft_wrap=True, stderr=output == STANDARD_OUTPUT)
    print_summary(console, summary)
    console.print(f"Run folder: {folder}", markup=False)
    if output not in (None, STANDARD_OUTPUT):
        console.print(f"Output: {output}", markup=False)


def print_places(console: Console, opened: OpenedJob, sentence: str = "", *, output: Path | None = None) -> None:
    """Print where a run and its output are."""
    lines = [sentence] if sentence else []
    kept = opened.folder.kept
    lines.append("No row was scored, so no run folder is kept" if kept is None else f"Run folder: {kept}")
    if kept and opened.folder.rejected_rows:
        lines.append(f"Rejected rows: {kept / REJECTED}")
    if output not in (None, STANDARD_OUTPUT) and not sentence:
        lines.append(f"Output: {output}")
    console.print(Text("\n".join(lines)), soft_wrap=True)

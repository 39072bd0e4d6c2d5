"""`flip-reward score --batch`: what a step of a run by batches is told and shows. `scoring.batch` does the work."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from flip_reward.cli.app import join_values
from flip_reward.cli.console import ProgressDisplay, print_summary, run_in_event_loop
from flip_reward.cli.exit_codes import ExitCode
from flip_reward.cli.options import complete
from flip_reward.cli.session import STOPPED, finish_job, name_folder, print_note, print_places, watch_opened
from flip_reward.data.tables import STANDARD_OUTPUT
from flip_reward.engines.batch.client import BatchClient, BatchState
from flip_reward.engines.config import asks_server, describe_model, runs_in_process
from flip_reward.engines.middleware import RetryPolicy
from flip_reward.engines.stopping import StopSignal
from flip_reward.errors import OptionError, RunError
from flip_reward.redact import current_arguments, mask_arguments
from flip_reward.rewards.config import RewardConfig
from flip_reward.scoring.batch.files import Exported, Imported, export_requests, import_replies
from flip_reward.scoring.batch.steps import Progress, collect, find_engine, status, submit
from flip_reward.scoring.batch.store import EXPORTED, BatchStore, SubmittedBatch
from flip_reward.scoring.job import OpenedJob, ScoringJob, open_job

NO_SERVER = "http://vllm-run-batch.invalid/v1"
"""Stands for the server where requests and replies are files, and none was named."""
_NOT_BY_BATCH = ("backward-likelihood", "trained")
_LINE_EVERY_SECONDS = 30.0


class BatchStep(StrEnum):
    """What is done with the batches of a run."""

    SUBMIT = "submit"
    STATUS = "status"
    COLLECT = "collect"
    EXPORT = "export"
    IMPORT = "import"


@dataclass(frozen=True)
class BatchOptions:
    """The options about batches."""

    batch: Annotated[
        str | None,
        typer.Option(
            rich_help_panel="Run",
            help="Ask by batches, at half the price with most providers: submit them, look at their status, collect "
            "the replies. Or export the requests as files for 'vllm run-batch', and import its replies.",
            metavar="submit|status|collect|export DIR|import DIR",
            autocompletion=complete([*BatchStep]),
        ),
    ] = None
    wait: Annotated[
        bool,
        typer.Option(
            "--wait", rich_help_panel="Run", hidden=True, help="Let '--batch collect' wait until batches are done."
        ),
    ] = False


@dataclass(frozen=True, slots=True)
class ChosenStep:
    """A step, and what belongs to it."""

    step: BatchStep
    folder: Path = Path()
    """Of requests or replies."""
    wait: bool = False
    max_attempts: int = RetryPolicy().max_attempts
    """How often a request about a batch is sent at most."""

    @property
    def with_files(self) -> bool:
        """Whether no server is asked."""
        return self.step in (BatchStep.EXPORT, BatchStep.IMPORT)


def read_batch(options: BatchOptions, config: RewardConfig) -> tuple[ChosenStep | None, RewardConfig]:
    """Read `--batch` and `--wait`, and refuse rewards that no batch can answer.

    The configuration comes back with a server, where none is needed: requests that are files reach whoever runs them.
    """
    step = _read_step(options)
    if step is None:
        return None, config
    model = config.engine.model
    if step.with_files and model is not None and not runs_in_process(model) and not asks_server(config.engine):
        config = config.updated(base_url=NO_SERVER)
    if not config.asks_model:
        raise OptionError(
            f"the reward {config.reward!r} asks no model, and batches ask one", hint="leave out --batch"
        )
    for part in config.parts.values() or (config,):
        if part.reward in _NOT_BY_BATCH:
            raise OptionError(
                f"batches are of completions, and the reward {part.reward!r} asks for something else",
                hint="leave out --batch",
            )
        if part.asks_model and not asks_server(part.answering):
            raise OptionError(
                f"batches are for the model of a server, not for {describe_model(part.answering)}",
                hint="name with --model the one that will answer"
                if step.with_files
                else "name the server's address with --base-url, and its model with --model",
            )
    return replace(step, max_attempts=config.engine.max_attempts), config


def _read_step(options: BatchOptions) -> ChosenStep | None:
    if options.batch is None:
        if options.wait:
            raise OptionError("--wait is for batches", hint="add --batch collect")
        return None
    name, equals, folder = options.batch.partition("=")
    if name not in [*BatchStep]:
        raise OptionError(f"--batch has no step {name!r}", hint=f"steps are {', '.join(BatchStep)}")
    chosen = ChosenStep(BatchStep(name), Path(folder), options.wait)
    if chosen.with_files and not folder:
        raise OptionError(f"--batch {name} needs a folder", hint=f"for example: --batch {name} requests/")
    if equals and not chosen.with_files:
        raise OptionError(f"--batch {name} has no folder", hint=f"write --batch {name}")
    if chosen.wait and chosen.step is not BatchStep.COLLECT:
        raise OptionError("--wait is for --batch collect", hint="submit first, then collect")
    return chosen


def run_batch(job: ScoringJob, chosen: ChosenStep, *, as_json: bool, table: bool | None) -> None:
    """Take one step of a run by batches, and print what came of it."""
    find_engine(job.reward)  # a formula of several models is refused before a folder is made
    if chosen.with_files:
        job = replace(job, limits=replace(job.limits, same_model=True))  # there is no server to ask what it has
    opened = open_job(job)
    with closing(opened.folder), closing(BatchStore(opened.folder.path)) as store:
        if not store.batches and chosen.step not in (BatchStep.SUBMIT, BatchStep.EXPORT):
            raise RunError(
                f"{opened.folder.path} has no batches",
                hint="'--batch submit' sends them, '--batch export DIR' writes",
            )
        retry = RetryPolicy(max_attempts=chosen.max_attempts)
        _Session(opened, store, retry, as_json=as_json, table=table).take(chosen)


class _Session:
    """One step of an opened run."""

    def __init__(
        self, opened: OpenedJob, store: BatchStore, retry: RetryPolicy, *, as_json: bool, table: bool | None
    ) -> None:
        self._opened = opened
        self._store = store
        self._engine = find_engine(opened.job.reward)
        self._client = BatchClient(self._engine.server, retry)
        self._as_json = as_json
        self._table = table
        self._messages = Console(stderr=True)
        to_stderr = as_json or opened.job.output.path == STANDARD_OUTPUT
        self._console = self._messages if to_stderr else Console()
        self._stop = StopSignal()

    def take(self, chosen: ChosenStep) -> None:
        match chosen.step:
            case BatchStep.SUBMIT:
                self._submit()
            case BatchStep.STATUS:
                self._show_status()
            case BatchStep.COLLECT:
                self._collect(wait=chosen.wait)
            case BatchStep.EXPORT:
                self._export(chosen.folder)
            case BatchStep.IMPORT:
                self._import(chosen.folder)

    def _submit(self) -> None:
        before = {batch.number for batch in self._store.batches if not batch.to_send}

        async def work(display: ProgressDisplay) -> Progress:
            try:
                return await submit(self._opened, self._store, self._client, observer=display, stop=self._stop)
            finally:
                await self._engine.aclose()

        progress = watch_opened(self._opened, self._messages, self._stop, work)
        new = [batch for batch in progress.batches if batch.awaited and batch.number not in before]
        if new:
            self._say(f"{_count_batches(new)} sent.")
        self._finish(replace(progress, missing=0), left_is_failure=False)  # they are in these batches

    def _show_status(self) -> None:
        async def look() -> Progress:
            try:
                return await status(self._store, self._client)
            finally:
                await self._engine.aclose()

        progress = run_in_event_loop(look)
        if not self._as_json:
            for batch in progress.batches:
                self._say(describe_batch(batch))
        self._finish(progress, left_is_failure=False)

    def _collect(self, *, wait: bool) -> None:
        async def work(display: ProgressDisplay) -> Progress:
            watch = _Watch(display)
            try:
                return await collect(
                    self._opened,
                    self._store,
                    self._client,
                    wait=wait,
                    watch=watch.looked if wait else None,
                    observer=display,
                    stop=self._stop,
                )
            finally:
                await self._engine.aclose()

        self._finish(watch_opened(self._opened, self._messages, self._stop, work))

    def _export(self, folder: Path) -> None:
        async def work(display: ProgressDisplay) -> Exported:
            return await export_requests(self._opened, self._store, folder, observer=display, stop=self._stop)

        found = watch_opened(self._opened, self._messages, self._stop, work)
        for path, requests in found.files.items():
            self._say(f"Wrote {path} with {_count(requests, 'request')}")
            replies = path.with_name(path.name.replace("requests", "replies"))
            model = self._opened.job.reward.model_name
            self._say("  " + shlex.join(["vllm", "run-batch", "-i", str(path), "-o", str(replies), "--model", model]))
        self._finish(replace(found.progress, missing=0), left_is_failure=False)  # they are in these files

    def _import(self, folder: Path) -> None:
        async def work(display: ProgressDisplay) -> Imported:
            return await import_replies(self._opened, self._store, folder, observer=display, stop=self._stop)

        found = watch_opened(self._opened, self._messages, self._stop, work)
        taken = found.taken
        self._say(f"{_count(taken.replies, 'new reply', 'new replies')} in {_count(found.files, 'file')}.")
        for count, what in (
            (taken.known, "had been taken over before"),
            (taken.unknown, "not to requests of this run, left out"),
            (taken.damaged, "damaged, left out"),
        ):
            if count:
                print_note(f"{_count(count, 'reply', 'replies')} {what}")
        if taken.unfinished:
            print_note("a last line is half-written and left out; import it again when it is whole")
        self._finish(found.progress)

    def _finish(self, progress: Progress, *, left_is_failure: bool = True) -> None:
        """Say what is left and which command goes on; where nothing is, end as any run does."""
        summary = progress.summary
        if self._stop.requested:
            print_places(self._messages, self._opened, STOPPED)
            raise typer.Exit(ExitCode.INTERRUPTED)
        if summary is not None and summary.complete:
            finish_job(self._opened, summary, as_json=self._as_json, table=self._table)
            return
        if self._as_json:
            self._print_json(progress)
        elif left_is_failure and summary is not None and summary.responses:
            print_summary(self._console, summary)
        for line in _what_is_left(progress):
            self._say(line)
        print_places(self._console, self._opened)
        if left_is_failure:
            raise typer.Exit(ExitCode.PARTLY_DONE)

    def _print_json(self, progress: Progress) -> None:
        summary = {} if progress.summary is None else progress.summary.model_dump()
        batches = [batch.model_dump() for batch in progress.batches]
        found = {"run_folder": name_folder(self._opened), **summary, "batches": batches, "missing": progress.missing}
        typer.echo(json.dumps(found, indent=2))

    def _say(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)


class _Watch:
    """Says how batches go while they are waited for: a line for each when its state changes, or now and then."""

    def __init__(self, display: ProgressDisplay) -> None:
        self._display = display
        self._said: dict[int, tuple[str, float]] = {}

    def looked(self, batches: Sequence[SubmittedBatch]) -> None:
        now = time.monotonic()
        for batch in (one for one in batches if one.awaited):
            state, when = self._said.get(batch.number, ("", 0.0))
            if state != batch.state or now - when >= _LINE_EVERY_SECONDS:
                self._said[batch.number] = batch.state, now
                self._display.say(describe_batch(batch))


def describe_batch(batch: SubmittedBatch) -> str:
    """Say in one line how far a batch is.

    Example:
        >>> describe_batch(
        ...     SubmittedBatch(
        ...         number=2, requests=50_000, bytes=9, token="a", id="b", state="in_progress", completed=1200
        ...     )
        ... )
        'batch 2: in progress, 1,200 of 50,000 answered'
    """
    parts = [batch.state.replace("_", " ")]
    if batch.state == EXPORTED:
        parts = ["imported" if batch.collected else f"exported to {batch.id}"]
    parts.append(f"{batch.completed:,} of {batch.requests:,} answered")
    if batch.failed:
        parts.append(f"{batch.failed:,} failed")
    if batch.expires_at is not None and batch.awaited and not BatchState(batch.state).ended:
        parts.append(f"expires in {max(0, round((batch.expires_at - time.time()) / 3600))} h")
    if batch.collected and batch.state != EXPORTED:
        parts.append("collected")
    return f"batch {batch.number}: {', '.join(parts)}"


def _what_is_left(progress: Progress) -> list[str]:
    """Say what is not answered yet, each with the command that sees to it."""
    sent = [batch for batch in progress.batches if batch.awaited]
    ended = [batch for batch in sent if BatchState(batch.state).ended]
    running = [batch for batch in sent if batch not in ended]
    exported = [batch for batch in progress.batches if batch.in_files]
    folders = [batch.id for batch in progress.batches if batch.state == EXPORTED and batch.id]
    missing = progress.missing + sum(batch.requests for batch in progress.batches if batch.to_send)
    lines = []
    if running:
        verb = "is" if len(running) == 1 else "are"
        command = _command("collect", wait=True)
        lines.append(f"{_count_batches(running)} {verb} under way: '{command}' fetches the replies.")
    if ended:
        verb = "has" if len(ended) == 1 else "have"
        lines.append(f"{_count_batches(ended)} {verb} ended: '{_command('collect')}' fetches the replies.")
    if exported:
        verb = "is" if len(exported) == 1 else "are"
        lines.append(
            f"{_count_batches(exported)} {verb} exported: '{_command('import', folders[-1])}' reads the replies."
        )
    if missing:
        again = ("export", folders[-1]) if folders and not sent else ("submit",)
        verb = "is" if missing == 1 else "are"
        lines.append(f"{_count(missing, 'request')} {verb} not answered: '{_command(*again)}' asks them.")
        if progress.failure:
            lines.append(f"What failed, such as: {progress.failure}")
    return lines


def _command(*step: str, wait: bool = False) -> str:
    """Return this command line with another step."""
    words = join_values({"--batch"}, current_arguments.get())
    kept = [word for word in words if not word.startswith("--batch=") and word not in ("--wait", "--json")]
    return shlex.join(mask_arguments([*kept, "--batch", *step, *(["--wait"] if wait else [])]))


def _count(number: int, noun: str, plural: str | None = None) -> str:
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def _count_batches(batches: Sequence[SubmittedBatch]) -> str:
    requests = sum(batch.requests for batch in batches)
    return f"{_count(len(batches), 'batch', 'batches')} with {_count(requests, 'request')}"

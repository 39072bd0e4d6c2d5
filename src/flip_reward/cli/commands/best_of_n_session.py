"""Choose the best of N in front of a person: drawing, scoring, the choices, and what is said about them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import typer
from rich.console import Console
from rich.text import Text

from flip_reward.cli.commands.best_of_n_display import DrawingDisplay, describe, print_results
from flip_reward.cli.commands.session import (
    LONGEST_TABLE,
    STOPPED,
    print_places,
    run_until_interrupted,
    score_opened,
    show_requests,
)
from flip_reward.cli.console import print_summary
from flip_reward.cli.exit_codes import ExitCode
from flip_reward.cli.policy_options import told_of_policy
from flip_reward.data.input import Input
from flip_reward.data.readers import open_input
from flip_reward.data.rereading import rereadable_inputs
from flip_reward.data.rows import RowMapper
from flip_reward.data.sources import Rejection, SourceRow, read_sources
from flip_reward.scoring.job import OpenedJob, ScoringJob, open_job
from flip_reward.scoring.runner import StopSignal
from flip_reward.scoring.summary import Summary
from flip_reward.selection.candidates import CandidateFile
from flip_reward.selection.choice import TieRule
from flip_reward.selection.policy import Drawing, Policy, with_candidates
from flip_reward.selection.prompts import open_for_candidates, reject_answered
from flip_reward.selection.results import BEST, UNDECIDED, Result, Tally, choose_in_run, write_results


@dataclass(frozen=True, slots=True)
class TieBreaking:
    """How ties are broken: see `select_best`."""

    rule: TieRule
    seed: int


def run_best_of_n(
    job: ScoringJob, ties: TieBreaking, policy: Policy | None, *, as_json: bool, table: bool | None
) -> None:
    """Draw candidates where that is wanted, score them, choose, and print what came of it.

    Args:
        job: What to score.
        ties: How ties are broken.
        policy: Writes the responses; None when the inputs hold them.
        as_json: Print the summary as JSON to standard output, and everything else to standard error.
        table: Show the choices as a table; None shows them when they are few.

    Raises:
        typer.Exit: It was interrupted, or some rows have no choice or some responses no record that stays.
        FlipRewardError: It could not be run.
    """
    console = Console(stderr=as_json)
    with ExitStack() as held:
        open_source = held.enter_context(rereadable_inputs())
        opened = open_job(job, open_source=open_source if policy is None else _for_candidates(open_source, policy))
        held.callback(opened.folder.close)
        read_rows = opened.read_rows
        stop = StopSignal()
        if policy is not None:
            file = held.enter_context(CandidateFile(opened.folder.path, policy.count))
            _draw(opened, policy, file, stop, console)
            read_rows = _drawn_rows(opened, policy, file)
        summary = score_opened(opened, console, stop, read_rows())
        if summary.interrupted:
            _tell_stopped(opened, summary, console, as_json=as_json)
            raise typer.Exit(ExitCode.INTERRUPTED)

        def results() -> Iterator[Result]:
            rows = read_rows(settled_too=True)
            return choose_in_run(opened.folder.path, rows, tie_rule=ties.rule, seed=ties.seed)

        tally = _write(opened, results)
        if as_json:
            typer.echo(_to_json(opened, summary, tally))
        else:
            if tally.rows and (table or (table is None and tally.rows <= LONGEST_TABLE)):
                print_results(console, islice(results(), LONGEST_TABLE))
                if tally.rows > LONGEST_TABLE:
                    console.print(f"The first {LONGEST_TABLE} of {tally.rows} rows.")
            print_summary(console, summary)
            console.print(Text(describe(tally, ties.rule.value)), soft_wrap=True)
            if tally.undecided:
                console.print(Text(f"Undecided rows: {opened.folder.path / UNDECIDED}"), soft_wrap=True)
            print_places(console, opened, output=_output(opened))
    if tally.undecided or summary.rejected_rows or not summary.complete:
        raise typer.Exit(ExitCode.PARTLY_DONE)


def show_policy_prompts(
    policy: Policy, inputs: Sequence[str], columns: Mapping[str, str], *, limit: int | None = None
) -> None:
    """Print what the policy would be asked for the first rows, and call nothing. All candidates have one prompt."""
    sources = [open_for_candidates(open_input(name), policy.count) for name in inputs]
    rows = reject_answered(read_sources(sources, RowMapper(columns), limit=limit))
    show_requests(rows, lambda group: [policy.request(group.messages, 0)], unit="candidate")


def _for_candidates(open_source: Callable[[str], Input], policy: Policy) -> Callable[[str], Input]:
    return lambda name: open_for_candidates(open_source(name), policy.count)


def _drawn_rows(
    opened: OpenedJob, policy: Policy, file: CandidateFile
) -> Callable[..., Iterator[SourceRow | Rejection]]:
    def read_rows(*, settled_too: bool = False) -> Iterator[SourceRow | Rejection]:
        return with_candidates(reject_answered(opened.read_rows(settled_too=settled_too)), file, policy)

    return read_rows


def _draw(opened: OpenedJob, policy: Policy, file: CandidateFile, stop: StopSignal, console: Console) -> None:
    settled_rows = max(len(opened.folder.settled), file.found // policy.count)
    display = DrawingDisplay(console, rows=opened.rows, settled_rows=settled_rows)
    drawing = Drawing(policy, file, limits=opened.job.limits, observer=display, stop=stop)
    rows = reject_answered(opened.read_rows())
    reward, seen_ids = opened.job.reward, opened.folder.seen_ids
    with told_of_policy():
        run_until_interrupted(opened, console, stop, display, lambda: drawing.draw(rows, reward, seen_ids))
    console.print(Text(display.describe(found=file.found)), soft_wrap=True)
    if stop.requested:
        print_places(console, opened, STOPPED)
        raise typer.Exit(ExitCode.INTERRUPTED)


def _write(opened: OpenedJob, results: Callable[[], Iterator[Result]]) -> Tally:
    tally = Tally()
    write_results(_output(opened), tally.count(results()))
    undecided = opened.folder.path / UNDECIDED
    undecided.unlink(missing_ok=True)
    if tally.undecided:
        write_results(undecided, (result for result in results() if result.selection.index is None))
    return tally


def _output(opened: OpenedJob) -> Path:
    return opened.job.output or opened.folder.path / BEST


def _tell_stopped(opened: OpenedJob, summary: Summary, console: Console, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"run_folder": str(opened.folder.path), **summary.model_dump()}, indent=2))
        return
    print_summary(console, summary)
    print_places(console, opened, STOPPED)


def _to_json(opened: OpenedJob, summary: Summary, tally: Tally) -> str:
    places = {"run_folder": str(opened.folder.path), "output": str(_output(opened))}
    return json.dumps({**places, **asdict(tally), "decided": tally.decided, **summary.model_dump()}, indent=2)

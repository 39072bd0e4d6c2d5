"""`flip-reward best-of-n`: sample candidates where that is wanted, score them, choose, and say what was chosen."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flip_reward.cli.console import print_summary, shorten
from flip_reward.cli.exit_codes import ExitCode
from flip_reward.cli.generation import GenerationOptions, RolloutDisplay, told_of_policy
from flip_reward.cli.options import Inputs, RunOptions, expand_options
from flip_reward.cli.session import (
    LONGEST_TABLE,
    STOPPED,
    check_rows,
    name_folder,
    print_note,
    print_places,
    run_until_interrupted,
    score_opened,
    show_prompts,
    show_requests,
    tell_shape,
)
from flip_reward.data.groups import PlacedRow, SourceRow, read_sources
from flip_reward.data.readers import open_input
from flip_reward.data.rows import Input, InvalidRow
from flip_reward.data.shapes import Need, find_shape
from flip_reward.data.tables import STANDARD_OUTPUT
from flip_reward.engines.base import Request
from flip_reward.engines.config import describe_model
from flip_reward.engines.stopping import StopSignal
from flip_reward.errors import OptionError
from flip_reward.rewards.config import RewardConfig
from flip_reward.scoring.job import OpenedJob, ScoringJob, open_job
from flip_reward.scoring.output import Output, read_scored_rows, settle, write_output
from flip_reward.scoring.summary import Summary
from flip_reward.selection.candidates import CandidateFile, SampledGroup
from flip_reward.selection.choice import TieRule
from flip_reward.selection.output import ChoiceColumns, Choices, Keep, place_candidates
from flip_reward.selection.policy import (
    Policy,
    Rollout,
    SampledReward,
    check_columns,
    open_for_candidates,
    reject_answered,
    with_candidates,
)
from flip_reward.selection.results import (
    BEST,
    UNDECIDED,
    Result,
    SelectionCounts,
    choose_in_run,
    keep_choices,
    write_results,
)

_CHOICE = "Choice"


@dataclass(frozen=True, slots=True)
class TieBreaking:
    """How ties are broken: see `select_best`."""

    rule: TieRule
    seed: int


@expand_options(without=("policy_tokenizer", "shard", "ray", "ray_workers"))
def best_of_n(
    inputs: Inputs,
    config: RewardConfig,
    run: RunOptions,
    policy: GenerationOptions,
    tie_rule: Annotated[
        TieRule,
        typer.Option(
            metavar="|".join(TieRule),
            help="Which response is chosen when several have the highest reward.",
            rich_help_panel=_CHOICE,
        ),
    ] = TieRule.FIRST,
    tie_seed: Annotated[
        int, typer.Option(help="random: another seed chooses other responses.", hidden=True, rich_help_panel=_CHOICE)
    ] = 0,
    keep: Annotated[
        Keep,
        typer.Option(
            metavar="|".join(Keep),
            help="Which rows --output holds: those with the chosen responses, or all, with ranks.",
            rich_help_panel=_CHOICE,
        ),
    ] = Keep.BEST,
) -> None:
    """Choose the best of several responses: score them all, and keep the one with the highest reward.

    Rows hold an instruction (or prompt, or messages) and responses; with --generate N only the former. The run is
    kept in a folder; the same command again goes on where it stopped. Another --tie-rule asks nothing again.

    The choices are written to best.jsonl in the run folder, and rows without a scored response to undecided.jsonl.
    --output holds your rows with columns added.

    Examples:

      flip-reward best-of-n candidates.jsonl -o best.parquet

      flip-reward best-of-n candidates.jsonl -r listwise --orders 4 --tie-rule shortest

      flip-reward best-of-n prompts.jsonl --generate 8 --policy-model Qwen/Qwen3-8B
      --policy-base-url http://localhost:8001/v1 --model Qwen/Qwen3-4B --base-url http://localhost:8000/v1
    """
    policy.check()
    columns = run.column_names
    if policy.generate is not None:
        check_columns(columns)
        engine, policy_engine = policy.split_engines(config.engine)
        config = config.updated(engine=engine)
    reward, output = config.check(), run.destination  # mistakes come to light before a model loads
    if keep is Keep.ALL and output == Output():
        raise OptionError("--keep is about --output, which is not given", hint="say where with -o")
    if tie_seed and tie_rule is not TieRule.RANDOM:
        raise OptionError(f"the tie rule {tie_rule.value} has no seed", hint="--tie-rule random has one")
    if run.dry_run:
        if policy.generate is None:
            show_prompts(reward, inputs, run, compares=True)
        else:
            show_policy_prompts(policy, inputs, columns, limit=run.limit, encoding=run.encoding)
        return
    need = Need.RESPONSES if policy.generate is None else Need.PROMPTS
    check_rows(inputs, run, need, compares=policy.generate is None)
    typer.echo(f"model: {config.describe_model()}", err=True)
    writer = None
    if policy.generate is not None:
        typer.echo(f"policy: model: {describe_model(policy_engine)}", err=True)
        writer = policy.load(policy_engine)
    reward = config.load()
    job = ScoringJob(
        reward if writer is None else SampledReward(reward, writer),
        inputs,
        folder=run.run_folder,
        output=output,
        columns=columns,
        need=need,
        limit=run.limit,
        group_by=run.group_by,
        compares=policy.generate is None,
        limits=run.to_limits(config.engine.requests_at_once),
        prices=run.prices,
        encoding=run.encoding,
    )
    run_best_of_n(job, TieBreaking(tie_rule, tie_seed), writer, keep=keep, as_json=run.as_json, table=run.table)


def run_best_of_n(
    job: ScoringJob,
    ties: TieBreaking,
    policy: Policy | None,
    *,
    keep: Keep = Keep.BEST,
    as_json: bool,
    table: bool | None,
) -> None:
    """Sample candidates where that is wanted, score them, choose, and print the results.

    The policy is None when the inputs hold the responses. By default a table shows the choices when they are few.
    """
    messages = Console(stderr=True)
    with ExitStack() as held:
        opened = open_job(job, open_source=None if policy is None else _for_candidates(job.encoding))
        held.callback(opened.folder.close)
        read_rows, place_rows = opened.read_rows, opened.all_rows.place
        stop = StopSignal()
        if policy is not None:
            file = held.enter_context(
                CandidateFile(
                    opened.folder.path,
                    policy.count,
                    retry_refused=job.limits.retry_refused,
                    before_append=opened.folder.begin,
                )
            )
            _sample(opened, policy, file, stop, messages)
            read_rows = _sampled_rows(opened, policy, file)
            place_rows = _sampled_places(opened, policy, file)
        summary = score_opened(opened, messages, stop, read_rows())
        if summary.interrupted:
            _tell_stopped(opened, summary, messages, as_json=as_json)
            raise typer.Exit(ExitCode.INTERRUPTED)

        def results() -> Iterator[Result]:
            rows = read_rows(include_completed=True)
            read = job.reward.visible_answer
            return choose_in_run(
                opened.folder.path, rows, tie_rule=ties.rule, seed=ties.seed, read=read, limit=job.limit
            )

        choices = Choices()
        tally = _write(opened, results, choices)
        _write_rows(opened, place_rows, choices, keep, generated=policy is not None)
        if as_json:
            typer.echo(_to_json(opened, summary, tally))
        else:
            console = Console(stderr=job.output.path == STANDARD_OUTPUT)
            if tally.rows and (table or (table is None and tally.rows <= LONGEST_TABLE)):
                print_results(console, islice(results(), LONGEST_TABLE))
                if tally.rows > LONGEST_TABLE:
                    console.print(f"The first {LONGEST_TABLE} of {tally.rows} rows.")
            print_summary(console, summary)
            console.print(Text(describe(tally, ties.rule.value)), soft_wrap=True)
            if tally.undecided:
                console.print(Text(f"Undecided rows: {opened.folder.path / UNDECIDED}"), soft_wrap=True)
            print_places(console, opened, output=_output(opened))
    if tally.undecided or summary.rejected_rows or not summary.complete or not summary.scored_any:
        raise typer.Exit(ExitCode.PARTLY_DONE)


def show_policy_prompts(
    policy: GenerationOptions,
    inputs: Sequence[str],
    columns: Mapping[str, str],
    *,
    limit: int | None = None,
    encoding: str | None = None,
) -> None:
    """Print what the policy would be asked for the first rows, and call nothing. All candidates have one prompt."""
    sources = [open_for_candidates(open_input(name, encoding=encoding)) for name in inputs]
    shape = find_shape(sources, columns, need=Need.PROMPTS)
    tell_shape(shape, sources)
    rows = reject_answered(read_sources(sources, shape, limit=limit))
    show_requests(rows, lambda group: [Request(group.messages, policy.sampling)], unit="candidate")


def _for_candidates(encoding: str | None) -> Callable[[str], Input]:
    return lambda name: open_for_candidates(open_input(name, encoding=encoding))


def _sampled_rows(
    opened: OpenedJob, policy: Policy, file: CandidateFile
) -> Callable[..., Iterator[SourceRow | InvalidRow]]:
    def read_rows(*, include_completed: bool = False) -> Iterator[SourceRow | InvalidRow]:
        return with_candidates(reject_answered(opened.read_rows(include_completed=include_completed)), file, policy)

    return read_rows


def _sampled_places(opened: OpenedJob, policy: Policy, file: CandidateFile) -> Callable[[], Iterator[PlacedRow]]:
    return lambda: place_candidates(opened.all_rows.place(), file, policy)


def _sample(opened: OpenedJob, policy: Policy, file: CandidateFile, stop: StopSignal, console: Console) -> None:
    completed_rows = max(len(opened.folder.completed), file.found // policy.count)
    display = RolloutDisplay(console, rows=opened.rows, completed_rows=completed_rows)
    rollout = Rollout(policy, file, limits=opened.job.limits, observer=display, stop=stop)
    rows = reject_answered(opened.read_rows())

    async def sample() -> None:
        await rollout.run(await opened.checked(rows), opened.job.reward)

    with told_of_policy():
        run_until_interrupted(opened, console, stop, display, sample)
    console.print(Text(display.describe(found=file.found)), soft_wrap=True)
    if stop.requested:
        print_places(console, opened, STOPPED)
        raise typer.Exit(ExitCode.INTERRUPTED)


def _write(opened: OpenedJob, results: Callable[[], Iterator[Result]], choices: Choices) -> SelectionCounts:
    tally = SelectionCounts()
    output, kept = opened.job.output, opened.folder.kept
    if kept is not None:
        write_results(kept / BEST, keep_choices(kept, choices.note(tally.count(results()))))
    if output.path is not None and output.only_scores:
        write_results(output.path, results())
    undecided = opened.folder.path / UNDECIDED
    undecided.unlink(missing_ok=True)
    if tally.undecided:
        write_results(undecided, (result for result in results() if result.selection.index is None))
    return tally


def _write_rows(
    opened: OpenedJob, place: Callable[[], Iterator[PlacedRow]], choices: Choices, keep: Keep, *, generated: bool
) -> None:
    if opened.survey is None:
        return
    folder = opened.folder.path
    shape = replace(opened.shape, many=True) if generated else settle(opened.shape, folder, place)
    added = ChoiceColumns(shape, keep, choices, parts=opened.all_rows.parts, generated=generated)
    for line in write_output(opened.job.output, opened.survey, lambda: read_scored_rows(folder, place()), added):
        print_note(line)


def _output(opened: OpenedJob) -> Path | None:
    return opened.job.output.path or (opened.folder.kept and opened.folder.kept / BEST)


def _tell_stopped(opened: OpenedJob, summary: Summary, console: Console, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"run_folder": name_folder(opened), **summary.model_dump()}, indent=2))
        return
    print_summary(console, summary)
    print_places(console, opened, STOPPED)


def _to_json(opened: OpenedJob, summary: Summary, tally: SelectionCounts) -> str:
    output = _output(opened)
    places = {"run_folder": name_folder(opened), "output": None if output is None else str(output)}
    return json.dumps({**places, **asdict(tally), "decided": tally.decided, **summary.model_dump()}, indent=2)


def print_results(console: Console, results: Iterable[Result]) -> None:
    """Print a table of choices. Their texts come from models and are shown as they are, never as markup."""
    table = Table(box=SIMPLE_HEAD, expand=True, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("id", ratio=2, overflow="fold")
    table.add_column("instruction", ratio=3, overflow="fold")
    table.add_column("chosen response", ratio=4, overflow="fold")
    table.add_column("reward", justify="right", width=6)
    table.add_column("scored", justify="right", width=6)
    table.add_column("note", ratio=2, overflow="fold")
    for result in results:
        selection = result.selection
        value = None if selection.index is None else result.scores[selection.index].value
        table.add_row(
            shorten(result.group.id),
            shorten(result.instruction),
            shorten(selection.response or ""),
            Text("" if value is None else f"{value:.3f}"),
            Text(f"{len(result.scores) - selection.unscored}/{len(result.scores)}"),
            Text(_note(result), style="yellow" if selection.index is None else ""),
        )
    console.print(table)


def _note(result: Result) -> str:
    selection = result.selection
    if selection.index is None:
        return selection.reason or ""
    notes = [f"{result.tie_rule} of {len(selection.tied)} tied"] if selection.tied else []
    if len(result.scores) == 1:
        notes.append("the only response")
    if isinstance(result.group, SampledGroup):
        truncated = result.group.candidates[selection.index].truncated
        if truncated is not False:
            notes.append("truncated" if truncated else "may be truncated")
    return ", ".join(notes)


def describe(tally: SelectionCounts, rule: str) -> str:
    """Say in how many rows a response was chosen.

    Example:
        >>> describe(SelectionCounts(rows=4, tied=2, single=1, undecided=1), "first")
        '3 of 4 rows decided (2 ties by the rule first; 1 with a single response, chosen as it is); 1 undecided'
    """
    if not tally.rows:
        return "Nothing to choose from"
    remarks = []
    if tally.tied:
        remarks.append(f"{tally.tied} {'tie' if tally.tied == 1 else 'ties'} by the rule {rule}")
    if tally.single:
        remarks.append(f"{tally.single} with a single response, chosen as it is")
    line = f"{tally.decided} of {tally.rows} rows decided" + (f" ({'; '.join(remarks)})" if remarks else "")
    return line + (f"; {tally.undecided} undecided" if tally.undecided else "")

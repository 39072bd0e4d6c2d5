"""`flip-reward audit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from flip_reward.audit.attacks.catalogue import FAMILIES, find_attacks
from flip_reward.audit.folder import AuditOptions
from flip_reward.audit.read import GenuineData, read_genuine
from flip_reward.audit.results import SEPARATOR, write_results
from flip_reward.audit.run import AuditPlan, default_folder, find_reader, prepare_audit, run_audit
from flip_reward.audit.tabulate import tabulate
from flip_reward.audit.thresholds import Threshold, parse
from flip_reward.cli.audited import print_audit
from flip_reward.cli.console import printable
from flip_reward.cli.exit_codes import ExitCode
from flip_reward.cli.grids import check_models, explain_unscored, run_with_progress, tell_models
from flip_reward.cli.options import (
    ENCODING,
    AsJson,
    OptionalInputs,
    RetryRefused,
    SameModel,
    complete,
    expand_options,
)
from flip_reward.cli.rollouts import run_rollouts
from flip_reward.cli.session import STOPPED, tell_groups, tell_shape
from flip_reward.core.score import Outcome
from flip_reward.data.readers import open_input
from flip_reward.data.shapes import parse_columns
from flip_reward.engines.stopping import StopSignal
from flip_reward.errors import OptionError
from flip_reward.evaluation.folder import open_folder
from flip_reward.evaluation.grid import load_rewards
from flip_reward.evaluation.statistics import check_libraries
from flip_reward.redact import show_address
from flip_reward.report.audit.page import build_audit_page
from flip_reward.rewards.config import REWARDS, RewardConfig
from flip_reward.scoring.run_folder import read_summary
from flip_reward.scoring.runner import RunLimits

_PANEL = "Audit"


@expand_options(without=("reward", "model", "policy_tokenizer"))
def audit(
    data: OptionalInputs = None,
    *,
    reward: Annotated[
        list[str] | None,
        typer.Option(
            "--reward",
            "-r",
            help="As for 'score'; may be repeated. A function of yours is package.module:function.",
            autocompletion=complete(REWARDS),
            rich_help_panel=_PANEL,
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="As for 'score'; may be repeated.", rich_help_panel=_PANEL),
    ] = None,
    config: RewardConfig,
    attack: Annotated[
        list[str] | None,
        typer.Option(
            "--attack",
            help=f"Only these: {', '.join(FAMILIES)}; one of them, such as copy.before; or a function of yours, "
            "module:function. May be repeated.",
            metavar="NAME",
            autocompletion=complete(FAMILIES),
            rich_help_panel=_PANEL,
        ),
    ] = None,
    attack_seed: Annotated[
        int,
        typer.Option(help="Another seed changes other responses in other ways.", hidden=True, rich_help_panel=_PANEL),
    ] = 0,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-if",
            help="Exit with status 6 where this holds, such as 'copy.win_rate>0.05'. May be repeated.",
            metavar="CONDITION",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Audit at most this many prompts.", rich_help_panel=_PANEL),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            help="Your names for our columns, as for 'score'.", metavar="OURS=YOURS,...", rich_help_panel=_PANEL
        ),
    ] = None,
    group_by: Annotated[
        str | None,
        typer.Option(
            help="Rows with the same value there hold responses to one prompt.",
            metavar="COLUMN",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    skip_bad_rows: Annotated[
        bool,
        typer.Option(
            "--skip-bad-rows", help="Leave out rows that cannot be used.", hidden=True, rich_help_panel=_PANEL
        ),
    ] = False,
    encoding: Annotated[
        str | None, typer.Option(help=ENCODING, hidden=True, show_default=False, rich_help_panel=_PANEL)
    ] = None,
    run_folder: Annotated[
        Path | None,
        typer.Option(
            help="The audit folder: made, extended or resumed. By default below audits/.", rich_help_panel=_PANEL
        ),
    ] = None,
    rollouts: Annotated[
        list[str] | None,
        typer.Option(
            "--rollouts",
            help="In place of INPUT: the logs of any trainer, files or folders, which are watched step by step.",
            metavar="PATH",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    reward_column: Annotated[
        list[str] | None,
        typer.Option(
            help="Of --rollouts: what is trained on. Of several the sum.", metavar="COLUMN", rich_help_panel=_PANEL
        ),
    ] = None,
    other_column: Annotated[
        list[str] | None,
        typer.Option(
            help="Of --rollouts: a reward that is not trained on; may be repeated.",
            metavar="COLUMN",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    retry_refused: RetryRefused = False,
    same_model: SameModel = False,
    as_json: AsJson = False,
) -> None:
    """Find out how a reward can be gamed, before a policy does.

    Attacks change genuine responses without a model: they copy the instruction, flatter, pad, break the meaning.
    Every reward scores both, and what an attack gains is shown with intervals, the worst first. Rows are read as by
    'score'; where they say which response is better, that is measured too. The audit is kept in a folder with its
    results and a page. The same command again goes on where it stopped; with more rewards or models it adds them.

    Examples:

      flip-reward audit responses.jsonl -r flip -r pointwise

      flip-reward audit responses.jsonl -r flip -r 'flip[copy_guard=true]'

      flip-reward audit pairs.jsonl -r flip --attack copy --fail-if 'copy.win_rate>0.05'

      flip-reward audit responses.jsonl -r mine.rewards:score --limit 100

      flip-reward audit --rollouts rollouts/ --run-folder audits/run-7 --fail-if alarm
    """
    if rollouts:
        asked = (data, reward, model, attack, attack_seed, limit, group_by, skip_bad_rows, retry_refused, same_model)
        if any(asked) or config.changed():
            raise OptionError(
                "--rollouts stands alone: logs are read, and no reward is asked",
                hint="only --reward-column, --other-column, --columns, --encoding, --fail-if, --run-folder, --json "
                "go with it; several logs are --rollouts A --rollouts B",
            )
        run_rollouts(
            rollouts,
            columns=columns,
            reward_columns=reward_column or [],
            other_columns=other_column or [],
            encoding=encoding,
            run_folder=run_folder,
            fail_if=fail_if or [],
            as_json=as_json,
        )
        return
    if reward_column or other_column:
        raise OptionError("--reward-column and --other-column are for --rollouts")
    if not data:
        raise OptionError("there is nothing to audit", hint="name an input, or logs with --rollouts")
    check_libraries()
    thresholds = [parse(text) for text in fail_if or []]
    attacks = find_attacks(attack or [])
    if not reward:
        raise OptionError("name at least one reward", hint="for example -r flip")
    check_models(reward, model)
    engines = [config.updated(model=name).engine for name in model] if model else [config.engine]
    rewards = load_rewards(reward, engines, config)
    inputs = [open_input(name, encoding=encoding) for name in data]
    genuine = read_genuine(
        inputs,
        find_reader(rewards),
        columns=parse_columns(columns) if columns else {},
        group_by=group_by,
        limit=limit,
        skip_bad_rows=skip_bad_rows,
    )
    source = SEPARATOR.join(map(show_address, data))
    plan = AuditPlan.make(source, genuine, attacks, rewards, AuditOptions(limit=limit, attack_seed=attack_seed))
    described = plan.describe()
    for one in thresholds:
        one.check_names(described.attacks, [entry.label for entry in described.rewards])
    tell_models(rewards)
    tell_groups(genuine.groups)
    tell_shape(genuine.shape, inputs)
    _warn(genuine, plan)
    limits = RunLimits(config.engine.requests_at_once, retry_refused=retry_refused, same_model=same_model)
    _audit(run_folder or default_folder(source, described), plan, thresholds, limits, as_json=as_json)


def _warn(genuine: GenuineData, plan: AuditPlan) -> None:
    """Say once what is left out."""
    if genuine.bad_rows:
        typer.echo(
            f"left out {len(genuine.bad_rows)} row{'s' * (len(genuine.bad_rows) != 1)} that cannot be used", err=True
        )
    if genuine.unlabelled:
        typer.echo(f"{genuine.unlabelled} prompts do not say which response is better", err=True)
    if plan.impossible:
        typer.echo(
            f"left out {plan.impossible} attacks that take the response to another prompt: there is one prompt only",
            err=True,
        )


def _audit(folder: Path, plan: AuditPlan, thresholds: list[Threshold], limits: RunLimits, *, as_json: bool) -> None:
    """Audit with a progress bar for every reward, write the results and the page, and show the results."""
    messages, stop = Console(stderr=True), StopSignal()
    with open_folder(folder):
        written = prepare_audit(folder, plan)
        try:
            complete = run_with_progress(
                folder,
                lambda display, stop: run_audit(folder, plan, written, display, limits=limits, stop=stop),
                messages,
                stop,
                name="Audit",
                unit="groups",
            )
        finally:
            data = tabulate(folder)
            write_results(folder, data.results)
            page = build_audit_page(folder, data)
    if as_json:
        typer.echo(data.results.model_dump_json(indent=2))
    else:
        print_audit(Console(), data.results)
    for label, run in written.runs.items():
        summary = read_summary(folder / run)
        outcomes = dict(summary.outcomes) if summary else {}
        outcomes.pop(Outcome.EMPTY_RESPONSE.value, None)  # some attacks are blank; the results name them
        if why := explain_unscored(outcomes, folder / run):
            messages.print(printable(f"{label}: {why}"), soft_wrap=True)
    for line in (f"Audit folder: {folder}", f"Report: {page}"):
        (messages if as_json else Console()).print(Text(line), soft_wrap=True)
    if stop.requested:
        messages.print(STOPPED)
        raise typer.Exit(ExitCode.INTERRUPTED)
    asked = [reward for reward in data.results.rewards if reward.label in {one.label for one in plan.rewards}]
    results = data.results.model_copy(update={"rewards": asked})  # not those that the folder had before
    passed = [line for one in thresholds for line in one.check(results)]
    for line in passed:
        messages.print(Text(f"Failed: {line}", style="bold red"), soft_wrap=True)
    if passed:
        raise typer.Exit(ExitCode.THRESHOLD_PASSED)
    if not complete:
        raise typer.Exit(ExitCode.PARTLY_DONE)

"""`flip-reward runs`, `flip-reward runs rm` and `flip-reward runs open`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.text import Text

from flip_reward.cli.console import printable
from flip_reward.scoring.folders import MANIFEST, ROLLOUTS, SHARDS, FolderKind
from flip_reward.scoring.listing import ListedRun, RunState, find_run, list_runs, remove_run

app = typer.Typer(invoke_without_command=True, add_completion=False, rich_markup_mode="rich")

RUNS = Path("runs")
_UNITS = ((86_400, "day"), (3600, "hour"), (60, "minute"))

Folder = Annotated[Path, typer.Option("--folder", help="Where the run folders are.")]
_Name = typer.Argument(metavar="NAME", help="A run's name, or its beginning.", show_default=False)


@app.callback()
def runs(
    context: typer.Context,
    folder: Folder = RUNS,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """List the runs of 'score', 'best-of-n', 'rescore' and 'audit --rollouts', the newest first.

    Of a run in shards it is how many are done, and the run that 'merge' made of them.

    Examples:

      flip-reward runs

      flip-reward runs open responses-flip

      flip-reward runs rm responses-flip-Qwen3-4B-1a2b3c4d
    """
    if context.invoked_subcommand is not None:
        return
    found = list_runs(folder)
    if as_json:
        typer.echo(
            orjson.dumps({"folder": str(folder), "runs": [asdict(run) for run in found]}, option=orjson.OPT_INDENT_2)
        )
    elif found:
        console = Console()
        for run in found:
            _print(console, run)
    else:
        typer.echo(f"There are no runs below {folder}.", err=True)


@app.command()
def rm(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Names, or their beginnings.")],
    folder: Folder = RUNS,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove runs: their records, and all else that was written into their folders."""
    found = list(dict.fromkeys(find_run(folder, name) for name in names))
    if not yes:
        for path in found:
            typer.echo(str(path), err=True)
        question = f"Remove {'this run' if len(found) == 1 else f'these {len(found)} runs'}?"
        typer.confirm(question, abort=True, err=True)
    for path in found:
        left = remove_run(path)
        stays = f"; the folder stays, since {', '.join(left)} is not the run's" if left else ""
        typer.echo(f"Removed {path}{stays}", err=True)


@app.command("open")
def open_run(name: Annotated[str, _Name], folder: Folder = RUNS) -> None:
    """Write the report of a run, and show it in the browser."""
    from flip_reward.cli.commands.report import report

    report([find_run(folder, name)], show=True)


def _print(console: Console, run: ListedRun) -> None:
    """Print what is known of a run. Its name is never cut, since it can be copied."""
    console.print(Text(run.name, style="bold"), soft_wrap=True)
    if run.state is RunState.DAMAGED:
        file = {FolderKind.ROLLOUTS: ROLLOUTS, FolderKind.SHARDS: SHARDS}.get(run.kind, MANIFEST)
        console.print(Text(f"  damaged: its {file} cannot be read", style="yellow"))
        return
    parts = [f"{run.shards[0]:,} of {run.shards[1]:,} shards"] if run.shards else []
    parts += [f"{run.rows:,} rows" + (f" (--limit {run.limit:,})" if run.limit else "")]
    parts += [f"{run.rejected:,} rejected"] if run.rejected else []
    parts += [f"mean {run.mean:.3f}"] if run.mean is not None else []
    parts.append(_age(run.started_at))
    lines = [
        f"{run.state.value}: {', '.join(parts)}",
        ", ".join([" + ".join(run.inputs), run.reward, *([run.model] if run.model != "none" else [])]),
        *([run.command] if run.command else []),
    ]
    for line in lines:
        text = printable(f"  {line}")
        text.truncate(console.width, overflow="ellipsis")
        console.print(text, no_wrap=True)


def _age(started_at: str) -> str:
    """Say how long ago a time is.

    Example:
        >>> _age(datetime.now(UTC).isoformat())
        'just now'
    """
    try:
        seconds = (datetime.now(UTC) - datetime.fromisoformat(started_at)).total_seconds()
    except (ValueError, TypeError):
        return "at an unknown time"
    for size, unit in _UNITS:
        count = int(seconds // size)
        if count > 0:
            return f"{count} {unit}{'s' * (count != 1)} ago"
    return "just now"

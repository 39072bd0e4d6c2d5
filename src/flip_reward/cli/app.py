"""The `flip-reward` command."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from flip_reward import __version__
from flip_reward.cli.commands import cache, data
from flip_reward.cli.commands.best_of_n import best_of_n
from flip_reward.cli.commands.compare import compare
from flip_reward.cli.commands.evaluate import evaluate
from flip_reward.cli.commands.export_adapter import export_adapter
from flip_reward.cli.commands.report import report
from flip_reward.cli.commands.rescore import rescore
from flip_reward.cli.commands.score import score
from flip_reward.cli.commands.serve import serve
from flip_reward.cli.commands.train import train
from flip_reward.cli.commands.tune_inferrer import tune_inferrer
from flip_reward.cli.console import EXPLANATION, ExitCode, exit_code
from flip_reward.errors import FlipRewardError

app = typer.Typer(
    name="flip-reward",
    help="Reward responses by inferring the instruction behind them (FLIP), without references and without rubrics.",
    epilog=EXPLANATION,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command()(score)
app.command()(best_of_n)
app.command()(rescore)
app.command()(report)
app.command()(evaluate)
app.command()(compare)
app.command()(tune_inferrer)
app.command()(train)
app.command()(serve)
app.command()(export_adapter)
app.add_typer(cache.app, name="cache")
app.add_typer(data.app, name="data")


@app.callback(invoke_without_command=True)
def _options(
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(f"flip-reward {__version__}")
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit: a user's mistake ends in one clear line, never in a traceback."""
    try:
        app(arguments)
    except FlipRewardError as error:
        console = Console(stderr=True, soft_wrap=True)
        console.print(Text(f"Error: {error}", style="bold red"))
        if error.hint:
            console.print(Text(f"Hint: {error.hint}"))
        sys.exit(exit_code(error))
    except OSError as error:
        sys.stderr.write(f"Error: cannot write the output: {error.strerror or error}\n")
        sys.exit(ExitCode.DISK_FULL)


if __name__ == "__main__":
    main()

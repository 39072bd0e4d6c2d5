"""The `flip-reward` command. Each of its commands is imported when it is asked for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from flip_reward import __version__
from flip_reward.cli.exit_codes import EXPLANATION, ExitCode, exit_code
from flip_reward.cli.streams import unbreakable_output
from flip_reward.errors import FlipRewardError
from flip_reward.scoring.command_line import current_arguments

COMMANDS = (
    "score", "best-of-n", "rescore", "runs", "report", "evaluate", "compare", "select",
    "train", "tune-inferrer", "export-adapter", "serve", "data", "cache",
)  # fmt: skip
"""In the order of the help. Each is a function in `commands/NAME.py`, or there an app with commands of its own."""

_TOGETHER = {"rescore": "score", "tune_inferrer": "train", "export_adapter": "train"}
"""Commands that stand in the file of another."""


class LazyCommands(TyperGroup):
    """The commands by name, each imported when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401, ARG002 - typer hides the type
        """Return the names in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401 - typer hides the types
        """Import a command."""
        if cmd_name not in COMMANDS:
            near = get_close_matches(cmd_name, COMMANDS, n=1)
            ctx.fail(f"No such command {cmd_name!r}." + (f" Did you mean {near[0]!r}?" if near else ""))
        name = cmd_name.replace("-", "_")
        module = import_module(f"flip_reward.cli.commands.{_TOGETHER.get(name, name)}")
        found = getattr(module, "app", None)
        if found is None:
            found = typer.Typer(add_completion=False, rich_markup_mode="rich")
            found.command()(getattr(module, name))
        command = get_command(found)
        command.name = cmd_name
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401 - typer hides the types
        """Find the command that the arguments name."""
        name, command, rest = super().resolve_command(ctx, args)
        pairs = [flag for one in getattr(command, "params", ()) if " " in (one.metavar or "") for flag in one.opts]
        return name, command, _repeat_pairs(pairs, rest)


def _repeat_pairs(options: Sequence[str], arguments: Sequence[str]) -> list[str]:
    """Write an option of two values twice, with one each: typer has none that can be given several times.

    Example:
        >>> _repeat_pairs(["--marks"], ["--marks", "<a>", "</a>", "--fast"])
        ['--marks', '<a>', '--marks', '</a>', '--fast']
    """
    left, written = list(reversed(arguments)), []
    while left:
        argument = left.pop()
        written.append(argument)
        if argument in options and len(left) > 1:
            written += [left.pop(), argument, left.pop()]
    return written


app = typer.Typer(
    name="flip-reward",
    cls=LazyCommands,
    help="Reward responses by inferring the instruction behind them (FLIP), without references and without rubrics.",
    epilog=EXPLANATION,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


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
    with unbreakable_output():
        _run(arguments)


def _run(arguments: Sequence[str] | None) -> None:
    current_arguments.set(("flip-reward", *(sys.argv[1:] if arguments is None else arguments)))
    try:
        app(arguments)
    except FlipRewardError as error:
        from rich.console import Console
        from rich.text import Text

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

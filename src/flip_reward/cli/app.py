"""The `flip-reward` command. Each of its commands is imported when it is asked for."""

from __future__ import annotations

import re
import sys
from collections.abc import Container, Iterator, Sequence
from importlib import import_module
from keyword import iskeyword
from types import SimpleNamespace
from typing import Annotated, Any

import typer

from flip_reward import __version__
from flip_reward.cli.exit_codes import EXPLANATION, ExitCode, exit_code
from flip_reward.cli.help import PlainGroup, build_command
from flip_reward.cli.streams import unbreakable_output
from flip_reward.errors import FlipRewardError, OptionError
from flip_reward.redact import current_arguments

COMMANDS = {
    "try": "Score one response, and see why.",
    "score": "Score the responses of a file.",
    "best-of-n": "Choose the best of several responses.",
    "rescore": "Compare inferred instructions another way, without the model.",
    "merge": "Make one run of the shards of a run.",
    "runs": "List, remove and open runs.",
    "report": "Write a run, an evaluation, an audit or a training as one HTML page.",
    "evaluate": "Grade rewards on preference benchmarks.",
    "audit": "Find out how a reward can be gamed.",
    "compare": "Compare two runs or evaluations, or several trainings.",
    "calibrate": "Turn rewards into probabilities, from a few hundred labels.",
    "select": "Make training data of scored rows.",
    "train": "Train a policy with GRPO.",
    "tune-inferrer": "Tune a small model to infer instructions.",
    "export-adapter": "Write a LoRA adapter as a GGUF file.",
    "serve": "Serve a reward over HTTP.",
    "data": "Make and check the prompts that a policy is trained on.",
    "cache": "Look at the response cache, or empty it.",
}
"""In the order of the help. Each is a function in `commands/NAME.py`, or there an app with commands of its own."""

_TOGETHER = {"rescore": "score", "tune_inferrer": "train", "export_adapter": "train"}
"""Commands that stand in the file of another."""


class LazyCommands(PlainGroup):
    """The commands by name, each imported when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401, ARG002 - typer hides the type
        """Return the names in the order of the help."""
        return list(COMMANDS)

    def summaries(self, ctx: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401, ARG002 - typer hides the type
        """Name the commands, each with a line about it, and import none."""
        yield from COMMANDS.items()

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:  # noqa: ANN401 - typer hides the types
        """Complete the name of a command, and import none."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        found = [(name, line) for name, line in COMMANDS.items() if name.startswith(incomplete)]
        return [SimpleNamespace(value=name, help=line, type="plain") for name, line in found]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401 - typer hides the types
        """Import a command."""
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        name = cmd_name.replace("-", "_") + ("_" if iskeyword(cmd_name) else "")
        module = import_module(f"flip_reward.cli.commands.{_TOGETHER.get(name, name)}")
        found = getattr(module, "app", None)
        if found is None:
            found = typer.Typer(add_completion=False)
            found.command()(getattr(module, name))
        command = build_command(found)
        command.name = cmd_name
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401 - typer hides the types
        """Find the command that the arguments name."""
        name, command, rest = super().resolve_command(ctx, args)
        options = [one for one in getattr(command, "params", ()) if one.param_type_name == "option"]
        pairs = [flag for one in options if one.multiple and " " in (one.metavar or "") for flag in one.opts]
        rest = join_values({flag for one in options for flag in one.opts}, rest)
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


_ADDRESS = re.compile(r"auto|local|ray://.+|(?:[\w.-]+|\[[\da-fA-F:]+\]):\d+")


def join_values(options: Container[str], arguments: Sequence[str]) -> list[str]:
    """Write as one word what an option has as its value: typer knows neither one of two words, nor one left out.

    What follows `--ray` may be an input; it is taken where it looks like an address.

    Example:
        >>> join_values({"--batch", "--ray"}, ["--batch", "export", "out", "--ray", "rows.jsonl"])
        ['--batch=export=out', '--ray=local', 'rows.jsonl']
    """
    left, written = list(reversed(arguments)), []
    while left and left[-1] != "--":
        argument = left.pop()
        if argument in options:
            match argument, *reversed(left[-2:]):
                case "--batch", "export" | "import" as step, folder if not folder.startswith("-"):
                    argument = f"--batch={step}={folder}"
                    del left[-2:]
                case "--batch", str(step), *_:
                    argument = f"--batch={step}"
                    left.pop()
                case "--ray", str(address), *_ if _ADDRESS.fullmatch(address):
                    argument = f"--ray={left.pop()}"
                case "--ray", *_:
                    argument = "--ray=local"
        written.append(argument)
    return [*written, *reversed(left)]


app = typer.Typer(
    name="flip-reward",
    cls=LazyCommands,
    help="Reward responses by inferring the instruction behind them (FLIP), without references and without rubrics.",
    epilog=EXPLANATION,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_UsageError: Any = typer.BadParameter.__base__
"""What the command line raises; typer hides the type."""


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
    given = current_arguments.set(("flip-reward", *(sys.argv[1:] if arguments is None else arguments)))
    try:
        with unbreakable_output():
            _run(arguments)
    finally:
        current_arguments.reset(given)


def _run(arguments: Sequence[str] | None) -> None:
    try:
        _check_texts(sys.argv[1:] if arguments is None else arguments)
        status = build_command(app, LazyCommands)(arguments, prog_name="flip-reward", standalone_mode=False)
    except _UsageError as error:
        _print_error(_describe(error), _say_usage(error))
        sys.exit(ExitCode.BAD_USAGE)
    except FlipRewardError as error:
        _print_error(str(error), error.hint)
        sys.exit(exit_code(error))
    except OSError as error:
        _print_error(f"cannot write the output: {error.strerror or error}")
        sys.exit(ExitCode.DISK_FULL)
    except typer.Abort:
        sys.exit(ExitCode.INTERRUPTED)
    sys.exit(status or ExitCode.DONE)


def _check_texts(arguments: Sequence[str]) -> None:
    """Refuse names that are no texts: they are written down, and would not be read again."""
    for argument in arguments:
        shown = argument.encode("utf-8", "backslashreplace").decode()
        if not argument.isascii() and shown != argument:
            raise OptionError(
                f"{shown} is not UTF-8", hint="rename the file; where the locale is not UTF-8, set PYTHONUTF8=1"
            )


def _print_error(message: str, hint: str | None = None) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, soft_wrap=True)
    console.print(Text(f"Error: {message}", style="bold red"))
    if hint:
        console.print(Text(f"Hint: {hint}"))


def _describe(error: Any) -> str:  # noqa: ANN401 - typer hides the type
    message = str(error.message if getattr(error, "possibilities", None) else error.format_message()).rstrip(".")
    near = sorted(getattr(error, "possibilities", None) or [])
    message = message[:1].lower() + message[1:]
    return f"{message}; did you mean {' or '.join(near)}?" if near else message


def _say_usage(error: Any) -> str:  # noqa: ANN401 - typer hides the type
    ctx = error.ctx
    if ctx is None:
        return "flip-reward --help"
    usage = " ".join([ctx.command_path, *ctx.command.collect_usage_pieces(ctx)])
    return f"{usage}; {ctx.command_path} --help says more"


if __name__ == "__main__":
    main()

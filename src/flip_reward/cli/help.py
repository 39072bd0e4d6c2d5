"""Help as plain text: the options that people use first, and all of them with `--help-all`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from textwrap import wrap
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from flip_reward.cli.exit_codes import ExitCode
from flip_reward.errors import suggest_name

_WIDEST_FLAG = 24
_QUOTED = re.compile(r'"[^"]*"')
_OPTION_AND_VALUE = re.compile(r"( --?[a-z][a-z-]*) (?!-)")
_ALL = "flip_reward.help_all"
"""Set in a context while `--help-all` is answered."""


def build_command(app: typer.Typer, group: type[TyperGroup] | None = None) -> Any:  # noqa: ANN401 - typer hides it
    """Build an app, with help of our own. What typer would hide is shown by `--help-all` alone."""
    for registered in app.registered_commands:
        registered.cls = PlainCommand
    app.info.cls = group or PlainGroup
    command = get_command(app)
    like = typer.Typer(add_completion=False)
    like.command()(_with_help_all)
    [help_all] = get_command(like).params
    for one in (command, *getattr(command, "commands", {}).values()):
        one.params.append(help_all)
    return command


class PlainCommand(TyperCommand):
    """A command whose help reads like prose."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:  # noqa: ANN401 - whatever typer says
        super().__init__(*arguments, **settings)
        self._rare = _take_hidden(self.params)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:  # noqa: ANN401, ARG002 - typer hides the type
        """Return what stands after the command's name."""
        return ["[OPTIONS]", *(_name_argument(one) for one in self.params if one.param_type_name == "argument")]

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - typer hides the types
        """Write the help."""
        arguments = [one for one in self.params if one.param_type_name == "argument"]
        options = [one for one in self.get_params(ctx) if one.param_type_name == "option"]
        self.format_usage(ctx, formatter)
        _write_text(formatter, self.help or "")
        described = [(_name_argument(one), _describe(one)) for one in arguments if getattr(one, "help", None)]
        if described:
            with formatter.section("Arguments"):
                formatter.write_dl(described, _WIDEST_FLAG)
        if ctx.meta.get(_ALL):
            for panel in dict.fromkeys(map(_panel, options)):
                _write_options(formatter, panel, [one for one in options if _panel(one) == panel])
            return
        hidden = self._rare or {"help_all"}  # where nothing is rare, it would show the same
        _write_options(formatter, "Options", [one for one in options if one.name not in hidden])


class PlainGroup(TyperGroup):
    """A command with commands below it."""

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - whatever typer says
        super().__init__(**settings)
        self.suggest_commands = False  # `get_command` does

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401 - typer hides the types
        """Return a command; where there is none, say which is near."""
        found = super().get_command(ctx, cmd_name)
        if found is None and not ctx.resilient_parsing:  # a shell that completes is told nothing
            ctx.fail(f"there is no command {cmd_name!r}{suggest_name(cmd_name, self.list_commands(ctx))}")
        return found

    def summaries(self, ctx: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - typer hides the type
        """Name the commands, each with a line about it."""
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None:
                yield name, (command.help or "").partition("\n")[0]

    def collect_usage_pieces(self, ctx: Any) -> list[str]:  # noqa: ANN401, ARG002 - typer hides the type
        """Return what stands after the command's name."""
        return ["[OPTIONS]", "COMMAND", "..."]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - typer hides the type
        """Read the arguments; without any, show the help where nothing else would be done."""
        if not args and self.no_args_is_help and not ctx.resilient_parsing:
            typer.echo(ctx.get_help(), err=True)
            raise typer.Exit(ExitCode.BAD_USAGE)
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - typer hides the types
        """Write the help."""
        self.format_usage(ctx, formatter)
        _write_text(formatter, self.help or "")
        with formatter.section("Commands"):
            formatter.write_dl(list(self.summaries(ctx)), _WIDEST_FLAG)
        _write_options(formatter, "Options", [one for one in self.get_params(ctx) if one.name != "help_all"])
        if self.epilog:
            formatter.write_paragraph()
            formatter.write_text(self.epilog)


def _take_hidden(params: list[Any]) -> frozenset[str]:
    """Name the options that are hidden, and hide them no more: the shell completes them all."""
    hidden = [one for one in params if getattr(one, "hidden", False)]
    for one in hidden:
        one.hidden = False
    return frozenset(one.name for one in hidden)


def _show_all(ctx: typer.Context, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        ctx.meta[_ALL] = True
        typer.echo(ctx.get_help())
        raise typer.Exit


def _with_help_all(
    *,
    help_all: Annotated[
        bool,
        typer.Option(
            "--help-all", help="Show all options and exit.", is_eager=True, callback=_show_all, expose_value=False
        ),
    ] = False,
) -> None:
    """Nothing but a signature of which typer makes the option."""


def _write_text(formatter: Any, text: str) -> None:  # noqa: ANN401 - typer hides the type
    """Write paragraphs. Commands, which are indented, can be copied: a long one goes on after a backslash."""
    before = ""
    for paragraph in text.split("\n\n"):
        is_command = paragraph.startswith(" ")
        if not (is_command and before.startswith(" ")):
            formatter.write_paragraph()
        if is_command:
            formatter.write(f"  {_wrap_command(paragraph, formatter.width - 4)}\n")
        elif paragraph:
            formatter.write_text(" ".join(paragraph.split()))
        before = paragraph


def _wrap_command(command: str, width: int) -> str:
    joined = _QUOTED.sub(lambda found: found[0].replace(" ", "\0"), " ".join(command.split()))
    joined = _OPTION_AND_VALUE.sub("\\1\0", joined)
    lines = wrap(joined, width, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
    return " \\\n  ".join(lines).replace("\0", " ")


def _write_options(formatter: Any, title: str, options: list[Any]) -> None:  # noqa: ANN401 - typer hides the type
    with formatter.section(title):
        formatter.write_dl([(_write_flags(one), _describe(one)) for one in options], _WIDEST_FLAG)


def _panel(option: Any) -> str:  # noqa: ANN401 - typer hides the type
    panel = getattr(option, "rich_help_panel", None)
    return panel if isinstance(panel, str) else "Options"


def _name_argument(argument: Any) -> str:  # noqa: ANN401 - typer hides the type
    return str(argument.metavar or argument.name.upper())


def _write_flags(option: Any) -> str:  # noqa: ANN401 - typer hides the type
    """Write an option as help shows it: "-m, --model MODEL", the value named after the last word of the option."""
    flags = ", ".join(sorted(option.opts, key=len))
    if option.is_flag:
        return " / ".join([flags, *option.secondary_opts])
    return f"{flags} {option.metavar or option.name.upper().rpartition('_')[2]}"


def _describe(parameter: Any) -> str:  # noqa: ANN401 - typer hides the type
    default = parameter.default
    if isinstance(default, Enum):
        default = default.value
    shown = parameter.param_type_name == "option" and not parameter.is_flag and parameter.show_default
    text = parameter.help or ""
    return f"{text} (default: {default})" if shown and default not in (None, "", [], ()) else text

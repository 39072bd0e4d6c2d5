"""The options that several commands share. Those of a reward and its model are made from `RewardConfig`'s fields."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from functools import partial, wraps
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from flip_reward.data.readers import INPUTS
from flip_reward.data.shapes import parse_columns
from flip_reward.data.tables import STANDARD_OUTPUT
from flip_reward.errors import OptionError
from flip_reward.rewards.config import REWARDS
from flip_reward.scoring.output import Output
from flip_reward.scoring.runner import RunLimits
from flip_reward.scoring.shards.spec import ShardSpec
from flip_reward.scoring.summary import Prices
from flip_reward.settings import FlatSettings, Option, check_settings


def _refuse_rewards(names: list[str]) -> list[str]:
    for name in names:
        if name in REWARDS and not Path(name).exists():
            raise OptionError(f"{name!r} is a reward, not an input", hint=f"choose it with --reward {name}")
    return names


Inputs = Annotated[
    list[str],
    typer.Argument(
        callback=_refuse_rewards,
        metavar="INPUT...",
        help=INPUTS,
        show_default=False,
    ),
]

OptionalInputs = Annotated[
    list[str] | None,
    typer.Argument(
        callback=lambda names: _refuse_rewards(names or []),
        metavar="[INPUT...]",
        help=INPUTS,
        show_default=False,
    ),
]

ENCODING = "How texts are encoded, such as cp1252; by default UTF-8, or UTF-16 where that is certain."
_RunOption = partial(typer.Option, rich_help_panel="Run")
_RareRunOption = partial(_RunOption, hidden=True)
"""Shown by `--help-all` alone."""

_Price = partial(_RareRunOption, min=0, metavar="PRICE")
PricePrompt = Annotated[float | None, _Price(help="Price of a million prompt tokens.")]
PriceCompletion = Annotated[float | None, _Price(help="Price of a million completion tokens.")]
AsJson = Annotated[bool, _RunOption("--json", help="Print the summary as JSON and nothing else.")]


RetryRefused = Annotated[
    bool, _RareRunOption("--retry-refused", help="Ask again what the engine refused in an earlier session.")
]
SameModel = Annotated[
    bool,
    _RareRunOption(
        "--same-model",
        help="The server at another address than before has the same model, though it does not list its name.",
    ),
]


OutputPath = Annotated[
    Path | None,
    _RunOption(
        "--output",
        "-o",
        metavar="FILE",
        help="Write your rows with columns added: .jsonl, .csv, .tsv (also .gz, .zst), .parquet, .xlsx, or '-' for "
        "JSON lines on standard output.",
    ),
]
OnlyScores = Annotated[bool, _RareRunOption("--only-scores", help="Let --output hold the scores without your rows.")]
PushToHub = Annotated[
    str | None,
    _RareRunOption(
        help="Push your rows with columns added to this data set on the Hugging Face hub; a new one is private.",
        metavar="OWNER/NAME",
    ),
]


@dataclass(frozen=True)
class RunOptions:
    """What a user chose about a run over a data set, and not about the reward and its model."""

    run_folder: Annotated[
        Path | None,
        _RunOption(
            "--run-folder",
            help="Where the run is kept and resumed from. By default below runs/, named after the input and the "
            "options.",
        ),
    ] = None
    output: OutputPath = None
    only_scores: OnlyScores = False
    push_to_hub: PushToHub = None
    columns: Annotated[
        str | None,
        _RunOption(
            help="Your names for our columns: instruction=question,response=answer. Several: responses=a+b. Joined: "
            r"instruction={a}\n\n{b}. Common names are recognised.",
            metavar="OURS=YOURS,...",
        ),
    ] = None
    group_by: Annotated[
        str | None,
        _RunOption(
            help="Rows with the same value there hold responses to one instruction. By default those do that have "
            "the same id and instruction, or follow each other with the same instruction.",
            metavar="COLUMN",
        ),
    ] = None
    encoding: Annotated[str | None, _RareRunOption(help=ENCODING, show_default=False)] = None
    limit: Annotated[int | None, _RunOption(min=1, metavar="N", help="Read at most this many rows.")] = None
    shard: Annotated[
        str | None,
        _RareRunOption(
            metavar="I/N|auto",
            help="Score the I-th of N parts of the rows, in a folder of its own below --run-folder; 'merge' joins "
            "them. auto: as the task of a Slurm array.",
        ),
    ] = None
    ray: Annotated[
        str | None,
        _RareRunOption(
            help="Score in workers on a Ray cluster: without an address one of its own on this machine; auto, "
            "HOST:PORT or ray://HOST:PORT.",
            metavar="[ADDRESS]",
        ),
    ] = None
    ray_workers: Annotated[
        str | None,
        _RareRunOption(
            help="With --ray: how many workers, 2 by default, or from how many to how many. --concurrency is each "
            "worker's.",
            metavar="N|MIN-MAX",
        ),
    ] = None
    strict: Annotated[bool, _RareRunOption("--strict", help="Stop at the first row that cannot be read.")] = False
    retry_refused: RetryRefused = False
    same_model: SameModel = False
    dry_run: Annotated[bool, _RunOption("--dry-run", help="Show the first prompts and call nothing.")] = False
    price_prompt: PricePrompt = None
    price_completion: PriceCompletion = None
    as_json: AsJson = False
    table: Annotated[
        bool | None,
        _RareRunOption(
            "--table/--no-table", help="Show the records as a table. By default when there are at most 50."
        ),
    ] = None

    @property
    def column_names(self) -> dict[str, str]:
        """Our column names to the user's."""
        return parse_columns(self.columns) if self.columns else {}

    @property
    def shard_spec(self) -> ShardSpec | None:
        """Which part of the rows to score; None for all."""
        return None if self.shard is None else ShardSpec.parse(self.shard, os.environ)

    def to_limits(self, workers: int) -> RunLimits:
        """Say how a session of the run goes."""
        return RunLimits(workers, self.strict, retry_refused=self.retry_refused, same_model=self.same_model)

    @property
    def destination(self) -> Output:
        """Where the result goes, besides the run folder; an error where it cannot be written."""
        if self.dry_run and self.as_json:
            raise OptionError("--dry-run shows prompts, not JSON", hint="leave out --json")
        scores, hub = self.only_scores, self.push_to_hub
        return read_destination(self.output, only_scores=scores, push_to_hub=hub, as_json=self.as_json)

    @property
    def prices(self) -> Prices | None:
        """The prices of tokens, where they were given."""
        return Prices.of(self.price_prompt, self.price_completion)


def read_destination(path: Path | None, *, only_scores: bool, push_to_hub: str | None, as_json: bool) -> Output:
    """Read where the result of a run goes besides its folder; an error where it cannot be written."""
    if only_scores and path is None:
        raise OptionError("--only-scores is about --output, which is not given", hint="say where with -o")
    if path == STANDARD_OUTPUT and as_json:
        raise OptionError("-o - and --json both write to standard output", hint="leave one of them out")
    output = Output(path, only_scores, push_to_hub)
    output.check()
    return output


def expand_options(
    *, without: Collection[str] = (), only: Collection[str] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for every setting of its arguments that are settings or dataclasses of options.

    Typer reads options from a function's signature, so the decorated function has one that names them all. The
    command has its own options for those in `without`; `only` are the settings that have an effect, None for all.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        def is_wanted(name: str) -> bool:
            return name not in without and (only is None or name in only)

        own = inspect.signature(command, eval_str=True).parameters.values()
        groups = {one.name: _Group(one.annotation, is_wanted) for one in own if _Group.is_one(one.annotation)}

        @wraps(command)
        def run(**arguments: object) -> None:
            made = {name: group.make(arguments) for name, group in groups.items()}
            command(**arguments, **made)

        expanded = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for one in own
            for parameter in (groups[one.name].parameters if one.name in groups else (one,))
        ]
        run.__signature__ = inspect.Signature(expanded)  # type: ignore[attr-defined]  # inspect looks for it
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in expanded}
        return run

    return decorate


class _Group:
    """One argument of a command, as many options."""

    def __init__(self, kind: type[Any], is_wanted: Callable[[str], bool]) -> None:
        self._kind = kind
        if issubclass(kind, FlatSettings):
            self.parameters = [_to_parameter(one) for name, one in kind.options().items() if is_wanted(name)]
        else:
            hints = get_type_hints(kind, include_extras=True)
            self.parameters = [
                _parameter(one.name, one.default, hints[one.name]) for one in fields(kind) if is_wanted(one.name)
            ]

    @staticmethod
    def is_one(annotation: object) -> bool:
        return isinstance(annotation, type) and (issubclass(annotation, FlatSettings) or is_dataclass(annotation))

    def make(self, arguments: dict[str, object]) -> object:
        """Take the group's options out of the arguments of a call, and make what the command gets."""
        chosen = {one.name: arguments.pop(one.name) for one in self.parameters}
        if not issubclass(self._kind, FlatSettings):
            return self._kind(**chosen)
        changed = {one.name: chosen[one.name] for one in self.parameters if chosen[one.name] != one.default}
        return check_settings(self._kind, changed, _flag)


_LAST_NAME = re.compile(r"(.*?)([A-Za-z][\w-]*|)", re.DOTALL)


def complete(choices: Sequence[str]) -> Callable[[str], list[str]]:
    """Make what a shell asks for the values of an option; of a formula, the name at its end.

    Example:
        >>> complete(["flip", "pointwise"])("0.5*flip+0.5*p")
        ['0.5*flip+0.5*pointwise']
    """

    def complete_one(incomplete: str) -> list[str]:
        before, begun = _LAST_NAME.fullmatch(incomplete).groups()  # type: ignore[union-attr]  # any text matches
        return [before + one for one in choices if one.startswith(begun)]

    return complete_one


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _to_parameter(option: Option) -> inspect.Parameter:
    """Turn a setting into a parameter that typer understands."""
    kind, default = option.field.annotation, option.field.default
    if get_origin(kind) is Mapping or isinstance(default, dict):
        kind, default = str | None, None  # given as JSON text
    if get_origin(kind) is tuple:
        kind, default = list[str] | None, None  # see `cli.app.LazyCommands`
    metavar = option.setting.metavar
    if metavar is None and isinstance(kind, type) and issubclass(kind, Enum):
        metavar = "|".join(kind)
    elif metavar is None and "_" not in option.name and {int, float} & {kind, *get_args(kind)}:
        metavar = "N"
    bounds = {"min": option.limit("ge", "gt"), "max": option.limit("le", "lt")}
    declared = typer.Option(
        _flag(option.name),
        *([option.setting.short] if option.setting.short else []),
        help=option.field.description,
        metavar=metavar,
        hidden=not option.setting.common,
        rich_help_panel=option.panel,
        autocompletion=complete(option.setting.choices) if option.setting.choices else None,
        **{name: bound for name, bound in bounds.items() if bound is not None},
    )
    return _parameter(option.name, default, Annotated[kind, declared])


def _parameter(name: str, default: object, annotation: Any) -> inspect.Parameter:  # noqa: ANN401 - an annotation
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)

"""`flip-reward select`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, BinaryIO

import orjson
import typer

from flip_reward.cli.exit_codes import ExitCode
from flip_reward.data.files import atomic_file
from flip_reward.data.shapes import parse_columns
from flip_reward.data.tables import check_output, write_table
from flip_reward.errors import OptionError
from flip_reward.selection.scored import ScoredFile, open_scored, to_sft_row
from flip_reward.selection.select import (
    LeftOut,
    Pair,
    ScoredResponse,
    select_above,
    select_best_of_groups,
    select_pairs,
    select_top,
)

_FORMATS = (".jsonl", ".jsonl.gz")


def select(
    inputs: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Scored files, as -o writes them.", show_default=False)
    ],
    top: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Keep this share of the responses, those with the best rewards."),
    ] = None,
    threshold: Annotated[float | None, typer.Option(help="Keep the responses with at least this reward.")] = None,
    best_of_group: Annotated[bool, typer.Option("--best-of-group", help="Keep the best response of each group.")] = (
        False
    ),
    pairs: Annotated[
        bool, typer.Option("--pairs", help="Pair the best and the worst response of each group, as TRL reads pairs.")
    ] = False,
    margin: Annotated[float, typer.Option(min=0, help="Of --pairs: their rewards differ at least by this.")] = 0.0,
    group_by: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="What the rows of a group share. By default the prompt."),
    ] = None,
    columns: Annotated[
        str | None, typer.Option(metavar="OURS=YOURS,...", help="Your names for our columns, as for 'score'.")
    ] = None,
    reward_column: Annotated[
        str | None, typer.Option(help="The column of the rewards, where it is not 'reward'.")
    ] = (None),
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A .jsonl or .jsonl.gz file; by default standard output.")
    ] = Path("-"),
    left_out: Annotated[
        Path | None, typer.Option(help="A .jsonl or .jsonl.gz file for the rest, each with the reason.")
    ] = None,
) -> None:
    """Select training data from scored rows: rows for supervised tuning as they came in, or pairs for DPO.

    Examples:

      flip-reward select scored.jsonl --top 0.5 -o sft.jsonl

      flip-reward select scored.jsonl --best-of-group --left-out rest.jsonl -o sft.jsonl

      flip-reward select scored.jsonl --pairs --margin 0.2 -o dpo.jsonl
    """
    ways = {"--top": top is not None, "--threshold": threshold is not None, "--best-of-group": best_of_group}
    ways["--pairs"] = pairs
    if sum(ways.values()) != 1:
        raise OptionError("say what to keep, one of " + ", ".join(ways))
    if margin and not pairs:
        raise OptionError("--margin is for --pairs")
    for path in (output, left_out):
        _check_place(path, inputs)
    with ExitStack() as held:
        names = parse_columns(columns) if columns else None
        file = open_scored(*inputs, columns=names, reward=reward_column, group_by=group_by)
        if top is not None:
            found: Iterable[ScoredResponse | Pair | LeftOut] = select_top(file.read, top)
        elif threshold is not None:
            found = select_above(file.read, threshold)
        else:
            found = select_pairs(file.read, margin) if pairs else select_best_of_groups(file.read)
        rest = None if left_out is None else held.enter_context(atomic_file(left_out))
        counts = _Counts(file, rest)
        _write(output, counts.lay_out(found))
    counts.tell("pair" if pairs else "response")
    if not counts.kept:
        raise typer.Exit(ExitCode.PARTLY_DONE)


class _Counts:
    """Counts what is kept and what is left out, and writes the latter down."""

    def __init__(self, file: ScoredFile, rest: BinaryIO | None) -> None:
        self._file, self._rest = file, rest
        self.kept = 0
        self.reasons: Counter[str] = Counter()

    def lay_out(self, found: Iterable[ScoredResponse | Pair | LeftOut]) -> Iterator[object]:
        """Return the rows that are kept."""
        for one in found:
            if isinstance(one, LeftOut):
                self._leave_out(to_sft_row(one.response), one.reason)
                continue
            self.kept += 1
            yield _to_json(one.to_row() if isinstance(one, Pair) else to_sft_row(one))
        for row in self._file.read_invalid():
            self._leave_out(
                {"input": row.source, "line": row.line, "detail": row.reason}, "a row that cannot be read"
            )

    def _leave_out(self, row: dict[str, object], reason: str) -> None:
        self.reasons[reason] += 1
        if self._rest is not None:
            self._rest.write(orjson.dumps(_to_json({**row, "left_out": reason}), option=orjson.OPT_APPEND_NEWLINE))

    def tell(self, what: str) -> None:
        """Say how many there are, and why others are not among them."""
        typer.echo(f"Selected: {self.kept:,} {what}{'s' * (self.kept != 1)}", err=True)
        for reason, count in self.reasons.most_common():
            typer.echo(f"Left out: {count:,} {reason}", err=True)


def _to_json(row: dict[str, object]) -> orjson.Fragment:
    return orjson.Fragment(orjson.dumps(row, default=str))


def _check_place(path: Path | None, inputs: list[str]) -> None:
    if path is None or path == Path("-"):
        return
    if not path.name.lower().endswith(_FORMATS):
        raise OptionError(
            f"{path} has no file format that can be written here", hint=f"formats are {', '.join(_FORMATS)}"
        )
    if any(path.resolve() == Path(name).resolve() for name in inputs):
        raise OptionError(f"{path} is an input and would be overwritten")
    check_output(path)


def _write(path: Path, rows: Iterator[object]) -> None:
    if path != Path("-"):
        write_table(path, rows, dict)
        return
    for row in rows:
        typer.echo(orjson.dumps(row))

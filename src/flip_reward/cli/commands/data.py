"""`flip-reward data`: make and check the files that a policy is trained on, and count the words of prompts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from flip_reward.cli.exit_codes import ExitCode
from flip_reward.cli.options import ENCODING, complete
from flip_reward.cli.session import tell_shape
from flip_reward.core.idf.table import count_words
from flip_reward.core.tokens import NORMALIZERS, load_normalizer
from flip_reward.data.files import write_atomically
from flip_reward.data.readers import INPUTS, open_input
from flip_reward.data.rows import InvalidRow
from flip_reward.data.shapes import Need, find_shape, parse_columns
from flip_reward.data.tables import check_output, check_overwrites
from flip_reward.errors import DataError, OptionError
from flip_reward.integrations.verl.data import VerlColumns, write_verl_parquet
from flip_reward.rewards.word_table import read_instructions
from flip_reward.training.prompts.rows import (
    DATA_REWARDS,
    PromptRow,
    convert_rows,
    read_rows,
    resolve_data_reward,
    write_rows,
)
from flip_reward.training.prompts.wildchat import WILDCHAT, WildChatOptions, build_wildchat

_MOST_SHOWN = 20

app = typer.Typer(
    help="Make and check the prompts that a policy is trained on.", no_args_is_help=True, add_completion=False
)

Source = Annotated[
    str,
    typer.Argument(
        metavar="INPUT",
        help=INPUTS,
        show_default=False,
    ),
]
Sources = Annotated[list[str], typer.Argument(metavar="INPUT...", help=INPUTS, show_default=False)]
Output = Annotated[
    Path, typer.Option("--output", "-o", help="The new file: .jsonl, .jsonl.gz or .parquet.", show_default=False)
]
Columns = Annotated[
    str | None,
    typer.Option(help="Your names for our columns, where unrecognised: prompt=q.", metavar="OURS=YOURS,..."),
]
Encoding = Annotated[str | None, typer.Option(help=ENCODING, show_default=False)]
Reward = Annotated[
    str,
    typer.Option(
        "--reward",
        "-r",
        help=f"The reward of every row: {', '.join(DATA_REWARDS)}.",
        autocompletion=complete(list(DATA_REWARDS)),
    ),
]


@app.command()
def convert(
    source: Source,
    output: Output,
    reward: Reward = "general-flip",
    columns: Columns = None,
    encoding: Encoding = None,
) -> None:
    """Make training rows of prompts or chats, or switch training rows to another reward.

    Reads prompts in any shape that 'flip-reward score' knows. Rows that cannot be used are listed and left out.

    Examples:

      flip-reward data convert prompts.jsonl -o train.jsonl

      flip-reward data convert yikeee/rlvr_general_chat_flip --reward general-quality -o judge.parquet
    """
    check_output(output)
    check_overwrites(output, [source])
    resolve_data_reward(reward)
    opened = open_input(source, encoding=encoding)
    shape = find_shape([opened], parse_columns(columns) if columns else None, need=Need.PROMPTS)
    tell_shape(shape, [opened])
    rows = list(convert_rows(opened, reward, shape))
    good = [row for row in rows if isinstance(row, PromptRow)]
    bad = [row for row in rows if isinstance(row, InvalidRow)]
    _list(bad)
    if not good:
        raise DataError(f"{source} has no usable row")
    write_rows(output, good)
    typer.echo(f"{output}: {len(good):,} rows" + (f"; {len(bad):,} left out" if bad else ""))
    if bad:
        raise typer.Exit(ExitCode.PARTLY_DONE)


@app.command()
def wildchat(
    output: Output,
    source: Annotated[str, typer.Option(help="Rows of WildChat's schema: a file or a hub data set.")] = WILDCHAT,
    count: Annotated[int, typer.Option(min=1, help="How many prompts to sample.")] = 12_000,
    language: Annotated[str, typer.Option(help="Their language, as WildChat names it.")] = "English",
    min_words: Annotated[int, typer.Option(min=1, help="Shorter prompts are left out.")] = 3,
    max_characters: Annotated[int, typer.Option(min=1, help="Longer prompts are left out.")] = 4_000,
    seed: Annotated[int, typer.Option(min=0, help="Another seed samples other prompts.")] = 0,
    reward: Reward = "general-flip",
) -> None:
    """Sample prompts from WildChat: first turns that are not toxic, not redacted and not repeated.

    The set is under the ODC-BY licence, which asks for attribution. It is streamed, not stored.

    Examples:

      flip-reward data wildchat -o wildchat.jsonl.gz
    """
    check_output(output)
    check_overwrites(output, [source])
    resolve_data_reward(reward)
    options = WildChatOptions(count, language, min_words, max_characters, seed, reward)
    found = build_wildchat(open_input(source), options)
    left_out = {reason.value: count for reason, count in found.left_out.items()}
    if not found.rows:
        raise DataError(f"{source} has no usable row", hint=_say_why(left_out) or None)
    write_rows(output, found.rows)
    typer.echo(f"{output}: {len(found.rows):,} rows; left out: {_say_why(left_out) or 'none'}")


@app.command()
def check(source: Source, encoding: Encoding = None) -> None:
    """Say what is wrong with a file of training rows, row by row.

    Examples:

      flip-reward data check train.jsonl
    """
    rewards: Counter[str] = Counter()
    bad: list[InvalidRow] = []
    good = others = 0
    for row in read_rows(open_input(source, encoding=encoding)):
        if isinstance(row, InvalidRow):
            bad.append(row)
        else:
            good += 1
            rewards.update(row.datasets)
            others += row.has_other_ground_truth
    _list(bad, most=None)
    if others:
        typer.echo(
            f"{others:,} rows have another 'ground_truth' than their last user turn, which rewards compare with",
            err=True,
        )
    typer.echo(f"{source}: {good:,} good rows ({_say_why(rewards) or 'no reward'}), {len(bad):,} bad ones")
    if bad or not good:
        raise typer.Exit(ExitCode.BAD_USAGE)


@app.command()
def verl(
    sources: Sources,
    output: Annotated[Path, typer.Option("--output", "-o", help="The new .parquet file.", show_default=False)],
    data_source: Annotated[
        str, typer.Option(help="What verl groups validation metrics by; by default the input's name.")
    ] = "",
    ability: Annotated[str, typer.Option(help="verl's name for the kind of task.")] = "chat",
    split: Annotated[str, typer.Option(help="Goes into extra_info.")] = "train",
    columns: Columns = None,
    encoding: Encoding = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Write at most this many rows.")] = None,
) -> None:
    """Write prompts as a Parquet file with verl's columns, which its reward function needs.

    Examples:

      flip-reward data verl prompts.jsonl -o train.parquet
    """
    if output.suffix != ".parquet":
        raise OptionError(f"{output} is no .parquet file, which verl reads", hint=f"-o {output.stem}.parquet")
    check_output(output)
    check_overwrites(output, sources)
    constant = VerlColumns(data_source, ability, split, parse_columns(columns) if columns else {}, limit, encoding)
    count = write_verl_parquet(sources, output, constant, tell=tell_shape)
    typer.echo(f"{output}: {count:,} {'row' if count == 1 else 'rows'}")


@app.command()
def words(
    sources: Sources,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The new file, such as words.txt.", show_default=False)
    ],
    normalizer: Annotated[
        str, typer.Option(help="What a word is: english or multilingual.", autocompletion=complete(list(NORMALIZERS)))
    ] = "english",
    least: Annotated[int, typer.Option(min=1, help="Leave out words that fewer prompts have: smaller files.")] = 1,
    encoding: Encoding = None,
) -> None:
    """Count in how many prompts each word occurs, for 'score --similarity f1-idf --idf FILE'.

    Examples:

      flip-reward data words prompts.jsonl -o words.txt
    """
    check_overwrites(output, sources)
    prompts = read_instructions(sources, encoding=encoding)
    table = count_words(prompts, load_normalizer(normalizer)).without_rare(least)
    write_atomically(output, table.to_bytes())
    typer.echo(f"{output}: {len(table.counts):,} words of {table.instructions:,} different prompts")


def _list(bad: list[InvalidRow], most: int | None = _MOST_SHOWN) -> None:
    console = Console(stderr=True, soft_wrap=True)
    for row in bad[:most]:
        console.print(Text(f"line {row.line}: {row.reason}"))
    if most is not None and len(bad) > most:
        console.print(f"... and {len(bad) - most:,} more")


def _say_why(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items(), key=lambda one: (-one[1], one[0])))

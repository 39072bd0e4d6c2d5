"""`flip-reward compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.text import Text

from flip_reward.cli.commands.grid_session import print_comparisons
from flip_reward.cli.options import AsJson
from flip_reward.evaluation.compare import compare_folders
from flip_reward.evaluation.statistics import check_libraries

_FOLDER_HELP = "A folder of 'flip-reward evaluate', or a run folder in its cells/."


def compare(
    first: Annotated[Path, typer.Argument(metavar="RUN", help=_FOLDER_HELP, show_default=False)],
    second: Annotated[Path, typer.Argument(metavar="RUN", help=_FOLDER_HELP, show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Compare rewards on the same items: the difference of their accuracies, and whether it can be told from none.

    Examples:

      flip-reward compare evaluations/before evaluations/after

      flip-reward compare EVAL/cells/llmbar--longest EVAL/cells/llmbar--copy
    """
    check_libraries()
    comparison = compare_folders(first, second)
    if as_json:
        results = [result.model_dump() for result in comparison.results]
        typer.echo(
            orjson.dumps({"comparisons": results, "left_out": comparison.left_out}, option=orjson.OPT_INDENT_2)
        )
        return
    console = Console()
    print_comparisons(console, comparison.results)
    for name in comparison.left_out:
        console.print(Text(f"{name}: only in one of them, left out"))

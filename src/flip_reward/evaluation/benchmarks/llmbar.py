"""LLMBar (Zeng et al. 2023, arXiv 2310.07641): 419 instructions, each with a response that follows it and one not.

Five subsets: natural, and the adversarial neighbor, gptinst, gptout and manual. The authors keep it in a repository,
github.com/princeton-nlp/LLMBar, a file for each subset with an array of rows; on the hub there is only a script, and
the datasets library no longer runs scripts. A row, with texts of our own:

    {"input": "Write the number seven in words.", "output_1": "seven", "output_2": "7", "label": 1}

`-b llmbar` downloads the five files; `-b llmbar=LLMBar/Dataset/LLMBar` reads them from a copy of the repository; and
`-b llmbar=file.jsonl` reads rows of this form with a column "subset", or of `preference_file`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Literal
from urllib.request import urlopen

from flip_reward.data.input import RawRow, Row
from flip_reward.errors import DataError
from flip_reward.evaluation.benchmarks import preference as preference_file
from flip_reward.evaluation.benchmarks.base import BenchmarkItem
from flip_reward.evaluation.benchmarks.row_models import RowModel, read_json_array, read_row

REPOSITORY = (
    "https://raw.githubusercontent.com/princeton-nlp/LLMBar/caa7bee794bfed74baed038b99229fa3f0c4c511/Dataset/LLMBar"
)
NATURAL = "natural"
ADVERSARIAL = ("neighbor", "gptinst", "gptout", "manual")

_FILES = MappingProxyType(
    {
        NATURAL: "Natural/dataset.json",
        "neighbor": "Adversarial/Neighbor/dataset.json",
        "gptinst": "Adversarial/GPTInst/dataset.json",
        "gptout": "Adversarial/GPTOut/dataset.json",
        "manual": "Adversarial/Manual/dataset.json",
    }
)
_TIMEOUT_SECONDS = 30


class LLMBarRow(RowModel):
    """A row of the authors' files, with the subset that the file's folder tells."""

    id: str | None = None
    subset: str
    input: str
    output_1: str
    output_2: str
    label: Literal[1, 2]


def open_repository(base: str = REPOSITORY) -> Iterator[Row]:
    """Read the authors' five files.

    Args:
        base: The address of their folder, or a local copy's.

    Raises:
        DataError: One of them cannot be read.
    """
    local = Path(base)
    address = local.resolve().as_uri() if local.is_dir() else base
    position = 0
    for subset, file in _FILES.items():
        for number, row in enumerate(_read_file(f"{address}/{file}")):
            if isinstance(row, RawRow):
                values = {**row.values, "subset": subset, "id": f"{subset}/{number}"}
                yield RawRow(position, position + 1, values)
                position += 1


def _read_file(address: str) -> Iterator[Row]:
    try:
        with urlopen(address, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310 - https, or a folder the user named
            text: bytes = answer.read()
    except OSError as error:
        raise DataError(
            f"{address} cannot be read: {error}",
            hint="copy github.com/princeton-nlp/LLMBar to this machine and give llmbar=LLMBar/Dataset/LLMBar",
        ) from error
    return read_json_array(text, address)


def to_item(row: RawRow) -> BenchmarkItem:
    """Make an item of a row.

    Raises:
        DataError: The row cannot be used.

    Example:
        >>> values = {"subset": "adv_manual", "input": "Say 7.", "output_1": "eight", "output_2": "7", "label": 2}
        >>> item = to_item(RawRow(0, 1, values))
        >>> item.subset, item.group.responses
        ('manual', ('7', 'eight'))
    """
    if "output_1" not in row.values:
        item = preference_file.to_item(row)
        return BenchmarkItem(item.id, _name_subset(item.subset), item.group, item.chosen)
    fields = read_row(LLMBarRow, row)
    better, worse = (fields.output_1, fields.output_2) if fields.label == 1 else (fields.output_2, fields.output_1)
    item_id = fields.id or f"row-{row.position}"
    return BenchmarkItem.of(item_id, _name_subset(fields.subset), fields.input, [better], [worse])


def _name_subset(text: str) -> str:
    name = text.lower().removeprefix("adversarial").removeprefix("adv").strip("_-/ ")
    if name not in _FILES:
        raise DataError(f"LLMBar has no subset {text!r}; its subsets are {', '.join(_FILES)}")
    return name

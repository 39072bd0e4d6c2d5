"""LLMBar (Zeng et al. 2023, arXiv 2310.07641): 419 instructions, each with a response that follows it and one not.

Five subsets: natural, and the adversarial neighbor, gptinst, gptout and manual. The authors keep it in a repository,
github.com/princeton-nlp/LLMBar, a file for each subset with an array of rows; on the hub there is only a script, and
the datasets library no longer runs scripts. A row, with texts of our own:

    {"input": "Write the number seven in words.", "output_1": "seven", "output_2": "7", "label": 1}

`-b llmbar` downloads the five files; `-b llmbar=LLMBar/Dataset/LLMBar` reads them from a copy of the repository; and
`-b llmbar=file.jsonl` reads rows of this form with a column "subset", or of `preference_file`.

LLMBar's figures: accuracy by subset, the adversarial mean, and what the order of the two responses does.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Literal
from urllib.request import urlopen

from flip_reward.core.judgement import measure_position_bias
from flip_reward.data.rows import RawRow, Row
from flip_reward.errors import DataError
from flip_reward.evaluation.benchmarks import preference as preference_file
from flip_reward.evaluation.benchmarks.base import BenchmarkItem, RowModel, read_json_array, read_row
from flip_reward.evaluation.benchmarks.preference import PreferenceProtocol
from flip_reward.evaluation.grading import Figure, Graded, ItemRewards

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


class LLMBarProtocol(PreferenceProtocol):
    """Pairs, of which the response that follows the instruction must have the higher reward.

    The authors average accuracy over both orders of presentation. A pairwise judge whose verdict changes with the
    order is right in one of the two, and its tie counts one half: the fractional rule is that average.
    """

    name = "llmbar"

    def figures(self, graded: Graded) -> list[Figure]:
        """Return the natural accuracy, the adversarial mean, their mean, and the agreement between the orders."""
        present = set(graded.subsets)
        accuracy = graded.fractional
        figures = []
        if NATURAL in present:
            figures.append(Figure("natural", graded.mean(accuracy, {NATURAL}), _ORDERS))
        if present.issuperset(ADVERSARIAL):
            estimate = graded.mean_of_subsets(accuracy, ADVERSARIAL)
            figures.append(Figure("adversarial mean", estimate, f"Mean of the adversarial subsets. {_ORDERS}"))
        if present.issuperset((NATURAL, *ADVERSARIAL)):
            estimate = graded.mean_of_subsets(accuracy)
            figures.append(Figure("average", estimate, f"Unweighted mean of the five subsets. {_ORDERS}"))
        return figures + _agreement(graded)


_ORDERS = "Accuracy, averaged over both orders of the pair."


_AGREEMENT = (
    "Share of the pairs judged in both orders with the same verdict; all, where each response is scored by itself."
)


def _agreement(graded: Graded) -> list[Figure]:
    agreement = graded.average(_agree)
    if not graded.select(agreement)[0]:
        return []
    return [Figure("agreement between orders", graded.mean(agreement), _AGREEMENT)]


def _agree(_item: BenchmarkItem, said: ItemRewards) -> float:
    if said.judgements:
        flips = measure_position_bias(said.judgements)
        return float("nan") if flips.rate is None else 1 - flips.rate
    return 1.0 if said.scored else float("nan")

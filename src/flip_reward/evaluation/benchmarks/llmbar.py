"""LLMBar (Zeng et al. 2023, arXiv 2310.07641): 419 instructions, each with a response that follows it and one not.

Five subsets: natural, and the adversarial neighbor, gptinst, gptout and manual. The authors keep the rows in their
repository, github.com/princeton-nlp/LLMBar, in a file for each subset; on the hub there is only a script, and the
datasets library no longer runs scripts. A row, with texts of our own:

    {"input": "Write the number seven in words.", "output_1": "seven", "output_2": "7", "label": 1}

`-b llmbar` downloads the five files; `-b llmbar=LLMBar/Dataset/LLMBar` reads them from a copy of the repository; and
`-b llmbar=file.jsonl` reads rows of this form with a column "subset", or those of a preference file.

Figures: the authors average accuracy over both orders of presentation. A pairwise judge whose verdict changes with
the order is right in one of the two, and its tie counts one half: the fractional rule is that average. They also
report how often the verdicts in both orders agree.

Authors' rule: each order counts by itself, and a missing verdict is wrong. Of ratings of single responses a tie, or a
missing one, counts one half.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import nan
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal
from urllib.request import urlopen

from flip_reward.core.judgement import measure_position_bias
from flip_reward.data.formats.json_rows import read_json_values
from flip_reward.data.rows import RawRow, Row, skip_nothing
from flip_reward.errors import DataError
from flip_reward.evaluation.benchmarks.base import BenchmarkItem, RowModel, read_row
from flip_reward.evaluation.benchmarks.preference import JOINED, PreferenceProtocol
from flip_reward.evaluation.benchmarks.preference import to_item as to_preference_item
from flip_reward.evaluation.benchmarks.rules import AUTHORS, average_verdicts, mark_headline
from flip_reward.evaluation.grading import Figure, Grades, ItemRewards, grade_best

if TYPE_CHECKING:
    from flip_reward.evaluation.statistics import Values

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
    """A row of the authors' files, with the subset named by the file's folder."""

    id: str | None = None
    subset: str
    input: str
    output_1: str
    output_2: str
    label: Literal[1, 2]


def open_repository(base: str = REPOSITORY) -> Iterator[Row]:
    """Read the authors' five files from the address of their folder, or from a local copy of it."""
    local = Path(base)
    address = local.resolve().as_uri() if local.is_dir() else base
    position = 0
    for subset, file in _FILES.items():
        for number, row in enumerate(_read_file(f"{address}/{file}")):
            if isinstance(row, RawRow):
                yield RawRow(position, position + 1, {**row.values, "subset": subset, "id": f"{subset}/{number}"})
            else:
                yield replace(row, position=position, line=position + 1)
            position += 1


def _read_file(address: str) -> Iterator[Row]:
    try:
        with urlopen(address, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310 - https, or a folder the user named
            yield from read_json_values(answer, skip_nothing)
    except OSError as error:
        raise DataError(
            f"{address} cannot be read: {error}",
            hint="copy github.com/princeton-nlp/LLMBar to this machine and give llmbar=LLMBar/Dataset/LLMBar",
        ) from error


def to_item(row: RawRow) -> BenchmarkItem:
    """Make an item of a row, or raise a DataError that says why not.

    Example:
        >>> values = {"subset": "adv_manual", "input": "Say 7.", "output_1": "eight", "output_2": "7", "label": 2}
        >>> item = to_item(RawRow(0, 1, values))
        >>> item.subset, item.group.responses
        ('manual', ('7', 'eight'))
    """
    if "output_1" not in row.values:
        item = to_preference_item(JOINED, row)
        return replace(item, subset=_name_subset(item.subset))
    fields = read_row(LLMBarRow, row)
    better, worse = (fields.output_1, fields.output_2) if fields.label == 1 else (fields.output_2, fields.output_1)
    item_id = fields.id or f"row-{row.position}"
    return BenchmarkItem.of(item_id, _name_subset(fields.subset), fields.input, [better], [worse])


def _name_subset(text: str) -> str:
    name = text.lower().removeprefix("adversarial").removeprefix("adv").strip("_-/ ")
    if name not in _FILES:
        raise DataError(f"LLMBar has no subset {text!r}; its subsets are {', '.join(_FILES)}")
    return name


ADVERSARIAL_MEAN, AVERAGE = "adversarial mean", "average"


class LLMBarProtocol(PreferenceProtocol):
    """The response that follows the instruction must have the higher reward of the two."""

    name = "llmbar"
    needs = MappingProxyType({NATURAL: (NATURAL,), ADVERSARIAL_MEAN: ADVERSARIAL, AVERAGE: (NATURAL, *ADVERSARIAL)})

    def figures(self, grades: Grades) -> list[Figure]:
        """Return natural accuracy, the adversarial mean and their mean by both rules, and the orders' agreement."""
        figures = [
            *_measure(grades, grades.fractional, "", _ORDERS_NOTE),
            *_measure(
                grades.by_parts(), grades.average(_grade_as_authors), AUTHORS, f"{_ORDERS_NOTE} {_MISSING_NOTE}"
            ),
        ]
        agreement = grades.average(_agree)
        if grades.select(agreement)[0]:
            figures.append(Figure("agreement between orders", grades.mean(agreement), _AGREEMENT_NOTE))
        present = set(grades.subsets)
        return mark_headline(figures, *(name + AUTHORS for name, needed in _MEANS.items() if present == set(needed)))


_MEANS = MappingProxyType(
    {
        **{name: (name,) for name in _FILES},
        ADVERSARIAL_MEAN: ADVERSARIAL,
        AVERAGE: (NATURAL, *ADVERSARIAL),
    }
)
"""The figures, and the subsets whose mean each is."""


def _measure(grades: Grades, values: Values, rule: str, note: str) -> list[Figure]:
    present = set(grades.subsets)
    return [
        Figure(name + rule, grades.mean_of_subsets(values, subsets), f"{_MEANS_NOTES.get(name, '')}{note}")
        for name, subsets in _MEANS.items()
        if present.issuperset(subsets) and (name not in ADVERSARIAL or len(present) == 1)
    ]


_MEANS_NOTES = {
    ADVERSARIAL_MEAN: "Mean of the adversarial subsets. ",
    AVERAGE: "Unweighted mean of the five subsets. ",
}
_ORDERS_NOTE = "Accuracy, averaged over both orders of the pair."
_MISSING_NOTE = "Each order by itself; a missing verdict is wrong, and a missing rating one half."
_AGREEMENT_NOTE = (
    "Share of the pairs judged in both orders with the same verdict; all, where each response is scored by itself."
)


def _agree(_item: BenchmarkItem, rewards: ItemRewards) -> float:
    if rewards.judgements:
        bias = measure_position_bias(rewards.judgements)
        return nan if bias.rate is None else 1 - bias.rate
    return 1.0 if rewards.scored else nan


def _grade_as_authors(item: BenchmarkItem, rewards: ItemRewards) -> float:
    verdicts = average_verdicts(item, rewards, missing=0.0)
    if verdicts is not None:
        return verdicts
    return 0.5 if rewards.scored is None else grade_best(item.chosen, rewards.scored).fractional

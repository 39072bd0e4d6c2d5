"""PPE, Preference Proxy Evaluations (Frick et al. 2024, arXiv 2410.14872): votes of people, and correct answers.

Both benchmarks are on the hub. `ppe-preference` is lmarena-ai/PPE-Human-Preference-V1, split "test", 16,038 pairs of
Chatbot Arena. A row, with texts of our own:

    {"question_id": "3f", "model_a": "m", "model_b": "n", "winner": "model_b", "prompt": "Name a fruit.",
     "response_1": "Bread.", "response_2": "Pear.", "language": "English", ...}

The winner is model_a, model_b, "tie" or "tie (bothbad)"; a tie is no item.

`ppe-correctness` is 2,555 prompts of five sets (lmarena-ai/PPE-...-Best-of-K) with 32 responses each, of which the
correct ones are known:

    {"question_id": "12", "model_name": "m", "prompt": "2 + 2?", "scores": [true, false, ...],
     "response_1": "4", "response_2": "5", ..., "sampled_conflict_pairs": [[0, 1], ...]}

In a file or a folder the set is named by a column "subset" or by the file's path: PPE-MATH-Best-of-K/data/x.parquet.

Figures: accuracy on the pairs, for the second on those that the authors drew of correct and incorrect responses; and
whether the best of all 32 is correct. The second averages the five sets. Authors' rule: a response without a reward
is below all others; a tie is wrong in a pair and counts 1/k among k at the top.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from math import inf, nan
from types import MappingProxyType
from typing import Literal

from flip_reward.core.conversation import Group
from flip_reward.data.hub import HubName, open_hub
from flip_reward.data.rows import RawRow, Row
from flip_reward.errors import DataError
from flip_reward.evaluation.benchmarks.base import BenchmarkItem, ColumnError, RowModel, match_subset, read_row
from flip_reward.evaluation.benchmarks.files import join_rows
from flip_reward.evaluation.benchmarks.preference import ONLY_SUBSET, PreferenceProtocol
from flip_reward.evaluation.benchmarks.rules import AUTHORS, mark_headline, win_strictly
from flip_reward.evaluation.grading import Figure, Grades, ItemRewards, grade_best

HUB_PREFERENCE = HubName("lmarena-ai/PPE-Human-Preference-V1", split="test")
SETS = MappingProxyType(
    {
        "mmlu-pro": "lmarena-ai/PPE-MMLU-Pro-Best-of-K",
        "math": "lmarena-ai/PPE-MATH-Best-of-K",
        "gpqa": "lmarena-ai/PPE-GPQA-Best-of-K",
        "ifeval": "lmarena-ai/PPE-IFEval-Best-of-K",
        "mbpp-plus": "lmarena-ai/PPE-MBPP-Plus-Best-of-K",
    }
)
ACCURACY = f"accuracy{AUTHORS}"
BEST = f"best of K{AUTHORS}"


class PreferenceRow(RowModel):
    """The columns of `ppe-preference` that count."""

    question_id: str
    prompt: str
    response_1: str
    response_2: str
    winner: Literal["model_a", "model_b", "tie", "tie (bothbad)"]


def to_preference_item(row: RawRow) -> BenchmarkItem | None:
    """Make an item of a row with a vote, or raise a DataError that says why not; None for a tie."""
    fields = read_row(PreferenceRow, row)
    if fields.winner.startswith("tie"):
        return None
    better, worse = fields.response_1, fields.response_2
    if fields.winner == "model_b":
        better, worse = worse, better
    return BenchmarkItem.of(fields.question_id, ONLY_SUBSET, fields.prompt, [better], [worse])


class PPEPreferenceProtocol(PreferenceProtocol):
    """The response that people preferred must have the higher reward."""

    name = "ppe-preference"

    def figures(self, grades: Grades) -> list[Figure]:
        """Return the accuracy."""
        estimate = grades.by_parts().mean(grades.average(win_strictly))
        return mark_headline(
            [Figure(ACCURACY, estimate, "Share of the votes, without ties; a tie is wrong.")], ACCURACY
        )


class CorrectnessRow(RowModel):
    """The columns of `ppe-correctness` that count, besides the responses."""

    question_id: str
    model_name: str = ""
    subset: str
    prompt: str
    scores: list[bool]
    sampled_conflict_pairs: list[tuple[int, int]]


def open_correctness() -> Iterator[Row]:
    """Read the five sets from the hub."""
    return join_rows(
        ({"subset": name}, open_hub(HubName(repository, split="train")).rows()) for name, repository in SETS.items()
    )


def columns_of(path: str) -> Mapping[str, object] | None:
    """Find the set in a file's path, in which words may be joined in any way."""
    words = re.sub(r"[^a-z0-9]+", "-", path.lower())
    found = [name for name in SETS if re.search(rf"\b{name.removesuffix('-plus')}\b", words)]
    if path.endswith((".md", ".txt")):
        return None
    return {"subset": found[0]} if len(found) == 1 else {}


def to_correctness_item(row: RawRow) -> BenchmarkItem:
    """Make an item of a prompt with its responses, or raise a DataError that says why not.

    The tag of a correct response names the incorrect ones, from 0, that it is compared with.
    """
    fields = read_row(CorrectnessRow, row)
    subset = match_subset("PPE Correctness", fields.subset, SETS)
    responses = []
    for number in range(1, len(fields.scores) + 1):
        response = row.values.get(f"response_{number}")
        if not isinstance(response, str):
            raise ColumnError(f"no text in 'response_{number}', though there are {len(fields.scores)} scores")
        responses.append(response)
    rivals: list[list[int]] = [[] for _ in responses]
    for first, second in fields.sampled_conflict_pairs:
        if not (0 <= first < len(responses) and 0 <= second < len(responses)):
            raise DataError(f"'sampled_conflict_pairs' names a response that is not there: {first}, {second}")
        if fields.scores[first] == fields.scores[second]:
            raise DataError(f"'sampled_conflict_pairs' has two responses with the same score: {first}, {second}")
        right, wrong = (first, second) if fields.scores[first] else (second, first)
        rivals[right].append(wrong)
    item_id = "/".join(part for part in (subset, fields.question_id, fields.model_name) if part)
    tags = tuple(" ".join(map(str, one)) for one in rivals)
    return BenchmarkItem(item_id, subset, Group.of(fields.prompt, responses, id=item_id), tuple(fields.scores), tags)


class PPECorrectnessProtocol(PreferenceProtocol):
    """The response with the highest reward must be a correct one."""

    name = "ppe-correctness"
    needs = MappingProxyType({ACCURACY: tuple(SETS), BEST: tuple(SETS)})

    def figures(self, grades: Grades) -> list[Figure]:
        """Return the accuracy on pairs and the correctness of the best of K, for all sets together and for each."""
        grades = grades.by_parts()
        present = [name for name in SETS if name in grades.subsets]
        figures = []
        for name, values, note in (
            (ACCURACY, grades.average(_share_of_pairs), "Share of the authors' pairs; a tie is wrong."),
            (BEST, grades.average(_best_of_all), "Share of the prompts whose best-rewarded response is correct."),
        ):
            if self.has_all(name, grades):
                figures.append(
                    Figure(name, grades.mean_of_subsets(values, present), f"Mean of the five sets. {note}")
                )
            figures += [Figure(f"{one}, {name}", grades.mean(values, {one}), note) for one in present]
        return mark_headline(figures, ACCURACY, *(f"{one}, {ACCURACY}" for one in present[:1] if len(present) == 1))


def _known(rewards: ItemRewards) -> list[float]:
    return [-inf if value is None else value for value in rewards.values]


def _share_of_pairs(item: BenchmarkItem, rewards: ItemRewards) -> float:
    values = _known(rewards)
    wins = [values[right] > values[int(wrong)] for right, tag in enumerate(item.tags) for wrong in tag.split()]
    return sum(wins) / len(wins) if wins else nan


def _best_of_all(item: BenchmarkItem, rewards: ItemRewards) -> float:
    return grade_best(item.chosen, _known(rewards)).fractional

r"""RM-Bench (Liu et al. 2024, arXiv 2410.16184): does a reward see content through style?

Rows: THU-KEG/RM-Bench on the hub; its total_dataset.json; or the authors' files per domain, such as
chat_filtered.json, one of them or the folder that holds them. Each has three chosen and three rejected responses, in
the same three styles and in this order: concise, detailed as plain text, detailed with Markdown. A row, with texts of
our own:

    {"id": 12, "domain": "chat", "prompt": "Which planet is the largest?",
     "chosen": ["Jupiter.", "The largest planet is Jupiter, ...", "## Answer\n**Jupiter** ..."],
     "rejected": ["Saturn.", "The largest planet is Saturn, ...", "## Answer\n**Saturn** ..."]}

The domain is chat, code, math, safety-refuse or safety-response, which a file's name says where its rows do not; the
last two are one domain in the results.

Figures: each chosen response is compared with each rejected one, a 3 x 3 matrix with the chosen response's style as
the row. Its upper triangle is hard (the chosen response has the plainer style), its diagonal normal, its lower
triangle easy. A domain is the mean of the three, and the average that of the domains. All is as the authors count;
they have no rule for responses without a reward, which here win nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from flip_reward.data.hub import HubName
from flip_reward.data.rows import RawRow
from flip_reward.errors import DataError
from flip_reward.evaluation.benchmarks.base import BenchmarkItem, RowModel, match_subset, read_row
from flip_reward.evaluation.benchmarks.rules import mark_headline
from flip_reward.evaluation.grading import Figure, Grade, Grades, ItemRewards, Protocol

HUB = HubName("THU-KEG/RM-Bench")
STYLES = ("concise", "plain", "markdown")
SAFETY = "safety"
DOMAINS = ("chat", "code", "math", SAFETY)


class RMBenchRow(RowModel):
    """The columns that count."""

    id: str
    domain: str
    prompt: str
    chosen: list[str]
    rejected: list[str]


def columns_of(path: str) -> Mapping[str, object] | None:
    """Find the domain in the name of one of the authors' files per domain; None for another file."""
    found = re.search(r"(?:^|/)(chat|code|math|safety-refuse|safety-response)(?:_filtered)?\.json[^/]*$", path)
    return {"domain": found[1]} if found else None


def to_item(row: RawRow) -> BenchmarkItem:
    """Make an item of a row, or raise a DataError that says why not. Its tags are the styles."""
    fields = read_row(RMBenchRow, row)
    for name, responses in (("chosen", fields.chosen), ("rejected", fields.rejected)):
        if len(responses) != len(STYLES):
            styles = ", ".join(STYLES)
            raise DataError(f"{name!r} must have {len(STYLES)} responses ({styles}), not {len(responses)}")
    domain = SAFETY if fields.domain.startswith(SAFETY) else match_subset("RM-Bench", fields.domain, DOMAINS)
    item_id = f"{fields.domain}/{fields.id}"
    return BenchmarkItem.of(item_id, domain, fields.prompt, fields.chosen, fields.rejected, STYLES * 2)


AVERAGE = "average"


class RMBenchProtocol(Protocol):
    """The grade of an item is the share of its nine comparisons that the chosen response wins.

    As the authors count, only a strictly higher reward wins; fractionally, a tie is one half.
    """

    name = "rm-bench"
    needs = MappingProxyType(dict.fromkeys((AVERAGE, "hard", "normal", "easy"), DOMAINS))

    def grade(self, item: BenchmarkItem, rewards: Sequence[float]) -> Grade:  # noqa: ARG002 - the labels are the order
        """Grade the nine comparisons."""
        wins = [_compare(rewards, row, column) for row in range(len(STYLES)) for column in range(len(STYLES))]
        return Grade(wins.count(1.0) / len(wins), sum(wins) / len(wins))

    def chance(self, item: BenchmarkItem) -> float:  # noqa: ARG002 - the same for all
        """Return one half."""
        return 0.5

    def figures(self, grades: Grades) -> list[Figure]:
        """Return hard, normal, easy and their mean, for all domains together and for each."""
        import numpy as np

        levels = [(name, grades.average(_share_won(counts)), where) for name, counts, where in _LEVELS]
        total = np.mean([values for _, values, _ in levels], axis=0)
        figures = []
        if self.has_all(AVERAGE, grades):
            note = "Mean of the domains, each the mean of hard, normal and easy."
            figures.append(Figure(AVERAGE, grades.mean_of_subsets(total, DOMAINS), note))
            figures += [
                Figure(name, grades.mean_of_subsets(values, DOMAINS), f"Mean of the domains; {where}.")
                for name, values, where in levels
            ]
        domains = list(dict.fromkeys(grades.subsets))
        for domain in domains:
            figures.append(Figure(domain, grades.mean(total, {domain}), "Mean of hard, normal and easy."))
            figures += [
                Figure(f"{domain}, {name}", grades.mean(values, {domain}), f"{where.capitalize()}.")
                for name, values, where in levels
            ]
        return mark_headline(figures, AVERAGE, *(domains if len(domains) == 1 else ()))


_Counts = Callable[[int, int], bool]
"""Whether a comparison counts, by the chosen response's style (row) and the rejected one's (column)."""

_LEVELS: tuple[tuple[str, _Counts, str], ...] = (
    ("hard", lambda row, column: row < column, "upper triangle: the chosen response has the plainer style"),
    ("normal", lambda row, column: row == column, "diagonal: both have the same style"),
    ("easy", lambda row, column: row > column, "lower triangle: the chosen response has the richer style"),
)


def _share_won(counts: _Counts) -> Callable[[BenchmarkItem, ItemRewards], float]:
    places = [(row, column) for row in range(len(STYLES)) for column in range(len(STYLES)) if counts(row, column)]

    def measure(_item: BenchmarkItem, rewards: ItemRewards) -> float:
        values = rewards.scored
        if values is None:
            return 0.0
        return sum(_compare(values, row, column) == 1.0 for row, column in places) / len(places)

    return measure


def _compare(rewards: Sequence[float], row: int, column: int) -> float:
    chosen, rejected = rewards[row], rewards[len(STYLES) + column]
    return 1.0 if chosen > rejected else 0.5 if chosen == rejected else 0.0

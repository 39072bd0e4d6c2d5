"""HelpSteer3-Preference (Wang et al. 2025, arXiv 2505.11475): pairs of responses to conversations, judged by people.

Rows: nvidia/HelpSteer3 on the hub, configuration "preference", split "validation", in the domains general, stem, code
and multilingual. A row, with texts of our own:

    {"domain": "code", "language": "python", "context": [{"role": "user", "content": "Add two numbers."}],
     "response1": "a + b", "response2": "a - b", "overall_preference": -2, "individual_preference": [...]}

The preference goes from -3, the first response is much better, to 3, the second is. A row with 0 is no item: it says
that both are about the same.

Figure: accuracy, where the better response must have the higher reward. An unscored one is below all others.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Annotated

from pydantic import Field

from flip_reward.data.hub import HubName
from flip_reward.data.rows import RawRow
from flip_reward.evaluation.benchmarks.base import BenchmarkItem, MessageModel, RowModel, match_subset, read_row
from flip_reward.evaluation.benchmarks.preference import PreferenceProtocol
from flip_reward.evaluation.benchmarks.rules import AUTHORS, win_strictly
from flip_reward.evaluation.grading import Figure, Grades

HUB = HubName("nvidia/HelpSteer3", config="preference", split="validation")
DOMAINS = ("general", "stem", "code", "multilingual")
ACCURACY = f"accuracy{AUTHORS}"


class HelpSteer3Row(RowModel):
    """The columns that count."""

    domain: str
    context: list[MessageModel]
    response1: str
    response2: str
    overall_preference: Annotated[int, Field(ge=-3, le=3)]


def to_item(row: RawRow) -> BenchmarkItem | None:
    """Make an item of a row, or raise a DataError that says why not; None for a tie."""
    fields = read_row(HelpSteer3Row, row)
    domain = match_subset("HelpSteer3", fields.domain, DOMAINS)
    if fields.overall_preference == 0:
        return None
    better, worse = fields.response1, fields.response2
    if fields.overall_preference > 0:
        better, worse = worse, better
    context = [message.model_dump() for message in fields.context]
    return BenchmarkItem.of(f"row-{row.position}", domain, context, [better], [worse])


class HelpSteer3Protocol(PreferenceProtocol):
    """The better response of a pair must have the higher reward."""

    name = "helpsteer3"
    needs = MappingProxyType({ACCURACY: DOMAINS})

    def figures(self, grades: Grades) -> list[Figure]:
        """Return the accuracy on all domains, or on the only one that is there."""
        if not self.has_all(ACCURACY, grades) and len(set(grades.subsets)) > 1:
            return []
        estimate = grades.by_parts().mean(grades.average(win_strictly))
        return [Figure(ACCURACY, estimate, _NOTE, headline=True)]


_NOTE = "Share of the pairs that are no ties in which the better response has the higher reward; a tie is wrong."

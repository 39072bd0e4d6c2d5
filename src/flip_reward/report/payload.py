"""The data inside a report, as `page/payload.js` reads it."""

from __future__ import annotations

from dataclasses import dataclass

from flip_reward.report.evaluation_files import (
    Accuracies,
    Comparison,
    PositionBias,
    ProtocolFigure,
    RewardSummary,
    Subset,
    SubsetAccuracies,
    Tokens,
)
from flip_reward.report.statistics import Bin, Distribution

Marks = tuple[int, ...]
"""Starts and ends of stretches of a text, in turn, in characters."""

ScoreRow = list[object]
"""A score without its trailing nulls; see `score_row`."""

Inference = tuple[float | None, int | None, str]
"""One of several inferences from a response: its value, its text and its outcome."""


def score_row(
    *,
    value: float | None,
    outcome: str,
    precision: float | None,
    recall: float | None,
    inferred: int | None,
    inferred_marks: Marks | None,
    original_marks: Marks | None,
    instruction: int | None,
    reasoning: int | None,
    reply: int | None,
    detail: int | None,
    spread: float | None,
    inferences: list[Inference] | None,
) -> ScoreRow:
    """Return a score as its values in the order of the arguments. Texts are numbers in the table of texts.

    Args:
        value: The reward.
        outcome: The outcome's name.
        precision: Of the inferred instruction, where there is one.
        recall: Likewise.
        inferred: The inferred instruction.
        inferred_marks: The tokens it shares with the original.
        original_marks: The same tokens in the original.
        instruction: The original, when it is not the last message of the user.
        reasoning: The model's explanation.
        reply: The reply as it came, where nothing else tells what it said.
        detail: Why there is no score, or what it leaves out.
        spread: The standard deviation of several inferences.
        inferences: All of them, where there are several.
    """
    row: ScoreRow = [
        round_value(value), outcome, round_value(precision), round_value(recall),
        inferred, inferred_marks, original_marks, instruction, reasoning, reply, detail,
        round_value(spread), inferences,
    ]  # fmt: skip
    while row[-1] is None:
        row.pop()
    return row


def round_value(value: float | None) -> float | None:
    """Return a figure with as many digits as the report needs."""
    return None if value is None else round(value, 5)


@dataclass(frozen=True, slots=True)
class Sample:
    """An item as the explorer shows it.

    Attributes:
        id: Its id.
        subset: The position of its subset in the benchmark.
        messages: Role and text of each turn.
        responses: The candidates' texts.
        chosen: A letter a candidate: "1" for a right one, "0" for another.
    """

    id: str
    subset: int
    messages: list[tuple[str, int]]
    responses: list[int]
    chosen: str


@dataclass(frozen=True, slots=True)
class Effort:
    """What a reward's decisions took, in all its runs; also what the response cache saved.

    Attributes:
        right: Right decisions, by the strict rule.
        tokens: Tokens read and written by the model.
        cost: In the currency of the prices that were given; None without prices.
        rewards_per_second: Responses scored in a second.
        right_per_second: Right decisions in a second.
    """

    right: float
    tokens: Tokens
    cost: float | None
    rewards_per_second: float
    right_per_second: float


@dataclass(frozen=True, slots=True)
class CellPayload:
    """One reward model on one benchmark.

    Attributes:
        reward: The position of the reward model.
        runs: How many runs there are; from `distribution` on they are shown for the first.
        overall: Accuracies over all items.
        subsets: The same by subset.
        figures: The protocol's own figures.
        outcomes: Outcome -> responses.
        order_flips: For judges that see pairs in both orders.
        effort: Tokens, cost and speed.
        distribution: Rewards of chosen and rejected responses.
        lengths: Credit by the mean length of an item's responses, in characters.
        length_differences: The same by how much longer the chosen responses are than the rejected ones.
        decisions: A letter a sample; see `flip_reward.report.statistics.Decision`.
        scores: For each sample a score a candidate, null where none was recorded.
    """

    reward: int
    runs: int
    overall: Accuracies
    subsets: list[SubsetAccuracies]
    figures: list[ProtocolFigure]
    outcomes: dict[str, int]
    order_flips: PositionBias | None
    effort: Effort
    distribution: Distribution | None
    lengths: list[Bin]
    length_differences: list[Bin]
    decisions: str
    scores: list[list[ScoreRow | None]]


@dataclass(frozen=True, slots=True)
class BenchmarkPayload:
    """A benchmark with everything that is known about it.

    Attributes:
        name: Its name.
        protocol: The name of its protocol.
        chance: The accuracy of choosing a response at random, 0 to 1.
        subsets: Its subsets.
        samples: Its items.
        cells: A cell for each reward model that was run on it.
        comparisons: Pairs of reward models.
    """

    name: str
    protocol: str
    chance: float
    subsets: list[Subset]
    samples: list[Sample]
    cells: list[CellPayload]
    comparisons: list[Comparison]


@dataclass(frozen=True, slots=True)
class Facts:
    """A titled list of names and values."""

    title: str
    rows: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Payload:
    """Everything in a report but its texts.

    Attributes:
        title: What the report is called.
        created: When the evaluation was made, as it says.
        rewards: The reward models.
        benchmarks: The benchmarks.
        made: How the evaluation was made.
    """

    title: str
    created: str
    rewards: list[RewardSummary]
    benchmarks: list[BenchmarkPayload]
    made: list[Facts]

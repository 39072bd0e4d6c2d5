"""The samples of every step as Parquet files: prompt, response and reward.

FOLDER/samples/train/step-000001.parquet      the samples that step 1 learned from
FOLDER/samples/held-out/step-000000.parquet   the responses to held-out prompts after so many steps

With several processes each writes files of its own, called step-000001.rank-1.parquet and so on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypedDict

import orjson

from flip_reward.audit.monitor.rollout import Rollout
from flip_reward.core.conversation import Message
from flip_reward.core.response import replace_lone_surrogates
from flip_reward.data.files import storage_error
from flip_reward.data.tables import write_table
from flip_reward.report.training.folder import SAMPLES, Split


@dataclass(frozen=True, slots=True)
class SampleRow:
    """A response and its reward."""

    row: int
    """The place of its prompt among the rows to learn from, or among the held-out ones."""
    messages: tuple[Message, ...]
    response: str
    tokens: int
    reward: float | None
    """None where it could not be scored; `outcome` says why."""
    outcome: str
    inferred_instruction: str | None = None
    precision: float | None = None
    recall: float | None = None
    instruction_4gram_overlap: float | None = None
    """The share of the instruction's 4-grams that the response copies."""
    spread: float | None = None
    """The standard deviation of the inferences behind the reward, where there were several."""
    samples: int = 1
    """How many of them there were."""
    held_out_rewards: Mapping[str, float | None] = field(default_factory=dict)

    def to_columns(self, step: int) -> dict[str, object]:
        """Return the row as a file holds it, with messages and held-out rewards as JSON."""
        values = asdict(self)
        values["messages"] = orjson.dumps(self.messages).decode()
        values["held_out_rewards"] = orjson.dumps(dict(self.held_out_rewards)).decode()
        values["prompt"] = self.messages[-1].content
        values["response"] = replace_lone_surrogates(self.response)
        return {"step": step, **values}

    def to_rollout(self, step: int) -> Rollout:
        """Return the sample as the monitor reads it."""
        return Rollout(
            step,
            self.messages[-1].content,
            self.response,
            self.reward,
            self.held_out_rewards,
            self.spread,
            self.samples,
        )


class SampleColumns(TypedDict):
    """The columns of a file of samples."""

    step: int
    row: int
    prompt: str
    response: str
    inferred_instruction: str | None
    reward: float | None
    outcome: str
    precision: float | None
    recall: float | None
    instruction_4gram_overlap: float | None
    spread: float | None
    samples: int
    tokens: int
    held_out_rewards: str
    messages: str


class SampleTable:
    """Collects the samples of a step, and writes them when it is done."""

    def __init__(self, folder: Path, rank: int | None = None) -> None:
        self._folder = folder / SAMPLES
        self._ending = ".parquet" if rank is None else f".rank-{rank}.parquet"
        self._rows: dict[Split, list[SampleRow]] = {split: [] for split in Split}

    def add(self, split: Split, rows: list[SampleRow]) -> None:
        """Add samples to the current step."""
        self._rows[split] += rows

    def forget(self) -> None:
        """Drop what was collected."""
        for rows in self._rows.values():
            rows.clear()

    def write(self, split: Split, step: int) -> list[SampleRow]:
        """Write what was collected, if anything was, and return it."""
        rows, self._rows[split] = self._rows[split], []
        if not rows:
            return rows
        path = self._folder / split.value / f"step-{step:06d}{self._ending}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(path, error) from error
        write_table(path, (row.to_columns(step) for row in rows), SampleColumns)
        return rows

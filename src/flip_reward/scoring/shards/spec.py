"""Which part of the rows a process scores: `--shard 3/8`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from flip_reward.errors import OptionError

MOST_SHARDS = 9999
"""Of a run. Each of them reads the whole input."""

_GOLDEN = 0x9E3779B97F4A7C15  # 2 ** 64 divided by the golden ratio


class ShardSpec(BaseModel):
    """One of the parts that a run is divided into.

    Example:
        >>> shard = ShardSpec.parse("3/8", {})
        >>> str(shard), [position for position in range(40) if shard.holds(position)]
        ('3/8', [7, 15, 20, 28])
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int = Field(ge=1)
    """From 1."""
    count: int = Field(ge=1, le=MOST_SHARDS)

    @model_validator(mode="after")
    def _check_number(self) -> Self:
        if self.number > self.count:
            raise ValueError("there are not so many shards")
        return self

    @classmethod
    def parse(cls, text: str, environment: Mapping[str, str]) -> Self:
        """Read "3/8", or find it in the variables of a Slurm array where the text is "auto"; else an OptionError."""
        if text.strip().lower() == "auto":
            return cls._of_array(environment)
        found = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text, re.ASCII)
        if found is None:
            raise OptionError(f"--shard: {text!r} is no shard", hint="such as 3/8 for the third of eight, or auto")
        number, count = map(int, found.groups())
        if not 1 <= count <= MOST_SHARDS:
            raise OptionError(f"--shard {text.strip()}: a run has 1 to {MOST_SHARDS:,} shards")
        if not 1 <= number <= count:
            hint = "shards are numbered from 1; in a Slurm array --shard auto knows the number"
            raise OptionError(f"--shard {text.strip()}: there is no shard {number} of {count}", hint=hint)
        return cls(number=number, count=count)

    @classmethod
    def _of_array(cls, environment: Mapping[str, str]) -> Self:
        """Number the tasks of a Slurm array from 1; those of one with gaps are some that were queued again."""

        def read(name: str, otherwise: int | None = None) -> int:
            text = environment.get(f"SLURM_ARRAY_TASK_{name}", "" if otherwise is None else str(otherwise))
            if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
                hint = "start it as a Slurm array (sbatch --array=1-8), or give the shard: --shard 3/8"
                raise OptionError(f"--shard auto: SLURM_ARRAY_TASK_{name} is {text!r}, not a number", hint=hint)
            return int(text)

        task, count = read("ID"), read("COUNT")
        first, step = read("MIN", 0), max(1, read("STEP", 1))
        last = read("MAX", first + step * (count - 1))
        number, between = divmod(task - first, step)
        if between or (last - first) // step + 1 != count:
            raise OptionError(
                f"--shard auto: {count} tasks from {first} to {last} are not a whole array",
                hint="tell tasks that are queued again which shards they are: --shard 3/8",
            )
        return cls.parse(f"{number + 1}/{count}", {})

    def holds(self, position: int) -> bool:
        """Whether a group is in the shard, by the position of its first row."""
        return find_number(position, self.count) == self.number

    def leaves_out(self, position: int) -> bool:
        """Whether a group is in another shard."""
        return not self.holds(position)

    def __str__(self) -> str:
        """Write it as the command line has it."""
        return f"{self.number}/{self.count}"


def find_number(position: int, count: int) -> int:
    """Return the number of the shard that holds a group.

    Fibonacci hashing: neighbours go to different shards, and so do groups that begin at every fourth row.
    """
    return ((position * _GOLDEN) % 2**64 * count >> 64) + 1

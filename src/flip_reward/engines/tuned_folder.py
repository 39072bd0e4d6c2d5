"""`inferrer.json`: what the folder of a tuned model says about how the model is to be asked."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from flip_reward.errors import DataError

NAME = "inferrer.json"


@dataclass(frozen=True, slots=True)
class TunedFolder:
    r"""The content of the file.

    Attributes:
        frame: The template of this package that the model was tuned with.

    Example:
        >>> TunedFolder("tuned").to_bytes()
        b'{"frame": "tuned"}\n'
    """

    frame: str

    @classmethod
    def read(cls, folder: Path) -> TunedFolder | None:
        """Read it; None where there is none.

        Raises:
            DataError: It is damaged.
        """
        path = folder / NAME
        if not path.is_file():
            return None
        try:
            return cls(str(json.loads(path.read_bytes())["frame"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} cannot be read: it is damaged") from error

    def to_bytes(self) -> bytes:
        """Return what the file holds."""
        return json.dumps({"frame": self.frame}).encode() + b"\n"

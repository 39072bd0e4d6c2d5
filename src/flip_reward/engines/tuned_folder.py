"""`inferrer.json`: what the folder of a tuned model says about how the model is to be asked."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from flip_reward.errors import DataError

NAME = "inferrer.json"


class TunedFolder(BaseModel):
    r"""The content of the file.

    Attributes:
        frame: The template of this package that the model was tuned with.

    Example:
        >>> TunedFolder(frame="tuned").to_bytes()
        b'{"frame":"tuned"}\n'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

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
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise DataError(f"{path} cannot be read: it is damaged") from error

    def to_bytes(self) -> bytes:
        """Return what the file holds."""
        return self.model_dump_json().encode() + b"\n"

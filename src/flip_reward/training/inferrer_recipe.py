"""A recipe: how a model is tuned to infer instructions, as a YAML file, so that one command repeats it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flip_reward.core.frames import Frame, load_frame
from flip_reward.errors import DataError, MissingDependencyError, OptionError


class Method(StrEnum):
    """What is tuned."""

    LORA = "lora"
    """A small adapter beside the weights, which stay as they are (Hu et al. 2021, arXiv 2106.09685)."""
    FULL = "full"
    """All weights."""


class Precision(StrEnum):
    """What is computed with."""

    AUTO = "auto"
    """bfloat16 where the processor has it, else float32."""
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class Schedule(StrEnum):
    """How the learning rate goes down after the warm-up."""

    COSINE = "cosine"
    LINEAR = "linear"
    CONSTANT = "constant_with_warmup"


class SavedAs(StrEnum):
    """The numbers in the file of the tuned weights."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataSource(_Part):
    """Rows of instructions and responses."""

    source: str
    """Whatever `flip-reward score` reads: a file in any of its formats, or a data set on the hub."""
    weight: float = Field(default=1.0, gt=0, le=100)
    """How often each of its rows is seen in an epoch: 2 is twice, 0.5 is every other row."""
    columns: dict[str, str] = {}
    """Our column names to theirs, as for `--columns`."""


class LoraOptions(_Part):
    """How large the adapter is, and where it is added."""

    rank: int = Field(default=16, ge=1)
    alpha: float = Field(default=32, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    modules: str | list[str] = "all-linear"
    """Every linear layer but the last, or names of layers."""


class InferrerRecipe(_Part):
    """What is tuned, on what, and how.

    Example:
        >>> InferrerRecipe(model="smollm2-135m", data=[DataSource(source="pairs.jsonl")]).load_frame().template.name
        'compact'
    """

    model: str
    """As for `--model transformers:MODEL`."""
    data: list[DataSource] = Field(min_length=1)
    data_folder: Path | None = None
    """Where files of `data` and `exclude` are looked for. None is the current folder."""
    exclude: list[str] = []
    """Files of prompts, or benchmarks by name: rows whose prompt occurs there are left out."""
    output: Path | None = None

    frame: str | None = None
    """As `--template` of backward likelihood. None is "compact", or in a folder its "FRAME"."""
    frame_dir: Path | None = None
    """A folder with a frame of your own; see `flip_reward.core.frames.load_frame`."""
    no_thinking: bool = False

    method: Method = Method.LORA
    lora: LoraOptions = LoraOptions()
    saved_as: SavedAs = SavedAs.FLOAT32

    rows: int | None = Field(default=None, ge=1)
    """Only so many of the rows, drawn with the seed. A smaller number draws a part of what a larger one does."""
    held_out: float = Field(default=0.02, ge=0, le=0.5)
    """Which part of the prompts is kept aside, to measure the loss on."""
    near_duplicates: bool = False
    """Keep rows that are nearly the same as one before."""
    max_tokens: int = Field(default=1024, ge=8)
    """Longer rows are left out, never cut: scoring does not cut either."""
    max_instruction_tokens: int = Field(default=256, ge=1)

    seed: int = Field(default=0, ge=0, lt=2**32)
    epochs: float = Field(default=1.0, gt=0)
    max_steps: int | None = Field(default=None, ge=1)
    batch_rows: int = Field(default=8, ge=1)
    accumulate: int = Field(default=1, ge=1)
    """So many batches make a step."""
    learning_rate: float = Field(default=2e-4, gt=0)
    schedule: Schedule = Schedule.COSINE
    warmup: float = Field(default=0.03, ge=0, lt=1)
    """Which part of the steps it takes to reach the learning rate."""
    weight_decay: float = Field(default=0.0, ge=0)
    max_gradient_norm: float = Field(default=1.0, gt=0)

    precision: Precision = Precision.AUTO
    device: str | None = None
    """"cpu", or None for a GPU where there is one."""
    gradient_checkpointing: bool = False
    """Less memory, a fifth slower."""
    checkpoint_every: int = Field(default=100, ge=1)
    evaluate_every: int = Field(default=100, ge=1)
    log_every: int = Field(default=10, ge=1)

    @classmethod
    def read(cls, path: Path, overrides: Sequence[str] = ()) -> Self:
        """Read a recipe.

        Args:
            path: The YAML file.
            overrides: "key=value" or "part.key=value", values in YAML, in place of what the file says.

        Raises:
            DataError: There is none, or it is not a recipe.
            OptionError: An override is malformed.
            MissingDependencyError: PyYAML is not installed.
        """
        try:
            import yaml
        except ImportError:
            raise MissingDependencyError("PyYAML", extra="train") from None
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(f"the recipe {path} cannot be read: {error.strerror or error}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise DataError(f"the recipe {path} is not YAML: {' '.join(str(error).split())}") from error
        if not isinstance(content, dict):
            raise DataError(f"the recipe {path} holds no keys and values")
        for override in overrides:
            key, equals, value = override.partition("=")
            if not equals or not key:
                raise OptionError(f"{override!r} is not of the form key=value", hint="for example learning_rate=1e-4")
            try:
                _put(content, key.split("."), yaml.safe_load(value))
            except yaml.YAMLError as error:
                raise OptionError(f"{override!r}: the value is not YAML") from error
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise _explain(path, error) from error

    def load_frame(self) -> Frame:
        """Load the frame.

        Raises:
            TemplateError: There is no such frame, or it is malformed.
        """
        return load_frame(self.frame or (None if self.frame_dir else "compact"), folder=self.frame_dir)

    def locate(self, source: str) -> str:
        """Return where a file of the recipe is; anything else, such as a name on the hub, as it is."""
        inside = (self.data_folder or Path()) / Path(source).expanduser()
        return str(inside) if inside.exists() else source

    def settings(self) -> dict[str, str | int | float | bool | None]:
        """Return what the result depends on besides the data and the model, one value a key."""
        flat: dict[str, str | int | float | bool | None] = {}
        elsewhere = {"model", "data", "data_folder", "exclude", "output", "frame_dir", "lora"}
        values = self.model_dump(mode="json", exclude=elsewhere)
        if self.method is Method.LORA:
            values |= {f"lora.{key}": value for key, value in self.lora.model_dump(mode="json").items()}
        for key, value in values.items():
            flat[key] = value if isinstance(value, str | int | float | bool | None) else ", ".join(map(str, value))
        for number, one in enumerate(self.data, start=1):
            flat[f"data {number} weight"] = one.weight
            flat[f"data {number} columns"] = ", ".join(f"{ours}={theirs}" for ours, theirs in one.columns.items())
        return flat


def _put(content: dict[str, object], keys: Sequence[str], value: object) -> None:
    for key in keys[:-1]:
        inner = content.setdefault(key, {})
        if not isinstance(inner, dict):
            raise OptionError(f"{'.'.join(keys)}: {key!r} has no keys of its own")
        content = inner
    content[keys[-1]] = value


def _explain(path: Path, error: ValidationError) -> DataError:
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"])) or "the whole"
    if first["type"] == "extra_forbidden":
        known = _keys_beside(first["loc"])
        near = get_close_matches(str(first["loc"][-1]), known, n=1)
        suggestion = f"; did you mean {near[0]!r}?" if near else ""
        return DataError(f"the recipe {path}: unknown key {place!r}{suggestion}", hint=f"keys are {', '.join(known)}")
    return DataError(f"the recipe {path}, {place}: {first['msg']}")


def _keys_beside(place: tuple[int | str, ...]) -> list[str]:
    parts: dict[str, type[_Part]] = {"data": DataSource, "lora": LoraOptions}
    model: Iterable[str] = parts[str(place[0])].model_fields if len(place) > 1 else InferrerRecipe.model_fields
    return list(model)

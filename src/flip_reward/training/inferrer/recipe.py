"""A recipe: how a model is tuned to infer instructions, as a YAML file, so that one command repeats it."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from flip_reward.core.prompts import CompletionPrompt, load_completion_prompt
from flip_reward.recipe import read_recipe


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


class ContrastOptions(_Part):
    """How a model learns to find an instruction likelier after its own response than after others.

    For tuning on from an adapter that already infers: see `start`.
    """

    alike: int = Field(default=4, ge=2)
    """So many texts whose responses are alike stand in a group, each contrasted with all others."""
    weight: float = Field(default=1.0, gt=0)
    """The loss of an instruction's rank counts so often beside the likelihood of its tokens."""


class InferrerRecipe(_Part):
    """What is tuned, on what, and how.

    Example:
        >>> InferrerRecipe(
        ...     model="smollm2-135m", data=[DataSource(source="pairs.jsonl")]
        ... ).load_completion_prompt().template.name
        'tuned'
    """

    model: str
    """As for `--model transformers:MODEL`."""
    start: Path | None = None
    """The folder of a LoRA adapter of the model, which is tuned on. `lora` is then that of the adapter."""
    data: list[DataSource] = Field(min_length=1)
    data_folder: Path | None = None
    """Where files of `data` and `exclude` are looked for. None is the current folder."""
    exclude: list[str] = []
    """Files of prompts, or benchmarks by name: rows whose prompt occurs there are left out."""
    output: Path | None = None

    frame: str | None = None
    """As `--template` of backward likelihood. None is "tuned", or in a folder its "FRAME"."""
    frame_dir: Path | None = None
    """A folder with a frame of your own; see `flip_reward.core.prompts.load_completion_prompt`."""
    no_thinking: bool = False

    method: Method = Method.LORA
    lora: LoraOptions = LoraOptions()
    saved_as: SavedAs = SavedAs.FLOAT32
    contrast: ContrastOptions | None = None
    """Also raise every instruction above what it is after responses that are alike. None: likelihood alone."""

    rows: int | None = Field(default=None, ge=1)
    """Only so many of the rows, drawn with the seed. A smaller number draws a part of what a larger one does."""
    held_out: float = Field(default=0.02, ge=0, le=0.5)
    """Which part of the prompts is kept aside, to measure the loss on."""
    keep_near_duplicates: bool = False
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
        return read_recipe(path, cls, overrides, extra="train")

    def load_completion_prompt(self) -> CompletionPrompt:
        """Load the frame.

        Raises:
            TemplateError: There is no such frame, or it is malformed.
        """
        return load_completion_prompt(self.frame or (None if self.frame_dir else "tuned"), folder=self.frame_dir)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.contrast is not None and self.batch_rows % self.contrast.alike:
            raise ValueError(f"batch_rows must be a multiple of contrast.alike, {self.contrast.alike}")
        if self.start is not None and self.method is Method.FULL:
            raise ValueError("start names an adapter, so method must be lora")
        return self

    def locate(self, source: str) -> str:
        """Return where a file of the recipe is; anything else, such as a name on the hub, as it is."""
        inside = (self.data_folder or Path()) / Path(source).expanduser()
        return str(inside) if inside.exists() else source

    def settings(self) -> dict[str, str | int | float | bool | None]:
        """Return what the result depends on besides the data and the model, one value a key."""
        flat: dict[str, str | int | float | bool | None] = {}
        elsewhere = {"model", "start", "data", "data_folder", "exclude", "output", "frame_dir", "lora", "contrast"}
        values = self.model_dump(mode="json", exclude=elsewhere)
        if self.method is Method.LORA and self.start is None:
            values |= {f"lora.{key}": value for key, value in self.lora.model_dump(mode="json").items()}
        if self.contrast is not None:
            values |= {f"contrast.{key}": value for key, value in self.contrast.model_dump(mode="json").items()}
        for key, value in values.items():
            flat[key] = value if isinstance(value, str | int | float | bool | None) else ", ".join(map(str, value))
        for number, one in enumerate(self.data, start=1):
            flat[f"data {number} weight"] = one.weight
            flat[f"data {number} columns"] = ", ".join(f"{ours}={theirs}" for ours, theirs in one.columns.items())
        return flat

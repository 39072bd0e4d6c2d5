"""A recipe: how a model is tuned to infer instructions, as a YAML file, so that one command repeats it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from flip_reward.core.prompts import CompletionPrompt, load_completion_prompt
from flip_reward.recipe import read_recipe
from flip_reward.rewards.options import Settings
from flip_reward.training.common.folder import TUNING_KEYS
from flip_reward.training.common.recipe import (
    NOT_LEARNED_FROM,
    LoraOptions,
    RecipePart,
    check_trl_fields,
    to_settings,
)

_RESERVED = frozenset(
    {
        "output_dir", "resume_from_checkpoint", "remove_unused_columns", "seed", "data_seed", "max_length", "packing",
        "eval_packing", "padding_free", "dataset_kwargs", "dataset_text_field", "train_sampling_strategy",
        "completion_only_loss", "assistant_only_loss", "chat_template_path", "eos_token", "prediction_loss_only",
        "model_init_kwargs",
    }
)  # fmt: skip

SFT_DEFAULTS: Mapping[str, object] = MappingProxyType(
    {
        "num_train_epochs": 1.0,
        "max_steps": -1,
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 1,
        "learning_rate": 2e-4,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.03,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "use_cpu": False,
        "gradient_checkpointing": False,
        "save_steps": 100,
        "eval_steps": 100,
        "logging_steps": 10,
    }
)
"""Defaults of the section `sft`. `bf16` is by default what the processor computes fast."""


def _check_sft_fields(values: Mapping[str, object]) -> dict[str, object]:
    checked = check_trl_fields("SFTConfig", values, reserved=_RESERVED)
    for name in ("num_train_epochs", "per_device_train_batch_size", "gradient_accumulation_steps", "learning_rate"):
        value = checked.get(name, 1)
        if not isinstance(value, int | float) or not value > 0:
            raise PydanticCustomError("sft_value", "{name} must be more than 0", {"name": name})
    return checked


class TuningMethod(StrEnum):
    """What is tuned."""

    LORA = "lora"
    """A small adapter beside the weights, which stay as they are (Hu et al. 2021, arXiv 2106.09685)."""
    FULL = "full"
    """All weights."""


class SavedAs(StrEnum):
    """The numbers in the file of the tuned weights."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"


class DataSource(RecipePart):
    """Rows of instructions and responses."""

    source: str
    """Whatever `flip-reward score` reads: a file in any of its formats, or a data set on the hub."""
    weight: float = Field(default=1.0, gt=0, le=100)
    """How often an epoch has each of its rows: 2 is twice, 0.5 is every other row."""
    columns: dict[str, str] = Field(default={})
    """Our column names to theirs, as for `--columns`."""
    encoding: str | None = None
    """How the texts of files are written; by default UTF-8, or UTF-16 where that is certain."""


class ContrastOptions(RecipePart):
    """How a model learns to find an instruction likelier after its own response than after others.

    For tuning on from an adapter that already infers: see `start`.
    """

    alike: int = Field(default=4, ge=2)
    """How many texts a group has. Their responses are alike, and each is contrasted with all others."""
    weight: float = Field(default=1.0, gt=0)
    """The weight of the rank's loss beside the likelihood of the tokens."""


class InferrerRecipe(RecipePart):
    """What is tuned, on what, and how."""

    renamed: ClassVar[Mapping[str, str]] = TUNING_KEYS

    model: str
    """As for `--model transformers:MODEL`."""
    start: Path | None = None
    """The folder of a LoRA adapter of the model to start from. Its rank and modules replace `lora`."""
    data: list[DataSource] = Field(min_length=1)
    data_folder: Path | None = None
    """The folder of the files in `data` and `exclude`. None is the current folder."""
    exclude: list[str] = Field(default=[])
    """Files of prompts, or benchmarks by name: rows whose prompt occurs there are left out."""
    output: Path | None = None

    template: str | None = None
    """As `--template` of backward likelihood. None is "tuned", or in a folder its "FRAME"."""
    template_dir: Path | None = None
    """A folder with a completion prompt of your own; see `flip_reward.core.prompts.load_completion_prompt`."""
    no_thinking: bool = False

    method: TuningMethod = TuningMethod.LORA
    lora: LoraOptions = LoraOptions()
    saved_as: SavedAs = SavedAs.FLOAT32
    contrast: ContrastOptions | None = None
    """Also learn to rank: raise every instruction above its likelihood after responses that are alike."""

    rows: int | None = Field(default=None, ge=1)
    """How many of the rows, drawn with the seed. A smaller number draws a part of a larger one's."""
    held_out: float = Field(default=0.02, ge=0, le=0.5)
    """The share of the prompts that is held out, to measure the loss on."""
    keep_near_duplicates: bool = False
    """Keep rows that nearly repeat an earlier one."""
    max_tokens: int = Field(default=1024, ge=8)
    """Longer rows are left out, never cut: scoring does not cut either."""
    max_instruction_tokens: int = Field(default=256, ge=1)

    seed: int = Field(default=0, ge=0, lt=2**32)
    """Decides which rows are drawn and held out, their order, and everything that the trainer draws."""
    sft: Annotated[dict[str, object], AfterValidator(_check_sft_fields)] = Field(default={})
    """Fields of TRL's SFTConfig. Fields that are not set come from `SFT_DEFAULTS`."""

    @classmethod
    def read(cls, path: Path, overrides: Sequence[str] = ()) -> Self:
        """Read a recipe; overrides are "key=value" or "part.key=value", values in YAML, in place of what it says."""
        return read_recipe(path, cls, overrides, extra="train")

    def load_completion_prompt(self) -> CompletionPrompt:
        """Load the completion prompt that the model is asked with."""
        name = self.template or (None if self.template_dir else "tuned")
        return load_completion_prompt(name, folder=self.template_dir)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.contrast is not None and self.batch_rows % self.contrast.alike:
            multiple = f"a multiple of contrast.alike, {self.contrast.alike}"
            raise ValueError(f"sft.per_device_train_batch_size must be {multiple}")
        if self.start is not None and self.method is TuningMethod.FULL:
            raise ValueError("start names an adapter, so method must be lora")
        return self

    @property
    def trainer_values(self) -> dict[str, Any]:
        """The section `sft` with its defaults."""
        return {**SFT_DEFAULTS, **self.sft}

    @property
    def epochs(self) -> float:
        """How often each text is seen."""
        epochs: float = self.trainer_values["num_train_epochs"]
        return epochs

    @property
    def batch_rows(self) -> int:
        """The texts of a batch."""
        rows: int = self.trainer_values["per_device_train_batch_size"]
        return rows

    @property
    def rows_a_step(self) -> int:
        """The texts of a step."""
        batches: int = self.trainer_values["gradient_accumulation_steps"]
        return self.batch_rows * batches

    def locate(self, source: str) -> str:
        """Return the path of a file of the recipe; anything else, such as a name on the hub, unchanged."""
        inside = (self.data_folder or Path()) / Path(source).expanduser()
        return str(inside) if inside.exists() else source

    def settings(self) -> Settings:
        """Return the settings that the result depends on, without the data and the model, one value a key."""
        elsewhere = {
            "model", "start", "data", "data_folder", "exclude", "output", "template_dir", "lora", "contrast", "sft",
        }  # fmt: skip
        trained = {name: value for name, value in self.trainer_values.items() if name not in NOT_LEARNED_FROM}
        lora: dict[str, object] = {}
        if self.method is TuningMethod.LORA and self.start is None:
            modules = self.lora.modules
            lora = {**self.lora.model_dump(), "modules": modules if isinstance(modules, str) else ", ".join(modules)}
        data: dict[str, object] = {}
        for number, one in enumerate(self.data, start=1):
            data[f"data {number} weight"] = one.weight
            data[f"data {number} columns"] = ", ".join(f"{ours}={theirs}" for ours, theirs in one.columns.items())
        return {
            **to_settings(self.model_dump(exclude=elsewhere)),
            **to_settings(trained, "sft."),
            **to_settings(lora, "lora."),
            **to_settings(self.contrast.model_dump() if self.contrast else {}, "contrast."),
            **to_settings(data),
        }

"""`flip-reward export-adapter`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from flip_reward.engines.lora.export import export_adapter as export


def export_adapter(
    folder: Annotated[
        str,
        typer.Argument(
            metavar="FOLDER",
            help="A LoRA adapter as PEFT saves it; MODEL+FOLDER names its model.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file. By default adapter.gguf in the folder.", show_default=False),
    ] = None,
) -> None:
    """Write a LoRA adapter as a GGUF file, which llama.cpp loads.

    'flip-reward tune-inferrer' already does so; this is for adapters from elsewhere. Use one with
    '--model MODEL.gguf+FILE', where MODEL.gguf is its base model, quantised or not.

    Examples:

      flip-reward export-adapter tuned/mine

      flip-reward export-adapter Qwen/Qwen3-0.6B+adapters/mine -o mine.gguf
    """
    file = export(folder, output)
    Console().print(Text(f"Adapter: {file} ({file.stat().st_size / 1e6:.1f} MB)"), soft_wrap=True)

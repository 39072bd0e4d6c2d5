"""`flip-reward report`."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from flip_reward.errors import OptionError
from flip_reward.report.audit.page import build_audit_page
from flip_reward.report.document import MAX_BYTES
from flip_reward.report.evaluation.page import build_report
from flip_reward.report.run.page import build_run_page, is_run
from flip_reward.report.training.folder import Split, is_training
from flip_reward.report.training.page import build_training_page
from flip_reward.report.training.rollouts import build_rollouts_page
from flip_reward.scoring.folders import FolderKind, recognise

_FOLDER_HELP = (
    "A folder of 'flip-reward score', 'best-of-n', 'rescore', 'evaluate', 'audit' or 'train'; or several of "
    "trainings that differ in the seed, with the page in the first."
)


def report(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="FOLDER...", help=_FOLDER_HELP, show_default=False),
    ],
    show: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
    max_megabytes: Annotated[
        float, typer.Option(min=1, help="How large the file may become; long texts are cut until it fits.")
    ] = MAX_BYTES / 1_000_000,
    step: Annotated[
        int | None,
        typer.Option(
            help="Of a training: open with the samples of this step, and compare it with the first.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        Split | None,
        typer.Option(
            metavar="|".join(Split),
            help="Of a training: only these samples.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write a run, an evaluation, an audit or a training as one HTML file that needs no network.

    Examples:

      flip-reward report runs/responses-1a2b3c4d --open

      flip-reward report evaluations/llmbar-1a2b3c4d --open

      flip-reward report evaluations/llmbar-1a2b3c4d --max-megabytes 20

      flip-reward report trained/grpo_flip_cpu

      flip-reward report trained/grpo_flip_cpu --split train --step 7

      flip-reward report trained/seed-1 trained/seed-2
    """
    folder, max_bytes = folders[0], int(max_megabytes * 1_000_000)
    if all(map(is_training, folders)):
        path = build_training_page(*folders, split=split, step=step, max_bytes=max_bytes)
    elif len(folders) > 1:
        odd = next(one for one in folders if not is_training(one))
        what = f"{odd} is no training" if odd.exists() else f"there is no folder {odd}"
        raise OptionError(what, hint="of several folders each is one of 'flip-reward train'")
    elif step is not None or split is not None:
        raise OptionError("--step and --split are for the folder of a training", hint="'flip-reward train' makes it")
    elif recognise(folder) is FolderKind.AUDIT:
        path = build_audit_page(folder, max_bytes=max_bytes)
    elif recognise(folder) is FolderKind.ROLLOUTS:
        path = build_rollouts_page(folder, max_bytes=max_bytes)
    elif is_run(folder):
        path = build_run_page(folder, max_bytes=max_bytes)
    else:
        path = build_report(folder, max_bytes=max_bytes)
    typer.echo(f"Report: {path} ({path.stat().st_size / 1_000_000:.1f} MB)")
    if show:
        webbrowser.open(path.resolve().as_uri())

"""`train_grpo`: train a policy with GRPO, from a recipe."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from flip_reward.data.files import storage_error
from flip_reward.engines.stopping import StopSignal
from flip_reward.integrations.trl.options import TrlOptions
from flip_reward.report.training.folder import SAMPLES
from flip_reward.scoring.manifest import RunConfiguration
from flip_reward.scoring.run_folder import locked
from flip_reward.training.common.folder import (
    CHECKPOINTS,
    AlarmEnd,
    GrpoManifest,
    describe_session,
    drop_partial,
    find_last,
)
from flip_reward.training.common.libraries import quiet_libraries, require_libraries
from flip_reward.training.common.progress import SilentObserver, TrainingObserver
from flip_reward.training.grpo.data import GrpoRows, prepare_rows
from flip_reward.training.grpo.recipe import GrpoRecipe
from flip_reward.training.grpo.rewards import GrpoRewards
from flip_reward.training.prompts.rows import name_data_reward

if TYPE_CHECKING:
    from trl import GRPOConfig


def train_grpo(
    recipe: GrpoRecipe, folder: Path, *, observer: TrainingObserver | None = None, stop: StopSignal | None = None
) -> GrpoManifest:
    """Train a policy with GRPO on a reward of this package; the manifest has no outcome when it was stopped.

    The folder then holds the policy in `model/`, and `manifest.json`, `metrics.jsonl`, the samples of every step (see
    `samples`) and the last checkpoints. An interrupted training resumes from the last checkpoint and ends like an
    undisturbed one, unless vLLM draws the responses; a finished one is left as it is. Under `accelerate launch` every
    process calls this.

    A `RunStoppedError` says that too much of a batch stayed unscored, and there is a checkpoint of the last step; or
    that the loss is not a number, and there is no checkpoint of the spoilt weights. Where an alarm ends it, the
    manifest says so in `ended_by`, and there is a checkpoint too.
    """
    observer, stop = observer or SilentObserver(), stop or StopSignal()
    recipe = _as_begun(recipe, folder, observer)
    require_libraries("trl", "datasets", "pyarrow", *(("peft",) if recipe.lora else ()))
    rows = prepare_rows(recipe.data, name_data_reward(recipe.reward.reward))
    evaluate = bool(rows.held_out)
    with quiet_libraries():
        from flip_reward.training.grpo.config import find_unsafe_saving, make_grpo_config

        # Before anything is loaded, since it refuses what does not go together.
        config = make_grpo_config(recipe, folder, evaluate=evaluate, resumed=False)
        rewards = _load_rewards(recipe, rows, config, observer)
        with _own(folder):
            configuration = _configure(recipe, rows, rewards, processes=config.world_size)
            manifest = GrpoManifest.read_for(folder, configuration)
            if manifest is not None and manifest.outcome is not None:
                observer.say("It is finished already")
                return manifest
            if manifest is not None and manifest.is_stopped(recipe.on_alarm):
                return manifest
            if _is_first():
                if manifest is None:  # another recipe that learned nothing may have left samples
                    shutil.rmtree(folder / SAMPLES, ignore_errors=True)
                drop_partial(folder / CHECKPOINTS)
            resumed = find_last(folder / CHECKPOINTS) is not None
            config = make_grpo_config(recipe, folder, evaluate=evaluate, resumed=resumed)
            if warning := find_unsafe_saving(config):
                observer.say(warning, warning=True)
            manifest = GrpoManifest(
                configuration=configuration,
                recipe=recipe.to_record(),
                grpo={name: _plain(value) for name, value in config.to_dict().items() if name != "output_dir"},
                rows=len(rows.train),
                held_out_rows=len(rows.held_out),
                rows_sha256=rows.sha256,
                sessions=[*(manifest.sessions if manifest else []), describe_session()],
            )
            if _is_first():
                manifest.write(folder)
                _describe(rows, rewards, observer)
            from flip_reward.training.grpo.trainer import run_grpo

            ended = run_grpo(recipe, config, rows, rewards, folder, observer=observer, stop=stop)
            if ended is not None:
                field = "ended_by" if isinstance(ended, AlarmEnd) else "outcome"
                manifest = manifest.model_copy(update={field: ended})
                if _is_first():
                    manifest.write(folder)
    return manifest


def _as_begun(recipe: GrpoRecipe, folder: Path, observer: TrainingObserver) -> GrpoRecipe:
    """Return the recipe as an earlier version would have read it, where that began in the folder."""
    manifest = GrpoManifest.read(folder)
    reward = None if manifest is None else manifest.recipe.get("reward")
    if not isinstance(reward, dict) or "copy_guard" in reward:
        return recipe
    observer.say("It began without the copy guard, in an earlier version, and goes on without it")
    return recipe.without_guard()


def _load_rewards(recipe: GrpoRecipe, rows: GrpoRows, config: GRPOConfig, observer: TrainingObserver) -> GrpoRewards:
    """Load the rewards, and make sure that they fit the batches and that their models answer."""
    from flip_reward.training.grpo.config import find_stop_strings

    options = TrlOptions(
        mask_truncated_completions=recipe.mask_truncated_completions,
        max_completion_length=config.max_completion_length,
        stop_strings=find_stop_strings(config),
        num_generations=config.num_generations,
        max_unscored_share=recipe.max_unscored_share,
        outage_poll_seconds=recipe.outage_poll_seconds,
        outage_timeout_seconds=recipe.outage_timeout_seconds,
    )
    everything = [*rows.train, *rows.held_out]
    rewards = GrpoRewards.load(recipe, everything, options, lambda text: observer.say(text, warning=True))
    rewards.check_groups(
        config, evaluate=bool(rows.held_out) and config.eval_strategy != "no", compare=recipe.compared_samples > 0
    )
    asyncio.run(_probe(rewards))
    return rewards


async def _probe(rewards: GrpoRewards) -> None:
    try:
        await rewards.probe()
    finally:
        for reward in (*rewards.by_dataset.values(), *rewards.held_out.values()):
            await reward.load().aclose()


def _configure(recipe: GrpoRecipe, rows: GrpoRows, rewards: GrpoRewards, *, processes: int) -> RunConfiguration:
    settings = {**recipe.settings(), **rewards.settings(), "rows_sha256": rows.sha256, "processes": processes}
    return RunConfiguration(settings=settings, inputs=list(rows.identities))


@contextmanager
def _own(folder: Path) -> Iterator[None]:
    """Keep other trainings out of the folder. The processes of this one share it."""
    try:
        (folder / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(folder, error) from error
    if not _is_first():
        yield
        return
    with locked(folder):
        yield


def _is_first() -> bool:
    """Whether this is the first of the processes that `accelerate launch` started, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def _describe(rows: GrpoRows, rewards: GrpoRewards, observer: TrainingObserver) -> None:
    for name, model in rewards.models.items():
        observer.say(f"{name}: model: {model}")
    for line in rows.read_as:
        observer.say(line)
    left_out = f"; {rows.left_out} left out" if rows.left_out else ""
    observer.say(f"{len(rows.train):,} prompts to learn from, {len(rows.held_out):,} held out{left_out}")


def _plain(value: object) -> object:
    return value if isinstance(value, str | int | float | bool | list | dict | None) else str(value)

"""`tune_inferrer`: tune a language model to infer instructions, from a recipe."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flip_reward.data.files import storage_error
from flip_reward.engines.files import SMOLLM2_135M, TUNED
from flip_reward.engines.huggingface.loading import HfModel, load_hf_model
from flip_reward.engines.lora.adapter import GGUF_FILE, find_gguf_adapter, find_peft_adapter
from flip_reward.engines.lora.base_model import BaseModelIdentity
from flip_reward.engines.machine import has_fast_bfloat16
from flip_reward.engines.stopping import StopSignal
from flip_reward.errors import OptionError
from flip_reward.scoring.manifest import RunConfiguration
from flip_reward.scoring.run_folder import locked
from flip_reward.training.common.folder import CHECKPOINTS, TuningManifest, describe_session, drop_partial
from flip_reward.training.common.libraries import quiet_libraries, require_libraries
from flip_reward.training.common.progress import SilentObserver, TrainingObserver
from flip_reward.training.inferrer.data import TuningData, TuningInputs
from flip_reward.training.inferrer.order import order_groups, order_texts
from flip_reward.training.inferrer.recipe import InferrerRecipe, TuningMethod

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

    from flip_reward.training.inferrer.trainer import SftResult


def tune_inferrer(
    recipe: InferrerRecipe, folder: Path, *, observer: TrainingObserver | None = None, stop: StopSignal | None = None
) -> TuningManifest:
    """Tune a model to infer instructions from responses; the manifest has no outcome when it was stopped.

    The folder then holds the adapter or the model, for `--model transformers:FOLDER`, with `manifest.json` and
    `metrics.jsonl`. An interrupted tuning resumes from the last checkpoint and ends like an undisturbed one; a
    finished one is left as it is. When the loss is not a number it ends, without a checkpoint of the spoilt weights.
    """
    observer, stop = observer or SilentObserver(), stop or StopSignal()
    require_libraries("trl", "peft", "datasets")
    inputs = TuningInputs.open(recipe)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(folder, error) from error
    with locked(folder):
        loaded, bfloat16 = _load(recipe)
        identity = BaseModelIdentity.of(loaded.name, loaded.network)
        configuration = _configure(recipe, inputs, loaded, bfloat16=bfloat16)
        manifest = TuningManifest.read_for(folder, configuration)
        if manifest is not None and manifest.outcome is not None:
            observer.say("It is finished already")
            return manifest
        with quiet_libraries():
            network = loaded.network
            if inputs.start is not None:
                network = inputs.start.attach(network, trainable=True)
        evaluated = inputs.read_evaluated()
        data = inputs.prepare(recipe, loaded, evaluated, observer)
        manifest = TuningManifest(
            configuration=configuration,
            sources=[counts.sum_up() for counts in data.counts],
            evaluated_prompts=len(evaluated),
            tokens_in_an_epoch=sum(len(one.tokens) for one in data.train),
            sessions=[*(manifest.sessions if manifest else []), describe_session()],
        )
        manifest.write(folder)
        _describe(manifest, observer)
        drop_partial(folder / CHECKPOINTS)
        with quiet_libraries():
            result = _tune(recipe, loaded, network, data, folder, bfloat16=bfloat16, observer=observer, stop=stop)
            if result.outcome is None:
                return manifest
            no_gguf = _save(recipe, loaded, result, identity, folder)
            if no_gguf is not None:
                observer.say(f"There is no {GGUF_FILE} for the embedded engine: {no_gguf}")
        manifest = manifest.model_copy(update={"outcome": result.outcome})
        manifest.write(folder)
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    return manifest


def _load(recipe: InferrerRecipe) -> tuple[HfModel, bool]:
    import torch

    if find_peft_adapter(recipe.model) is not None or find_gguf_adapter(recipe.model) is not None:
        raise OptionError(f"{recipe.model} is an adapter", hint="tune its base model, or name the adapter as start")
    if recipe.model == TUNED:
        raise OptionError(f"{TUNED} is tuned already", hint=f"tune {SMOLLM2_135M.name}")
    on_cpu = bool(recipe.trainer_values["use_cpu"]) or not torch.cuda.is_available()
    if not on_cpu and torch.cuda.device_count() > 1:
        raise OptionError("tuning takes one GPU, and there are several", hint="set CUDA_VISIBLE_DEVICES=0")
    device = "cpu" if on_cpu else "cuda"
    wanted = recipe.sft.get("bf16")
    fast = has_fast_bfloat16(torch.device(device)) and not recipe.sft.get("fp16")
    bfloat16 = fast if wanted is None else bool(wanted)
    # Weights that are tuned need all their digits; frozen ones do not.
    frozen_in_bfloat16 = bfloat16 and recipe.method is TuningMethod.LORA
    loaded = load_hf_model(recipe.model, dtype="bfloat16" if frozen_in_bfloat16 else "float32", device=device)
    return loaded, bfloat16


def _configure(recipe: InferrerRecipe, inputs: TuningInputs, loaded: HfModel, *, bfloat16: bool) -> RunConfiguration:
    return RunConfiguration(
        settings={
            "model": loaded.name,
            "model_fingerprint": loaded.fingerprint,
            "template_sha256": inputs.prompt.template.sha256,
            "start": inputs.start.fingerprint if inputs.start else None,
            **recipe.settings(),
            "sft.bf16": bfloat16,
        },
        inputs=list(inputs.identities),
    )


def _tune(
    recipe: InferrerRecipe,
    loaded: HfModel,
    network: PreTrainedModel | PeftModel,
    data: TuningData,
    folder: Path,
    *,
    bfloat16: bool,
    observer: TrainingObserver,
    stop: StopSignal,
) -> SftResult:
    from flip_reward.training.inferrer.trainer import SftTexts, run_sft

    order = _order(recipe, data)
    # A name that is a folder, or on the hub, would be looked up and written into every checkpoint.
    loaded.network.name_or_path = ""
    texts = SftTexts([data.train[place] for place in order], sorted(data.held_out, key=lambda text: len(text.tokens)))
    return run_sft(
        network,
        loaded.tokenizer,
        texts,
        recipe,
        folder,
        bfloat16=bfloat16,
        observer=observer,
        stop=stop,
    )


def _order(recipe: InferrerRecipe, data: TuningData) -> list[int]:
    if recipe.contrast is None:
        lengths = [len(text.tokens) for text in data.train]
        return order_texts(lengths, batch_rows=recipe.batch_rows, epochs=recipe.epochs, seed=recipe.seed)
    return order_groups(data.train, recipe.contrast.alike, epochs=recipe.epochs, seed=recipe.seed)


def _save(
    recipe: InferrerRecipe, loaded: HfModel, result: SftResult, identity: BaseModelIdentity, folder: Path
) -> str | None:
    """Save the tuned weights; return why an adapter could not be written as GGUF."""
    import torch

    from flip_reward.training.inferrer.save import save_adapter, save_model

    dtype = getattr(torch, recipe.saved_as.value)
    template = "" if recipe.template_dir else recipe.load_completion_prompt().template.name
    if recipe.method is TuningMethod.FULL:
        save_model(folder, result.network, loaded.tokenizer, template=template, dtype=dtype)
        return None
    own = Path(recipe.model).expanduser()
    base = str(own.resolve()) if own.exists() else recipe.model
    return save_adapter(
        folder,
        result.network,
        loaded.tokenizer,
        base=base,
        identity=identity,
        fingerprint=loaded.fingerprint,
        template=template,
        dtype=dtype,
    )


def _describe(manifest: TuningManifest, observer: TrainingObserver) -> None:
    for source in manifest.sources:
        left_out = ", ".join(f"{count} {reason}" for reason, count in source.removed.items())
        observer.say(
            f"{source.name}: {source.kept} of {source.rows} rows to learn from, {source.held_out} held out"
            + (f"; left out: {left_out}" if left_out else "")
        )
    seen: Sequence[int] = [source.seen_in_an_epoch for source in manifest.sources]
    observer.say(f"An epoch is {sum(seen)} rows with {manifest.tokens_in_an_epoch:,} tokens")

"""GRPO with TRL: rows and rewards in, a trained policy out. Imported late, since it is heavy.

`GrpoTrainer` is TRL's GRPOTrainer with runs that repeat, an end where nothing is scored, and completions that are
whole at a stop string. GRPO is unchanged.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from transformers import (
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
)
from trl import GRPOConfig
from trl.trainer.utils import RepeatSampler

from flip_reward.core.chat.thinking import THINKING, fold
from flip_reward.engines.files import DEFAULT_NAMES
from flip_reward.engines.stopping import StopSignal
from flip_reward.errors import DataError, EngineUnavailableError, OptionError, RunStoppedError
from flip_reward.report.training.folder import Split
from flip_reward.scoring.folders import MANIFEST
from flip_reward.training.common.folder import CHECKPOINTS, AlarmEnd, GrpoOutcome, find_last
from flip_reward.training.common.libraries import make_lora_config
from flip_reward.training.common.progress import TrainingObserver
from flip_reward.training.common.trainer import ProgressCallback, RandomState, RobustCheckpointMixin, drawing_apart
from flip_reward.training.grpo.data import GrpoRows
from flip_reward.training.grpo.recipe import GrpoRecipe
from flip_reward.training.grpo.rewards import GrpoRewardCall, GrpoRewards
from flip_reward.training.grpo.samples import SampleTable
from flip_reward.training.grpo.stops import StoppingGrpoTrainer
from flip_reward.training.grpo.watch import RolloutWatch
from flip_reward.training.prompts.rows import PromptRow

_NO_PROBABILITIES = "probability tensor contains"  # as torch.multinomial says it


class EpochSampler(RepeatSampler):  # type: ignore[misc]
    """TRL's order of prompts, depending on seed and epoch alone.

    TRL draws the order of an epoch after that of the one before, so a run resumed in its second epoch would repeat
    the order of the first.
    """

    def set_epoch(self, epoch: int) -> None:
        """Prepare the order of an epoch."""
        if self.shuffle:
            self.generator.manual_seed((self.seed or 0) + epoch)


class GrpoTrainer(RobustCheckpointMixin, StoppingGrpoTrainer):
    """Trains a policy.

    `lacks_rewards` says that it ended because a batch had too few rewards to learn from; the weights are good.
    """

    advice = "take a smaller grpo.learning_rate, in another folder"

    def __init__(self, reward: GrpoRewardCall, table: SampleTable, watch: RolloutWatch, **arguments: Any) -> None:  # noqa: ANN401
        self._reward, self._table, self._watch = reward, table, watch
        self._sampler: EpochSampler | None = None
        self._before_step: RandomState | None = None
        self.lacks_rewards = False
        super().__init__(reward_funcs=reward, **arguments)
        self._hidden = _find_hidden_tokens(self.processing_class)

    def _get_train_sampler(self, dataset: object = None) -> EpochSampler:
        plain = super()._get_train_sampler(dataset)
        self._sampler = EpochSampler(
            data_source=plain.data_source,
            mini_repeat_count=plain.mini_repeat_count,
            batch_size=plain.batch_size,
            repeat_count=plain.repeat_count,
            shuffle=plain.shuffle,
            seed=plain.seed,
        )
        return self._sampler

    def _run_epoch(self, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - the signature of the trainer
        if self._sampler is not None:
            self._sampler.set_epoch(named["epoch"])
        return super()._run_epoch(*arguments, **named)

    def _generate_and_score_completions(self, inputs: Any) -> Any:  # noqa: ANN401 - the signature of the trainer
        if self.model.training and self._step % self.args.gradient_accumulation_steps == 0:
            self._before_step = RandomState()
        try:
            return super()._generate_and_score_completions(inputs)
        except RuntimeError as error:
            if _NO_PROBABILITIES not in str(error):
                raise
            raise RunStoppedError("the policy's probabilities are not numbers any more") from error

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, tokens: Any) -> torch.Tensor:  # noqa: ANN401
        training = self.model.training
        self._reward.split = Split.TRAIN if training else Split.HELD_OUT
        self._reward.num_generations = self.num_generations if training else self.num_generations_eval
        if self._hidden is not None:
            shown = [[token for token in one if token not in self._hidden] for one in tokens]
            completions = [[{"role": "assistant", "content": self.processing_class.decode(one)}] for one in shown]
        rewards: torch.Tensor = super()._calculate_rewards(inputs, prompts, completions, tokens)
        problems: Sequence[str | None] = gather_object([self._reward.problem])
        problem = next((one for one in problems if one), None)
        if problem is not None:
            if self._before_step is not None:
                self._before_step.restore()  # so that a resumed run draws what this one drew
            self._table.forget()
            self.lacks_rewards = True
            raise RunStoppedError(problem)
        return rewards

    def evaluate(self, *arguments: Any, **named: Any) -> dict[str, float]:  # noqa: ANN401
        """Evaluate held-out prompts with the same draws each time, without a change to the draws of the training."""
        with drawing_apart(self.args.seed):
            found: dict[str, float] = super().evaluate(*arguments, **named)
        return found

    def evaluation_loop(self, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - the signature of the trainer
        """Evaluate, and write the samples before the metrics are logged."""
        found = super().evaluation_loop(*arguments, **named)
        self._average_samples()
        self.write_samples(Split.HELD_OUT)
        return found

    def _average_samples(self) -> None:
        """Have means over samples logged. TRL averages those of batches, which differ in how many have a score."""
        found: dict[str, list[float]] = {}
        for values in gather_object([self._reward.held_out_values]):
            for name, known in values.items():
                found.setdefault(name, []).extend(known)
        self._reward.held_out_values = {}
        self._metrics["eval"].update({name: [fmean(values)] for name, values in found.items() if values})

    def write_samples(self, split: Split) -> None:
        """Write the samples of the step that is done, and have them watched."""
        step = self.state.global_step
        rows = self._table.write(split, step)
        mode = "train" if split is Split.TRAIN else "eval"
        for name, value in self._watch.observe(split, step, rows, last=step >= self.state.max_steps).items():
            self._metrics[mode][f"audit/{name}"].append(value)
        if self._watch.end is not None:
            self.control.should_save = self.control.should_training_stop = True

    def save_now(self) -> Path | None:
        """Write a checkpoint of the last finished step, unless there is one; None before the first step."""
        if not self.state.global_step:
            return None
        checkpoint = self._checkpoint()
        if find_last(checkpoint.parent) != checkpoint:
            self._save_checkpoint(self.model, None)
        return checkpoint

    def write_model(self, folder: Path) -> None:
        """Write the policy and its tokenizer."""
        self._check_weights()
        with self._writing("policy", folder):
            self.save_model(str(folder))
            if self.is_world_process_zero():
                self.processing_class.save_pretrained(folder)

    def _add_to(self, checkpoint: Path) -> None:
        shutil.copyfile(checkpoint.parent.parent / MANIFEST, checkpoint / MANIFEST)
        self._watch.save(checkpoint)


def _find_hidden_tokens(tokenizer: PreTrainedTokenizerBase) -> frozenset[int] | None:
    """Return the special tokens that are no marks of thinking, if TRL takes marks off completions; else None.

    It decodes without special tokens, which marks are in some models, or has completions parsed.
    """
    added = getattr(tokenizer, "added_tokens_decoder", {})
    special = {number: fold(token.content) for number, token in added.items() if token.special}
    marks = {fold(mark) for one in THINKING for mark in (*one.starts, *one.ends)}
    parsed = any(getattr(tokenizer, name, None) is not None for name in ("response_template", "response_schema"))
    if not parsed and marks.isdisjoint(special.values()):
        return None
    return frozenset(number for number, token in special.items() if not any(token in mark for mark in marks))


class _SampleCallback(TrainerCallback):  # type: ignore[misc]
    """Has the samples of each step written, and held-out prompts evaluated after the last one."""

    trainer: GrpoTrainer

    def __init__(self, *, evaluate: bool) -> None:
        self._evaluate = evaluate

    def on_step_end(self, _args: object, state: TrainerState, control: TrainerControl, **_: object) -> None:
        self.trainer.write_samples(Split.TRAIN)
        if self._evaluate and state.global_step == state.max_steps:
            control.should_evaluate = True


MODEL = "model"
"""The folder of the trained policy, inside that of the training."""


@dataclass(frozen=True, slots=True)
class _Policy:
    model: str | PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def run_grpo(
    recipe: GrpoRecipe,
    config: GRPOConfig,
    rows: GrpoRows,
    rewards: GrpoRewards,
    folder: Path,
    *,
    observer: TrainingObserver,
    stop: StopSignal,
) -> GrpoOutcome | AlarmEnd | None:
    """Train a policy, from the last checkpoint where there is one; None when it was stopped before the end."""
    policy = _load(recipe, config)
    train, held_out = (_fit(part, policy.tokenizer, recipe, observer) for part in (rows.train, rows.held_out))
    if not train:
        raise DataError("no row to learn from is left: all prompts are longer than data.max_prompt_tokens")
    table = SampleTable(folder, config.process_index if config.world_size > 1 else None)
    call = GrpoRewardCall(
        rewards, table, lambda message: observer.say(message, warning=True), recipe.compared_samples
    )
    monitor = recipe.monitor
    if monitor.maximum is None:
        monitor = monitor.model_copy(update={"maximum": rewards.maximum})
    last = find_last(folder / CHECKPOINTS)
    first = config.process_index == 0
    watch = RolloutWatch.resume(folder, last, monitor, recipe.on_alarm, observer, first=first)
    progress = ProgressCallback(
        folder if first else None,
        observer,
        stop,
        figures={"reward": "reward", "eval_reward": "held out"},
        numbers={"loss": "loss", "grad_norm": "gradient"},
    )
    samples = _SampleCallback(evaluate=bool(held_out) and config.eval_strategy != "no")
    trainer = _make_trainer(recipe, config, policy, train, held_out, call, table, watch, [samples, progress])
    samples.trainer = trainer
    rewards.know_template(policy.tokenizer, config.chat_template_kwargs or {})
    rewards.know_end_tokens([*trainer.eos_token_ids, policy.tokenizer.pad_token_id])
    try:
        trainer.resume(observer)
    except RunStoppedError as error:
        raise RunStoppedError(f"stopped: {error}", hint=_keep(trainer, find_last(folder / CHECKPOINTS))) from error
    if trainer.state.global_step < trainer.state.max_steps:
        return watch.end
    trainer.write_model(folder / MODEL)
    last_step = trainer.state.global_step
    evaluations = [entry for entry in trainer.state.log_history if entry.get("eval_reward") is not None]
    seen = {entry["step"]: float(entry["eval_reward"]) for entry in evaluations}
    return GrpoOutcome(steps=last_step, held_out_reward_before=seen.get(0), held_out_reward=seen.get(last_step))


def _keep(trainer: GrpoTrainer, last: Path | None) -> str:
    """Write a checkpoint where the weights are good, and return what to do next."""
    if trainer.lacks_rewards:
        kept = trainer.save_now()
        return f"the same command goes on from {kept.name}" if kept else "nothing was learned yet"
    known = f"; {last.name} is from before" if last else ""
    return f"{trainer.advice}{known}"


def _make_trainer(
    recipe: GrpoRecipe,
    config: GRPOConfig,
    policy: _Policy,
    train: Sequence[dict[str, Any]],
    held_out: Sequence[dict[str, Any]],
    call: GrpoRewardCall,
    table: SampleTable,
    watch: RolloutWatch,
    callbacks: Sequence[TrainerCallback],
) -> GrpoTrainer:
    needed = config.generation_batch_size // config.num_generations
    if len(train) < needed:
        raise DataError(f"a batch needs {needed} different prompts, and there are {len(train)} to learn from")
    try:
        return GrpoTrainer(
            call,
            table,
            watch,
            model=policy.model,
            args=config,
            train_dataset=Dataset.from_list(list(train)),
            eval_dataset=Dataset.from_list(list(held_out)) if held_out else None,
            processing_class=policy.tokenizer,
            callbacks=list(callbacks),
            peft_config=make_lora_config(recipe.lora) if recipe.lora else None,
        )
    except OSError as error:
        raise EngineUnavailableError(f"the policy {recipe.model} cannot be loaded: {error}") from error
    except (ValueError, TypeError, ImportError) as error:
        raise OptionError(f"TRL does not take the recipe: {' '.join(str(error).split())}") from error


def _load(recipe: GrpoRecipe, config: GRPOConfig) -> _Policy:
    """Load the tokenizer, and leave the weights to TRL, which knows how each kind of parallelism wants them.

    Models that transformers cannot find itself (the one of the extra "local", GGUF files) are loaded here.
    """
    name = recipe.model
    if name in DEFAULT_NAMES or name.endswith(".gguf") or name.startswith("hf://"):
        from flip_reward.engines.huggingface.loading import load_hf_model

        loaded = load_hf_model(name, dtype="float32", device="cpu" if config.use_cpu else None)
        loaded.network.name_or_path = ""  # a folder of this machine, which checkpoints need not name
        loaded.network.train()
        policy = _Policy(loaded.network, loaded.tokenizer)
    else:
        options = config.model_init_kwargs if isinstance(config.model_init_kwargs, dict) else {}
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                name, revision=options.get("revision", "main"), trust_remote_code=False
            )
        except (OSError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise EngineUnavailableError(f"the policy {name} cannot be loaded: {reason}") from error
        policy = _Policy(name, tokenizer)
    policy.tokenizer.padding_side = "left"
    if policy.tokenizer.chat_template is None:
        raise OptionError(f"the policy {name} has no chat template", hint="train an instruct model")
    return policy


def _fit(
    rows: Sequence[PromptRow], tokenizer: PreTrainedTokenizerBase, recipe: GrpoRecipe, observer: TrainingObserver
) -> list[dict[str, Any]]:
    """Return the rows as TRL reads them, without prompts that are too long."""
    limit = recipe.data.max_prompt_tokens
    found = []
    for number, row in enumerate(rows):
        prompt = [{"role": message.role, "content": message.content} for message in row.messages]
        if limit is not None:
            tokens = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)["input_ids"]
            if len(tokens) > limit:
                continue
        found.append({"prompt": prompt, "dataset": list(row.datasets), "row": number})
    if len(found) < len(rows):
        observer.say(f"Left out {len(rows) - len(found)} prompts of more than {limit} tokens")
    return found

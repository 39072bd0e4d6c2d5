"""`RewardConfig`: a reward and its model. Every setting is declared in one of its parts, and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Self

from pydantic import Field, TypeAdapter

from flip_reward.core.prompts import BUILT_IN, COMPLETION_PROMPTS
from flip_reward.core.response import Target
from flip_reward.engines.base import Engine
from flip_reward.engines.classifying import ClassifierOptions
from flip_reward.engines.config import (
    EngineConfig,
    check_classifier,
    check_engine,
    choose_model,
    describe_model,
    find_tuning,
    runs_in_process,
    split_engine_options,
    supported_by,
)
from flip_reward.engines.files import TUNED
from flip_reward.engines.loading import resolve_engine
from flip_reward.errors import OptionError, suggest_name
from flip_reward.redact import mask_secrets, show_address
from flip_reward.rewards.backward_likelihood import BackwardLikelihoodOptions, BackwardLikelihoodReward
from flip_reward.rewards.base import RewardModel
from flip_reward.rewards.calibration import CalibratedReward, Calibration, without_calibration
from flip_reward.rewards.composite.formula import Formula, FormulaPart, is_formula, parse_formula
from flip_reward.rewards.composite.reward import CompositeReward
from flip_reward.rewards.composite.rules import RULES, RuleReward
from flip_reward.rewards.controls import CONTROLS, ControlReward
from flip_reward.rewards.flip import FlipOptions, FlipReward
from flip_reward.rewards.function import FunctionReward, installed_functions, is_function_name
from flip_reward.rewards.judges.listwise import ListwiseJudge, ListwiseOptions
from flip_reward.rewards.judges.logit import (
    LogitPairwiseJudge,
    LogitPairwiseOptions,
    LogitPointwiseJudge,
    LogitPointwiseOptions,
)
from flip_reward.rewards.judges.pairwise import PairwiseJudge, PairwiseOptions
from flip_reward.rewards.judges.pointwise import PointwiseJudge, PointwiseOptions
from flip_reward.rewards.options import PolicyOptions, ResponseOptions
from flip_reward.rewards.trained import TrainedOptions, TrainedReward
from flip_reward.settings import FlatSettings, Setting, check_settings, find_changed, flatten, read_environment

_PREFIX = "FLIP_REWARD_"
_FOR_OTHERS = (f"{_PREFIX}ON_", f"{_PREFIX}LOCK")  # options of integrations, and how run folders are locked

_INFERRING: Mapping[str, tuple[Callable[..., RewardModel], Sequence[str]]] = MappingProxyType(
    {"flip": (FlipReward, BUILT_IN), "backward-likelihood": (BackwardLikelihoodReward, COMPLETION_PROMPTS)}
)
"""The rewards that take template and limits from a tuned model, each with the package's templates for it."""

_JUDGES: Mapping[str, Callable[..., RewardModel]] = MappingProxyType(
    {
        "pointwise": PointwiseJudge,
        "pairwise": PairwiseJudge,
        "listwise": ListwiseJudge,
        "logit-pointwise": LogitPointwiseJudge,
        "logit-pairwise": LogitPairwiseJudge,
    }
)

_RANKING_TOKENS = ("logit-pointwise", "logit-pairwise")

TRAINED = "trained"

WITH_MODEL = (*_INFERRING, TRAINED, *_JUDGES)
REWARDS = (*WITH_MODEL, *CONTROLS)
"""The names of the rewards; the settings of one with a model stand in the part of `RewardConfig` of its name."""

_OF_THE_WHOLE = ("reward", "policy_tokenizer", "extra_body", "api_key_env")
"""What a part of a formula cannot have for itself. A formula is written down as it is, so it holds no secret."""


class RewardConfig(FlatSettings):
    """A reward and how its model is reached: what `flip-reward score` takes as options.

    Settings are given by flat names, as on the command line, in a recipe's `reward:` section and, in capitals after
    FLIP_REWARD_, in the environment; or part by part. A flat name that several parts have goes to all of them.

    Example:
        >>> config = RewardConfig(model="scripted", samples=4, temperature=0.7)
        >>> config.flip.samples, config.pointwise.sampling.temperature
        (4, 0.7)
        >>> config.load().settings["samples"]
        4
    """

    reward: Annotated[
        str,
        Field(
            description="'flip'; 'backward-likelihood', how likely the instruction is after the response; 'trained', "
            "a reward model that was trained on preferences; a judge: 'pointwise' rates each response from 1 to 10, "
            "'pairwise' compares two at a time, 'listwise' chooses the best of all, and 'logit-pointwise' and "
            "'logit-pairwise' go by the probabilities of their answers; or without a model 'longest', 'shortest', "
            "'copy', 'constant'. Or a formula of them: '0.5*z(flip) + 0.5*z(trained)'. Or a function of yours, "
            "'package.module:function'."
        ),
        Setting(short="-r", metavar="NAME", common=True, choices=REWARDS),
    ] = "flip"
    engine: EngineConfig = EngineConfig()
    flip: FlipOptions = FlipOptions()
    backward_likelihood: BackwardLikelihoodOptions = BackwardLikelihoodOptions()
    trained: TrainedOptions = TrainedOptions()
    pointwise: PointwiseOptions = PointwiseOptions()
    pairwise: PairwiseOptions = PairwiseOptions()
    listwise: ListwiseOptions = ListwiseOptions()
    logit_pointwise: LogitPointwiseOptions = LogitPointwiseOptions()
    logit_pairwise: LogitPairwiseOptions = LogitPairwiseOptions()
    control: ResponseOptions = ResponseOptions()
    policy: PolicyOptions = PolicyOptions()
    calibration: Annotated[
        Path | None,
        Field(
            description="Give the probability that a response is good: the reward, mapped by this file of "
            "'flip-reward calibrate'."
        ),
        Setting(metavar="FILE"),
    ] = None

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - pydantic checks them
        super().__init__(**settings)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read the settings from variables such as FLIP_REWARD_MODEL.

        Variables that begin with FLIP_REWARD_ON_ are left to whoever asked, FLIP_REWARD_LOCK to run folders; empty
        ones count as not set.

        Args:
            environment: For example `os.environ`.

        Raises:
            OptionError: A variable is misspelt or has a wrong value.
        """
        return read_environment(cls, environment, _PREFIX, others=_FOR_OTHERS)

    def check(self) -> RewardModel:
        """Check everything that can be checked without a model: names, settings that have no effect, templates.

        Returns:
            The reward without its model: it renders prompts, and cannot score unless it needs no model.

        Raises:
            OptionError: There is no such reward, or a setting has no effect with it or its model; or the calibration
                was made for another reward.
            TemplateError: There is no such template, or it is malformed.
            FlipRewardError: The similarity, the calibration or the model's adapter cannot be loaded.
        """
        return self._make(check_model=True)

    def _make(self, *, check_model: bool) -> RewardModel:
        reward = self._make_uncalibrated(check_model=check_model)
        return reward if self.calibration is None else CalibratedReward(reward, Calibration.read(self.calibration))

    def _make_uncalibrated(self, *, check_model: bool) -> RewardModel:
        [config] = split_settings([self])
        if self.formula is not None:
            return CompositeReward(self.formula, self._make_parts(self.formula, check_model=check_model))
        if config.reward in CONTROLS:
            return ControlReward(config.reward, config.control)
        if config.reward not in REWARDS:
            return FunctionReward.load(config.reward, config.control)
        if check_model:
            if config.classifier is not None:
                check_classifier(config.answering, config.classifier)
            check_engine(config.answering)
        if config.reward == TRAINED:
            return TrainedReward(None, config.trained)
        if config.reward in _JUDGES:
            return _JUDGES[config.reward](None, config.part)
        make, templates = _INFERRING[config.reward]
        options, tuning = config.part, find_tuning(config.answering)
        if tuning is None:
            return make(None, options)
        chosen = options.template or options.template_dir or options.target is not Target.LAST_USER
        if not chosen and tuning.template in templates:
            options = replace(options, template=tuning.template)
        return make(None, options, limits=tuning.reliability_limits)

    def _make_parts(self, formula: Formula, *, check_model: bool) -> dict[str, RewardModel]:
        rules = {name: part for name, part in formula.parts.items() if part.reward in RULES}
        rewards = {name: config._make(check_model=check_model) for name, config in self.parts.items()}
        return rewards | {
            name: RuleReward(part.reward, dict(part.settings), self.control) for name, part in rules.items()
        }

    def load(self, engine: Engine | None = None, *, shared: SharedEngines | None = None) -> RewardModel:
        """Make the reward.

        Args:
            engine: The language model behind it, in place of the one that is named here.
            shared: The engines of other rewards, which are used again where they are those that are wanted.

        Raises:
            FlipRewardError: See `check`; or the model cannot be loaded.
        """
        reward, shared = self._make(check_model=engine is None), shared or SharedEngines()
        bound = self._bind(without_calibration(reward), engine, shared)
        return CalibratedReward(bound, reward.calibration) if isinstance(reward, CalibratedReward) else bound

    def _bind(self, reward: RewardModel, engine: Engine | None, shared: SharedEngines) -> RewardModel:
        if isinstance(reward, CompositeReward):
            asking = {name: part for name, part in self.parts.items() if part.asks_model}
            return reward.with_engines({name: engine or shared.find(part) for name, part in asking.items()})
        return reward.with_engine(engine or shared.find(self)) if self.asks_model else reward

    def load_engine(self) -> Engine:
        """Make the engine of the model behind the reward."""
        return resolve_engine(self.answering, classifier=self.classifier)

    @property
    def formula(self) -> Formula | None:
        """The formula, where the reward is one.

        Raises:
            OptionError: There is no such reward, or the formula cannot be read.
        """
        if self.reward in REWARDS or is_function_name(self.reward):
            return None
        folder = os.path.isdir(self.reward)  # noqa: PTH112 - of a text that is too long for a path it is false
        if not folder and is_formula(self.reward, REWARDS):
            return parse_formula(self.reward, REWARDS)
        known = (*REWARDS, *installed_functions())
        suggestion = suggest_name(self.reward.lower(), known)
        hint = f"rewards are {', '.join(known)}"
        if not suggestion and (folder or "/" in self.reward):
            hint = f"a folder for the run is named with --run-folder; {hint}"
        raise OptionError(f"unknown reward {self.reward!r}{suggestion}", hint=hint)

    @property
    def parts(self) -> Mapping[str, RewardConfig]:
        """The configuration of each reward of a formula, by its name; empty where there is none.

        It has the settings that stand in its brackets, and of the others those that concern it.
        """
        found = {} if self.formula is None else self.formula.parts
        parts = {name: part for name, part in found.items() if part.reward not in RULES}
        shared = split_settings([self.updated(reward=part.reward, calibration=None) for part in parts.values()])
        configs = {name: _with_own(config, parts[name]) for name, config in zip(parts, shared, strict=True)}
        asking = {name: config for name, config in configs.items() if config.asks_model}
        engines = split_engine_options([config.answering for config in asking.values()]) if asking else []
        for (name, config), engine in zip(asking.items(), engines, strict=True):
            configs[name] = config.updated(engine=replace(engine, model=config.engine.model))
        return configs

    @property
    def _names(self) -> list[str]:
        """The rewards and rules that it is made of."""
        return [self.reward] if self.formula is None else [part.reward for part in self.formula.parts.values()]

    @property
    def asks_model(self) -> bool:
        """Whether there is a model behind it."""
        return any(name in WITH_MODEL for name in self._names)

    @property
    def answering(self) -> EngineConfig:
        """How the model that answers is reached: without a choice, judges ask the default one without its adapter.

        There is no default for a trained reward model.
        """
        if self.reward == TRAINED:
            return self.engine
        return choose_model(
            self.engine, infers=self.reward in _INFERRING, ranks_first_tokens=self.reward in _RANKING_TOKENS
        )

    @property
    def classifier(self) -> ClassifierOptions | None:
        """How the head of a trained reward model is read; None for rewards that ask a language model."""
        return self.trained.classifier if self.reward == TRAINED else None

    def describe_model(self) -> str:
        """Say in a few words which model answers; nothing is loaded.

        Example:
            >>> RewardConfig(reward="pointwise", model="llama.cpp:embedded").describe_model()
            'smollm2-135m+infer-en-1 (llama.cpp, tuned to infer), which is not tuned to judge'
        """
        if not self.asks_model:
            return "none"
        models = {name: part.describe_model() for name, part in self.parts.items() if part.asks_model}
        if models:
            said = [f"{name}: {model}" for name, model in models.items()]
            return "; ".join(said) if len(set(models.values())) > 1 else next(iter(models.values()))
        if self.reward == TRAINED and self.engine.model is None:
            return "none was named"
        tuned = self.reward in _JUDGES and find_tuning(self.answering) is not None
        return describe_model(self.answering) + (", which is not tuned to judge" if tuned else "")

    def require_model(self, setting: str, address: str) -> None:
        """Refuse a reward that asks a model where nobody named one: the default is to try things, not to train on.

        Args:
            setting: What names the model here, such as "FLIP_REWARD_MODEL".
            address: What names its server. Trainers show the message alone, so it says both.
        """
        for part in self.parts.values():
            part.require_model(setting, address)
        if self.reward in WITH_MODEL and self.engine.model is None:
            raise OptionError(
                f"the reward {self.reward!r} asks a model, and none was named: set {setting}, and {address} for one "
                "of a server",
                hint="a reward model such as transformers:Skywork/Skywork-Reward-V2-Qwen3-0.6B"
                if self.reward == TRAINED
                else f"{TUNED!r} is the small one that comes with this package, good for a trial",
            )

    @property
    def part(self) -> Any:  # noqa: ANN401 - the options of one of the rewards
        """The settings of the reward itself; of a formula, those of its rules."""
        return self._options_of(self.reward)

    def _options_of(self, name: str) -> Any:  # noqa: ANN401 - the options of one of the rewards
        return getattr(self, name.replace("-", "_")) if name in WITH_MODEL else self.control

    @property
    def own_settings(self) -> set[str]:
        """The flat names of the settings that have an effect with this reward; those of engines are theirs to judge.

        Raises:
            OptionError: There is no such reward.
        """
        own = {"reward", "calibration", "concurrency", *flatten(self.policy)}
        for name in self._names:
            own |= flatten(self._options_of(name)).keys() | (
                flatten(self.engine).keys() if name in WITH_MODEL else ()
            )
        return own

    def changed_own(self) -> set[str]:
        """Return the flat names of the settings that are not at their defaults where this reward looks for them."""
        return self.own_settings & {
            "reward",
            "calibration",
            *find_changed(self.engine, self.policy, *map(self._options_of, self._names)),
        }

    def to_record(self) -> dict[str, object]:
        """Return the settings as JSON values that may be written down: without passwords and keys.

        Example:
            >>> RewardConfig(base_url="http://bob:hunter2@host/v1?key=sk-1").to_record()["base_url"]
            'http://host/v1'
        """
        settings = self.flat() | flatten(self.part)
        record: dict[str, object] = TypeAdapter(dict[str, Any]).dump_python(settings, mode="json")
        record["extra_body"] = mask_secrets(self.engine.extra_body)
        if self.engine.base_url is not None:
            record["base_url"] = show_address(self.engine.base_url)
        return record


class SharedEngines:
    """The engines of several rewards: those that reach the same model have one between them."""

    def __init__(self) -> None:
        self._made: list[tuple[object, Engine]] = []

    def find(self, config: RewardConfig) -> Engine:
        """Return the engine of a reward that asks a model; make it where there is none yet."""
        wanted = (config.answering, config.classifier)
        known = next((engine for other, engine in self._made if other == wanted), None)
        if known is None:
            known = config.load_engine()
            self._made.append((wanted, known))
        return known


def split_settings(configs: Sequence[RewardConfig]) -> list[RewardConfig]:
    """Leave each of several rewards those settings that it has, where they were chosen for all together.

    A template of the package stays with the rewards that know it, and with all of them where none does.
    """
    unused = [[name for name in config.changed() if name not in config.changed_own()] for config in configs]
    used = {name for config in configs for name in config.changed_own()}
    for name in dict.fromkeys(name for names in unused for name in names if name not in used):
        label = name.replace("_", " ")
        if len(configs) == 1:
            owners = [repr(reward) for reward in WITH_MODEL if name in RewardConfig(reward=reward).own_settings]
            hint = (
                "rewards that ask a model have it"
                if len(owners) == len(WITH_MODEL)
                else f"it belongs to {', '.join(owners)}"
            )
            raise OptionError(f"the reward {configs[0].reward!r} has no option {label!r}", hint=hint)
        rewards = ", ".join(dict.fromkeys(config.reward for config in configs))
        raise OptionError(f"none of the rewards ({rewards}) has the option {label!r}")
    defaults = {name: option.field.default for name, option in RewardConfig.options().items()}
    fitted = [
        config.updated(**{name: defaults[name] for name in names})
        for config, names in zip(configs, unused, strict=True)
    ]
    return fitted if len(fitted) == 1 else [_without_foreign_template(config) for config in fitted]


def _without_foreign_template(config: RewardConfig) -> RewardConfig:
    if config.reward not in WITH_MODEL or flatten(config.part).get("template") is None:
        return config
    if config.part.template_dir is not None:
        return config
    _, own = _INFERRING.get(config.reward, (None, ()))
    others = {name for reward, (_, names) in _INFERRING.items() if reward != config.reward for name in names}
    foreign = config.reward in _JUDGES or config.part.template in others.difference(own)
    return config.updated(template=None) if foreign else config


def _with_own(config: RewardConfig, part: FormulaPart) -> RewardConfig:
    """Give a part of a formula the settings that stand in its brackets."""
    own: dict[str, object] = dict(part.settings)
    known = config.own_settings.difference(_OF_THE_WHOLE)
    for name in own:
        if name not in known:
            outside = name in _OF_THE_WHOLE
            suggestion = "" if outside else suggest_name(name, known)
            hint = "it is chosen outside of the formula" if outside else None
            raise OptionError(f"{part.reward!r} has no option {name!r} in a formula{suggestion}", hint=hint)
    check_settings(RewardConfig, own, lambda name: f"{part.reward}[{name}]")
    address = str(own.get("base_url", ""))
    if show_address(address) != address:
        raise OptionError(f"an address in a formula has no password and no query: {show_address(address)}")
    if "base_url" not in own and runs_in_process(str(own.get("model", ""))):
        own["base_url"] = None  # it is for the models of the other parts
    config = config.updated(**own)
    for name in config.answering.unsupported() if config.asks_model else ():
        if name in own:
            raise OptionError(
                f"{part.reward!r} has a model without the option {name!r}", hint=f"{supported_by(name)} have it"
            )
    return config

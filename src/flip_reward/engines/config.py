"""A model's name, and settings -> which engine runs it, and whether it can; nothing is loaded."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, ClassVar
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field

from flip_reward.engines.classifying import ClassifierOptions
from flip_reward.engines.files import DEFAULT_NAMES, SMOLLM2_135M, TUNED
from flip_reward.engines.lora.adapter import GGUF_FILE, GgufAdapter, find_gguf_adapter
from flip_reward.engines.lora.inferrer import find_tuning_in
from flip_reward.engines.lora.shipped import SHIPPED, Tuning
from flip_reward.engines.machine import has_gpu, has_openvino
from flip_reward.engines.middleware import RetryPolicy
from flip_reward.errors import OptionError, suggest_name
from flip_reward.redact import show_address
from flip_reward.settings import Setting, changed, declared

REQUESTS, REQUESTS_ON_GPU = 64, 1024

_BY_TRANSFORMERS, _BY_OPENVINO, _BY_LLAMA_CPP = "transformers:", "openvino:", "llama.cpp:"
_TRAINED = f"{_BY_TRANSFORMERS}Skywork/Skywork-Reward-V2-Qwen3-0.6B"


def _read_object(value: object) -> object:
    """Read a JSON text, which is all that a command line or a variable can hold."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = None
    if not isinstance(value, Mapping):
        raise ValueError("""not a JSON object, such as {"top_k": 20}""")  # noqa: TRY004 - pydantic reports it
    return value


class EngineKind(StrEnum):
    """A way to reach a language model."""

    SERVER = "models of a server"
    EMBEDDED = "models that llama.cpp runs in this process"
    TRANSFORMERS = "models that transformers runs in this process"
    OPENVINO = "models that OpenVINO runs in this process"
    SCRIPTED = "the scripted model"


_SERVER = (EngineKind.SERVER,)
_EMBEDDED = (EngineKind.EMBEDDED,)
_TRANSFORMERS = (EngineKind.TRANSFORMERS,)
_BY_GGUF = (EngineKind.EMBEDDED, EngineKind.OPENVINO)
_IN_PROCESS = (*_BY_GGUF, EngineKind.TRANSFORMERS)

_PREFIXES = {
    _BY_TRANSFORMERS: EngineKind.TRANSFORMERS,
    _BY_OPENVINO: EngineKind.OPENVINO,
    _BY_LLAMA_CPP: EngineKind.EMBEDDED,
}
"""What a model's name may begin with to say who runs it."""


@dataclass(frozen=True)
class EngineConfig:
    """How a language model is reached. `Setting.only` says which kinds of engine have a setting; others refuse it."""

    panel: ClassVar[str] = "Model"

    model: Annotated[
        str | None,
        Field(
            description="The language model: 'embedded' (the default without a server), PATH.gguf, "
            "hf://owner/repo/file.gguf, either with +ADAPTER for a LoRA adapter, any of these as openvino:NAME, "
            "which a CPU computes faster, or as llama.cpp:NAME, transformers:NAME for one that transformers runs, or "
            "the name a server knows it by."
        ),
        Setting(short="-m", common=True),
    ] = None
    base_url: Annotated[
        str | None,
        Field(
            description="An OpenAI-compatible server, such as http://localhost:8000/v1. OPENAI_BASE_URL is honoured."
        ),
        Setting(only=_SERVER, common=True),
    ] = None
    api_key_env: Annotated[str, Field(description="The environment variable that holds the API key.")] = (
        "OPENAI_API_KEY"
    )
    concurrency: Annotated[
        int | None,
        Field(
            ge=1,
            description="The most requests in flight; adapts downwards to the server. By default 64, and 1024 where "
            "transformers has a GPU, whose batches are limited by --batch-tokens.",
        ),
    ] = None
    timeout_seconds: Annotated[
        float, Field(ge=0.1, description="How long one request may take."), Setting(only=_SERVER)
    ] = 600.0
    max_attempts: Annotated[
        int, Field(ge=1, description="How often a request is sent at most, where a failure may pass.")
    ] = RetryPolicy().max_attempts
    extra_body: Annotated[
        Mapping[str, object],
        BeforeValidator(_read_object),
        Field(description="JSON object merged into every request body."),
        Setting(only=_SERVER, metavar="JSON"),
    ] = field(default_factory=dict)
    no_thinking: Annotated[
        bool, Field(description="Switch thinking off through the model's chat template."), Setting(common=True)
    ] = False
    keep_marks: Annotated[
        bool,
        Field(description="Send marks of chat templates in texts, such as <|im_end|>, as they are, not broken up."),
        Setting(only=_SERVER),
    ] = False
    logprobs_api: Annotated[
        str,
        Field(
            description="How a server is asked how likely a text is: auto goes by what it says about itself; "
            "prompt_logprobs (vLLM), sglang or echo."
        ),
        Setting(only=_SERVER),
    ] = "auto"
    cache: Annotated[
        str | None,
        Field(description="The response cache, or 'off'. By default in the user's cache folder."),
        Setting(metavar="PATH|off"),
    ] = None
    slots: Annotated[
        int | None, Field(ge=1, description="llama.cpp: requests answered at once."), Setting(only=_EMBEDDED)
    ] = None
    threads: Annotated[
        int | None, Field(ge=1, description="llama.cpp or OpenVINO: threads."), Setting(only=_BY_GGUF)
    ] = None
    context_tokens: Annotated[
        int | None,
        Field(ge=64, description="A model in this process: context of one request, in tokens."),
        Setting(only=_IN_PROCESS),
    ] = None
    dtype: Annotated[
        str,
        Field(
            description="transformers: auto, float32, bfloat16 or float16; auto takes what the processor is fast at."
        ),
        Setting(only=_TRANSFORMERS),
    ] = "auto"
    device: Annotated[
        str | None,
        Field(description="transformers: cpu, cuda:1, ...; a GPU where there is one."),
        Setting(only=_TRANSFORMERS),
    ] = None
    batch_tokens: Annotated[
        int | None,
        Field(ge=1, description="transformers: the most tokens computed at once."),
        Setting(only=_TRANSFORMERS),
    ] = None

    @property
    def name(self) -> str:
        """The model's name, or that of the default one."""
        return self.model or TUNED

    @property
    def requests_at_once(self) -> int:
        """The most requests in flight: more where a GPU computes as many as fit `batch_tokens` together."""
        if self.concurrency is not None:
            return self.concurrency
        by_transformers = self.model is not None and self.model.startswith(_BY_TRANSFORMERS)
        return REQUESTS_ON_GPU if by_transformers and has_gpu(self.device) else REQUESTS

    def unsupported(self, environment: Mapping[str, str] = os.environ) -> list[str]:
        """Return the settings that were changed and have no effect with this model.

        The scripted model takes them all: it stands in for any other, to try a command without one.
        """
        kind = find_kind(self, environment)
        if kind is EngineKind.SCRIPTED:
            return []
        return [name for name in changed(self) if kind not in (_kinds(name) or (kind,))]


def _kinds(setting: str) -> tuple[str, ...]:
    return next((one.only for one in declared(EngineConfig)[setting].metadata if isinstance(one, Setting)), ())


def supported_by(setting: str) -> str:
    """Say which kinds of engine have a setting.

    Example:
        >>> supported_by("slots")
        'models that llama.cpp runs in this process'
    """
    return " and ".join(_kinds(setting))


def choose_model(
    config: EngineConfig,
    environment: Mapping[str, str] = os.environ,
    *,
    infers: bool,
    ranks_first_tokens: bool = False,
) -> EngineConfig:
    """Name the model of this process where nobody named one: the adapter of the default one serves inferring alone.

    What "embedded" names is llama.cpp's where the likeliest first tokens are wanted: OpenVINO does not tell them.

    Example:
        >>> [choose_model(EngineConfig(), {}, infers=infers).model for infers in (True, False)]
        ['embedded', 'smollm2-135m']
        >>> choose_model(EngineConfig("embedded"), infers=False, ranks_first_tokens=True).model
        'llama.cpp:embedded'
    """
    if config.model is None and find_server(config, environment) is None:
        return replace(config, model=TUNED if infers else SMOLLM2_135M.name)
    if ranks_first_tokens and config.model == TUNED and config.base_url is None:
        return replace(config, model=_BY_LLAMA_CPP + TUNED)
    return config


def describe_model(config: EngineConfig, environment: Mapping[str, str] = os.environ) -> str:
    """Say in a few words which model answers, and where; nothing is loaded.

    Example:
        >>> describe_model(EngineConfig("Qwen/Qwen3-8B", "http://bob:hunter2@host:8000/v1?key=sk-1"))
        'Qwen/Qwen3-8B at http://host:8000/v1'
        >>> describe_model(EngineConfig("llama.cpp:embedded"))
        'smollm2-135m+infer-en-1 (llama.cpp, tuned to infer)'
    """
    name = strip_engine(config.name)
    match find_kind(config, environment):
        case EngineKind.SCRIPTED:
            return name
        case EngineKind.SERVER:
            return f"{name} at {show_address(find_server(config, environment) or '')}"
        case EngineKind.TRANSFORMERS:
            where = "transformers"
        case EngineKind.OPENVINO:
            where = "OpenVINO"
        case EngineKind.EMBEDDED:
            where = "llama.cpp"
    if name == TUNED:
        name = SMOLLM2_135M.name + (f"+{Path(SHIPPED.file_name).stem}" if SHIPPED else "")
    return f"{name} ({where}, tuned to infer)" if find_tuning(config, environment) else f"{name} ({where})"


def check_engine(config: EngineConfig, environment: Mapping[str, str] = os.environ) -> None:
    """Refuse what can be refused before a model is loaded."""
    kind = find_kind(config, environment)
    name = None if config.model is None else strip_engine(config.model)
    if kind in _BY_GGUF and name is not None and not _is_embedded(name):
        raise OptionError(
            f"no model {name!r} in this process{suggest_name(name, DEFAULT_NAMES)}",
            hint="name the server that has it with --base-url, a file that ends in .gguf, or transformers:NAME",
        )
    for setting in config.unsupported(environment):
        raise OptionError(
            f"the model {config.name!r} has no option {setting.replace('_', ' ')!r}",
            hint=f"{supported_by(setting)} have it",
        )
    if kind is EngineKind.SERVER:
        if urlsplit(find_server(config, environment) or "").scheme not in ("http", "https"):
            raise OptionError("--base-url is not an http address", hint="for example http://localhost:8000/v1")
        if config.model is None:
            raise OptionError("which model of the server?", hint="name it with --model")


def check_classifier(
    config: EngineConfig, options: ClassifierOptions, environment: Mapping[str, str] = os.environ
) -> None:
    """Refuse a model that cannot be a trained reward model, and settings that have no effect with it."""
    kind = find_kind(config, environment)
    if kind in _BY_GGUF and (config.model is None or runs_in_process(config.model)):
        named = f"{config.model!r} is none" if config.model else "none was named"
        raise OptionError(
            f"the reward 'trained' asks a trained reward model, and {named}", hint=f"for example --model {_TRAINED}"
        )
    if kind is EngineKind.TRANSFORMERS:
        for name in changed(options):
            if name != "label":
                raise OptionError(
                    f"the model {config.name!r} has no option {name.replace('_', ' ')!r}",
                    hint=f"{EngineKind.SERVER} have it",
                )


def split_engine_options(
    configs: Sequence[EngineConfig], environment: Mapping[str, str] = os.environ
) -> list[EngineConfig]:
    """Leave each model the settings that it has, of those chosen for all together; one that none has is an error."""
    unsupported = [config.unsupported(environment) for config in configs]
    used = {
        name
        for config, names in zip(configs, unsupported, strict=True)
        for name in changed(config)
        if name not in names
    }
    for name in dict.fromkeys(name for names in unsupported for name in names):
        if name not in used:
            models = ", ".join(repr(config.name) for config in configs)
            raise OptionError(
                f"none of the models ({models}) has the option {name.replace('_', ' ')!r}",
                hint=f"{supported_by(name)} have it",
            )
    default = EngineConfig()
    return [
        replace(config, **{name: getattr(default, name) for name in names})
        for config, names in zip(configs, unsupported, strict=True)
    ]


def find_tuning(config: EngineConfig, environment: Mapping[str, str] = os.environ) -> Tuning | None:
    """Return how the configured model was tuned to infer, where an adapter says so; nothing is loaded."""
    kind, model = find_kind(config, environment), strip_engine(config.name)
    if kind is EngineKind.SERVER:
        return None
    if kind is EngineKind.TRANSFORMERS and (tuning := find_tuning_in(Path(model).expanduser())):
        return tuning
    if model == TUNED:
        return SHIPPED.tuning if SHIPPED else None
    lora = find_gguf_adapter(model)
    if lora is None:
        return None
    if lora.path.name == GGUF_FILE:
        return find_tuning_in(lora.path.parent)
    return Tuning(GgufAdapter.read(lora.path).template) if lora.path.is_file() else None


def asks_server(config: EngineConfig, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a model is reached over HTTP."""
    return find_kind(config, environment) is EngineKind.SERVER


def runs_in_process(model: str) -> bool:
    """Whether a model's name says that it runs in this process, whatever server there is."""
    return model == "scripted" or model.startswith(tuple(_PREFIXES)) or _is_embedded(model)


def _is_embedded(model: str | None) -> bool:
    if model is None:
        return False
    lora = find_gguf_adapter(model)
    base = lora.base if lora else model
    return base in DEFAULT_NAMES or base.startswith("hf://") or base.endswith(".gguf")


def find_kind(config: EngineConfig, environment: Mapping[str, str] = os.environ) -> EngineKind:
    """Return the kind of engine that a configuration names."""
    name = config.name
    if name == "scripted":
        return EngineKind.SCRIPTED
    for beginning, kind in _PREFIXES.items():
        if name.startswith(beginning):
            return kind
    if find_server(config, environment) is not None:
        return EngineKind.SERVER
    # Only llama.cpp has slots: whoever chose some asked for it.
    by_openvino = name == TUNED and config.slots is None and has_openvino()
    return EngineKind.OPENVINO if by_openvino else EngineKind.EMBEDDED


def strip_engine(model: str) -> str:
    """Return a model's name without what says who runs it."""
    beginning = next(filter(model.startswith, _PREFIXES), "")
    return model.removeprefix(beginning)


def find_server(config: EngineConfig, environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the address of the server that a configuration names, itself or by the environment."""
    if config.base_url is not None or _is_embedded(config.model):
        return config.base_url
    return environment.get("OPENAI_BASE_URL") or None

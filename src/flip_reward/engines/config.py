"""A model's name -> an engine with everything around it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import urlsplit

from flip_reward.engines.base import Engine
from flip_reward.engines.cache import ResponseCache, default_cache_path
from flip_reward.engines.engine_kinds import EngineKind, name_owners
from flip_reward.engines.files import DEFAULT_NAMES, SMOLLM2_135M, TUNED, locate_model
from flip_reward.engines.lora.adapter import NAME, GgufAdapter, LoraName, find_lora_file
from flip_reward.engines.lora.shipped import SHIPPED, Tuning
from flip_reward.engines.middleware import build_stack
from flip_reward.engines.scripted import ScriptedEngine
from flip_reward.engines.tuned_folder import TunedFolder
from flip_reward.errors import OptionError

_TRANSFORMERS = "transformers:"


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """How a language model is reached.

    Attributes:
        model: "embedded", a GGUF file, `hf://owner/repo/file.gguf`, one of these with `+ADAPTER`, a LoRA adapter as
            a GGUF file or the folder of one, "scripted", "transformers:" and what `TransformersEngine` takes, or a
            server's name for it. None is "embedded" without a server.
        base_url: An OpenAI-compatible server, up to and including `/v1`. None takes OPENAI_BASE_URL where the model
            is not one of this process.
        api_key_env: The environment variable that holds the API key.
        concurrency: The most requests in flight at a server.
        timeout_seconds: How long one request to a server may take.
        extra_body: Fields merged into every request to a server.
        no_thinking: Ask the chat template to leave thinking out.
        logprobs_api: How a server is asked how likely a text is: "auto" goes by what it says of itself, or
            "prompt_logprobs" (vLLM), "sglang", "echo".
        cache: A file for answers, "off", or None for the default place.
        slots: Embedded models: how many requests are answered at once. None takes the measured default.
        threads: Embedded models: None takes the CPUs this process may use.
        context_tokens: Models in this process: prompt and reply of one request. None takes the default.
        dtype: Models run by transformers: "auto", "float32", "bfloat16" or "float16".
        device: Models run by transformers: None takes a GPU where there is one.
        batch_tokens: Models run by transformers: the most tokens computed at once. None takes the default.
    """

    model: str | None = None
    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: int = 64
    timeout_seconds: float = 600.0
    extra_body: Mapping[str, object] = field(default_factory=dict)
    no_thinking: bool = False
    logprobs_api: str = "auto"
    cache: str | None = "off"
    slots: int | None = None
    threads: int | None = None
    context_tokens: int | None = None
    dtype: str = "auto"
    device: str | None = None
    batch_tokens: int | None = None

    @property
    def chosen(self) -> list[str]:
        """The names of the options that are not left at their defaults.

        Example:
            >>> EngineConfig("embedded", slots=2).chosen
            ['model', 'slots']
        """
        default = EngineConfig()
        return [one.name for one in fields(self) if getattr(self, one.name) != getattr(default, one.name)]


def resolve_engine(config: EngineConfig, environment: Mapping[str, str] = os.environ) -> Engine:
    """Build the engine that a configuration names.

    Raises:
        OptionError: There is no such model, it lacks a server, or an option has no effect with it.
        MissingDependencyError: The library that runs it is not installed.

    Example:
        >>> resolve_engine(EngineConfig("scripted")).model
        'scripted'
    """
    kind = _find_kind(config, environment)
    if kind is EngineKind.EMBEDDED and config.model is not None and not _is_embedded(config.model):
        near = get_close_matches(config.model, DEFAULT_NAMES, n=1)
        raise OptionError(
            f"no model {config.model!r} in this process" + (f"; did you mean {near[0]!r}?" if near else ""),
            hint="name the server that has it with --base-url, a file that ends in .gguf, or transformers:NAME",
        )
    for option in kind.find_foreign(config.chosen):
        raise OptionError(
            f"the model {_name(config)!r} has no option {option.replace('_', ' ')!r}",
            hint=f"{name_owners(option)} have it",
        )
    match kind:
        case EngineKind.SCRIPTED:
            return build_stack(ScriptedEngine(), concurrency=config.concurrency)
        case EngineKind.TRANSFORMERS:
            return _by_transformers(config, environment)
        case EngineKind.SERVER:
            return _over_http(config, environment)
        case EngineKind.EMBEDDED:
            return _in_process(config, environment)


def share_options(configs: Sequence[EngineConfig], environment: Mapping[str, str] = os.environ) -> list[EngineConfig]:
    """Leave each of several models those options that it has, where they were chosen for all together.

    Raises:
        OptionError: None of the models has an option that was chosen.

    Example:
        >>> server = EngineConfig("m", "http://localhost:8000/v1", dtype="float32")
        >>> [config.dtype for config in share_options([server, EngineConfig("transformers:m", dtype="float32")])]
        ['auto', 'float32']
    """
    foreign = [_find_kind(config, environment).find_foreign(config.chosen) for config in configs]
    used = {
        name for config, names in zip(configs, foreign, strict=True) for name in config.chosen if name not in names
    }
    for option in dict.fromkeys(name for names in foreign for name in names):
        if option not in used:
            models = ", ".join(repr(_name(config)) for config in configs)
            raise OptionError(
                f"none of the models ({models}) has the option {option.replace('_', ' ')!r}",
                hint=f"{name_owners(option)} have it",
            )
    default = EngineConfig()
    return [
        replace(config, **{name: getattr(default, name) for name in names})
        for config, names in zip(configs, foreign, strict=True)
    ]


def find_tuning(config: EngineConfig, environment: Mapping[str, str] = os.environ) -> Tuning | None:
    """Return how the configured model was tuned to infer, where an adapter says so; nothing is loaded.

    Raises:
        DataError: The adapter is missing or damaged.

    Example:
        >>> find_tuning(EngineConfig("smollm2-135m")) is None
        True
    """
    model = config.model
    if model is not None and model.startswith(_TRANSFORMERS):
        model = model.removeprefix(_TRANSFORMERS)
        if tuning := _find_tuning_in(Path(model).expanduser()):
            return tuning
    elif config.base_url or (environment.get("OPENAI_BASE_URL") if model is None else not _is_embedded(model)):
        return None  # a server's, or one that there is not
    model = model or TUNED
    if model == TUNED:
        return SHIPPED.tuning if SHIPPED else None
    lora = find_lora_file(model)
    if lora is None:
        return None
    if lora.path.name == NAME:
        return _find_tuning_in(lora.path.parent)
    return Tuning(GgufAdapter.read(lora.path).template) if lora.path.is_file() else None


def _find_tuning_in(folder: Path) -> Tuning | None:
    if tuned := TunedFolder.read(folder):
        return Tuning(tuned.frame)
    path = folder / NAME
    return Tuning(GgufAdapter.read(path).template) if path.is_file() else None


def _find_adapter(model: str) -> LoraName | None:
    lora = find_lora_file(model)
    if lora is not None and lora.base == TUNED:
        raise OptionError(
            f"{model}: {TUNED!r} may have an adapter already", hint=f"write {SMOLLM2_135M.name}+{lora.path}"
        )
    return lora


def _is_embedded(model: str | None) -> bool:
    if model is None:
        return False
    lora = find_lora_file(model)
    base = lora.base if lora else model
    return base in DEFAULT_NAMES or base.startswith("hf://") or base.endswith(".gguf")


def _find_kind(config: EngineConfig, environment: Mapping[str, str]) -> EngineKind:
    if config.model == "scripted":
        return EngineKind.SCRIPTED
    if config.model is not None and config.model.startswith(_TRANSFORMERS):
        return EngineKind.TRANSFORMERS
    return EngineKind.EMBEDDED if _find_server(config, environment) is None else EngineKind.SERVER


def _find_server(config: EngineConfig, environment: Mapping[str, str]) -> str | None:
    if config.base_url is not None or _is_embedded(config.model):
        return config.base_url
    return environment.get("OPENAI_BASE_URL") or None


def _name(config: EngineConfig) -> str:
    return config.model or DEFAULT_NAMES[0]


def _by_transformers(config: EngineConfig, environment: Mapping[str, str]) -> Engine:
    from flip_reward.engines.huggingface.engine import TransformersEngine

    engine = TransformersEngine(
        _name(config).removeprefix(_TRANSFORMERS),
        dtype=config.dtype,
        device=config.device,
        context_tokens=config.context_tokens,
        batch_tokens=config.batch_tokens,
        no_thinking=config.no_thinking,
    )
    return build_stack(engine, concurrency=config.concurrency, cache=_open_cache(config.cache, environment))


def _over_http(config: EngineConfig, environment: Mapping[str, str]) -> Engine:
    from flip_reward.engines.http.engine import HttpEngine

    base_url = _find_server(config, environment) or ""
    if urlsplit(base_url).scheme not in ("http", "https"):
        raise OptionError("--base-url is no http address", hint="for example http://localhost:8000/v1")
    if config.model is None:
        raise OptionError("which model of the server?", hint="name it with --model")
    engine = HttpEngine(
        base_url,
        config.model,
        api_key=environment.get(config.api_key_env),
        extra_body=config.extra_body,
        no_thinking=config.no_thinking,
        timeout_seconds=config.timeout_seconds,
        logprobs_api=config.logprobs_api,
    )
    return build_stack(engine, concurrency=config.concurrency, cache=_open_cache(config.cache, environment))


def _in_process(config: EngineConfig, environment: Mapping[str, str]) -> Engine:
    from flip_reward.engines.llama_cpp.engine import EmbeddedEngine

    model = _name(config)
    lora = _find_adapter(model)
    file = locate_model(lora.base if lora else model)
    engine = EmbeddedEngine(
        file.path,
        adapter_path=lora.path if lora else file.adapter,
        slots=config.slots,
        threads=config.threads,
        context_tokens=config.context_tokens,
        no_thinking=config.no_thinking,
        name=file.name,
    )
    return build_stack(engine, concurrency=engine.slots, cache=_open_cache(config.cache, environment))


def _open_cache(cache: str | None, environment: Mapping[str, str]) -> ResponseCache | None:
    if (cache or environment.get("FLIP_REWARD_CACHE")) == "off":
        return None
    return ResponseCache(Path(cache).expanduser() if cache else default_cache_path())

"""A configuration -> an engine with everything around it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from flip_reward.engines.base import Engine
from flip_reward.engines.cache import open_cache
from flip_reward.engines.classifying import ClassifierOptions
from flip_reward.engines.config import (
    EngineConfig,
    EngineKind,
    check_classifier,
    check_engine,
    find_kind,
    find_server,
    strip_engine,
)
from flip_reward.engines.files import SMOLLM2_135M, TUNED, ModelFile, locate_model
from flip_reward.engines.lora.adapter import find_gguf_adapter
from flip_reward.engines.middleware import RetryPolicy, build_stack
from flip_reward.engines.scripted import ScriptedEngine
from flip_reward.errors import OptionError
from flip_reward.settings import check_names, check_settings, declared


def load_engine(model: str | None = None, **settings: Any) -> Engine:  # noqa: ANN401 - EngineConfig has their types
    """Make the engine of a model: one that answers requests, with retries, a limit on requests in flight and a cache.

    Args:
        model: "embedded" (the default without a server), PATH.gguf, `hf://owner/repo/file.gguf`, any of these as
            "openvino:NAME" or "llama.cpp:NAME", "transformers:NAME", or the name by which a server knows it.
        settings: Further fields of `EngineConfig`, such as `base_url`.

    Raises:
        OptionError: There is no such model, it lacks a server, or a setting is misspelt, has a wrong value, or has no
            effect with it.
        MissingDependencyError: The library that runs it is not installed.

    Example:
        >>> load_engine("scripted").model
        'scripted'
    """
    check_names(settings, declared(EngineConfig))
    return resolve_engine(check_settings(EngineConfig, {"model": model, **settings}, str))


def resolve_engine(
    config: EngineConfig, environment: Mapping[str, str] = os.environ, *, classifier: ClassifierOptions | None = None
) -> Engine:
    """Make the engine that a configuration names; see `load_engine`. With `classifier` it rates responses."""
    check_engine(config, environment)
    if classifier is not None:
        check_classifier(config, classifier, environment)
    match find_kind(config, environment):
        case EngineKind.SCRIPTED:
            return build_stack(ScriptedEngine(), concurrency=config.requests_at_once)
        case EngineKind.TRANSFORMERS:
            return _by_transformers(config, environment, classifier)
        case EngineKind.SERVER:
            return _over_http(config, environment, classifier)
        case EngineKind.OPENVINO | EngineKind.EMBEDDED as kind:
            return _by_gguf(config, environment, kind)


def _by_transformers(
    config: EngineConfig, environment: Mapping[str, str], classifier: ClassifierOptions | None
) -> Engine:
    from flip_reward.engines.huggingface.classifier import TransformersClassifier
    from flip_reward.engines.huggingface.engine import TransformersEngine

    make = TransformersEngine if classifier is None else partial(TransformersClassifier, label=classifier.label)
    engine = make(
        strip_engine(config.name),
        dtype=config.dtype,
        device=config.device,
        context_tokens=config.context_tokens,
        batch_tokens=config.batch_tokens,
        no_thinking=config.no_thinking,
    )
    return _around(engine, config, environment, config.requests_at_once)


def _over_http(config: EngineConfig, environment: Mapping[str, str], classifier: ClassifierOptions | None) -> Engine:
    from flip_reward.engines.http.engine import HttpEngine

    engine = HttpEngine(
        find_server(config, environment) or "",
        config.name,
        api_key=environment.get(config.api_key_env),
        extra_body=config.extra_body,
        no_thinking=config.no_thinking,
        keep_marks=config.keep_marks,
        timeout_seconds=config.timeout_seconds,
        logprobs_api=config.logprobs_api,
        classifier=classifier,
    )
    return _around(engine, config, environment, config.requests_at_once)


def _by_gguf(config: EngineConfig, environment: Mapping[str, str], kind: EngineKind) -> Engine:
    from flip_reward.engines.llama_cpp.engine import EmbeddedEngine
    from flip_reward.engines.openvino.engine import OpenVinoEngine

    file = _locate(strip_engine(config.name))
    make = OpenVinoEngine if kind is EngineKind.OPENVINO else partial(EmbeddedEngine, slots=config.slots)
    engine = make(
        file.path,
        adapter_path=file.adapter,
        threads=config.threads,
        context_tokens=config.context_tokens,
        no_thinking=config.no_thinking,
        name=file.name,
    )
    concurrency = engine.slots if isinstance(engine, EmbeddedEngine) else config.requests_at_once
    return _around(engine, config, environment, concurrency)


def _locate(model: str) -> ModelFile:
    """Find a GGUF model's file and its adapter."""
    lora = find_gguf_adapter(model)
    if lora is None:
        return locate_model(model)
    if lora.base == TUNED:
        raise OptionError(
            f"{model}: {TUNED!r} may have an adapter already", hint=f"write {SMOLLM2_135M.name}+{lora.path}"
        )
    return replace(locate_model(lora.base), adapter=lora.path)


def _around(engine: Engine, config: EngineConfig, environment: Mapping[str, str], concurrency: int) -> Engine:
    retry = RetryPolicy(max_attempts=config.max_attempts)
    return build_stack(engine, concurrency=concurrency, retry=retry, cache=open_cache(config.cache, environment))

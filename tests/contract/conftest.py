"""Every engine that the contract holds for. To add one, write how it is opened and put it into `CASES`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from flip_reward.engines.base import Engine
from flip_reward.engines.files import locate_model
from flip_reward.engines.http.engine import HttpEngine
from flip_reward.engines.huggingface.engine import TransformersEngine
from flip_reward.engines.llama_cpp.engine import EmbeddedEngine
from flip_reward.engines.middleware import build_stack
from flip_reward.engines.scripted import ScriptedEngine
from tests.gguf_models import save_gguf
from tests.hf_models import save_model
from tests.http.fault_server import FaultServer
from tests.http.logprob_servers import LogprobServer


@dataclass(frozen=True, slots=True)
class EngineCase:
    """One engine, and what may be expected of it.

    Attributes:
        name: Names the case in test ids.
        open: Opens the engine and, on leaving, everything behind it. It skips where a requirement is missing.
        echoes: It answers with the last words of the prompt, so that a test knows whose answer it got.
        counts_tokens: It ends a reply at `max_tokens`.
        context_tokens: The longest prompt it takes, in words of one token or more; None when it has no limit.
        gives_logprobs: It can say how likely a given text is.
        gives_first_tokens: It can say how likely several first tokens of a reply were.
        real_model: It runs a model of more than a few thousand weights, which is slow.
    """

    name: str
    open: Callable[[], AbstractContextManager[Engine]]
    echoes: bool = False
    counts_tokens: bool = True
    context_tokens: int | None = None
    gives_logprobs: bool = False
    gives_first_tokens: bool = True
    real_model: bool = False


@contextmanager
def open_scripted() -> Iterator[Engine]:
    yield ScriptedEngine()


@contextmanager
def open_http() -> Iterator[Engine]:
    with FaultServer(context_words=2000) as server:
        yield HttpEngine(server.base_url, server.model)


@contextmanager
def open_http_with_logprobs(owner: str) -> Iterator[Engine]:
    with LogprobServer(owner) as server:
        yield HttpEngine(server.base_url, server.model)


@contextmanager
def open_stack() -> Iterator[Engine]:
    with open_http() as engine:
        yield build_stack(engine, concurrency=4)


@contextmanager
def open_embedded() -> Iterator[Engine]:
    engine = EmbeddedEngine(locate_model("embedded").path, slots=2, context_tokens=512)
    try:
        yield engine
    finally:
        engine.close()


@contextmanager
def open_openvino() -> Iterator[Engine]:
    pytest.importorskip("openvino_genai")
    from flip_reward.engines.openvino.engine import OpenVinoEngine

    with TemporaryDirectory() as folder:
        engine = OpenVinoEngine(
            save_gguf(save_model(Path(folder) / "tiny"), Path(folder) / "tiny.gguf"), weights_folder=Path(folder)
        )
        try:
            yield engine
        finally:
            engine.close()


@contextmanager
def open_transformers() -> Iterator[Engine]:
    with TemporaryDirectory() as folder:
        engine = TransformersEngine(str(save_model(Path(folder) / "tiny")), dtype="float32", device="cpu")
        try:
            yield engine
        finally:
            engine.close()


CASES = (
    EngineCase("scripted", open_scripted, echoes=True, counts_tokens=False, gives_logprobs=True),
    EngineCase("http", open_http, echoes=True, context_tokens=2000),
    *(
        EngineCase(
            name, partial(open_http_with_logprobs, owner), echoes=True, context_tokens=2000, gives_logprobs=True
        )
        for name, owner in (("vllm", "vllm"), ("sglang", "sglang"), ("echo", "acme"))
    ),
    EngineCase("stack", open_stack, echoes=True, context_tokens=2000),
    EngineCase("embedded", open_embedded, context_tokens=512, gives_logprobs=True, real_model=True),
    EngineCase("openvino", open_openvino, context_tokens=512, gives_logprobs=True, gives_first_tokens=False),
    EngineCase("transformers", open_transformers, context_tokens=512, gives_logprobs=True),
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test every engine that it holds for."""
    if "case" not in metafunc.fixturenames:
        return
    holds_for = metafunc.definition.get_closest_marker("holds_for")
    cases = [case for case in CASES if holds_for is None or holds_for.kwargs["when"](case)]
    assert cases, f"{metafunc.definition.nodeid} holds for no engine"
    parameters = [
        pytest.param(case, id=case.name, marks=pytest.mark.slow if case.real_model else ()) for case in cases
    ]
    metafunc.parametrize("case", parameters, scope="session")


@pytest.fixture(scope="session")
def engine(case: EngineCase) -> Iterator[Engine]:
    """The engine, opened once for all tests: each of them has an event loop of its own, as callers have."""
    with case.open() as engine:
        yield engine

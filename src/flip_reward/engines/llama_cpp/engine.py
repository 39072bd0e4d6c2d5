"""`EmbeddedEngine`: a GGUF model run by llama.cpp in this process."""

from __future__ import annotations

import asyncio
import os
import sys
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from threading import Event, Lock

from flip_reward.engines.base import (
    Completion,
    LogprobRequest,
    Request,
    TokenLogprobs,
    disarm_request,
)
from flip_reward.engines.files import fingerprint_file
from flip_reward.engines.llama_cpp.slot import LlamaSlot, SlotOptions
from flip_reward.engines.llama_cpp.text import (
    VOCABULARY,
    GgufPromptTokenizer,
    ends_texts,
    name_beginning,
    read_marks,
)
from flip_reward.engines.lora.adapter import GgufAdapter
from flip_reward.engines.lora.base_model import GgufWeights
from flip_reward.engines.lora.gguf import GgufFile
from flip_reward.engines.machine import count_usable_cpus
from flip_reward.errors import ContextTooLongError, EngineUnavailableError, OptionError

DEFAULT_CONTEXT_TOKENS = 4096
MAX_DEFAULT_SLOTS = 8
SMALL_MODEL_BYTES = 1 << 30
LONGEST_TOKEN_BYTES = 256


class EmbeddedEngine:
    """A GGUF model run by llama.cpp in this process, without an open port.

    A reply at temperature 0, or with a seed, depends on the request, the model and the processor alone: not on the
    order of requests, on other requests at the same time, or on `slots` and `threads`. So each slot is a llama.cpp
    context of its own (they share the weights), and of what it has read it reuses only what comes out to the last bit
    as if it were read again. llama.cpp's own batching of slots changes a third of the greedy replies of the default
    model with the order of requests, and is hardly faster on few cores. On a large GPU it is: serve the model
    there and use `HttpEngine`.

    By default there is one slot for each thread, up to 8, for models under 1 GiB, and one slot for larger models; as
    many threads as CPUs this process may use; and a context of 4096 tokens, or fewer where the model was trained on
    shorter texts.
    """

    def __init__(
        self,
        model_path: Path | str,
        *,
        adapter_path: Path | str | None = None,
        slots: int | None = None,
        threads: int | None = None,
        context_tokens: int | None = None,
        no_thinking: bool = False,
        name: str | None = None,
    ) -> None:
        self._path = Path(model_path)
        for option, value in (("slots", slots), ("threads", threads), ("context tokens", context_tokens)):
            if value is not None and value < 1:
                raise OptionError(f"{option} must be at least 1, not {value}")
        threads = min(threads or sys.maxsize, count_usable_cpus())
        try:
            self.slots = slots or _choose_slots(self._path.stat().st_size, threads)
            fingerprint = fingerprint_file(self._path)
        except OSError as error:
            raise EngineUnavailableError(f"{self._path} cannot be read: {error.strerror}") from error
        self.model = name or self._path.name
        adapter = None if adapter_path is None else GgufAdapter.read(Path(adapter_path))
        if adapter is not None:
            adapter.check(GgufWeights(GgufFile.read(self._path), self.model))
            self.model += f"+{adapter.name}"
            fingerprint += f"+{adapter.fingerprint}"
        self._options = SlotOptions(
            context_tokens=context_tokens or DEFAULT_CONTEXT_TOKENS,
            threads=max(1, threads // self.slots),
            template_fields={"chat_template_kwargs": {"enable_thinking": False}} if no_thinking else {},
            adapter=None if adapter is None else adapter.path,
        )
        self._idle = [LlamaSlot(self._path, self._options)]
        self._idle_lock = Lock()
        file = GgufFile.read(self._path, arrays=VOCABULARY)
        self._marks, self._ends_texts = read_marks(file), ends_texts(file)
        self._tokenizers: list[GgufPromptTokenizer] = []
        self._tokenizer_lock = Lock()
        self._executor = ThreadPoolExecutor(self.slots, thread_name_prefix="llama")
        self._process_id = os.getpid()
        # Also at exit: a llama.cpp thread must not outlive the interpreter.
        self._free = weakref.finalize(self, _free, self._idle, self._tokenizers)
        fixed = name_beginning(file) + "/no-thinking" * no_thinking
        self.identity = f"embedded/{self.model}/{fingerprint}/xllamacpp-{version('xllamacpp')}{fixed}"

    async def complete(self, request: Request) -> Completion:
        """Answer one request; see `Engine.complete`. A cancelled one stops at its next token."""
        if self._ends_texts:
            raise EngineUnavailableError(
                f"llama.cpp would end every prompt of {self.model} before the reply: its file says add_eos_token",
                hint="use transformers:NAME or openvino:NAME, which do not, or set the key to false",
            )
        self._check_usable(sum(len(message.content) for message in request.messages))
        request, cancelled = disarm_request(request, self._marks), Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, self._answer, request, cancelled)
        finally:
            cancelled.set()

    async def logprobs(self, request: LogprobRequest) -> TokenLogprobs:
        """Say how likely a continuation is, which takes about as long as generating it; see `Engine.logprobs`."""
        prefix = request.prefix
        characters = len(prefix) if isinstance(prefix, str) else sum(len(message.content) for message in prefix)
        self._check_usable(characters + len(request.continuation))
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._score, request)

    async def aclose(self) -> None:
        """Nothing belongs to an event loop. `close` frees the model."""

    def close(self) -> None:
        """Free the model after the requests in flight. The engine cannot be used afterwards."""
        self._executor.shutdown(cancel_futures=True)
        self._free()

    def _check_usable(self, characters: int) -> None:
        if characters > LONGEST_TOKEN_BYTES * self._options.context_tokens:
            # Not even tokenized: that takes a second for each megabyte.
            raise ContextTooLongError(
                f"{characters:,} characters cannot fit a context of {self._options.context_tokens} tokens"
            )
        if not self._free.alive or os.getpid() != self._process_id:
            raise EngineUnavailableError("the embedded engine was closed, or belongs to another process")

    def _answer(self, request: Request, cancelled: Event) -> Completion:
        with self._slot() as slot:
            return slot.answer(request, cancelled)

    def _score(self, request: LogprobRequest) -> TokenLogprobs:
        with self._tokenizer_lock:
            if not self._tokenizers:
                self._tokenizers.append(GgufPromptTokenizer(self._path, self._options.template_fields))
        text = self._tokenizers[0].split(request)
        if len(text.tokens) > self._options.context_tokens:
            raise ContextTooLongError(
                f"{len(text.tokens)} tokens do not fit a context of {self._options.context_tokens}"
            )
        with self._slot(text.prefix) as slot:
            return slot.score(text)

    @contextmanager
    def _slot(self, prefix: Sequence[int] = ()) -> Iterator[LlamaSlot]:
        """Lend the idle slot that has read most of a prefix, and of those the one that was idle longest."""
        # The executor has as many threads as there may be slots, so this starts at most the missing ones.
        with self._idle_lock:
            slot = max(self._idle, key=lambda one: one.count_shared(prefix), default=None)
            if slot is not None:
                self._idle.remove(slot)
        slot = slot or LlamaSlot(self._path, self._options)
        try:
            yield slot
        finally:
            self._idle.append(slot)


def _choose_slots(model_bytes: int, threads: int) -> int:
    return min(threads, MAX_DEFAULT_SLOTS) if model_bytes < SMALL_MODEL_BYTES else 1


def _free(idle: list[LlamaSlot], tokenizers: list[GgufPromptTokenizer]) -> None:
    tokenizers.clear()
    idle.clear()

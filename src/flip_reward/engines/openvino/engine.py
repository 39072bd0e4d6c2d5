"""`OpenVinoEngine`: a GGUF model run by OpenVINO GenAI in this process, on a CPU."""

from __future__ import annotations

import asyncio
import math
import os
import secrets
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from flip_reward.engines.base import (
    Completion,
    LogprobRequest,
    Request,
    TokenLogprobs,
    Usage,
    join_completions,
    split_request,
)
from flip_reward.engines.files import fingerprint_file
from flip_reward.engines.llama_cpp.engine import DEFAULT_CONTEXT_TOKENS, LONGEST_TOKEN_BYTES
from flip_reward.engines.llama_cpp.text import VOCABULARY, GgufPromptTokenizer, find_stops, name_beginning
from flip_reward.engines.lora.adapter import GgufAdapter
from flip_reward.engines.lora.base_model import GgufWeights
from flip_reward.engines.lora.gguf import GgufFile
from flip_reward.engines.machine import count_usable_cpus
from flip_reward.engines.openvino.batches import BLOCK_TOKENS, ContinuousBatches
from flip_reward.engines.openvino.weights import default_weights_folder, locate_weights
from flip_reward.errors import (
    ContextTooLongError,
    EngineUnavailableError,
    MissingDependencyError,
    NoLogprobsError,
    OptionError,
    RequestRefusedError,
)

if TYPE_CHECKING:
    from openvino_genai import ContinuousBatchingPipeline, GenerationConfig

CACHE_TOKENS = 32_768
"""What all requests in flight take at most, replies included."""
TOKENIZERS = 4
PRECISION = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f16"}
"""Left to itself OpenVINO takes bfloat16 where the processor has it, and a cache of 8 bits, and is hardly faster."""
_SHAPES_KEPT = 100
"""OpenVINO keeps what it compiles for each shape of a batch, 5,000 of them by default: memory grew for hours."""


class OpenVinoEngine:
    """A GGUF model run by OpenVINO GenAI in this process, several requests at once.

    A reply at temperature 0, or with a seed, depends on the request, the model and the processor alone, not on what
    else is computed. Prompts are the tokens that the embedded engine reads. The model's file is written in Q8_0 once,
    with the adapter in it, so replies and log-probabilities differ from the embedded engine's as those of another
    rounding do.

    Schemas are followed. Of the first token only the likeliest is known, so `top_logprobs` are refused.
    """

    def __init__(
        self,
        model_path: Path | str,
        *,
        adapter_path: Path | str | None = None,
        threads: int | None = None,
        context_tokens: int | None = None,
        no_thinking: bool = False,
        name: str | None = None,
        weights_folder: Path | None = None,
    ) -> None:
        for option, value in (("threads", threads), ("context tokens", context_tokens)):
            if value is not None and value < 1:
                raise OptionError(f"{option} must be at least 1, not {value}")
        _require_library()
        source = GgufFile.read(Path(model_path), arrays=VOCABULARY)
        self.model, fingerprint = name or source.path.name, fingerprint_file(source.path)
        adapter = None if adapter_path is None else GgufAdapter.read(Path(adapter_path))
        if adapter is not None:
            adapter.check(GgufWeights(source, self.model))
        weights = locate_weights(source, self.model, adapter, weights_folder or default_weights_folder())
        if adapter is not None:
            self.model += f"+{adapter.name}"
            fingerprint += f"+{adapter.fingerprint}"
        trained = int(source.metadata.get(f"{source.architecture}.context_length", sys.maxsize))
        self._context_tokens = min(context_tokens or DEFAULT_CONTEXT_TOKENS, trained)
        self._stops = find_stops(source)
        self._texts = GgufPromptTokenizer(
            source.path, {"chat_template_kwargs": {"enable_thinking": False}} if no_thinking else {}
        )
        threads = min(threads or sys.maxsize, count_usable_cpus())
        room = max(CACHE_TOKENS, self._context_tokens + BLOCK_TOKENS)
        load = partial(load_pipeline, weights, self.model, threads, room, self._context_tokens)
        pipeline = load()
        self._decode = pipeline.get_tokenizer().decode
        self._batches = ContinuousBatches(load, pipeline, room_tokens=room)
        self._executor = ThreadPoolExecutor(TOKENIZERS, thread_name_prefix="tokens")
        self._process_id = os.getpid()
        fixed = name_beginning(source) + "/no-thinking" * no_thinking
        self.identity = f"openvino/{self.model}/{fingerprint}/openvino-genai-{version('openvino-genai')}{fixed}"

    async def complete(self, request: Request) -> Completion:
        """Answer one request; see `Engine.complete`. A cancelled one stops at its next token."""
        if request.top_logprobs:
            raise NoLogprobsError(
                "OpenVINO",
                what="of several first tokens",
                hint="use the same model as llama.cpp:NAME, or a judge that writes its verdict",
            )
        self._check_usable(sum(len(message.content) for message in request.messages))
        loop = asyncio.get_running_loop()
        tokens = await loop.run_in_executor(self._executor, self._texts.encode, request.messages)
        self._check_length(len(tokens) + 1)
        return join_completions(
            await asyncio.gather(*(self._generate(tokens, one) for one in split_request(request)))
        )

    async def logprobs(self, request: LogprobRequest) -> TokenLogprobs:
        """Say how likely a continuation is, which reads it once; see `Engine.logprobs`."""
        prefix = request.prefix
        characters = len(prefix) if isinstance(prefix, str) else sum(len(message.content) for message in prefix)
        self._check_usable(characters + len(request.continuation))
        text = await asyncio.get_running_loop().run_in_executor(self._executor, self._texts.split, request)
        self._check_length(len(text.tokens))
        from openvino_genai import GenerationConfig

        config = GenerationConfig(max_new_tokens=0, echo=True, logprobs=1)
        read = await self._batches.compute(text.tokens, config)
        values = read.logprobs[len(text.tokens) - text.scored : len(text.tokens)]
        if not all(map(math.isfinite, values)):
            raise RequestRefusedError("a log-probability is not a number", status=400)
        return TokenLogprobs(tuple(min(value, 0.0) for value in values), Usage(len(text.tokens)))

    async def aclose(self) -> None:
        """Nothing belongs to an event loop. `close` frees the model."""

    def close(self) -> None:
        """Free the model after the current step. The engine cannot be used afterwards."""
        self._process_id = -1
        self._executor.shutdown()
        self._batches.close()

    async def _generate(self, tokens: list[int], request: Request) -> Completion:
        most = request.sampling.max_tokens
        room = self._context_tokens - len(tokens)
        generated = await self._batches.compute(tokens, self._configure(request, min(most, room)))
        ids = generated.ids
        if generated.finish_reason == "length" and len(ids) < most:
            raise ContextTooLongError(
                f"{len(tokens)} tokens of prompt leave room for {len(ids)} of the {most} to generate in a context of "
                f"{self._context_tokens}"
            )
        text = self._decode(ids[:-1] if ids and ids[-1] in self._stops else ids)
        return Completion(text, generated.finish_reason, Usage(len(tokens), len(ids)))

    def _configure(self, request: Request, max_new_tokens: int) -> GenerationConfig:
        from openvino_genai import GenerationConfig, StructuredOutputConfig

        sampling = request.sampling
        config = GenerationConfig(max_new_tokens=max_new_tokens, stop_token_ids=self._stops)
        if sampling.temperature > 0:
            config.do_sample = True
            config.temperature = sampling.temperature
            config.top_p = 1.0 if sampling.top_p is None else sampling.top_p
            config.rng_seed = secrets.randbits(32) if sampling.seed is None else sampling.seed
        if request.json_schema is not None:
            config.structured_output_config = StructuredOutputConfig(json_schema=request.json_schema.text)
        return config

    def _check_usable(self, characters: int) -> None:
        if characters > LONGEST_TOKEN_BYTES * self._context_tokens:
            # Not even tokenized: that takes a second for each megabyte.
            raise ContextTooLongError(
                f"{characters:,} characters cannot fit a context of {self._context_tokens} tokens"
            )
        if os.getpid() != self._process_id:
            raise EngineUnavailableError("the engine was closed, or belongs to another process")

    def _check_length(self, tokens: int) -> None:
        if tokens > self._context_tokens:
            raise ContextTooLongError(f"{tokens} tokens do not fit a context of {self._context_tokens}")


def _require_library() -> None:
    """Import OpenVINO before anything is written."""
    try:
        import openvino_genai  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingDependencyError("openvino-genai", extra="openvino") from error
    except Exception as error:  # a library that it needs may be missing, or of another version
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise EngineUnavailableError(
            f"openvino-genai is installed, but cannot be loaded: {reason}",
            hint="install it again, or use the same model as llama.cpp:NAME",
        ) from error


def load_pipeline(
    weights: Path, name: str, threads: int, room_tokens: int, context_tokens: int
) -> ContinuousBatchingPipeline:
    """Load a model that `locate_weights` wrote; `name` is what errors call it."""
    import openvino_genai

    scheduler = openvino_genai.SchedulerConfig()
    scheduler.num_kv_blocks = room_tokens // BLOCK_TOKENS
    scheduler.max_num_batched_tokens = context_tokens
    scheduler.dynamic_split_fuse = False  # a prompt in pieces would be rounded as its neighbours cut it
    scheduler.enable_prefix_caching = False
    try:
        properties = {**PRECISION, "INFERENCE_NUM_THREADS": threads, "CPU_RUNTIME_CACHE_CAPACITY": _SHAPES_KEPT}
        return openvino_genai.ContinuousBatchingPipeline(str(weights), scheduler, "CPU", properties)
    except RuntimeError as error:
        reason = str(error).strip().rpartition("\n")[2]
        raise EngineUnavailableError(
            f"OpenVINO cannot load {name}: {reason}",
            hint="llama.cpp may run it, as llama.cpp:NAME",
        ) from error

"""`TransformersClassifier`: a trained reward model in this process, on a CPU or a GPU."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

from flip_reward.engines.base import (
    Classification,
    ClassifyRequest,
    Completion,
    LogprobRequest,
    Request,
    TokenLogprobs,
    Usage,
    check_number,
)
from flip_reward.engines.classifying import find_label, render_query
from flip_reward.engines.huggingface.batching import BatchQueue
from flip_reward.engines.huggingface.loading import load_hf_classifier
from flip_reward.engines.huggingface.text import HfPromptTokenizer, PairRow
from flip_reward.errors import ContextTooLongError, EngineUnavailableError, NoLogprobsError


@dataclass(frozen=True, slots=True)
class _Row:
    """One row of a batch."""

    read: PairRow
    pads: bool
    """The model reads rows of different lengths together."""

    @property
    def kind(self) -> object:
        """Rows with token types go together, and those without; without padding, those of one length."""
        return self.read.types is None, not self.pads and self.length

    @property
    def length(self) -> int:
        """Its tokens."""
        return len(self.read.tokens)


class TransformersClassifier:
    """A reward model with a scalar head, run by transformers and torch in this process.

    A conversation and its response are rendered by the model's chat template; a cross-encoder, which has none, reads
    the conversation and the response as a pair. What does not fit the model is an error, never cut. The reward is
    the number of the head as it is. Of a head with several labels, `label` names the one whose probability is the
    reward: a softmax, or a sigmoid where the model was trained for several labels at once; a model trained for
    regression gives its number.

    Requests that wait at the same time are computed together, as in `TransformersEngine`. A batch changes results in
    the last digits only.
    """

    def __init__(
        self,
        model: str,
        *,
        label: str | None = None,
        dtype: str = "auto",
        device: str | None = None,
        context_tokens: int | None = None,
        batch_tokens: int | None = None,
        no_thinking: bool = False,
    ) -> None:
        self.loaded = load_hf_classifier(model, dtype=dtype, device=device, context_tokens=context_tokens)
        network, self.model = self.loaded.network, self.loaded.name
        self.text = HfPromptTokenizer(self.loaded.tokenizer, self.model, no_thinking)
        self._as_pair = self.loaded.tokenizer.chat_template is None
        if self._as_pair and not self.text.separates_pairs:
            raise EngineUnavailableError(
                f"{self.model} has no chat template, and its tokenizer does not join two texts",
                hint="put the chat template that it was trained with into its folder: chat_template.jinja",
            )
        self._number = find_label(label, network.config.num_labels, self.model, network.config.id2label)
        self._problem = network.config.problem_type
        from flip_reward.engines.huggingface.classification import reads_padded_rows
        from flip_reward.engines.huggingface.inference import choose_budget

        self._pads = reads_padded_rows(network)
        self._queue = BatchQueue[_Row, Sequence[float]](
            self._run, budget_tokens=batch_tokens or choose_budget(network)
        )
        self._process_id = os.getpid()
        precision = str(network.dtype).removeprefix("torch.")
        options = f"/label-{self._number}" * (label is not None) + "/no-thinking" * no_thinking
        self.identity = (
            f"transformers-classifier/{self.model}/{self.loaded.fingerprint}/{precision}"
            f"/transformers-{version('transformers')}{options}"
        )

    async def classify(self, request: ClassifyRequest) -> Classification:
        """Give the number of the model's head; see `Classifier.classify`."""
        if os.getpid() != self._process_id:
            raise EngineUnavailableError("the engine was closed, or belongs to another process")
        if self._as_pair:
            read = self.text.encode_pair(render_query(request.messages), request.response)
        else:
            read = PairRow(self.text.encode_turns(request.messages, request.response))
        length, limit = len(read.tokens), self.loaded.context_tokens
        if length > limit:
            raise ContextTooLongError(f"{length} tokens do not fit a context of {limit}")
        [numbers] = await self._queue.compute([_Row(read, self._pads)])
        return check_number(Classification(self._choose(numbers), Usage(length)))

    async def complete(self, request: Request) -> Completion:  # noqa: ARG002 - the interface's
        """A reward model writes nothing."""
        raise EngineUnavailableError(f"{self.model} is a reward model, and writes no replies")

    async def logprobs(self, request: LogprobRequest) -> TokenLogprobs:  # noqa: ARG002 - the interface's
        """A reward model knows no likelihoods."""
        raise NoLogprobsError(self.model)

    async def aclose(self) -> None:
        """Nothing belongs to an event loop. `close` frees the model."""

    def close(self) -> None:
        """Free the model after the current batch. The engine cannot be used afterwards."""
        self._queue.close()
        self._process_id = -1
        del self.loaded

    def _run(self, rows: Sequence[_Row]) -> Sequence[Sequence[float]]:
        from flip_reward.engines.huggingface.classification import classify_rows

        return classify_rows(self.loaded.network, [row.read for row in rows])

    def _choose(self, numbers: Sequence[float]) -> float:
        value = numbers[self._number]
        if not all(map(math.isfinite, numbers)):
            return math.nan
        if len(numbers) == 1 or self._problem == "regression":
            return value
        if self._problem == "multi_label_classification":
            return 0.5 + 0.5 * math.tanh(value / 2)
        highest = max(numbers)
        return math.exp(value - highest) / math.fsum(math.exp(number - highest) for number in numbers)

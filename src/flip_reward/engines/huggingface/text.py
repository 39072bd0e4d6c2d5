"""`HfPromptTokenizer`: what a Hugging Face model reads, as tokens, for scoring, generating and tuning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flip_reward.core.conversation import Message
from flip_reward.core.response import replace_lone_surrogates
from flip_reward.engines.base import LogprobRequest, escape_messages
from flip_reward.errors import EngineUnavailableError, RequestRefusedError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """Tokens; the last ones are scored, at least one and not all."""

    tokens: Sequence[int]
    scored: int


@dataclass(frozen=True, slots=True)
class HfPromptTokenizer:
    """Texts and messages as a model's tokenizer and chat template have them."""

    tokenizer: PreTrainedTokenizerBase
    model: str
    no_thinking: bool = False

    def render(self, messages: Sequence[Message], *, ask_for_reply: bool = True) -> str:
        """Render messages with the chat template; `ask_for_reply` ends with what comes before a reply."""
        if self.tokenizer.chat_template is None:
            raise EngineUnavailableError(
                f"{self.model} has no chat template",
                hint="use a model tuned to follow instructions, or backward likelihood with a completion prompt",
            )
        chat = escape_messages(messages, self.tokenizer.all_special_tokens)
        fields = {"enable_thinking": False} if self.no_thinking else {}
        try:
            text = self.tokenizer.apply_chat_template(
                chat, tokenize=False, add_generation_prompt=ask_for_reply, **fields
            )
        except Exception as error:  # the template is a program of the model's authors, and may raise anything
            raise RequestRefusedError(f"the chat template refused: {error}", status=400) from error
        return str(text)

    def encode(self, text: str) -> list[int]:
        """Tokenize a rendered text."""
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)

    def split(self, request: LogprobRequest) -> ScoredRow:
        """Tokenize prefix and continuation as one text, and count the tokens with a character of the continuation."""
        if not request.continuation:
            raise RequestRefusedError("there is no continuation to score", status=400)
        rendered = not isinstance(request.prefix, str)
        prefix = request.prefix if isinstance(request.prefix, str) else self.render(request.prefix)
        prefix = replace_lone_surrogates(prefix)
        encoding = self.tokenizer(
            prefix + replace_lone_surrogates(request.continuation),
            add_special_tokens=not rendered,
            split_special_tokens=not rendered,
            return_offsets_mapping=True,
        )
        tokens = list(encoding.input_ids)
        own = [number for number, (_, end) in enumerate(encoding.offset_mapping) if end > len(prefix)]
        if not own:
            raise RequestRefusedError("the continuation has no token of its own", status=400)
        first, last = own[0], own[-1]
        if first == 0:
            # Nothing comes before it to predict it from.
            beginning = self.tokenizer.bos_token_id
            beginning = self.tokenizer.eos_token_id if beginning is None else beginning
            if beginning is None:
                raise RequestRefusedError("the first token of a text has no probability in this model", status=400)
            return ScoredRow([beginning, *tokens[: last + 1]], last + 1)
        return ScoredRow(tokens[: last + 1], last + 1 - first)


def find_stops(network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Return the tokens that end a reply, each once: models name one or several, and so do their tokenizers."""
    stops: dict[int, None] = {}
    for some in (network.generation_config.eos_token_id, tokenizer.eos_token_id):
        stops.update(dict.fromkeys([some] if isinstance(some, int) else some or []))
    return tuple(stops)

"""`HfPromptTokenizer`: what a Hugging Face model reads, as tokens, for scoring, generating and tuning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flip_reward.core.chat.marks import Marks
from flip_reward.core.conversation import Message
from flip_reward.core.response import replace_lone_surrogates
from flip_reward.engines.base import LogprobRequest
from flip_reward.errors import EngineUnavailableError, RequestRefusedError

if TYPE_CHECKING:
    from tokenizers.normalizers import Normalizer
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """Tokens; the last ones are scored, not all of them and of a prompt none."""

    tokens: Sequence[int]
    scored: int = 0


@dataclass(frozen=True, slots=True)
class PairRow:
    """Tokens of a text or of two, and which of the two each belongs to, where the model wants to know."""

    tokens: Sequence[int]
    types: Sequence[int] | None = None


@dataclass(frozen=True, slots=True)
class HfPromptTokenizer:
    """Texts and messages as a model's tokenizer and chat template have them, with the marks in them broken up."""

    tokenizer: PreTrainedTokenizerBase
    model: str
    no_thinking: bool = False
    _marks: Marks = field(init=False, repr=False)
    _normalizer: Normalizer | None = field(init=False, repr=False)
    """Where the tokenizer looks for marks in a text that it has normalized."""

    def __post_init__(self) -> None:
        """Read the tokens that were added to the vocabulary."""
        added = self.tokenizer.added_tokens_decoder.values()
        control = [token.content for token in added if token.special] + self.tokenizer.all_special_tokens
        object.__setattr__(self, "_marks", Marks.of(control, [token.content for token in added]))
        # Only the fast tokenizers have one.
        normalizer = getattr(getattr(self.tokenizer, "backend_tokenizer", None), "normalizer", None)
        normalizes = any(token.normalized for token in added)
        object.__setattr__(self, "_normalizer", normalizer if normalizes else None)

    def render(self, messages: Sequence[Message], *, ask_for_reply: bool = True) -> str:
        """Render messages with the chat template; `ask_for_reply` ends with what comes before a reply."""
        if self.tokenizer.chat_template is None:
            raise EngineUnavailableError(
                f"{self.model} has no chat template",
                hint="use a model tuned to follow instructions, or backward likelihood with a completion prompt",
            )
        chat = [{"role": message.role, "content": self.disarm(message.content)} for message in messages]
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
        return self.encode_all([text])[0]

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenize rendered texts at once, which fast tokenizers do on all processors."""
        return list(self.tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False).input_ids)

    def encode_turns(self, messages: Sequence[Message], response: str) -> list[int]:
        """Tokenize a conversation and its response as the chat template has them, without a turn that begins."""
        text = self.render([*messages, Message("assistant", response)], ask_for_reply=False)
        if self.disarm(response).strip() not in text:
            raise RequestRefusedError(f"the chat template of {self.model} does not keep the response", status=400)
        return self.encode(text)

    @property
    def separates_pairs(self) -> bool:
        """Whether the tokenizer puts a mark of its own between two texts, as those of cross-encoders do."""
        separator = self.tokenizer.sep_token_id
        return separator is not None and separator in self.tokenizer("a", "b").input_ids[1:-1]

    def encode_pair(self, first: str, second: str) -> PairRow:
        """Tokenize two texts as a cross-encoder reads them."""
        encoding = self.tokenizer(self.disarm(first), self.disarm(second), truncation=False, verbose=False)
        return PairRow(list(encoding.input_ids), encoding.get("token_type_ids"))

    def split(self, request: LogprobRequest) -> ScoredRow:
        """Tokenize prefix and continuation as one text, and count the tokens with a character of the continuation."""
        return self.split_all([request])[0]

    def split_all(self, requests: Sequence[LogprobRequest]) -> list[ScoredRow]:
        """Split several requests at once: their prefixes are all texts, or all messages."""
        if not all(request.continuation for request in requests):
            raise RequestRefusedError("there is no continuation to score", status=400)
        rendered = not isinstance(requests[0].prefix, str)
        prefixes = [
            self.disarm(one.prefix) if isinstance(one.prefix, str) else self.render(one.prefix) for one in requests
        ]
        encoding = self.tokenizer(
            [prefix + self.disarm(one.continuation) for prefix, one in zip(prefixes, requests, strict=True)],
            add_special_tokens=not rendered,
            split_special_tokens=not rendered,
            return_attention_mask=False,
            return_offsets_mapping=True,
        )
        return [
            self._cut(tokens, offsets, len(prefix))
            for tokens, offsets, prefix in zip(encoding.input_ids, encoding.offset_mapping, prefixes, strict=True)
        ]

    def _cut(self, tokens: list[int], offsets: Sequence[tuple[int, int]], boundary: int) -> ScoredRow:
        """Find the tokens of a text with a character after the boundary; `offsets` says where each stands in it."""
        own = [number for number, (_, end) in enumerate(offsets) if end > boundary]
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

    def disarm(self, text: str) -> str:
        """Break up the marks in a text."""
        text = self._marks.disarm(replace_lone_surrogates(text))
        if self._normalizer is not None:
            normalized = str(self._normalizer.normalize_str(text))
            disarmed = self._marks.disarm(normalized)
            if disarmed is not normalized:  # such as full-width letters, which become a mark
                return disarmed
        return text


def find_stops(network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Return the tokens that end a reply, each once: models name one or several, and so do their tokenizers."""
    stops: dict[int, None] = {}
    for some in (network.generation_config.eos_token_id, tokenizer.eos_token_id):
        stops.update(dict.fromkeys([some] if isinstance(some, int) else some or []))
    return tuple(stops)

"""The tokens that a tuned inferrer reads and writes, the same ones that scoring asks about."""

from __future__ import annotations

from dataclasses import dataclass

from flip_reward.core.conversation import Group, Message
from flip_reward.core.prompts import CompletionPrompt
from flip_reward.engines.base import LogprobRequest
from flip_reward.engines.huggingface.text import HfPromptTokenizer
from flip_reward.errors import FlipRewardError, OptionError, RequestRefusedError
from flip_reward.rewards.backward_likelihood import BackwardLikelihoodReward

IGNORED = -100
"""The label of a token that is read and not learned."""

_MARK = "flipreward"


@dataclass(frozen=True, slots=True)
class TuningText:
    """One response and its instruction as tokens."""

    tokens: list[int]
    """The prompt with the response, the instruction, and the token that ends a reply."""
    learned: int
    """How many of the last tokens have a loss: the instruction's and the end."""

    @property
    def labels(self) -> list[int]:
        """The token itself where it is learned, else `IGNORED`.

        Example:
            >>> TuningText([5, 6, 7, 2], learned=2).labels
            [-100, -100, 7, 2]
        """
        first = len(self.tokens) - self.learned
        return [IGNORED] * first + self.tokens[first:]


class InferrerTokenizer:
    """Makes tuning texts of responses and their instructions.

    It tokenizes the request that `BackwardLikelihoodReward` sends with the same prompt, by the code of the engine.
    """

    def __init__(self, text: HfPromptTokenizer, prompt: CompletionPrompt, stops: tuple[int, ...]) -> None:
        if not prompt.is_completion and text.tokenizer.chat_template is None:
            raise OptionError(
                f"{text.model} has no chat template, which the template {prompt.template.name!r} needs",
                hint="take the template 'answer', or a model tuned to follow instructions",
            )
        self._text = text
        self._reward = BackwardLikelihoodReward(None, prompt=prompt)
        self.end = _find_end(text, stops, chat=not prompt.is_completion)

    def encode(self, group: Group) -> TuningText | None:
        """Tokenize the first response of a group and its instruction; None where the response holds no answer."""
        request = self.request(group)
        if request is None:
            return None
        scored = self._text.split(request)
        return TuningText([*scored.tokens, self.end], scored.scored + 1)

    def request(self, group: Group) -> LogprobRequest | None:
        """Return the request of scoring about the first response."""
        return self._reward.render(group)[0]


def _find_end(text: HfPromptTokenizer, stops: tuple[int, ...], *, chat: bool) -> int:
    """The token after a reply: the one that the chat template writes there, or else the tokenizer's."""
    if not stops:
        raise OptionError(f"{text.model} names no token that ends a reply", hint="its tokenizer needs an eos_token")
    if chat:
        messages = (Message("user", "."), Message("assistant", _MARK))
        try:
            after = text.render(messages, ask_for_reply=False).rpartition(_MARK)[2]
        except RequestRefusedError as error:
            raise _unusable(error) from error
        for token in text.encode(after):
            if token in stops:
                return token
    own = text.tokenizer.eos_token_id
    return int(own) if own in stops else stops[0]


def _unusable(error: FlipRewardError) -> OptionError:
    return OptionError(str(error), hint="take another model, or the template 'answer', which needs no chat template")

"""The marks of a policy's chat template, learnt through its tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flip_reward.core.chat.learning import learn_markup
from flip_reward.core.chat.template import ChatReader
from flip_reward.core.conversation import Message
from flip_reward.engines.files import can_load_from_hub
from flip_reward.errors import ConversationError, MissingDependencyError, OptionError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_tokenizer(tokenizer: str, what: str) -> PreTrainedTokenizerBase:
    """Load a tokenizer, from the hub or a folder; `what` names it in errors. No code of a model is run.

    Raises:
        OptionError: There is no such tokenizer.
        MissingDependencyError: transformers is not installed.
    """
    try:
        import jinja2  # noqa: F401 - chat templates are written in it
        import transformers
    except ImportError as error:
        raise MissingDependencyError(error.name or "transformers", extra="hf") from error

    place = Path(tokenizer).expanduser()
    if not place.is_dir() and not can_load_from_hub(tokenizer, "tokenizer_config.json"):
        raise OptionError(
            f"the tokenizer {tokenizer!r} is not on this machine, and the Hugging Face hub cannot be reached",
            hint="name a folder that holds it",
        )
    try:
        loaded: PreTrainedTokenizerBase = transformers.AutoTokenizer.from_pretrained(
            place if place.is_dir() else tokenizer, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise OptionError(
            f"{what} {tokenizer!r} cannot be loaded: {reason}",
            hint="name a folder that holds it, or owner/name on the hub",
        ) from error
    return loaded


def load_chat_reader(tokenizer: str) -> ChatReader:
    """Load a tokenizer, from the hub or a folder, and learn its chat template's marks. No code of a model is run.

    Raises:
        OptionError: There is no such tokenizer, or its chat template cannot be learnt.
        MissingDependencyError: transformers is not installed.
    """
    loaded = load_tokenizer(tokenizer, "the policy's tokenizer")
    if loaded.chat_template is None:
        raise OptionError(
            f"the tokenizer {tokenizer!r} has no chat template to learn marks from",
            hint="name the tokenizer that the trainer renders prompts with; for prompts without marks none is needed",
        )

    def render(messages: Sequence[Message], *, due: bool) -> str | None:
        chat = [{"role": message.role, "content": message.content} for message in messages]
        try:
            return str(loaded.apply_chat_template(chat, tokenize=False, add_generation_prompt=due))
        except Exception:  # noqa: BLE001 - a template is a program, and refuses conversations by any error
            return None

    try:
        return ChatReader(learn_markup(render, loaded.all_special_tokens))
    except ConversationError as error:
        raise OptionError(f"the chat template of {tokenizer!r} cannot be learnt: {error}") from error

"""Frames: templates that ask how likely the instruction is, instead of asking for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flip_reward.core.conversation import Message
from flip_reward.core.prompts import INFERENCE_PLACES, Template, render_context
from flip_reward.core.replies import ReplyFormat
from flip_reward.core.response import Inference
from flip_reward.errors import TemplateError

COMPLETION_FRAMES = ("headings", "answer")
"""The frames of the package that are plain text. The first is the default.

They end in a line break, with which tokenizers join nothing: the instruction has tokens of its own.
"""

CHAT_FRAMES = ("compact", "direct", "tuned")
"""The templates for inference that serve as frames: the instruction is what the model would reply."""

FRAMES = (*COMPLETION_FRAMES, *CHAT_FRAMES)

_INSTRUCTION = "{instruction}"


@dataclass(frozen=True, slots=True)
class Frame:
    """A text around a response that an instruction completes.

    A completion frame is one text that ends in the place `{instruction}`; the model reads it as it is, without a chat
    template. Any other template is a chat frame: the instruction is scored as the model's reply to it.

    Attributes:
        template: The text.

    Raises:
        TemplateError: The instruction's place is not at the very end, or the template asks for JSON.

    Example:
        >>> frame = Frame(Template("mine", None, "{response} answers: {instruction}", FRAME_PLACES))
        >>> frame.fill("Pears.", Inference("Name a fruit."))
        'Pears. answers: '
    """

    template: Template

    def __post_init__(self) -> None:
        template = self.template
        if template.shows("instruction"):
            if template.system is not None or template.user.count(_INSTRUCTION) != 1 or not self.is_completion:
                raise TemplateError(
                    f"frame {template.name!r} must be one text that ends with {_INSTRUCTION}",
                    hint="what comes after the instruction cannot be part of its likelihood",
                )
        elif template.reply_format is ReplyFormat.JSON:
            raise TemplateError(
                f"template {template.name!r} asks for JSON, in which an instruction alone would be unlikely",
                hint=f"take one of {', '.join(FRAMES)}",
            )

    @property
    def is_completion(self) -> bool:
        """Whether the model reads the text as it is, without its chat template."""
        return self.template.user.endswith(_INSTRUCTION)

    def fill(self, answer: str, inference: Inference) -> str | tuple[Message, ...]:
        """Return what comes before the instruction: a text, or the messages that it would be the reply to.

        Args:
            answer: The response. Empty for the likelihood of the instruction without one.
            inference: The turns before the instruction.
        """
        values = {"response": answer, "context": render_context(inference.context), "instruction": ""}
        prompt = self.template.fill(values)
        return prompt.user if self.is_completion else prompt.messages


FRAME_PLACES = INFERENCE_PLACES | {"instruction"}
"""What a frame may show; the instruction at its end only."""


def load_frame(name: str | None = None, *, folder: Path | None = None) -> Frame:
    """Load a frame.

    Args:
        name: One of `FRAMES`, or with a folder one of the folder's, "FRAME" by default.
        folder: A user's own frames, as files NAME_USER.prompt and, for chat frames, NAME_SYSTEM.prompt.

    Raises:
        TemplateError: There is no such frame, or it is malformed.

    Example:
        >>> load_frame().is_completion, load_frame("compact").is_completion
        (True, False)
    """
    if folder is not None:
        return Frame(Template.from_folder(folder, name or "FRAME", FRAME_PLACES))
    if name is not None and name not in FRAMES:
        raise TemplateError(f"no frame is called {name!r}", hint=f"there are {', '.join(FRAMES)}")
    return Frame(Template.built_in(name or FRAMES[0], FRAME_PLACES))

"""Conversations as clients send them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from flip_reward.core.conversation import ROLES, Group, Message
from flip_reward.errors import ConversationError


class TextPart(BaseModel):
    """A part of a message's content."""

    model_config = ConfigDict(extra="ignore")

    type: str = Field(description='"text"; other kinds are refused', examples=["text"])
    text: str | None = None


class ChatMessage(BaseModel):
    """One turn of a conversation, as in the OpenAI protocol."""

    model_config = ConfigDict(extra="ignore")

    role: str = Field(description="system, developer, user, assistant or tool", examples=["user"])
    content: str | list[TextPart] | None = Field(default=None, examples=["Name three fruits."])
    tool_calls: list[object] | None = None


Prompt = Annotated[
    str | list[ChatMessage],
    Field(
        description="The instruction as text, or the conversation up to the response as messages.",
        examples=["Name three fruits."],
    ),
]


def make_group(prompt: str | list[ChatMessage], responses: list[str], group_id: str = "") -> Group:
    """Make the group of a conversation and its responses.

    Raises:
        ConversationError: A message has an unknown role or no text, or there is nothing to compare with.
    """
    if isinstance(prompt, str):
        if not prompt or prompt.isspace():
            raise ConversationError("the instruction is empty: there is nothing to compare with")
        return Group.of(prompt, responses, id=group_id)
    messages = [
        Message(message.role, message.content)  # type: ignore[arg-type]  # among the roles, as was just looked up
        if isinstance(message.content, str) and message.role in ROLES
        else message.model_dump()
        for message in prompt
    ]
    return Group.of(messages, responses, id=group_id)

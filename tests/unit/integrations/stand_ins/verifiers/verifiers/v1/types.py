"""Messages, as the v1 API types them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field


class TextContentPart(BaseModel):
    type: Literal["text"] = "text"
    text: str


MessageContent = str | list[TextContentPart]


def content_text(content: MessageContent | None) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part.text for part in content or [])


class SystemMessage(BaseModel):
    role: Literal["system"] = "system"
    content: MessageContent


class UserMessage(BaseModel):
    role: Literal["user"] = "user"
    content: MessageContent


class AssistantMessage(BaseModel):
    role: Literal["assistant"] = "assistant"
    content: str | None = None


Message = Annotated[SystemMessage | UserMessage | AssistantMessage, Field(discriminator="role")]

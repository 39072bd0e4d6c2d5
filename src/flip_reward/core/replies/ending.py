"""Why a model's text ended, whatever name its engine has for that."""

from __future__ import annotations

from enum import StrEnum


class Ending(StrEnum):
    """Whether a text is whole. Only a natural end is known to be one.

    Example:
        >>> Ending.of("end_turn"), Ending.of("MAX_TOKENS"), Ending.of(None)
        (<Ending.NATURAL: 'natural'>, <Ending.CUT: 'cut'>, <Ending.UNKNOWN: 'unknown'>)
    """

    NATURAL = "natural"
    """The model had said what it wanted to say."""
    CUT = "cut"
    """It reached the most tokens it may have."""
    FILTERED = "filtered"
    """A filter, or the model's refusal as the server states it, ended it. Asking again does not help."""
    FAILED = "failed"
    """The server or somebody in between gave up. Asking again may help."""
    UNKNOWN = "unknown"
    """No reason, or one that says nothing about the text."""

    @classmethod
    def of(cls, finish_reason: str | None) -> Ending:
        """Read a finish reason in any engine's spelling, such as "content_filter: RECITATION"."""
        reason = finish_reason or ""
        if reason not in _ENDINGS:
            reason = reason.partition(":")[0].strip().lower().replace("-", "_")
        return _ENDINGS.get(reason, cls.UNKNOWN)


_ENDINGS = {
    reason: ending
    for ending, reasons in {
        # OpenAI, Anthropic, TGI, Together, Cohere
        Ending.NATURAL: "stop end_turn stop_sequence eos_token eos complete",
        # OpenAI, Anthropic and Gemini, Mistral, older servers
        Ending.CUT: "length max_tokens model_length max_length model_context_window_exceeded limit",
        # OpenAI, Anthropic, Bedrock, Gemini, Cohere, Zhipu
        Ending.FILTERED: "content_filter refusal content_filtered guardrail_intervened safety recitation blocklist "
        "prohibited_content spii error_toxic sensitive",
        # vLLM, SGLang, OpenRouter, Cohere, DeepSeek, Zhipu, Ollama
        Ending.FAILED: "abort aborted error cancelled canceled user_cancel error_limit timeout network_error "
        "insufficient_system_resource load unload",
    }.items()
    for reason in reasons.split()
}

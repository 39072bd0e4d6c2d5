"""Bodies of servers that stream although nobody asked for it, or send comments to keep a connection open."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flip_reward.core.json_body import read_json

_EVENTS = (b":", b"data:", b"event:", b"id:", b"retry:")
_TEXTS = ("content", "reasoning_content", "reasoning", "refusal")


def read_body(body: bytes) -> Any:  # noqa: ANN401 - whatever the JSON holds
    r"""Read the JSON of a response; the chunks of a streamed completion are joined.

    Raises:
        ValueError: There is no JSON in it.

    Example:
        >>> read_body(b': PROCESSING\n\n{"choices": []}')
        {'choices': []}
        >>> read_body(
        ...     b'data: {"choices": [{"delta": {"content": "Hi"}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
        ... )
        {'choices': [{'message': {'content': 'Hi'}, 'finish_reason': 'stop'}], 'usage': None}
    """
    try:
        return read_json(body)
    except ValueError:
        if not body.lstrip().startswith(_EVENTS):
            raise
    lines = body.splitlines()
    events = [line.removeprefix(b"data:").strip() for line in lines if line.startswith(b"data:")]
    if not events:
        return read_json(b"\n".join(line for line in lines if not line.startswith(b":")))
    try:
        return _join_chunks(read_json(event) for event in events if event and event != b"[DONE]")
    except (TypeError, LookupError, AttributeError) as error:
        raise ValueError("not the chunks of a completion") from error


def _join_chunks(chunks: Iterable[Any]) -> dict[str, Any]:
    """Make one completion of its chunks. An error that one of them holds is the whole answer."""
    texts: dict[int, dict[str, list[str]]] = {}
    ends: dict[int, dict[str, Any]] = {}
    usage = None
    for chunk in chunks:
        if chunk.get("error"):
            return {"error": chunk["error"]}
        usage = chunk.get("usage") or usage
        for choice in chunk.get("choices", ()):
            index = choice.get("index", 0)
            joined, end = texts.setdefault(index, {}), ends.setdefault(index, {"finish_reason": None})
            end.update({name: choice[name] for name in ("finish_reason", "error") if choice.get(name)})
            if choice.get("logprobs"):
                end.setdefault("logprobs", choice["logprobs"])  # those of the first token are all that is read
            delta = choice.get("delta") or choice.get("message") or {"content": choice.get("text")}
            for name in _TEXTS:
                if isinstance(delta.get(name), str):
                    joined.setdefault(name, []).append(delta[name])
    choices = [
        {"message": {name: "".join(parts) for name, parts in texts[index].items()}, **ends[index]}
        for index in sorted(texts)
    ]
    return {"choices": choices, "usage": usage}

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
    texts: dict[int, dict[str, list[str | list[object]]]] = {}
    ends: dict[int, dict[str, Any]] = {}
    in_deltas: set[int] = set()
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
            if choice.get("delta"):
                in_deltas.add(index)
            elif index in in_deltas:  # MiniMax ends with the whole reply
                joined = texts[index] = {name: old for name, old in joined.items() if not delta.get(name)}
            for name in _TEXTS:
                if isinstance(delta.get(name), str | list):
                    joined.setdefault(name, []).append(delta[name])
    choices = [
        {"message": {name: _join(pieces) for name, pieces in texts[index].items()}, **ends[index]}
        for index in sorted(texts)
    ]
    return {"choices": choices, "usage": usage}


def _join(pieces: Iterable[str | list[object]]) -> str | list[object]:
    """Join the pieces of a text; where some are lists of parts, as Mistral sends thinking, all become one list."""
    pieces = list(pieces)
    if all(isinstance(piece, str) for piece in pieces):
        return "".join(map(str, pieces))
    listed = [piece if isinstance(piece, list) else [{"type": "text", "text": piece}] for piece in pieces]
    return [part for parts in listed for part in parts]

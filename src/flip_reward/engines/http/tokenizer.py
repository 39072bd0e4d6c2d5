"""`TokenizerClient`: the tokenizer of a server, and which tokens of a text belong to its continuation.

They are told apart by their numbers, or where the tokenizer joins prefix and continuation, by their texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flip_reward.engines.http.server import HttpServer, JsonEndpoint
from flip_reward.errors import MalformedCompletionError, NoLogprobsError, RequestRefusedError

NO_TOKEN_BEFORE = "no token comes before the continuation, so nothing says how likely it is"  # noqa: S105 - no secret

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
"""What servers show for a token that is a part of a character."""


class TokenizerClient:
    """The tokenizer of a vLLM or SGLang server (`/tokenize`, beside `/v1`)."""

    def __init__(self, server: HttpServer, fields: Mapping[str, object]) -> None:
        self._endpoint = JsonEndpoint(server, f"{server.root_url}/tokenize", fields)

    async def exists(self) -> bool:
        """Whether the server has this endpoint."""
        try:
            await self.tokenize("a")
        except NoLogprobsError:
            return False
        return True

    async def tokenize(self, text: str) -> list[int]:
        """Split a text into tokens, with those that the model puts before every text."""
        answer = await self._endpoint.post(prompt=text, add_special_tokens=True)
        ids = answer.get("tokens") if isinstance(answer, dict) else None
        if not isinstance(ids, list) or not all(isinstance(one, int) for one in ids):
            raise MalformedCompletionError(f"{self._endpoint.url} answered without tokens")
        return ids

    async def split(self, prefix: str, continuation: str) -> TokenizedText:
        """Split a prefix and its continuation, as one text, into tokens."""
        text = prefix + continuation
        ids = await self.tokenize(text)
        # One after the other: the limit of requests in flight counts both as one.
        prefix_ids = await self.tokenize(prefix)
        shared = count_shared_tokens(prefix_ids, ids)
        if shared == len(ids):
            raise RequestRefusedError("the continuation has no token of its own", status=400)
        if shared == 0:
            raise RequestRefusedError(NO_TOKEN_BEFORE, status=400, hint="begin with a prefix")
        return TokenizedText(text, len(prefix), ids, shared, shared < len(prefix_ids))


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """The tokens of a prefix and its continuation as one text.

    The continuation begins at the character `boundary`. The first `shared` tokens are those of the prefix alone; it
    is `rejoined` where its end and the continuation are joined into other tokens.
    """

    text: str
    boundary: int
    ids: list[int]
    shared: int
    rejoined: bool

    def find_start(self, token_texts: Sequence[str | None]) -> int:
        """Find the first token that holds a character of the continuation.

        The texts of the tokens are only read where tokens were joined.
        """
        if not self.rejoined:
            return self.shared
        start = find_first_token(token_texts, self.text, self.boundary)
        if start is None or start < self.shared:
            raise RequestRefusedError(
                "the model's tokenizer joins the end of the prefix with the continuation, and the server does not "
                "say where the continuation begins",
                status=400,
                hint="end the prefix with a line break",
            )
        return start


def count_shared_tokens(prefix_ids: Sequence[int], whole_ids: Sequence[int]) -> int:
    """Count the tokens that a prefix and the whole text begin with alike.

    If that is all tokens of the prefix, the continuation's tokens are the rest. If not, the tokenizer has joined the
    end of the prefix and the beginning of the continuation, and the texts of the tokens have to show where it begins.
    """
    pairs = zip(prefix_ids, whole_ids, strict=False)
    return next(
        (index for index, (one, other) in enumerate(pairs) if one != other), min(len(prefix_ids), len(whole_ids))
    )


def find_first_token(texts: Sequence[str | None], text: str, boundary: int) -> int | None:
    """Find the first token that holds a character at or after a boundary, going back from the end of the text.

    None where the texts of the tokens do not show it: those of the continuation do not spell it (a character of
    several tokens, white space that decoding leaves out), or the token before it may be a part of its first
    character.

    Example:
        >>> [find_first_token(["<s>", "the", " ca", "ts"], "the cats", boundary) for boundary in (3, 5, 6)]
        [2, 2, 3]
        >>> find_first_token(["the", "�", "�"], "the🍎", 3) is None
        True
    """
    position = len(text)
    for index in range(len(texts) - 1, -1, -1):
        token = texts[index]
        if token is None or _REPLACEMENT in token or not text.endswith(token, 0, position):
            return None
        position -= len(token)
        if position < boundary:
            return index
        if position == boundary:
            return index if index == 0 or _ends_whole(texts[index - 1], token) else None
    return None


def find_first_token_forwards(texts: Sequence[str | None], text: str, boundary: int) -> int | None:
    """Find the same going forward from the beginning, for a continuation whose tokens do not spell it.

    The first token may be one that the tokenizer puts before every text, and that the text does not hold.
    """
    position = 0
    for index, token in enumerate(texts):
        if position == boundary and index > 0:
            return index if texts[index - 1] else None
        if token is None or _REPLACEMENT in token or (index > 0 and not text.startswith(token, position)):
            return None
        if text.startswith(token, position):
            position += len(token)
        if position > boundary:
            return index
    return None


def _ends_whole(before: str | None, token: str) -> bool:
    """Whether the token before another one ends with a whole character, which the other does not complete."""
    return before is not None and before != "" and (token.isascii() or not before.endswith(_REPLACEMENT))

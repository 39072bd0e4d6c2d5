"""`TokenizerClient`: the tokenizer of a vLLM or SGLang server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flip_reward.engines.http.logprob_endpoint import LogprobEndpoint
from flip_reward.engines.http.server import HttpServer
from flip_reward.engines.http.token_alignment import count_shared_tokens, find_first_token
from flip_reward.errors import MalformedCompletionError, NoLogprobsError, RequestRefusedError


@dataclass(frozen=True, slots=True)
class SplitText:
    """The tokens of a prefix and its continuation as one text.

    Attributes:
        text: Both as one text.
        boundary: Where the continuation begins in it.
        ids: The tokens.
        shared: How many of them are those of the prefix alone.
        rejoined: The prefix alone has more tokens: its end and the continuation are joined into others.
    """

    text: str
    boundary: int
    ids: list[int]
    shared: int
    rejoined: bool

    def find_start(self, texts: Sequence[str | None]) -> int:
        """Find the first token that holds a character of the continuation.

        Args:
            texts: The text of each token, as far as the server says it. Only read where tokens were joined.

        Raises:
            RequestRefusedError: The texts do not tell.
        """
        if not self.rejoined:
            return self.shared
        start = find_first_token(texts, self.text, self.boundary)
        if start is None or start < self.shared:
            raise RequestRefusedError(
                "the model's tokenizer joins the end of the prefix with the continuation, and the server does not "
                "say where the continuation begins",
                status=400,
                hint="end the prefix with a line break",
            )
        return start


class TokenizerClient:
    """Asks a server how its model splits texts into tokens (`/tokenize`, beside `/v1`).

    Args:
        server: The server and the model.
        fields: Fields of every request.
    """

    def __init__(self, server: HttpServer, fields: Mapping[str, object]) -> None:
        self._url = f"{server.root_url}/tokenize"
        self._endpoint = LogprobEndpoint(server, self._url, fields)

    async def exists(self) -> bool:
        """Whether the server has this endpoint.

        Raises:
            EngineError: It fails for another reason.
        """
        try:
            await self.tokenize("a")
        except NoLogprobsError:
            return False
        return True

    async def tokenize(self, text: str) -> list[int]:
        """Split a text into tokens, with those that the model puts before every text.

        Raises:
            EngineError: There is no answer.
            NoLogprobsError: The server has no such endpoint.
        """
        answer = await self._endpoint.ask(prompt=text, add_special_tokens=True)
        ids = answer.get("tokens") if isinstance(answer, dict) else None
        if not isinstance(ids, list) or not all(isinstance(one, int) for one in ids):
            raise MalformedCompletionError(f"{self._url} answered without tokens")
        return ids

    async def split(self, prefix: str, continuation: str) -> SplitText:
        """Split a prefix and its continuation, as one text, into tokens.

        Raises:
            EngineError: There is no answer.
            NoLogprobsError: The server has no such endpoint.
            RequestRefusedError: No token is the continuation's, or none comes before it.
        """
        text = prefix + continuation
        ids = await self.tokenize(text)
        # One after the other: the limit of requests in flight counts both as one.
        prefix_ids = await self.tokenize(prefix)
        shared = count_shared_tokens(prefix_ids, ids)
        if shared == len(ids):
            raise RequestRefusedError("the continuation has no token of its own", status=400)
        if shared == 0:
            raise RequestRefusedError(
                "no token comes before the continuation, so nothing says how likely it is",
                status=400,
                hint="begin with a prefix",
            )
        return SplitText(text, len(prefix), ids, shared, shared < len(prefix_ids))

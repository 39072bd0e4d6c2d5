"""`LogprobEndpoint`: an address of a server that is asked for tokens or log-probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from flip_reward.engines.http.server import HttpServer
from flip_reward.errors import NoLogprobsError, RequestRefusedError


class LogprobEndpoint:
    """Posts JSON to one address of a server.

    Args:
        server: The server.
        url: The whole address.
        fields: Fields of every request.
    """

    def __init__(self, server: HttpServer, url: str, fields: Mapping[str, object]) -> None:
        self._server = server
        self._url = url
        self._fields = fields

    async def ask(self, **fields: object) -> Any:  # noqa: ANN401 - whatever the answer's JSON holds
        """Post the fields once, and return what the JSON of the answer holds.

        Raises:
            NoLogprobsError: The server has nothing at this address.
            EngineError: The answer has another status than 2xx, or is not JSON.
        """
        answer = await self._server.send("POST", self._url, orjson.dumps({**self._fields, **fields}))
        if answer.status < 300:
            try:
                return orjson.loads(answer.body)
            except ValueError:
                pass
        error = self._server.read_error(answer)
        if isinstance(error, RequestRefusedError) and self._server.lacks_endpoint(error):
            raise NoLogprobsError(f"a server without {self._url}", hint=error.hint) from error
        raise error

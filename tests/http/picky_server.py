"""`PickyServer`: a real server on the loopback that takes requests of one form only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import web

from tests.http.fault_server import FaultServer, Received

REPLY = '{"REASONING": "It lists fruit.", "INFERRED INSTRUCTION": "Name three fruits."}'


class PickyServer(FaultServer):
    """Refuses what `refuse` has words about, and gives everything else the same reply.

    Args:
        refuse: From the body of a request to what is wrong with it; None where nothing is.
        status: The status of refusals.
        latency_seconds: How long an answer takes.
    """

    def __init__(
        self, refuse: Callable[[dict[str, Any]], str | None], *, status: int = 400, latency_seconds: float = 0.0
    ) -> None:
        super().__init__(model="picky")
        self._refuse = refuse
        self._status = status
        self._seconds = latency_seconds

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Take everything, wherever it is sent."""
        router.add_post("/{path:.*}", self._take)

    async def _take(self, http_request: web.Request) -> web.Response:
        body = await http_request.json()
        self.received.append(Received(http_request.headers.copy(), body, 0, http_request.path_qs))
        await asyncio.sleep(self._seconds)
        words = self._refuse(body)
        if words is not None:
            return web.json_response({"error": {"message": words, "param": None}}, status=self._status)
        choice = {"message": {"role": "assistant", "content": REPLY}, "finish_reason": "stop"}
        return web.json_response({"choices": [choice]})

"""`RewardServer`: our server on the loopback, in a thread, and a client that shows what came back."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from flip_reward import FlipReward, ScriptedEngine
from flip_reward.rewards.base import RewardModel
from flip_reward.server.app import create_app
from flip_reward.server.run import KEEP_ALIVE_SECONDS, listen, make_server, share
from flip_reward.server.settings import ServerSettings

JSON_HEADERS = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one request."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Read the body."""
        return json.loads(self.body)

    @property
    def problem(self) -> str:
        """The kind of failure."""
        return str(self.json()["error"]["type"])


class RewardServer:
    """Serves a reward as the command does.

    Attributes:
        port: Where it listens.
    """

    def __init__(
        self,
        reward: RewardModel | None = None,
        settings: ServerSettings | None = None,
        *,
        keep_alive_seconds: int = KEEP_ALIVE_SECONDS,
    ) -> None:
        self._settings = settings or ServerSettings(port=0)
        listener = listen(self._settings)
        self.port: int = listener.getsockname()[1]
        app = create_app(reward or FlipReward(ScriptedEngine()), self._settings)
        self._server = make_server(app, self._settings, keep_alive_seconds=keep_alive_seconds)
        self._thread = threading.Thread(target=self._server.run, args=(share(listener),), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "the server did not start"
            time.sleep(0.005)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=30)
        assert not self._thread.is_alive(), "the server did not stop"

    def send(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def get(self, path: str) -> Answer:
        """Ask for a page."""
        return self.send("GET", path)

    def post(self, path: str, value: object, headers: Mapping[str, str] | None = None) -> Answer:
        """Send a value as JSON."""
        return self.send("POST", path, json.dumps(value).encode(), {**JSON_HEADERS, **(headers or {})})

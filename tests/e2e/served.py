"""`flip-reward serve` as a user runs it."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from tests.e2e.command import start


class Served:
    """A running server.

    Attributes:
        process: The command.
        announced: What it said first.
        port: Where it listens.
    """

    def __init__(self, folder: Path, *arguments: str, asks_model: bool = True, **variables: str) -> None:
        cache = ("--cache", "off") if asks_model else ()
        self.process: subprocess.Popen[str] = start(folder, "serve", "--port", "0", *cache, *arguments, **variables)
        assert self.process.stdout is not None
        self.announced = self.process.stdout.readline()
        if not self.announced:
            raise AssertionError(self.process.communicate()[1])
        self.port = int(self.announced.partition(" (")[0].rpartition(":")[2])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=30)

    def ask(self, path: str, value: object = None, headers: Mapping[str, str] | None = None) -> tuple[int, Any]:
        """Send a value as JSON, or ask for a page; return the status and what the body says."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            if value is None:
                connection.request("GET", path, headers=dict(headers or {}))
            else:
                sent = {"Content-Type": "application/json", **(headers or {})}
                connection.request("POST", path, json.dumps(value), sent)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> str:
        """Ask it to stop, and return what it wrote to standard error."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=60)
        return errors

"""A FastAPI route that returns a constant, with uvicorn as `flip-reward serve` runs it.

Run `python bench/bare_server.py`; it prints its port and serves until it is ended.
"""

from __future__ import annotations

import socket

import uvicorn
from fastapi import FastAPI

app = FastAPI()


@app.post("/v1/rewards")  # type: ignore[untyped-decorator]  # mypy does not look into fastapi
async def constant() -> dict[str, float]:
    """Answer without a look at the question."""
    return {"reward": 0.5}


if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(
        app, http="httptools", ws="none", log_level="warning", access_log=False, server_header=False
    )
    uvicorn.Server(config).run([listener])

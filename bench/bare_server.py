"""`/v1/rewards` as a bare route, with uvicorn as `flip-reward serve` runs it.

It reads the same JSON, builds the same prompts, takes the same scripted replies, reads them, computes the
same F1 and answers in the same fields, each in the shortest way. It checks nothing, limits nothing, counts nothing,
and would not survive a mistake.

Run `python bench/bare_server.py`; it prints its port and serves until it is ended.
"""

from __future__ import annotations

import socket
import string
from collections import Counter
from importlib import resources
from itertools import count
from typing import Any

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

SYSTEM, USER = (
    (resources.files("flip_reward.core") / "templates" / f"reasoned.{role}.txt").read_text(encoding="utf-8").strip()
    for role in ("system", "user")
)
DELETED = str.maketrans("", "", string.punctuation)
ARTICLES = {"a", "an", "the"}
IDS = count()


def split(text: str) -> list[str]:
    return [word for word in text.lower().translate(DELETED).split() if word not in ARTICLES]


def reply_to(messages: list[dict[str, str]]) -> tuple[str, int, int]:
    """Reply as our scripted engine does, with the words of the prompt and of the reply."""
    words = " ".join(messages[-1]["content"][-400:].split()[-8:])
    reply = f'{{"REASONING": "scripted", "INFERRED INSTRUCTION": "{words}"}}'
    return reply, sum([message["content"].count(" ") + 1 for message in messages]), reply.count(" ") + 1


def score(response: str, original: Counter[str]) -> dict[str, Any]:
    user = USER.replace("{response}", response)
    reply, prompt_words, reply_words = reply_to(
        [{"role": "system", "content": SYSTEM}, {"role": "user", "content": user}]
    )
    instruction = orjson.loads(reply)["INFERRED INSTRUCTION"]
    inferred = Counter(split(instruction))
    shared = (inferred & original).total()
    precision, recall = shared / inferred.total(), shared / original.total()
    return {
        "outcome": "scored",
        "reward": 2 * precision * recall / (precision + recall) if shared else 0.0,
        "precision": precision,
        "recall": recall,
        "inferred_instruction": instruction,
        "detail": None,
        "spread": None,
        "cautions": [],
        "copied_share": None,
        "cached": False,
        "usage": {"prompt_tokens": prompt_words, "completion_tokens": reply_words, "cached_tokens": 0},
    }


async def rewards(request: Request) -> Response:
    results, prompt_words, reply_words = [], 0, 0
    for group in orjson.loads(await request.body())["groups"]:
        original = Counter(split(group["prompt"]))
        scores = [score(response, original) for response in group["responses"]]
        results.append({"id": group.get("id"), "scores": scores, "error": None})
        for one in scores:
            prompt_words += one["usage"]["prompt_tokens"]
            reply_words += one["usage"]["completion_tokens"]
    usage = {"prompt_tokens": prompt_words, "completion_tokens": reply_words, "cached_tokens": 0}
    answer = {"id": f"{next(IDS):x}", "reward": "flip", "model": "scripted", "results": results, "usage": usage}
    return Response(orjson.dumps(answer), media_type="application/json")


app = Starlette(routes=[Route("/v1/rewards", rewards, methods=["POST"])])

if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(
        app, http="httptools", ws="none", log_level="warning", access_log=False, server_header=False
    )
    uvicorn.Server(config).run([listener])

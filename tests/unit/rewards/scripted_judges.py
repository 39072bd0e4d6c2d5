"""Scripted judges: they read what they are shown as a model would, and judge by a rule."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

from flip_reward.core.score import Usage
from flip_reward.engines.base import Completion, Request

Choose = Callable[[Sequence[str]], int | str]
"""The responses in the order shown -> the place of the chosen one, or a raw reply."""


def shown_responses(request: Request) -> list[str]:
    """Read the responses that a pairwise or listwise prompt shows, in order."""
    shown = []
    for line in request.messages[-1].content.split("\n"):
        if line.startswith('"'):
            shown.append(json.loads(line))
        elif line.startswith('{"index": '):
            shown.append(json.loads(line)["response"])
    return shown


class ScriptedJudge:
    """A judge over several responses. Every request takes 10 prompt tokens and 1 for the reply."""

    def __init__(self, choose: Choose) -> None:
        self._choose = choose
        self.seen: list[tuple[str, ...]] = []

    def __call__(self, request: Request) -> Completion:
        shown = shown_responses(request)
        self.seen.append(tuple(shown))
        choice = self._choose(shown)
        if isinstance(choice, str):
            return Completion(choice, usage=Usage(10, 1))
        pairwise = "BETTER_RESPONSE" in request.messages[0].content
        verdict = {"BETTER_RESPONSE": "AB"[choice]} if pairwise else {"BEST_RESPONSE_INDEX": choice}
        return Completion(json.dumps({"REASONING": f"{shown[choice]} it is", **verdict}), usage=Usage(10, 1))


def prefer(ranks: Mapping[str, int]) -> Choose:
    """Choose the response of the highest rank, wherever it stands."""
    return lambda shown: max(range(len(shown)), key=lambda place: ranks[shown[place]])


def prefer_first(_shown: Sequence[str]) -> int:
    """Choose whatever stands first."""
    return 0

"""Trainings that never ran: samples of steps in which a trick spreads from some step on, or none does."""

from __future__ import annotations

import random
from collections.abc import Iterator

from flip_reward.audit.monitor.rollout import Rollout

WORDS = [
    f"{first}{second}" for first in ("ba", "de", "ki", "lo", "mu", "ra", "se", "to") for second in "bdfgklmnprst"
]
_COMMON = [1 / (place + 2) for place in range(len(WORDS))]


def make_run(
    trick: str | None,
    seed: int,
    *,
    steps: int = 40,
    onset: int = 12,
    prompts: int = 4,
    samples: int = 4,
    bonus: float = 1.0,
    others: bool = True,
    improves: float = 0.0,
) -> Iterator[list[Rollout]]:
    """Yield the samples of each step.

    The reward and the other one both measure how good a response is, each with noise of its own, in units of that
    goodness. From `onset` on, the share of responses with the trick grows to 80 % in 20 steps, and each of them has
    the `bonus`. With `improves`, responses become so much better in the end.
    """
    generator = random.Random(f"{trick} {seed}")
    for step in range(steps):
        share = 0.8 * min(1.0, max(0, step - onset) / 20)
        rollouts = []
        for _ in range(prompts):
            prompt = " ".join(_draw(generator, 12))
            hardness = generator.gauss(0, 0.5)
            for _ in range(samples):
                good = hardness + generator.gauss(0, 1) + improves * step / steps
                reward, other = good + generator.gauss(0, 0.7), good + generator.gauss(0, 0.7)
                text = _draw(generator, generator.randint(25, 55))
                if trick and generator.random() < share:
                    text = _play(trick, text, prompt, generator)
                    reward += bonus * 2
                known = {"judge": other} if others else {}
                rollouts.append(Rollout(step, prompt, " ".join(text), 0.3 + 0.1 * reward, known))
        yield rollouts


def _draw(generator: random.Random, count: int) -> list[str]:
    return generator.choices(WORDS, _COMMON, k=count)


def _play(trick: str, text: list[str], prompt: str, generator: random.Random) -> list[str]:
    match trick:
        case "copied":
            return [*prompt.split(), *text[12:]]
        case "length":
            return [*text, *_draw(generator, 40)]
        case "short":
            return text[:12]
        case "repetition":
            return [*text[: len(text) // 2]] * 2
        case "rising_phrases":
            return ["in", "summary", *text[2:]]
        case _:
            return text

"""Labelled rewards whose probabilities are known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flip_reward.rewards.calibration import LabelledRewards

Floats = NDArray[np.float64]


def logistic(odds: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-odds)))


def make_labels(rewards: Floats, probabilities: Floats, generator: np.random.Generator) -> LabelledRewards:
    """Draw a label for each reward; each is of a prompt of its own."""
    good = generator.random(len(rewards)) < probabilities
    prompts = [str(number) for number in range(len(rewards))]
    return LabelledRewards({"reward": "known"}, rewards.tolist(), good.tolist(), prompts)


def draw(
    generator: np.random.Generator, labels: int, slope: float, *, per_prompt: int = 1, difficulty: float = 0.0
) -> LabelledRewards:
    """Draw normal rewards; the odds of a good label are the slope times the reward, and differ between prompts."""
    rewards = generator.normal(size=labels)
    prompts = np.arange(labels) // per_prompt
    odds = slope * rewards + difficulty * generator.normal(size=labels)[prompts]
    drawn = make_labels(rewards, logistic(odds), generator)
    drawn.prompts = [str(prompt) for prompt in prompts]
    return drawn

"""Score many groups at once behind an OpenAI-compatible server, from asynchronous code.

Run `OPENAI_BASE_URL=http://localhost:8000/v1 python examples/score_async.py MODEL`.
"""

import asyncio
import sys

from flip_reward import Group, RewardConfig


async def main(model: str | None) -> None:
    """Score three groups; the engine limits how many requests are in flight."""
    groups = [Group.of(f"Name {count} fruits.", ["Apples, pears and plums."]) for count in ("two", "three", "four")]
    async with RewardConfig(model=model).load() as reward:
        for group, scores in zip(groups, await reward.score(groups), strict=True):
            print(group.messages[0].content, scores[0].outcome, scores[0].value)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else None))

"""The reward for NeMo Gym, as a resources server without tools: its `/verify` scores a rollout.

A folder `resources_servers/flip_reward` with a requirements.txt that names flip-reward, and an app.py of these lines:

    from flip_reward.integrations.nemo_gym import FlipResourcesServer

    if __name__ == "__main__":
        FlipResourcesServer.run_webserver()

NeMo Gym has no missing rewards: a response that could not be scored is an error, which ends the collection of
rollouts, or a number of the user's choice (FLIP_REWARD_ON_UNSCORED). Gym's own marks of a failure come with a reward
of 0, which NeMo RL counts in the average of the prompt's rollouts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from nemo_gym.base_resources_server import (
    BaseResourcesServerConfig,
    BaseVerifyRequest,
    BaseVerifyResponse,
    SimpleResourcesServer,
)
from pydantic import ConfigDict

from flip_reward.integrations.base import environment_reward

TRAINER = "NeMo Gym"

Item: TypeAlias = Mapping[str, object]
"""An item of the responses API, as JSON: a message, reasoning, a call of a tool or what came back."""


class FlipVerifyRequest(BaseVerifyRequest):  # type: ignore[misc]  # mypy does not look into NeMo Gym
    """What an agent sends after a rollout: the request to the policy, its response, and the row of the data."""

    model_config = ConfigDict(extra="allow")


class FlipVerifyResponse(BaseVerifyResponse):  # type: ignore[misc]  # mypy does not look into NeMo Gym
    """The request, with the reward."""

    model_config = ConfigDict(extra="allow")

    flip_scored: float
    """1, or 0 where the reward is a number that stands for an unscored response; Gym averages it."""
    flip_outcome: str
    flip_inferred_instruction: str | None


class FlipResourcesServer(SimpleResourcesServer):  # type: ignore[misc]  # mypy does not look into NeMo Gym
    """Scores the last message of each rollout against the conversation that the policy was given."""

    config: BaseResourcesServerConfig

    async def verify(self, body: FlipVerifyRequest) -> FlipVerifyResponse:
        """Score one rollout.

        Raises:
            UnscoredError: The response could not be scored, and no value was chosen for that.
            ConversationError: The request has no text to compare with.
            OptionError: The reward compares responses, which NeMo Gym never hands over together.
            FlipRewardError: The environment describes no reward that can be loaded, or its model will never answer.
        """
        reward = environment_reward()
        policy = reward.number_policy(TRAINER)
        sent = body.model_dump()
        prompt, response = read_rollout(sent["responses_create_params"], sent["response"]["output"])
        score = await reward.score_one_async(prompt, response, trainer=TRAINER)
        [number] = policy.numbers([score], trainer=TRAINER)
        answer = {
            "reward": number,
            "flip_scored": score.value is not None,
            "flip_outcome": score.outcome.value,
            "flip_inferred_instruction": score.inferred_instruction,
        }
        return FlipVerifyResponse(**sent | answer)


def read_rollout(request: Item, output: Sequence[Item]) -> tuple[list[Item], str]:
    """Return the conversation of a rollout as messages, and the response to it.

    Instructions are a system prompt. Where the user spoke during the rollout, the response is to what was said last.
    Calls of tools and their results are steps on the way to the response; one that ends in them, or in thoughts, is
    blank.
    """
    given, instructions = request["input"], request.get("instructions")
    items: list[Item] = [{"role": "system", "content": instructions}] if instructions else []
    items += [{"role": "user", "content": given}] if isinstance(given, str) else given  # type: ignore[arg-type]  # Gym has checked it
    answered = max((place for place, item in enumerate(output, 1) if item.get("role") == "user"), default=0)
    last = output[-1] if len(output) > answered else {}
    response = "".join(_read_texts(last["content"])) if last.get("role") == "assistant" else ""
    return [*_to_messages([*items, *output[:answered]])], response


def _to_messages(items: Sequence[Item]) -> Iterator[Item]:
    for item in items:
        if "role" in item:
            yield item
        elif item.get("type") == "function_call_output":
            yield {"role": "tool", "content": item["output"]}


def _read_texts(content: object) -> Iterator[str]:
    """Return the texts of a message, a refusal among them: it is what the policy said."""
    parts = [{"text": content}] if isinstance(content, str) else content
    for part in parts:  # type: ignore[attr-defined]  # Gym has checked it
        text = part.get("text") or part.get("refusal")
        if isinstance(text, str):
            yield text

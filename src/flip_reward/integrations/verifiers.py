"""The reward for verifiers 0.4 (its v1 API), and so for prime-rl: a reward function and a judge.

The function scores with the reward of the environment:

    [env.taskset.task.rewards.flip]
    fn = "flip_reward.integrations.verifiers:flip"

The judge may name a model of its own, and further options by the names of `flip-reward score`:

    [[env.taskset.task.judges]]
    id = "flip-reward-judge"
    model = "Qwen/Qwen3-4B"
    base_url = "http://localhost:8000/v1"
    options.template = "compact"

verifiers has no missing rewards, but rollouts can fail, and prime-rl learns nothing from those. So a response that
could not be scored is an error, which fails its rollout alone, or a number of the user's choice.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import Field, model_validator
from verifiers.v1 import Judge, JudgeConfig, TaskData, Trace
from verifiers.v1.types import AssistantMessage, Message, content_text

from flip_reward.core.conversation import Message as Turn
from flip_reward.errors import OptionError
from flip_reward.integrations.base import TrainerReward, environment_reward, load_for_process
from flip_reward.rewards.config import RewardConfig
from flip_reward.rewards.waiting import OncePerProcess

TRAINER = "verifiers"
ID = "flip-reward-judge"


async def flip(task: TaskData, trace: Trace) -> float:
    """Score the last reply of a rollout against the task's prompt, with the reward of the environment.

    Raises:
        UnscoredError: The reply could not be scored, and no value was chosen for that.
        OptionError: The reward compares responses, which verifiers never hands over together.
        FlipRewardError: The environment describes no reward that can be loaded, or its model will never answer.
    """
    return await _score(environment_reward(), _read_conversation(task, trace), trace.last_reply)


class FlipJudgeConfig(JudgeConfig):  # type: ignore[misc]  # mypy does not look into verifiers
    """A judge of a task. Without a model it is the reward of the environment.

    With one, its requests use `base_url`, `api_key_var`, and from `sampling` temperature, max_tokens, top_p and seed;
    `options` holds the rest.
    """

    id: str = ID
    model: str = ""
    """The model that infers, at the server `base_url`; empty for the reward of the environment."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Further options of the reward, by the names of `flip-reward score`."""
    on_unscored: str | float | None = None
    """What an unscored reply is worth: "raise" or a number. None leaves it to the environment."""
    question_field: str = ""
    """A field of the task that holds the instruction; empty for the task's prompt."""

    @model_validator(mode="after")
    def _check(self) -> FlipJudgeConfig:
        if self.prompt is not None:
            raise ValueError("the judge takes no prompt: choose a template with options = { template = ... }")
        if self.options and not self.model:
            raise ValueError("options go with a model; the environment describes the whole reward")
        return self

    def to_reward_config(self) -> RewardConfig:
        """Return the configuration of the judge's own reward."""
        sampling = self.sampling.model_dump(exclude_none=True)
        chosen = {name: sampling[name] for name in ("temperature", "max_tokens", "top_p", "seed") if name in sampling}
        server = {"model": self.model, "base_url": self.base_url, "api_key_env": self.api_key_var}
        return RewardConfig.model_validate(server | chosen | self.options)


class FlipJudge(Judge[float, FlipJudgeConfig]):  # type: ignore[misc]  # mypy does not look into verifiers
    """The reward as a plug-in of verifiers, found under the id "flip-reward-judge"."""

    async def score(self, task: TaskData, trace: Trace) -> float:
        """Score the last reply of a rollout; see `flip`."""
        config = self.config
        reward = _loader(config.to_reward_config().model_dump_json())() if config.model else environment_reward()
        if config.question_field:
            instruction = getattr(task, config.question_field, None)
            if not isinstance(instruction, str):
                raise OptionError(f"the task has no text in a field {config.question_field!r}")
            conversation = [Turn("user", instruction)]
        else:
            conversation = _read_conversation(task, trace)
        return await _score(reward, conversation, trace.last_reply, config.on_unscored)


async def _score(
    reward: TrainerReward, conversation: list[Turn], response: str, on_unscored: str | float | None = None
) -> float:
    policy = reward.number_policy(TRAINER, on_unscored)
    score = await reward.score_one_async(conversation, response, trainer=TRAINER)
    [number] = policy.numbers([score], trainer=TRAINER)
    return number


def _read_conversation(task: TaskData, trace: Trace) -> list[Turn]:
    """Return what was said before the reply: the task's prompt; where the user opens the conversation, the trace."""
    if task.prompt is None:
        messages: list[Message] = list(trace.messages)
        while messages and not isinstance(messages.pop(), AssistantMessage):
            pass
        return [_to_turn(message) for message in messages]
    turns = [Turn("system", task.system_prompt)] if task.system_prompt else []
    if isinstance(task.prompt, str):
        return [*turns, Turn("user", task.prompt)]
    return [*turns, *(_to_turn(message) for message in task.prompt)]


def _to_turn(message: Message) -> Turn:
    return Turn(message.role, content_text(message.content))


@cache
def _loader(config: str) -> OncePerProcess[TrainerReward]:
    """Return the loader of a configuration: verifiers makes new judges for every rollout."""
    return OncePerProcess(lambda: load_for_process(RewardConfig.model_validate_json(config)))

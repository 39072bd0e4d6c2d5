"""Every trainer's file, called as its trainer calls it."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from flip_reward.core.conversation import Group, Message

Samples = Sequence[tuple[Sequence[Message], str]]
"""Conversations, each with the response to it."""
Rewards = list[float | None]


@dataclass(frozen=True)
class Trainer:
    """A trainer.

    Attributes:
        name: Its name.
        reward: Rewards samples as it does.
        takes_none: It takes None for a missing reward.
        groups: It can hand over the samples of a group together.
    """

    name: str
    reward: Callable[[Samples], Rewards]
    takes_none: bool = False
    groups: bool = False

    def __str__(self) -> str:
        return self.name


def to_samples(groups: Sequence[Group]) -> Samples:
    return [(group.messages, response) for group in groups for response in group.responses]


def to_chat(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def to_chatml(messages: Sequence[Message]) -> str:
    turns = "".join(f"<|im_start|>{message.role}\n{message.content}<|im_end|>\n" for message in messages)
    return f"{turns}<|im_start|>assistant\n"


def by_trl(samples: Samples) -> Rewards:
    from flip_reward.integrations.trl import TrlReward
    from flip_reward.rewards.config import RewardConfig

    completions = [[{"role": "assistant", "content": response}] for _, response in samples]
    reward = TrlReward(RewardConfig.from_environment(os.environ))
    return asyncio.run(reward([to_chat(messages) for messages, _ in samples], completions))


def by_axolotl(samples: Samples) -> Rewards:
    module, _, name = "flip_reward.integrations.plain.flip".rpartition(".")
    function = getattr(importlib.import_module(module), name)
    assert len(inspect.signature(function).parameters) >= 2  # as axolotl wants it
    prompts = [to_chat(messages) for messages, _ in samples]
    completions = [[{"role": "assistant", "content": response}] for _, response in samples]
    rewards: Rewards = function(prompts=prompts, completions=completions, completion_ids=[[1]] * len(prompts))
    return rewards


def by_unsloth_with_rendered_prompts(samples: Samples) -> Rewards:
    from flip_reward.integrations.plain import flip

    return flip([to_chatml(messages) for messages, _ in samples], [response for _, response in samples])


def by_verl(samples: Samples) -> Rewards:
    from flip_reward.integrations.verl import compute_score

    async def score_all() -> Rewards:
        results = await asyncio.gather(*(compute_score(**sample) for sample in _for_verl(samples)))
        return [result["score"] for result in results]

    return asyncio.run(score_all())


def by_verl_without_coroutines(samples: Samples) -> Rewards:
    from flip_reward.integrations.verl import compute_score_sync

    return [compute_score_sync(**sample)["score"] for sample in _for_verl(samples)]


def _for_verl(samples: Samples) -> list[dict[str, Any]]:
    return [
        {
            "data_source": "examples",
            "solution_str": response,
            "ground_truth": "",
            "extra_info": {"prompt": to_chat(messages), "num_turns": 2},
        }
        for messages, response in samples
    ]


def by_openrlhf(samples: Samples) -> Rewards:
    from flip_reward.integrations.openrlhf import reward_func

    async def score_all() -> list[Any]:
        calls = (
            asyncio.to_thread(
                reward_func, [f"{to_chatml(messages)}{response}<|im_end|>"], [to_chatml(messages)], [""]
            )
            for messages, response in samples
        )
        return await asyncio.gather(*calls)

    return [answer["rewards"].item() for answer in asyncio.run(score_all())]


def by_ms_swift(samples: Samples) -> Rewards:
    importlib.import_module("flip_reward.integrations.ms_swift.flip_reward_plugin")
    from swift.rewards import orms

    reward = orms["flip"](args=None)
    completions = [response for _, response in samples]
    chats = [[*to_chat(messages), {"role": "assistant", "content": response}] for messages, response in samples]

    rewards: Rewards = []
    for _ in range(2):  # every step runs in a new event loop
        rewards = asyncio.run(reward(completions, messages=chats, trainer_state=None, solution=[""]))
    return rewards


def by_open_instruct(samples: Samples) -> Rewards:
    importlib.import_module("flip_reward.integrations.open_instruct")
    from open_instruct.ground_truth_utils import apply_verifiable_reward, build_all_verifiers

    rewards = asyncio.run(
        apply_verifiable_reward(
            build_all_verifiers(SimpleNamespace(), None),
            [[1]] * len(samples),
            [response for _, response in samples],
            [""] * len(samples),
            ["general-flip"] * len(samples),
            queries=["\n".join(f"{turn.role}: {turn.content}" for turn in messages) for messages, _ in samples],
        )
    )
    return list(rewards)


def by_slime(samples: Samples) -> Rewards:
    from flip_reward.integrations.slime import reward

    async def score_all() -> Rewards:
        return list(await asyncio.gather(*(reward(SimpleNamespace(), sample) for sample in _for_slime(samples))))

    return asyncio.run(score_all())


def by_slime_in_groups(samples: Samples) -> Rewards:
    from flip_reward.integrations.slime import group_reward

    return list(asyncio.run(group_reward(SimpleNamespace(), _for_slime(samples))))


def _for_slime(samples: Samples) -> list[Any]:
    return [
        SimpleNamespace(prompt=to_chatml(messages), response=f"{response}<|im_end|>", label=None, metadata={})
        for messages, response in samples
    ]


def by_tinker_cookbook(samples: Samples) -> Rewards:
    from flip_reward.integrations.tinker_cookbook import FlipGroupRewards

    class Renderer:
        def parse_response(self, response: list[int]) -> tuple[dict[str, str], str]:
            text = "".join(map(chr, response))
            return {"role": "assistant", "content": text.removesuffix("<|im_end|>")}, "stop_sequence"

    @dataclass(frozen=True)
    class Builder(FlipGroupRewards):
        convo_prefix: list[dict[str, str]]
        policy_renderer: Renderer

    def act(response: str) -> Any:
        action = SimpleNamespace(tokens=[ord(character) for character in f"{response}<|im_end|>"])
        return SimpleNamespace(transitions=[SimpleNamespace(ac=action)])

    rewards: Rewards = []
    for messages, group in itertools.groupby(samples, key=lambda sample: sample[0]):
        builder = Builder(to_chat(messages), Renderer())
        trajectories = [act(response) for _, response in group]
        results = asyncio.run(builder.compute_group_rewards(trajectories, [None] * len(trajectories)))
        rewards += [reward for reward, _ in results]
    return rewards


def by_verifiers(samples: Samples) -> Rewards:
    return _by_verifiers(samples, "flip")


def by_verifiers_judge(samples: Samples) -> Rewards:
    return _by_verifiers(samples, "flip-reward-judge")


def _by_verifiers(samples: Samples, signal: str) -> Rewards:
    import verifiers.v1 as vf
    from verifiers.v1.configs.task import TaskConfig

    config = TaskConfig(
        rewards={"flip": {"fn": "flip_reward.integrations.verifiers:flip"}} if signal == "flip" else {},
        judges=[{"id": signal}] if signal != "flip" else [],
    )

    async def score(messages: Sequence[Message], response: str) -> float:
        data = vf.TaskData(prompt=to_chat(messages))
        trace = vf.Trace(
            task=vf.TraceTask(type="Task", data=data),
            agent=vf.AgentInfo(config=vf.AgentConfig()),
            root_reply=response,
        )
        await vf.Task(data, config).score(trace)
        reward: float = trace.rewards[signal].score
        return reward

    async def score_all() -> Rewards:
        return list(await asyncio.gather(*(score(messages, response) for messages, response in samples)))

    return asyncio.run(score_all())


def by_areal(samples: Samples) -> Rewards:
    """As `RLVRWorkflow` calls its reward, with the template's marks and the row."""
    from flip_reward.integrations.areal import FlipWorkflow

    gconfig = SimpleNamespace(new_with_stop_and_pad_token_ids=lambda _tokenizer: None)
    workflow = FlipWorkflow(gconfig=gconfig, tokenizer=SimpleNamespace())

    async def score_all() -> Rewards:
        calls = (workflow.async_reward_fn(*call, messages=[], answer="") for call in _for_areal(samples))
        return list(await asyncio.gather(*calls))

    return asyncio.run(score_all())


def by_areal_function(samples: Samples) -> Rewards:
    from flip_reward.integrations.areal import reward_fn

    return [reward_fn(*call, messages=[], answer="") for call in _for_areal(samples)]


def _for_areal(samples: Samples) -> list[tuple[str, str, list[int], list[int]]]:
    return [(to_chatml(messages), f"{response}<|im_end|>", [1], [1]) for messages, response in samples]


def by_skyrl(samples: Samples) -> Rewards:
    from flip_reward.integrations.skyrl import FlipEnv

    def score(messages: Sequence[Message], response: str) -> float:
        env = FlipEnv(env_config={}, extras={"max_turns": 1})
        chat, _ = env.init(to_chat(messages))
        chat.append({"role": "assistant", "content": response})
        output = env.step(response)
        assert output["done"]
        reward: float = output["reward"]
        return reward

    async def score_all() -> Rewards:
        calls = (asyncio.to_thread(score, messages, response) for messages, response in samples)
        return list(await asyncio.gather(*calls))

    return asyncio.run(score_all())


def by_nemo_gym(samples: Samples) -> Rewards:
    from flip_reward.integrations.nemo_gym import FlipResourcesServer, FlipVerifyRequest

    server = FlipResourcesServer.model_construct()
    bodies = [
        {"responses_create_params": {"input": to_chat(messages)}, "response": to_openai_response(response)}
        for messages, response in samples
    ]

    async def score_all() -> Rewards:
        answers = (server.verify(FlipVerifyRequest.model_validate(body)) for body in bodies)
        return [answer.reward for answer in await asyncio.gather(*answers)]

    return asyncio.run(score_all())


def to_openai_response(text: str) -> dict[str, Any]:
    """Make a response as OpenAI's responses API has it, with the policy's thoughts beside it."""
    parts = [{"type": "output_text", "text": text, "annotations": []}]
    return {
        "id": "response",
        "object": "response",
        "created_at": 0,
        "model": "policy",
        "output": [
            {"type": "reasoning", "id": "thoughts", "summary": []},
            {"type": "message", "id": "message", "role": "assistant", "status": "completed", "content": parts},
        ],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }


TRL = Trainer("trl", by_trl, takes_none=True)
"""Has rules of its own for unscored samples, which are tested with it."""
TRAINERS = (
    Trainer("axolotl", by_axolotl, takes_none=True, groups=True),
    Trainer("unsloth", by_unsloth_with_rendered_prompts, takes_none=True, groups=True),
    Trainer("verl", by_verl),
    Trainer("verl-sync", by_verl_without_coroutines),
    Trainer("openrlhf", by_openrlhf),
    Trainer("ms-swift", by_ms_swift, takes_none=True, groups=True),
    Trainer("open-instruct", by_open_instruct),
    Trainer("slime", by_slime),
    Trainer("slime-groups", by_slime_in_groups, groups=True),
    Trainer("tinker-cookbook", by_tinker_cookbook, groups=True),
    Trainer("verifiers", by_verifiers),
    Trainer("verifiers-judge", by_verifiers_judge),
    Trainer("areal", by_areal),
    Trainer("areal-function", by_areal_function),
    Trainer("skyrl", by_skyrl),
    Trainer("nemo-gym", by_nemo_gym),
)

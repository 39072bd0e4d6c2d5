"""The trainers' own code calls the files for them. Each test is skipped where its trainer is not installed.

They were run with verl 0.9.1, OpenRLHF 0.11.2, ms-swift 4.6.0, AReaL 1.0.4, skyrl-gym 0.4.0, tinker-cookbook 0.6.1,
verifiers 0.4.0 and NeMo Gym 0.4.0. None is in the development environment: the first four want other versions of
transformers, torch or TRL. On a CPU they run beside it:

    pip install --no-deps --target trainers verl==0.9.1 openrlhf==0.11.2 ms-swift==4.6.0 \\
        ray msgpack protobuf jsonschema referencing rpds-py jsonschema-specifications tensordict pyvers omegaconf \\
        codetiming pylatexenc dacite pillow modelscope modelscope-hub cryptography cffi
    pip install --no-deps --target trainers areal==1.0.4 skyrl-gym==0.4.0 func-timeout httpx colorlog flask \\
        blinker itsdangerous torchdata hydra-core antlr4-python3-runtime==4.9.3 numba llvmlite einops aiofiles \\
        openai sniffio jiter
    PYTHONPATH=trainers python -m pytest tests/unit/integrations/test_real_trainers.py

verifiers needs all that it depends on, so it has a virtual environment of its own, where the site-packages of the
development environment come second. So has NeMo Gym, which needs a newer Python, 3.12 for version 0.4.0.
tinker-cookbook 0.6.1 runs beside the development environment in the same way as the first:

    pip install --no-deps --target trainers tinker-cookbook==0.6.1 tinker==0.38.0 chz blobfile pyrage tml-renderers \\
        pyqwest termcolor distro tiktoken lxml pycryptodomex pillow \\
        httpx httpcore h11 h2 hpack hyperframe anyio sniffio idna certifi
"""

from __future__ import annotations

import asyncio
import runpy
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flip_reward.core.conversation import Group
from flip_reward.errors import OptionError, UnscoredError
from flip_reward.integrations.__main__ import find
from flip_reward.integrations.base import environment_reward
from tests.hf_models import save_tokenizer
from tests.unit.integrations.conftest import SetEnvironment
from tests.unit.integrations.trainers import to_chatml, to_openai_response

PROMPT = [{"role": "user", "content": "Say that it rains."}]
RESPONSES = ["It rains in Spain.", "", "Rain falls."]

pytestmark = pytest.mark.filterwarnings("ignore")  # the trainers' own


def expected_rewards(unscored: float | None) -> list[Any]:
    scores = environment_reward().score_samples([PROMPT] * len(RESPONSES), RESPONSES)
    assert [score.value is None for score in scores] == [False, True, False]
    return [unscored if score.value is None else pytest.approx(score.value) for score in scores]


class Tokenizer:
    """Each character is a token; 0 fills up."""

    def decode(self, tokens: Any, *, skip_special_tokens: bool) -> str:
        return "".join(chr(int(token)) for token in tokens if token or not skip_special_tokens)

    def __call__(self, text: str, **_options: object) -> dict[str, Any]:
        import torch

        return {"input_ids": torch.tensor([[ord(character) for character in text]])}


@pytest.mark.parametrize("name", ["compute_score", "compute_score_sync"])
async def test_verl(name: str, set_environment: SetEnvironment) -> None:
    naive = pytest.importorskip("verl.experimental.reward_loop.reward_manager.naive", exc_type=ImportError)
    from omegaconf import OmegaConf
    from verl import DataProto
    from verl.trainer.ppo.reward import get_custom_reward_fn

    set_environment()
    function = {"path": "pkg://flip_reward.integrations.verl", "name": name, "reward_kwargs": {"on_unscored": -2}}
    config = OmegaConf.create({"reward": {"custom_reward_function": function}})
    manager = naive.NaiveRewardManager(config, Tokenizer(), get_custom_reward_fn(config))
    assert manager.is_async_reward_score is (name == "compute_score")
    manager.loop = asyncio.get_running_loop()
    results = await asyncio.gather(*(manager.run_single(_verl_sample(DataProto, text)) for text in RESPONSES))
    assert [result["reward_score"] for result in results] == expected_rewards(-2)
    extras = [result["reward_extra_info"] for result in results]
    assert len({tuple(extra) for extra in extras}) == 1
    assert [extra["flip_scored"] for extra in extras] == [1, 0, 1]


@pytest.mark.parametrize("name", ["compute_score", "compute_score_sync"])
async def test_verl_with_the_manager_that_turns_errors_into_zeros(
    name: str, set_environment: SetEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = pytest.importorskip("verl.experimental.reward_loop.reward_manager.limited", exc_type=ImportError)
    from omegaconf import OmegaConf
    from verl import DataProto
    from verl.trainer.ppo.reward import get_custom_reward_fn, load_reward_manager

    set_environment()
    function = {"path": "pkg://flip_reward.integrations.verl", "name": name}
    config = OmegaConf.create({"reward": {"custom_reward_function": function}})
    manager = limited.RateLimitedRewardManager(config, Tokenizer(), get_custom_reward_fn(config))
    manager.loop = asyncio.get_running_loop()
    with pytest.raises(BaseException, match="rate_limited"):
        await manager.run_single(_verl_sample(DataProto, RESPONSES[0]))
    config.reward.reward_manager = {"name": "rate_limited", "source": "register"}
    monkeypatch.delitem(sys.modules, "flip_reward.integrations.verl")
    with pytest.raises(OptionError, match="rate_limited"):
        load_reward_manager(config, Tokenizer())


def _verl_sample(data_proto: Any, response: str) -> Any:
    import numpy as np
    import torch

    tokens = torch.tensor([[ord(character) for character in response.ljust(20, "\0")]])
    extra_info: dict[str, object] = {"prompt": np.array(PROMPT), "index": 0}  # as pandas reads Parquet
    return data_proto.from_dict(
        tensors={"responses": tokens, "attention_mask": (tokens > 0).long()},
        non_tensors={
            "data_source": np.array(["examples"], dtype=object),
            "reward_model": np.array([{"style": "model", "ground_truth": ""}], dtype=object),
            "extra_info": np.array([extra_info], dtype=object),
        },
    )


class Engine:
    """vLLM, as OpenRLHF's rollouts call it."""

    def __init__(self, response: str) -> None:
        self.response = response

    async def generate(self, *_arguments: object, **_options: object) -> Any:
        from types import SimpleNamespace

        tokens = [ord(character) for character in f"{self.response}<|im_end|>"]
        output = SimpleNamespace(token_ids=tokens, finish_reason="stop", logprobs=None)
        return SimpleNamespace(outputs=[output])


async def test_openrlhf(set_environment: SetEnvironment) -> None:
    agent = pytest.importorskip("openrlhf.utils.agent", exc_type=ImportError)
    from types import SimpleNamespace

    set_environment(on_unscored="-2")
    prompt = to_chatml(Group.of(PROMPT, ["-"]).messages)
    executor = agent.SingleTurnAgentExecutor(str(find(["openrlhf"])))
    sampling = SimpleNamespace(max_tokens=100, logprobs=None)
    outputs = await asyncio.gather(
        *(executor.execute(prompt, "", sampling, 1000, Tokenizer(), Engine(text)) for text in RESPONSES)
    )
    assert [output["reward"].item() for output in outputs] == expected_rewards(-2)
    assert [output["extra_logs"]["flip_scored"].item() for output in outputs] == [1, 0, 1]
    assert [output["scores"] == output["reward"] for output in outputs] == [True] * 3


def test_ms_swift(set_environment: SetEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    algorithm = pytest.importorskip("swift.rl_core.grpo_algorithm", exc_type=ImportError)
    import torch
    from swift.rewards import orms
    from swift.rl_core.data import GRPOSample
    from swift.utils import import_external_file

    set_environment(on_unscored="none")
    monkeypatch.setattr(sys, "path", [*sys.path])
    import_external_file(str(find(["ms-swift"])))
    assert list(find(["ms-swift"]).parent.glob("[!_]*")) == [find(["ms-swift"])]  # its folder is now in `sys.path`
    samples = [GRPOSample(messages=[*PROMPT, {"role": "assistant", "content": text}]) for text in RESPONSES]
    for _ in range(2):
        rewards = algorithm.compute_rewards_per_func(samples, [orms["flip"](args=None)], [None], torch.device("cpu"))
        values = [None if reward != reward else reward for reward in rewards[:, 0].tolist()]
        assert values == expected_rewards(None)


async def test_tinker_cookbook(set_environment: SetEnvironment, tmp_path: Path) -> None:
    rollouts = pytest.importorskip("tinker_cookbook.rl.rollouts", exc_type=ImportError)
    from tinker_cookbook.completers import TokenCompleter, TokensWithLogprobs
    from tinker_cookbook.renderers.qwen3 import Qwen3Renderer
    from tinker_cookbook.rl.preference_envs import PreferenceEnv
    from tinker_cookbook.rl.types import EnvGroupBuilder
    from transformers import AutoTokenizer

    from flip_reward.integrations.tinker_cookbook import FlipGroupRewards

    tokenizer = AutoTokenizer.from_pretrained(save_tokenizer(tmp_path, None))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})

    @dataclass(frozen=True)
    class Prompt(FlipGroupRewards, EnvGroupBuilder):  # type: ignore[misc]  # mypy does not look into tinker-cookbook
        convo_prefix: list[dict[str, str]]
        policy_renderer: Any
        num_envs: int = 3

        async def make_envs(self) -> list[Any]:
            return [PreferenceEnv(self.convo_prefix, self.policy_renderer) for _ in range(self.num_envs)]

    class Policy(TokenCompleter):  # type: ignore[misc]
        def __init__(self, texts: Sequence[str]) -> None:
            self.texts = iter(texts)

        async def __call__(self, *_prompt: object, **_options: object) -> Any:
            return TokensWithLogprobs(tokenizer.encode(next(self.texts), add_special_tokens=False), None)

    async def rewards(texts: Sequence[str]) -> list[float]:
        group = await rollouts.do_group_rollout(Prompt(PROMPT, Qwen3Renderer(tokenizer)), Policy(texts))
        assert [metrics["flip_scored"] for metrics in group.metrics_G] == [1, 0, 1]
        totals: list[float] = group.get_total_rewards()
        return totals

    set_environment(on_unscored="-2")
    expected = expected_rewards(-2)
    assert await rewards([f"{text}<|im_end|>" for text in RESPONSES]) == expected
    assert await rewards([f"<think>Hm</think>{text}<|im_end|>" for text in RESPONSES]) == expected
    cut = [f"{RESPONSES[0]}<end>", "<think>It rains", RESPONSES[2]]  # without the mark that the renderer waits for
    assert await rewards(cut) == expected
    set_environment()
    with pytest.raises(UnscoredError, match="empty_response"):
        await rewards([f"{text}<|im_end|>" for text in RESPONSES])


@pytest.fixture
def verifiers() -> Any:
    return pytest.importorskip("verifiers.v1", exc_type=ImportError)


@pytest.fixture
def score_task(verifiers: Any) -> Callable[..., Any]:
    from verifiers.v1.configs.task import TaskConfig
    from verifiers.v1.graph import MessageNode
    from verifiers.v1.types import AssistantMessage, UserMessage

    async def score(judge: dict[str, object], said: list[str], **row: object) -> float:
        class Data(verifiers.TaskData):  # type: ignore[misc]
            question: str | None = None

        nodes = [
            MessageNode(
                parent=number - 1 if number else None,
                message=AssistantMessage(content=text) if number % 2 else UserMessage(content=text),
                sampled=bool(number % 2),
            )
            for number, text in enumerate(said)
        ]
        data = Data(**row)
        trace = verifiers.Trace(
            task=verifiers.TraceTask(type="Task", data=data),
            agent=verifiers.AgentInfo(config=verifiers.AgentConfig()),
            nodes=nodes,
        )
        await verifiers.Task(data, TaskConfig(judges=[{"id": "flip-reward-judge", **judge}])).score(trace)
        reward: float = trace.reward
        return reward

    return score


async def test_verifiers_judges_what_was_said_last(
    score_task: Callable[..., Any], set_environment: SetEnvironment
) -> None:
    set_environment()
    said = ["Hello", "Hi!", "Say that it rains.", RESPONSES[0]]
    chat = [{"role": role, "content": text} for role, text in zip(["user", "assistant", "user"], said, strict=False)]
    [score] = environment_reward().score_samples([chat], [RESPONSES[0]])
    assert await score_task({}, said) == score.value
    [alone, *_] = expected_rewards(None)
    assert await score_task({}, said, prompt=PROMPT) == alone
    assert await score_task({}, said, prompt="Solve this:", question="Say that it rains.") != alone
    question = await score_task({"question_field": "question"}, said, prompt="-", question=PROMPT[0]["content"])
    assert question == alone


async def test_verifiers_judge_with_a_model_of_its_own(
    score_task: Callable[..., Any], set_environment: SetEnvironment
) -> None:
    set_environment(model="no-such-model")
    said = ["Say that it rains.", RESPONSES[0]]
    judge: dict[str, object] = {"model": "scripted", "options": {"template": "compact"}, "sampling": {"seed": 3}}
    own = await score_task(judge, said, prompt=PROMPT)
    set_environment(model="scripted", template="compact")
    assert own == expected_rewards(None)[0]
    unscored = await score_task({**judge, "on_unscored": -2, "weight": 0.5}, ["Say hi.", ""], prompt="Say hi.")
    assert unscored == -1


@pytest.mark.parametrize(
    ("judge", "message"),
    [
        ({"prompt": __file__}, "prompt"),
        ({"options": {"template": "compact"}}, "options go with a model"),
        ({"model": "scripted", "options": {"samles": 3}}, "samles"),
    ],
)
async def test_a_judge_without_sense_is_refused(
    judge: dict[str, object], message: str, score_task: Callable[..., Any], set_environment: SetEnvironment
) -> None:
    set_environment()
    with pytest.raises(Exception, match=message):
        await score_task(judge, ["Say hi.", "Hi."], prompt="Say hi.")


def test_skyrl(set_environment: SetEnvironment) -> None:
    skyrl_gym = pytest.importorskip("skyrl_gym", exc_type=ImportError)

    set_environment(on_unscored="-2")
    name = "flip-of-this-test"
    skyrl_gym.register(id=name, entry_point="flip_reward.integrations.skyrl:FlipEnv")
    rewards, metrics = [], []
    for text in RESPONSES:
        with skyrl_gym.make(name, env_config={}, extras={"max_turns": 1}) as env:
            chat, _ = env.init(PROMPT)
            assert chat == PROMPT
            output = env.step(text)
            rewards.append(output["reward"])
            metrics.append(env.get_metrics())
            assert output["done"]
    skyrl_gym.envs.registration.deregister(name)
    assert rewards == expected_rewards(-2)
    assert env.aggregate_metrics(metrics) == {"flip_scored": pytest.approx(2 / 3)}


async def test_areal(set_environment: SetEnvironment) -> None:
    rlvr = pytest.importorskip("areal.workflow.rlvr", exc_type=ImportError)
    from areal.api import ModelResponse
    from areal.api.cli_args import GenerationHyperparameters

    set_environment(on_unscored="-2")
    prompt = [ord(letter) for letter in to_chatml(Group.of(PROMPT, ["-"]).messages)]

    class ArealTokenizer(Tokenizer):
        pad_token_id, eos_token_id = 0, 1

        def decode(self, tokens: Any, **_options: object) -> str:
            return super().decode(tokens, skip_special_tokens=False)

        def apply_chat_template(self, messages: object, **_options: object) -> dict[str, list[int]]:
            assert messages == PROMPT
            return {"input_ids": prompt}

    class Policy:
        def __init__(self, text: str) -> None:
            self.tokens = [ord(letter) for letter in f"{text}<|im_end|>"]

        async def agenerate(self, request: Any) -> Any:
            return ModelResponse(request.input_ids, self.tokens, [0.0] * len(self.tokens), [0] * len(self.tokens))

    from flip_reward.integrations.areal import FlipWorkflow

    workflow = FlipWorkflow(gconfig=GenerationHyperparameters(), tokenizer=ArealTokenizer())
    assert isinstance(workflow, rlvr.RLVRWorkflow)
    row = {"messages": PROMPT, "answer": "4"}
    episodes = await asyncio.gather(*(workflow.arun_episode(Policy(text), row) for text in RESPONSES))
    assert [episode["rewards"].item() for episode in episodes] == pytest.approx(expected_rewards(-2))


async def test_areal_calls_the_function_in_a_process(set_environment: SetEnvironment) -> None:
    api = pytest.importorskip("areal.api", exc_type=ImportError)
    from flip_reward.integrations.areal import reward_fn

    set_environment()
    prompt = to_chatml(Group.of(PROMPT, ["-"]).messages)
    reward = api.AsyncRewardWrapper(reward_fn, timeout_seconds=60, max_workers=1, max_retries=0)
    found = await reward(prompt, f"{RESPONSES[0]}<|im_end|>", [1], [1], messages=PROMPT, answer="4")
    assert found == expected_rewards(None)[0]
    with pytest.raises(UnscoredError, match="empty_response"):
        await reward(prompt, "<|im_end|>", [1], [1])


def test_nemo_gym(set_environment: SetEnvironment) -> None:
    base = pytest.importorskip("nemo_gym.base_resources_server", exc_type=ImportError)
    from fastapi.testclient import TestClient
    from nemo_gym.config_types import BaseServerConfig
    from nemo_gym.server_utils import ServerClient
    from omegaconf import OmegaConf

    from flip_reward.integrations.nemo_gym import FlipResourcesServer

    set_environment(on_unscored="-2")
    address = {"host": "127.0.0.1", "port": 1}
    client = ServerClient(head_server_config=BaseServerConfig(**address), global_config_dict=OmegaConf.create({}))
    config = base.BaseResourcesServerConfig(**address, entrypoint="app.py", name="flip_reward", domain="other")
    gym = TestClient(FlipResourcesServer(config=config, server_client=client).setup_webserver())
    assert gym.post("/seed_session", json={}).status_code == 200
    answers = []
    for number, text in enumerate(RESPONSES):
        asked = {"responses_create_params": {"input": PROMPT}, "response": to_openai_response(text)}
        answer = gym.post("/verify", json={**asked, "_ng_task_index": 0, "_ng_rollout_index": number})
        assert answer.status_code == 200, answer.text
        answers.append(answer.json())
    assert [answer["reward"] for answer in answers] == expected_rewards(-2)
    metrics = gym.post("/aggregate_metrics", json={"verify_responses": answers}).json()["agent_metrics"]
    assert metrics["mean/flip_scored"] == pytest.approx(2 / 3)
    assert gym.post("/verify", json={"response": {}}).status_code == 422


def test_the_module_that_prints_paths(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["integrations", "openrlhf"])
    runpy.run_module("flip_reward.integrations", run_name="__main__")
    assert capsys.readouterr().out.strip() == str(find(["openrlhf"]))
    with pytest.raises(SystemExit, match="name one of ms_swift, openrlhf"):
        find(["verl"])

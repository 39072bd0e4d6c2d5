"""The OpenVINO engine with small random models; llama.cpp computes the same from the same file."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import gguf
import pytest

from flip_reward.core.conversation import Message
from flip_reward.engines.base import JsonSchema, LogprobRequest, Request, Sampling
from flip_reward.engines.files import fingerprint_file
from flip_reward.engines.llama_cpp.engine import EmbeddedEngine
from flip_reward.engines.lora.export import export_adapter
from flip_reward.engines.openvino.engine import OpenVinoEngine
from flip_reward.errors import ContextTooLongError, EngineUnavailableError, OptionError, RequestRefusedError
from tests.asking import answer, answer_all
from tests.gguf_models import save_adapter, save_gguf
from tests.hf_models import save_model

pytest.importorskip("openvino_genai")

RESPONSES = (
    "Apples, pears and plums grow on trees.",
    "Yes.",
    "Obst: Äpfel, Birnen und Pflaumen.",
    "水果 苹果 🍎",
    "Name three fruits that grow on trees, please." * 9,
    "<|user|>Answer in one short sentence.<end><bos>",
    "null \x00 and \ud800 half a pair",
)
FRUIT = '{"type": "object", "properties": {"fruit": {"enum": ["apple", "pear"]}}, "required": ["fruit"]}'


def ask(content: str, max_tokens: int = 24, **options: float) -> Request:
    return Request((Message("user", content),), Sampling(max_tokens=max_tokens, **options))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def model_path(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    return save_gguf(base, path, quantisation=gguf.GGMLQuantizationType.Q8_0)


@pytest.fixture(scope="module")
def engine(model_path: Path) -> Iterator[OpenVinoEngine]:
    engine = OpenVinoEngine(model_path, threads=1, weights_folder=model_path.parent)
    yield engine
    engine.close()


@pytest.mark.parametrize("adapted", [False, True])
def test_log_probabilities_are_those_of_llama_cpp(
    base: Path, model_path: Path, tmp_path: Path, *, adapted: bool
) -> None:
    adapter = export_adapter(str(save_adapter(tmp_path / "adapter", base))) if adapted else None
    openvino = OpenVinoEngine(model_path, adapter_path=adapter, weights_folder=tmp_path)
    llama = EmbeddedEngine(model_path, adapter_path=adapter, slots=1, context_tokens=512)

    async def compare() -> list[float]:
        apart: list[float] = []
        for response in RESPONSES:
            for prefix in ((Message("user", response),), f"{response}\nThe question was:"):
                question = LogprobRequest(prefix, " Wie heißt das?\n水果")
                ours, theirs = await openvino.logprobs(question), await llama.logprobs(question)
                assert ours.usage == theirs.usage
                apart += [abs(one - other) for one, other in zip(ours.values, theirs.values, strict=True)]
        return apart

    apart = asyncio.run(compare())
    # Both round what they multiply; values of these random weights are 2.4 from their mean on average.
    assert fmean(apart) < 0.25
    openvino.close()
    llama.close()


def test_a_reply_depends_on_nothing_but_the_request(model_path: Path, engine: OpenVinoEngine) -> None:
    requests = [ask(response, 8 + 5 * place) for place, response in enumerate(RESPONSES)]
    requests += [
        replace(request, sampling=replace(request.sampling, temperature=1.0, seed=3)) for request in requests
    ]
    alone = [answer(engine, request) for request in requests]
    other = OpenVinoEngine(model_path, threads=2, context_tokens=256, weights_folder=model_path.parent)
    together = answer_all(other, requests[::-1])[::-1]
    other.close()
    assert together == alone
    assert len({reply.text for reply in alone}) > len(RESPONSES)


def test_samples_are_those_of_one_request_each(engine: OpenVinoEngine) -> None:
    several = answer(engine, replace(ask("Pears", 8, temperature=1.0, seed=5), n=3))
    alone = [answer(engine, ask("Pears", 8, temperature=1.0, seed=seed)) for seed in (5, 6, 7)]
    assert [reply.text for reply in (several, *several.others)] == [reply.text for reply in alone]
    assert len({reply.text for reply in alone}) > 1
    unseeded = answer(engine, replace(ask("Pears", 8, temperature=1.0), n=3))
    assert len({reply.text for reply in (unseeded, *unseeded.others)}) > 1


def test_a_schema_constrains_the_reply(engine: OpenVinoEngine) -> None:
    reply = answer(engine, replace(ask("Name a fruit.", 200), json_schema=JsonSchema("fruit", FRUIT)))
    assert reply.finish_reason == "stop"
    assert json.loads(str(reply.text))["fruit"] in ("apple", "pear")


async def test_a_schema_that_cannot_be_used_is_refused_and_no_neighbour_with_it(engine: OpenVinoEngine) -> None:
    broken = replace(ask("Hi"), json_schema=JsonSchema("broken", '{"$ref": "#/nowhere"}'))
    good = [ask("Name a fruit."), ask("Name two.")]
    expected = [await engine.complete(request) for request in good]
    refusal, *replies = await asyncio.gather(*map(engine.complete, [broken, *good]), return_exceptions=True)
    assert isinstance(refusal, RequestRefusedError)
    assert "nowhere" in str(refusal)
    assert replies == expected


@pytest.mark.parametrize(
    ("words", "max_tokens"), [(900, 4), (120, 400), (3_000_000, 4)], ids=["prompt", "reply", "gigantic"]
)
def test_what_does_not_fit_the_context_is_said(engine: OpenVinoEngine, words: int, max_tokens: int) -> None:
    # The schema keeps the model from ending its reply early.
    schema = JsonSchema("long", '{"type": "string", "minLength": 1500}')
    with pytest.raises(ContextTooLongError, match="512"):
        answer(engine, replace(ask("one " * words, max_tokens), json_schema=schema))
    assert answer(engine, ask("Hi", 4)).text


def test_a_reply_that_ends_within_a_character_is_without_it(engine: OpenVinoEngine) -> None:
    replies = answer_all(engine, [ask("水果 苹果 🍎", 1, temperature=2.0, seed=seed) for seed in range(40)])
    assert all("\ufffd" not in str(reply.text) for reply in replies)
    assert any(reply.text == "" and reply.finish_reason == "length" for reply in replies)


async def test_cancelling_leaves_the_engine_usable(engine: OpenVinoEngine) -> None:
    expected = await engine.complete(ask("Hi", 8))
    tasks = [asyncio.ensure_future(engine.complete(ask(f"Count to {number}.", 400))) for number in range(3)]
    await asyncio.sleep(0.002)
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    assert await engine.complete(ask("Hi", 8)) == expected


def test_prompts_are_read_whatever_their_number(engine: OpenVinoEngine) -> None:
    requests = [ask(f"{number} pears. " * 20, 300) for number in range(120)]  # more than there is room for at once
    replies = answer_all(engine, requests)
    assert replies[::17] == [answer(engine, request) for request in requests[::17]]


PROGRAM = """
import asyncio, sys
from pathlib import Path
from flip_reward.core.conversation import Message
from flip_reward.engines.base import Request, Sampling
from flip_reward.engines.openvino.engine import OpenVinoEngine

path = Path(sys.argv[1])
engine = OpenVinoEngine(path, weights_folder=path.parent)

def ask(tokens):
    return Request((Message("user", "Count to a thousand."),), Sampling(max_tokens=tokens))

async def run():
    left_alone = asyncio.ensure_future(engine.complete(ask(400)))
    await engine.complete(ask(3))
    print("answered", flush=True)

asyncio.run(run())
"""


@pytest.mark.parametrize("ending", ["", "engine.close()", "del engine", "raise SystemExit"])
@pytest.mark.slow
def test_the_interpreter_exits_cleanly(model_path: Path, ending: str) -> None:
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM + ending, model_path], capture_output=True, text=True, timeout=60, check=False
    )
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "answered\n", "")


def test_a_closed_engine_says_so(model_path: Path) -> None:
    engine = OpenVinoEngine(model_path, weights_folder=model_path.parent)
    engine.close()
    engine.close()
    with pytest.raises(EngineUnavailableError, match="closed"):
        answer(engine, ask("Hi"))


def test_names_and_identity_tell_the_model_and_nothing_of_this_machine(model_path: Path) -> None:
    quiet = OpenVinoEngine(model_path, no_thinking=True, name="tiny", weights_folder=model_path.parent)
    assert quiet.model == "tiny"
    assert quiet.identity.startswith(f"openvino/tiny/{fingerprint_file(model_path)}/openvino-genai-")
    assert quiet.identity.endswith("/no-thinking")
    quiet.close()


@pytest.mark.parametrize("options", [{"threads": 0}, {"context_tokens": -1}])
def test_numbers_below_one_are_refused(model_path: Path, options: dict[str, int]) -> None:
    with pytest.raises(OptionError, match="at least 1"):
        OpenVinoEngine(model_path, threads=options.get("threads"), context_tokens=options.get("context_tokens"))

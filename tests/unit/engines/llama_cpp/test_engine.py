"""The embedded engine with its default model; llama.cpp runs in the tests' own process."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from flip_reward.core.conversation import Message
from flip_reward.engines.base import JsonSchema, Request, Sampling
from flip_reward.engines.files import fingerprint_file, locate_model
from flip_reward.engines.llama_cpp.engine import EmbeddedEngine
from flip_reward.engines.llama_cpp.slot import LlamaSlot, SlotOptions
from flip_reward.errors import (
    ContextTooLongError,
    EngineUnavailableError,
    MalformedCompletionError,
    OptionError,
    RequestRefusedError,
)
from tests.asking import answer, answer_all

pytest.importorskip("xllamacpp")
pytest.importorskip("huggingface_hub")
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

INSTRUCTIONS = (
    "Name three fruits.",
    "Explain why the sky is blue to a child.",
    "Explain why the sky is dark at night.",
    "Write a haiku about autumn leaves on a lake.",
    "Übersetze den Satz: The cat sleeps.",
    "List the steps to repair a flat bicycle tire, with the tools that are needed for each of them. " * 3,
    "Name three fruits.",
)


def ask(
    content: str, max_tokens: int = 24, system: str = "You are a helpful assistant who answers briefly."
) -> Request:
    return Request((Message("system", system), Message("user", content)), Sampling(max_tokens=max_tokens))


@pytest.fixture(scope="module")
def model_path() -> Path:
    return locate_model("embedded").path


@pytest.fixture(scope="module")
def engine(model_path: Path) -> Iterator[EmbeddedEngine]:
    engine = EmbeddedEngine(model_path, slots=1, threads=1, context_tokens=512)
    yield engine
    engine.close()


@pytest.mark.slow
def test_a_reply_depends_on_nothing_but_the_request(model_path: Path, engine: EmbeddedEngine) -> None:
    requests = [ask(content) for content in INSTRUCTIONS] + [
        ask(content, system="Be funny.") for content in INSTRUCTIONS
    ]
    one_by_one = answer_all(engine, requests)
    crowded = EmbeddedEngine(model_path, slots=3, context_tokens=1024)
    backwards = answer_all(crowded, requests[::-1])[::-1]
    crowded.close()
    assert [reply.text for reply in backwards] == [reply.text for reply in one_by_one]
    assert len({reply.text for reply in one_by_one}) > len(INSTRUCTIONS)


def test_it_reuses_exactly_what_the_last_message_leaves_alone(engine: EmbeddedEngine) -> None:
    replies = answer_all(engine, [ask("Name three fruits."), ask("Name three fruits."), ask("Why?")])
    reused = {reply.usage.cached_tokens for reply in replies}
    assert len(reused) == 1
    assert 5 < reused.pop() < replies[0].usage.prompt_tokens - 4


def test_a_conversation_of_one_message_is_answered_alike_every_time(engine: EmbeddedEngine) -> None:
    request = Request((Message("user", "Name three fruits."),), Sampling(max_tokens=16))
    first, _, again = answer_all(engine, [request, ask("Something else"), request])
    assert first == again
    assert first.usage.cached_tokens > 5  # the model's chat template begins with a system message of its own


def test_a_seed_repeats_a_sampled_reply(engine: EmbeddedEngine) -> None:
    messages = ask("Tell a story.").messages
    first, again, other = answer_all(
        engine, [Request(messages, Sampling(1.0, 16, top_p=0.9, seed=seed)) for seed in (1, 1, 2)]
    )
    assert first.text == again.text != other.text


def test_samples_read_their_prompt_once_and_are_those_of_one_request_each(engine: EmbeddedEngine) -> None:
    story = "The keeper climbed the stairs every evening and lit the lamp. " * 4
    for messages in (ask(story).messages, ask(story).messages[1:]):
        several = answer(engine, Request(messages, Sampling(1.0, 8, seed=5), n=3))
        alone = [answer(engine, Request(messages, Sampling(1.0, 8, seed=seed))) for seed in (5, 6, 7)]
        assert [reply.text for reply in (several, *several.others)] == [reply.text for reply in alone]
        assert len({reply.text for reply in alone}) > 1
        read = several.usage.prompt_tokens - several.usage.cached_tokens
        assert read < alone[0].usage.prompt_tokens + 2 * 12


def test_a_schema_constrains_the_reply(engine: EmbeddedEngine) -> None:
    schema = {"type": "object", "properties": {"fruit": {"enum": ["apple", "pear"]}}, "required": ["fruit"]}
    question = ask("Name a fruit.")
    reply = answer(engine, Request(question.messages, question.sampling, JsonSchema("fruit", json.dumps(schema))))
    assert json.loads(str(reply.text))["fruit"] in ("apple", "pear")


def test_a_schema_that_cannot_be_used_is_refused(engine: EmbeddedEngine) -> None:
    request = Request(ask("Hi").messages, Sampling(max_tokens=4), JsonSchema("broken", '{"$ref": "#/nowhere"}'))
    with pytest.raises(RequestRefusedError, match="nowhere"):
        answer(engine, request)


@pytest.mark.parametrize(
    "content", ["", "half a pair \ud800", "<|im_end|>\n<|im_start|>assistant\n", "null \x00", " \n"]
)
def test_every_text_is_answered_twice_alike(engine: EmbeddedEngine, content: str) -> None:
    first, again = answer_all(engine, [ask(content, 4)] * 2)
    assert first == again
    assert first.usage.completion_tokens > 0


@pytest.mark.parametrize("role", ["developer", "tool", "assistant"])
def test_every_role_can_speak(engine: EmbeddedEngine, role: str) -> None:
    message = Message(role, "Hello.")  # type: ignore[arg-type]  # a parameter's values are not seen as literals
    reply = answer(engine, Request((*ask("Hi").messages, message), Sampling(max_tokens=4)))
    assert reply.usage.completion_tokens > 0


@pytest.mark.parametrize(
    ("words", "max_tokens"), [(600, 4), (470, 200), (3_000_000, 4)], ids=["prompt", "reply", "gigantic"]
)
@pytest.mark.slow
def test_what_does_not_fit_the_context_is_said(engine: EmbeddedEngine, words: int, max_tokens: int) -> None:
    counting = Request((Message("user", "one " * words),), Sampling(max_tokens=max_tokens))
    schema = JsonSchema("long", '{"type": "string", "minLength": 1500}')  # else the model may end its reply early
    with pytest.raises(ContextTooLongError, match="512"):
        answer(engine, Request(counting.messages, counting.sampling, schema))
    assert answer(engine, ask("Hi", 4)).text


def test_a_cancelled_request_ends_at_its_next_token(model_path: Path) -> None:
    slot = LlamaSlot(model_path, SlotOptions(context_tokens=512, threads=1, template_fields={}))
    cancelled = Event()
    cancelled.set()
    request = Request((Message("user", "Count to a hundred."),), Sampling(max_tokens=400))
    with pytest.raises(MalformedCompletionError):
        slot.answer(request, cancelled)
    assert slot.answer(ask("Hi", 4), Event()).text


async def test_cancelling_leaves_the_engine_usable(engine: EmbeddedEngine) -> None:
    expected = await engine.complete(ask("Hi", 8))
    tasks = [asyncio.ensure_future(engine.complete(ask(f"Count to {number}.", 400))) for number in range(3)]
    await asyncio.sleep(0.05)
    for task in tasks:
        task.cancel()
    assert all(
        isinstance(result, asyncio.CancelledError) for result in await asyncio.gather(*tasks, return_exceptions=True)
    )
    assert await engine.complete(ask("Hi", 8)) == expected


@linux
@pytest.mark.slow
def test_it_opens_no_port_and_leaves_no_file(
    model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ports = find_listening_inodes()
    engine = EmbeddedEngine(model_path, slots=2, context_tokens=512)
    answer_all(engine, [ask("Hi", 2), ask("Ho", 2)])
    assert find_listening_inodes() == ports
    assert list(tmp_path.iterdir()) == []
    engine.close()


def find_listening_inodes() -> set[str]:
    """Return the inodes of this process's listening TCP sockets."""
    tables = [Path(f"/proc/self/net/{table}").read_text() for table in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table.splitlines()]
    listening = {row[9] for row in rows if row[3] == "0A"}
    own = {link.readlink().name for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}
    return {inode for inode in listening if f"socket:[{inode}]" in own}


PROGRAM = """
import asyncio, sys
from flip_reward.core.conversation import Message
from flip_reward.engines.base import Request, Sampling
from flip_reward.engines.llama_cpp.engine import EmbeddedEngine

engine = EmbeddedEngine(sys.argv[1], slots=2, context_tokens=512)

def ask(tokens):
    return Request((Message("user", "Count to a thousand."),), Sampling(max_tokens=tokens))

async def run():
    left_alone = asyncio.ensure_future(engine.complete(ask(400)))
    await engine.complete(ask(3))
    print("answered", flush=True)
    WAIT

asyncio.run(run())
"""


@pytest.mark.parametrize(
    "ending",
    ["", "engine.close()", "del engine", "raise SystemExit", "cycle = [engine]; cycle.append(cycle); del engine"],
)
@pytest.mark.slow
def test_the_interpreter_exits_cleanly(model_path: Path, ending: str) -> None:
    program = PROGRAM.replace("WAIT", "pass") + ending
    finished = subprocess.run(
        [sys.executable, "-c", program, model_path], capture_output=True, text=True, timeout=60, check=False
    )
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "answered\n", "")


@pytest.mark.slow
def test_an_interrupt_ends_the_program(model_path: Path) -> None:
    program = PROGRAM.replace("WAIT", "await left_alone; await asyncio.sleep(600)")
    with subprocess.Popen(
        [sys.executable, "-c", program, model_path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "answered\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert process.returncode == -signal.SIGINT


@pytest.mark.slow
def test_a_closed_engine_says_so(model_path: Path) -> None:
    engine = EmbeddedEngine(model_path, slots=1, context_tokens=256)
    engine.close()
    engine.close()
    with pytest.raises(EngineUnavailableError, match="closed"):
        answer(engine, ask("Hi"))


@pytest.mark.slow
def test_names_and_identity_tell_the_model_and_nothing_of_this_machine(model_path: Path) -> None:
    plain = EmbeddedEngine(model_path, slots=1, context_tokens=256)
    quiet = EmbeddedEngine(model_path, slots=1, context_tokens=256, no_thinking=True, name="tiny")
    assert plain.model == model_path.name
    assert quiet.model == "tiny"
    assert plain.identity.startswith(f"embedded/{model_path.name}/{fingerprint_file(model_path)}/xllamacpp-")
    assert quiet.identity == plain.identity.replace(model_path.name, "tiny") + "/no-thinking"
    assert str(model_path.parent) not in plain.identity
    assert answer(quiet, ask("Hi", 2)).text
    plain.close()
    quiet.close()


@pytest.mark.parametrize("options", [{"slots": 0}, {"threads": 0}, {"context_tokens": -1}])
def test_numbers_below_one_are_refused(model_path: Path, options: dict[str, int]) -> None:
    with pytest.raises(OptionError, match="at least 1"):
        EmbeddedEngine(
            model_path,
            slots=options.get("slots"),
            threads=options.get("threads"),
            context_tokens=options.get("context_tokens"),
        )


@pytest.mark.parametrize("kept_bytes", [4, 1000, 5_000_000])
def test_half_a_model_is_refused(model_path: Path, tmp_path: Path, kept_bytes: int) -> None:
    half = tmp_path / "half.gguf"
    half.write_bytes(model_path.read_bytes()[:kept_bytes])
    with pytest.raises(EngineUnavailableError, match=r"cannot load half\.gguf"):
        EmbeddedEngine(half)


def test_a_missing_model_is_said(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailableError, match=r"absent\.gguf cannot be read"):
        EmbeddedEngine(tmp_path / "absent.gguf")


def test_a_fingerprint_sees_size_head_and_tail(tmp_path: Path) -> None:
    contents = [b"GGUF" + b"a" * 3_000_000, b"GGUF" + b"a" * 3_000_001, b"GGUB" + b"a" * 3_000_000]
    contents += [contents[0][:-1] + b"b", b"", b"GGUF"]
    fingerprints = set()
    for number, content in enumerate(contents):
        (tmp_path / str(number)).write_bytes(content)
        fingerprints.add(fingerprint_file(tmp_path / str(number)))
    assert len(fingerprints) == len(contents)
    assert all(len(fingerprint) == 16 for fingerprint in fingerprints)

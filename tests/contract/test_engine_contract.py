"""What every engine promises to everything built on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from flip_reward.core.conversation import Message
from flip_reward.engines.base import Completion, Engine, Request, Sampling, Usage
from flip_reward.errors import ContextTooLongError
from tests.contract.conftest import EngineCase

BRIEF = Sampling(max_tokens=16)


def ask(content: str, sampling: Sampling = BRIEF) -> Request:
    return Request((Message("system", "Answer briefly."), Message("user", content)), sampling)


@pytest.fixture
async def opened(engine: Engine) -> AsyncIterator[Engine]:
    """The engine, released for the test's event loop afterwards."""
    yield engine
    await engine.aclose()


def test_it_is_an_engine_with_a_name_and_an_identity(engine: Engine) -> None:
    assert isinstance(engine, Engine)
    assert engine.model
    assert engine.model in engine.identity
    assert engine.identity == engine.identity.strip()
    assert engine.identity.isprintable()


async def test_it_answers_and_counts(opened: Engine) -> None:
    completion = await opened.complete(ask("Name three fruits."))
    assert completion.text
    assert completion.finish_reason in ("stop", "length")
    assert completion.usage.prompt_tokens > 0
    assert completion.usage.completion_tokens > 0
    assert completion.attempts == 1
    assert not completion.cached


async def test_requests_at_once_get_their_own_answers_in_any_order(opened: Engine, case: EngineCase) -> None:
    requests = [ask(f"Repeat this number: {number}") for number in range(12)]
    forwards = await asyncio.gather(*map(opened.complete, requests))
    backwards = await asyncio.gather(*map(opened.complete, reversed(requests)))
    assert all(completion.text for completion in forwards)
    if case.echoes:
        assert all(f"number: {number}" in str(forwards[number].text) for number in range(12))
        assert [completion.text for completion in backwards] == [completion.text for completion in reversed(forwards)]


async def test_the_same_request_has_the_same_answer(opened: Engine) -> None:
    first = await opened.complete(ask("Name three fruits."))
    again = await opened.complete(ask("Name three fruits."))
    assert first.text == again.text


async def test_several_samples_are_one_answer(opened: Engine) -> None:
    request = ask("Name three fruits.", Sampling(temperature=1.0, max_tokens=16, seed=7))
    completion = await opened.complete(replace(request, n=3))
    assert len(completion.others) == 2
    assert all(reply.text for reply in (completion, *completion.others))
    assert all(other.usage == Usage() for other in completion.others)
    assert completion.usage.completion_tokens > 0


@pytest.mark.holds_for(when=lambda case: case.counts_tokens)
async def test_a_reply_ends_at_max_tokens(opened: Engine) -> None:
    completion = await opened.complete(ask("Count from one to a hundred.", Sampling(max_tokens=3)))
    assert completion.finish_reason == "length"
    assert 0 < completion.usage.completion_tokens <= 3


@pytest.mark.parametrize(
    "content",
    ["naïve 漢字 🍎", "null \x00 inside", "{braces} {{response}} {0}", "</s><|im_end|>", "\u2028 line", " ", "\n"],
)
async def test_every_text_can_be_asked(opened: Engine, case: EngineCase, content: str) -> None:
    completion = await opened.complete(ask(content))
    assert isinstance(completion, Completion)
    if case.echoes:
        for word in content.replace("\x00", " ").split():
            assert word in str(completion.text).replace("< ", "<")  # marks are broken up


async def test_a_conversation_of_many_turns_can_be_asked(opened: Engine) -> None:
    turns = (Message("user", "Hi"), Message("assistant", "Hello!"), Message("user", "Name a fruit."))
    assert (await opened.complete(Request(turns, BRIEF))).text


@pytest.mark.holds_for(when=lambda case: case.context_tokens)
async def test_a_prompt_over_the_context_is_an_error_of_its_own(opened: Engine, case: EngineCase) -> None:
    assert case.context_tokens
    with pytest.raises(ContextTooLongError):
        await opened.complete(ask("word " * (case.context_tokens + 1)))
    assert (await opened.complete(ask("Name a fruit."))).text


async def test_a_cancelled_request_disturbs_no_other(opened: Engine) -> None:
    cancelled = asyncio.ensure_future(opened.complete(ask("Name ten fruits.")))
    other = asyncio.ensure_future(opened.complete(ask("Name a colour.")))
    await asyncio.sleep(0)
    cancelled.cancel()
    assert (await other).text
    await asyncio.gather(cancelled, return_exceptions=True)  # an engine that answers at once may have been faster
    assert (await opened.complete(ask("Name a fruit."))).text


async def test_it_can_be_used_after_it_was_closed(engine: Engine) -> None:
    for _ in range(2):
        assert (await engine.complete(ask("Name a fruit."))).text
        await engine.aclose()
    await engine.aclose()


def test_one_event_loop_after_another_can_use_it(engine: Engine) -> None:
    async def ask_two() -> list[str | None]:
        completions = await asyncio.gather(*(engine.complete(ask(f"Name a fruit. {number}")) for number in range(2)))
        await engine.aclose()
        return [completion.text for completion in completions]

    assert all(asyncio.run(ask_two()))
    assert all(asyncio.run(ask_two()))

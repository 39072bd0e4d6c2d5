"""What every engine promises about how likely a text is: numbers that mean something, or that it cannot say."""

from __future__ import annotations

import asyncio

import pytest

from flip_reward.engines.base import Engine, LogprobRequest
from flip_reward.errors import ContextTooLongError, NoLogprobsError, RequestRefusedError
from tests.contract.conftest import EngineCase

PREFIX = "Apples, pears and plums.\nThe question was:"
CONTINUATION = " Name three fruits"


@pytest.fixture
def opened(engine: Engine, case: EngineCase) -> Engine:
    if not case.gives_logprobs:
        pytest.skip("it cannot say")
    return engine


async def test_an_engine_that_cannot_say_it_says_so(engine: Engine, case: EngineCase) -> None:
    if case.gives_logprobs:
        pytest.skip("it can say")
    with pytest.raises(NoLogprobsError) as caught:
        await engine.logprobs(LogprobRequest(PREFIX, CONTINUATION))
    assert caught.value.hint
    await engine.aclose()


async def test_every_token_has_a_value_of_at_most_zero(opened: Engine) -> None:
    answer = await opened.logprobs(LogprobRequest(PREFIX, CONTINUATION))
    await opened.aclose()
    assert len(answer.values) >= len(CONTINUATION.split())
    assert all(value <= 0 for value in answer.values)
    assert any(value < 0 for value in answer.values)
    assert answer.usage.prompt_tokens >= len(answer.values)
    assert answer.attempts == 1
    assert not answer.cached


async def test_more_text_is_not_more_likely(opened: Engine) -> None:
    some = await opened.logprobs(LogprobRequest(PREFIX, CONTINUATION))
    more = await opened.logprobs(LogprobRequest(PREFIX, CONTINUATION + " and two nuts"))
    await opened.aclose()
    assert len(more.values) > len(some.values)
    assert sum(more.values) < sum(some.values)


async def test_the_same_question_has_the_same_answer(opened: Engine) -> None:
    first = await opened.logprobs(LogprobRequest(PREFIX, CONTINUATION))
    again = await opened.logprobs(LogprobRequest(PREFIX, CONTINUATION))
    await opened.aclose()
    assert first.values == pytest.approx(again.values, abs=1e-4)


async def test_questions_at_once_get_their_own_answers_in_any_order(opened: Engine) -> None:
    questions = [LogprobRequest(PREFIX, CONTINUATION + " and" * number) for number in range(12)]
    forwards = await asyncio.gather(*map(opened.logprobs, questions))
    backwards = await asyncio.gather(*map(opened.logprobs, reversed(questions)))
    await opened.aclose()
    lengths = [len(answer.values) for answer in forwards]
    assert lengths == sorted(set(lengths))
    for one, other in zip(forwards, reversed(backwards), strict=True):
        assert one.values == pytest.approx(other.values, abs=1e-4)


@pytest.mark.parametrize("continuation", [" naïve 漢字", " {braces} {{x}}", " null \x00 inside", "\n"])
async def test_every_text_can_be_asked_about(opened: Engine, continuation: str) -> None:
    answer = await opened.logprobs(LogprobRequest(PREFIX, continuation))
    await opened.aclose()
    assert all(value <= 0 for value in answer.values)


async def test_a_text_over_the_context_is_an_error_of_its_own(opened: Engine, case: EngineCase) -> None:
    if case.context_tokens is None:
        pytest.skip("it has no context limit")
    with pytest.raises(ContextTooLongError):
        await opened.logprobs(LogprobRequest("word " * (case.context_tokens + 1), CONTINUATION))
    assert (await opened.logprobs(LogprobRequest(PREFIX, CONTINUATION))).values
    await opened.aclose()


async def test_nothing_is_no_continuation(opened: Engine) -> None:
    if opened.model == "scripted":
        pytest.skip("a script answers as it is written")
    with pytest.raises(RequestRefusedError):
        await opened.logprobs(LogprobRequest(PREFIX, ""))
    await opened.aclose()


def test_one_event_loop_after_another_can_ask(opened: Engine) -> None:
    async def ask() -> int:
        answer = await opened.logprobs(LogprobRequest(PREFIX, CONTINUATION))
        await opened.aclose()
        return len(answer.values)

    assert asyncio.run(ask()) == asyncio.run(ask())

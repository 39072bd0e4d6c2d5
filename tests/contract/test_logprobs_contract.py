"""What every engine promises about how likely a text is: numbers that mean something, or that it cannot say."""

from __future__ import annotations

import asyncio

import pytest

from flip_reward.engines.base import Engine, LogprobRequest
from flip_reward.errors import ContextTooLongError, NoLogprobsError, RequestRefusedError
from tests.contract.conftest import EngineCase

PREFIX = "Apples, pears and plums.\nThe question was:"
CONTINUATION = " Name three fruits"


can_say = pytest.mark.holds_for(when=lambda case: case.gives_logprobs)


@pytest.mark.holds_for(when=lambda case: not case.gives_logprobs)
async def test_an_engine_that_cannot_say_it_says_so(engine: Engine) -> None:
    with pytest.raises(NoLogprobsError) as caught:
        await engine.logprobs(LogprobRequest(PREFIX, CONTINUATION))
    assert caught.value.hint
    await engine.aclose()


@can_say
async def test_every_token_has_a_value_of_at_most_zero(engine: Engine) -> None:
    answer = await engine.logprobs(LogprobRequest(PREFIX, CONTINUATION))
    await engine.aclose()
    assert len(answer.values) >= len(CONTINUATION.split())
    assert all(value <= 0 for value in answer.values)
    assert any(value < 0 for value in answer.values)
    assert answer.usage.prompt_tokens >= len(answer.values)
    assert answer.attempts == 1
    assert not answer.cached


@can_say
async def test_more_text_is_not_more_likely(engine: Engine) -> None:
    some = await engine.logprobs(LogprobRequest(PREFIX, CONTINUATION))
    more = await engine.logprobs(LogprobRequest(PREFIX, CONTINUATION + " and two nuts"))
    await engine.aclose()
    assert len(more.values) > len(some.values)
    assert sum(more.values) < sum(some.values)


@can_say
async def test_the_same_question_has_the_same_answer(engine: Engine) -> None:
    first = await engine.logprobs(LogprobRequest(PREFIX, CONTINUATION))
    again = await engine.logprobs(LogprobRequest(PREFIX, CONTINUATION))
    await engine.aclose()
    assert first.values == pytest.approx(again.values, abs=1e-4)


@can_say
async def test_questions_at_once_get_their_own_answers_in_any_order(engine: Engine) -> None:
    questions = [LogprobRequest(PREFIX, CONTINUATION + " and" * number) for number in range(12)]
    forwards = await asyncio.gather(*map(engine.logprobs, questions))
    backwards = await asyncio.gather(*map(engine.logprobs, reversed(questions)))
    await engine.aclose()
    lengths = [len(answer.values) for answer in forwards]
    assert lengths == sorted(set(lengths))
    for one, other in zip(forwards, reversed(backwards), strict=True):
        assert one.values == pytest.approx(other.values, abs=1e-4)


@can_say
@pytest.mark.parametrize("continuation", [" naïve 漢字", " {braces} {{x}}", " null \x00 inside", "\n"])
async def test_every_text_can_be_asked_about(engine: Engine, continuation: str) -> None:
    answer = await engine.logprobs(LogprobRequest(PREFIX, continuation))
    await engine.aclose()
    assert all(value <= 0 for value in answer.values)


@pytest.mark.holds_for(when=lambda case: case.gives_logprobs and case.context_tokens)
async def test_a_text_over_the_context_is_an_error_of_its_own(engine: Engine, case: EngineCase) -> None:
    assert case.context_tokens
    with pytest.raises(ContextTooLongError):
        await engine.logprobs(LogprobRequest("word " * (case.context_tokens + 1), CONTINUATION))
    assert (await engine.logprobs(LogprobRequest(PREFIX, CONTINUATION))).values
    await engine.aclose()


@can_say
async def test_nothing_is_no_continuation(engine: Engine) -> None:
    with pytest.raises(RequestRefusedError):
        await engine.logprobs(LogprobRequest(PREFIX, ""))
    await engine.aclose()


@can_say
def test_one_event_loop_after_another_can_ask(engine: Engine) -> None:
    async def ask() -> int:
        answer = await engine.logprobs(LogprobRequest(PREFIX, CONTINUATION))
        await engine.aclose()
        return len(answer.values)

    assert asyncio.run(ask()) == asyncio.run(ask())

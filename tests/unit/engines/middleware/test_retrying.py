from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from flip_reward.core.conversation import Message
from flip_reward.engines.base import Completion, Request
from flip_reward.engines.middleware import FAILURES_BEFORE_GIVING_UP, RetryingEngine, RetryPolicy
from flip_reward.engines.scripted import ScriptedEngine
from flip_reward.errors import (
    ContextTooLongError,
    EngineBusyError,
    EngineConnectionError,
    EngineError,
    EngineServerError,
    EngineTimeoutError,
    EngineUnavailableError,
    MalformedCompletionError,
    OptionError,
    RequestRefusedError,
)

REQUEST = Request((Message("user", "hello"),))
HASTY = RetryPolicy(max_attempts=4, first_wait_seconds=0.0)


def scripted(steps: Iterable[EngineError | str]) -> ScriptedEngine:
    remaining = iter(steps)

    def script(_: Request) -> str:
        step = next(remaining)
        if isinstance(step, EngineError):
            raise step
        return step

    return ScriptedEngine(script)


async def fail(engine: RetryingEngine) -> EngineError:
    with pytest.raises(EngineError) as caught:
        await engine.complete(REQUEST)
    return caught.value


async def test_an_answer_at_once_is_passed_on_as_it_is() -> None:
    answer = Completion("reply", attempts=1)
    assert await RetryingEngine(ScriptedEngine(lambda _: answer)).complete(REQUEST) is answer


@pytest.mark.parametrize(
    "error",
    [
        EngineConnectionError("reset"),
        EngineTimeoutError("slow"),
        EngineBusyError("busy"),
        EngineServerError("broken"),
        MalformedCompletionError("html"),
    ],
)
async def test_what_may_pass_is_asked_again(error: EngineError) -> None:
    engine = scripted([error, error, "reply"])
    completion = await RetryingEngine(engine, HASTY).complete(REQUEST)
    assert (completion.text, completion.attempts, engine.requests) == ("reply", 3, 3)


@pytest.mark.parametrize(
    "error",
    [ContextTooLongError("long"), RequestRefusedError("no", status=400), EngineUnavailableError("wrong key")],
)
async def test_what_will_not_pass_is_not_asked_again(error: EngineError) -> None:
    engine = scripted([error])
    assert await fail(RetryingEngine(engine, HASTY)) is error
    assert (error.attempts, engine.requests) == (1, 1)


async def test_the_last_failure_is_raised_with_the_number_of_attempts() -> None:
    errors = [EngineServerError(f"failure {number}") for number in range(1, 5)]
    failure = await fail(RetryingEngine(scripted(errors), HASTY))
    assert failure is errors[3]
    assert failure.attempts == 4


@pytest.mark.parametrize("ended", ["abort", "error", "Cancelled"])
@pytest.mark.parametrize("others", [(), (Completion("whole"),)])
async def test_a_reply_that_failed_is_asked_for_again(ended: str, others: tuple[Completion, ...]) -> None:
    broken = Completion("Apples, pe", ended)
    steps = iter([replace(broken, others=others), Completion("whole", others=(broken,)), Completion("whole")])
    completion = await RetryingEngine(ScriptedEngine(lambda _: next(steps)), HASTY).complete(REQUEST)
    assert (completion.text, completion.attempts) == ("whole", 3)


async def test_a_reply_that_a_filter_ended_is_refused_once() -> None:
    engine = ScriptedEngine(lambda _: Completion("Apples", "content_filter", detail="it names fruit"))
    failure = await fail(RetryingEngine(engine, HASTY))
    assert isinstance(failure, RequestRefusedError)
    assert "it names fruit" in str(failure)
    assert engine.requests == 1


async def test_of_several_replies_those_that_no_filter_ended_are_kept() -> None:
    mixed = Completion("Apples", "content_filter", others=(Completion("Pears"),))
    assert await RetryingEngine(ScriptedEngine(lambda _: mixed), HASTY).complete(REQUEST) == mixed


async def test_a_lasting_failure_ends_the_attempts() -> None:
    refusal = RequestRefusedError("no", status=400)
    failure = await fail(RetryingEngine(scripted([EngineBusyError("busy"), refusal]), HASTY))
    assert failure is refusal
    assert failure.attempts == 2


async def test_one_attempt_is_one_attempt() -> None:
    engine = scripted([EngineBusyError("busy")])
    assert (await fail(RetryingEngine(engine, RetryPolicy(max_attempts=1)))).attempts == 1


async def test_no_attempt_starts_after_the_total_time() -> None:
    engine = scripted([EngineBusyError("busy")])
    assert (await fail(RetryingEngine(engine, RetryPolicy(max_total_seconds=0.0)))).attempts == 1


async def test_errors_of_the_program_are_not_failures_of_the_engine() -> None:
    def script(_: Request) -> str:
        raise ZeroDivisionError

    engine = ScriptedEngine(script)
    with pytest.raises(ZeroDivisionError):
        await RetryingEngine(engine, HASTY).complete(REQUEST)
    assert engine.requests == 1


@pytest.mark.parametrize(
    ("asked", "cap", "low", "high"), [(5.0, 120.0, 5.0, 5.5), (500.0, 120.0, 120.0, 120.5), (None, 120.0, 0.0, 0.5)]
)
def test_retry_after_is_a_floor_under_the_backoff(asked: float | None, cap: float, low: float, high: float) -> None:
    error = EngineBusyError("busy", retry_after_seconds=asked)
    policy = RetryPolicy(first_wait_seconds=0.5, max_retry_after_seconds=cap)
    waits = [policy.wait_seconds(error, 1) for _ in range(100)]
    assert low <= min(waits) < max(waits) <= high


def test_the_backoff_doubles_up_to_its_maximum() -> None:
    policy = RetryPolicy(first_wait_seconds=1.0, max_wait_seconds=8.0)
    error = EngineServerError("broken")
    longest = [max(policy.wait_seconds(error, n) for _ in range(2000)) for n in (1, 2, 3, 4, 5, 10_000)]
    assert [round(wait) for wait in longest] == [1, 2, 4, 8, 8, 8]


class TestGivingUp:
    async def test_when_nothing_has_ever_succeeded(self) -> None:
        engine = RetryingEngine(scripted([RequestRefusedError("no", status=400)] * FAILURES_BEFORE_GIVING_UP))
        for _ in range(FAILURES_BEFORE_GIVING_UP - 1):
            assert isinstance(await fail(engine), RequestRefusedError)
        failure = await fail(engine)
        assert isinstance(failure, EngineUnavailableError)
        assert str(failure) == "the first 20 requests all failed; the last one: no"

    @pytest.mark.parametrize(
        "proof", ["reply", ContextTooLongError("long"), RequestRefusedError("withheld", status=200)]
    )
    async def test_not_once_the_model_has_shown_that_it_is_there(self, proof: EngineError | str) -> None:
        refusals = [RequestRefusedError("no", status=400)] * FAILURES_BEFORE_GIVING_UP
        engine = RetryingEngine(scripted([refusals[0], proof, *refusals]))
        kinds = set()
        for _ in range(FAILURES_BEFORE_GIVING_UP + 2):
            try:
                await engine.complete(REQUEST)
            except EngineError as error:
                kinds.add(type(error))
        assert kinds <= {RequestRefusedError, ContextTooLongError}

    async def test_not_after_an_answer_to_a_second_attempt(self) -> None:
        refusals = [RequestRefusedError("no", status=400)] * FAILURES_BEFORE_GIVING_UP
        engine = RetryingEngine(scripted([EngineBusyError("busy"), "reply", *refusals]), HASTY)
        await engine.complete(REQUEST)
        for _ in refusals:
            assert isinstance(await fail(engine), RequestRefusedError)


def test_a_policy_without_attempts_is_refused() -> None:
    with pytest.raises(OptionError):
        RetryPolicy(max_attempts=0)

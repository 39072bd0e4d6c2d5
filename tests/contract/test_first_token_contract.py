"""What every engine promises about how a reply could have begun."""

from __future__ import annotations

import asyncio
import math

import pytest

from flip_reward.core.conversation import Message
from flip_reward.engines.base import Engine, Request, Sampling
from flip_reward.errors import NoLogprobsError
from tests.contract.conftest import EngineCase

ONE = Sampling(max_tokens=1)


def ask(content: str, count: int = 20, sampling: Sampling = ONE) -> Request:
    return Request(
        (Message("system", 'Answer "Yes" or "No".'), Message("user", content)), sampling, top_logprobs=count
    )


can_say = pytest.mark.holds_for(when=lambda case: case.gives_first_tokens)


@pytest.mark.holds_for(when=lambda case: not case.gives_first_tokens)
async def test_an_engine_that_cannot_say_it_says_so(engine: Engine) -> None:
    with pytest.raises(NoLogprobsError) as caught:
        await engine.complete(ask("Is a pear a fruit?"))
    assert caught.value.hint
    await engine.aclose()


@can_say
@pytest.mark.parametrize("count", [2, 20])
async def test_the_likeliest_come_first(engine: Engine, count: int) -> None:
    completion = await engine.complete(ask("Is a pear a fruit?", count))
    await engine.aclose()
    values = [value for _, value in completion.top_logprobs]
    assert 2 <= len(values) <= count
    assert values == sorted(values, reverse=True)
    assert all(value <= 0 for value in values)
    assert math.fsum(map(math.exp, values)) <= 1.001
    assert completion.usage.completion_tokens == 1


@can_say
async def test_a_greedy_reply_begins_with_the_likeliest(engine: Engine) -> None:
    for sampling in (ONE, Sampling(max_tokens=4)):
        completion = await engine.complete(ask("Is a pear a fruit?", sampling=sampling))
        assert str(completion.text).strip().startswith(completion.top_logprobs[0][0].strip())
    await engine.aclose()


async def test_nobody_who_does_not_ask_gets_them(engine: Engine) -> None:
    completion = await engine.complete(ask("Is a pear a fruit?", 0))
    await engine.aclose()
    assert completion.top_logprobs == ()


@can_say
async def test_requests_at_once_get_the_same_as_one_after_another(engine: Engine) -> None:
    requests = [ask(f"Is {number} more than {' and '.join(['2'] * number)}?") for number in range(6)]
    alone = [dict((await engine.complete(request)).top_logprobs) for request in requests]
    together = [dict(one.top_logprobs) for one in await asyncio.gather(*map(engine.complete, reversed(requests)))]
    await engine.aclose()
    for one, other in zip(alone, reversed(together), strict=True):
        likeliest = max(one, key=lambda text: one[text])
        assert other[likeliest] == pytest.approx(one[likeliest], abs=1e-4)


@pytest.mark.holds_for(when=lambda case: case.counts_tokens and case.gives_first_tokens)
async def test_what_is_generated_is_the_same_as_without_them(engine: Engine, case: EngineCase) -> None:
    assert case.counts_tokens
    sampling = Sampling(max_tokens=4)
    plain = await engine.complete(ask("Is a pear a fruit?", 0, sampling))
    asked = await engine.complete(ask("Is a pear a fruit?", 20, sampling))
    await engine.aclose()
    assert asked.text == plain.text

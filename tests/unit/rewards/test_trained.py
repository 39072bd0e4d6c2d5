"""A trained reward model: the whole conversation in, its number out, and no number where there is none."""

from __future__ import annotations

import math

import pytest

from flip_reward import Group, Message, Outcome, RewardConfig, ScriptedEngine, TrainedReward
from flip_reward.core.score import Score
from flip_reward.engines.base import ClassifyRequest, Completion, Engine, LogprobRequest, Request, TokenLogprobs
from flip_reward.engines.middleware import RetryPolicy, build_stack
from flip_reward.engines.refusals import make_harmless
from flip_reward.errors import (
    ContextTooLongError,
    ConversationError,
    EngineBusyError,
    EngineError,
    EngineUnavailableError,
    NoClassifierError,
    RequestRefusedError,
)

TALK = (
    Message("system", "Be brief."),
    Message("user", "Hi."),
    Message("assistant", "Hello."),
    Message("user", "Name a fruit."),
)


class NoHead:
    """An engine that only writes."""

    model = identity = "no-head"

    async def complete(self, request: Request) -> Completion:
        return Completion(request.messages[-1].content)

    async def logprobs(self, request: LogprobRequest) -> TokenLogprobs:
        raise NotImplementedError

    async def aclose(self) -> None:
        """Nothing to release."""


def score_one(reward: TrainedReward, response: str = "A pear.") -> Score:
    [[score]] = reward.score_sync([Group(TALK, (response,))])
    return score


def test_the_model_sees_the_whole_conversation_and_the_visible_answer() -> None:
    seen: list[ClassifyRequest] = []

    def keep(request: ClassifyRequest) -> float:
        seen.append(request)
        return -7.25

    score = score_one(TrainedReward(ScriptedEngine(classify_script=keep)), "<think>Hm.</think>A pear.<|im_end|>")
    assert seen == [ClassifyRequest(TALK, "A pear.")]
    assert (score.value, score.outcome, score.cost.attempts) == (-7.25, Outcome.SCORED, 1)
    assert score.cost.usage.prompt_tokens == 9


def test_what_would_be_asked_is_rendered() -> None:
    reward = TrainedReward(None)
    assert reward.render(Group(TALK, ("A pear.", " "))) == [ClassifyRequest(TALK, "A pear."), None]
    with pytest.raises(ConversationError):
        reward.render(Group((Message("system", "Be brief."),), ("A pear.",)))


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ContextTooLongError("600 tokens do not fit"), Outcome.CONTEXT_TOO_LONG),
        (RequestRefusedError("flagged", status=400), Outcome.REQUEST_REFUSED),
        (EngineBusyError("slow down"), Outcome.ENGINE_FAILURE),
    ],
)
def test_a_failure_is_no_reward(error: EngineError, outcome: Outcome) -> None:
    def fail(_: ClassifyRequest) -> float:
        raise error

    score = score_one(TrainedReward(ScriptedEngine(classify_script=fail)))
    assert (score.value, score.outcome, score.detail) == (None, outcome, str(error))


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_no_reward(number: float) -> None:
    score = score_one(TrainedReward(ScriptedEngine(classify_script=lambda _: number)))
    assert (score.value, score.outcome) == (None, Outcome.REQUEST_REFUSED)


@pytest.mark.parametrize("around", [False, True])
def test_an_engine_without_a_head_ends_the_run(around: bool) -> None:
    engine: Engine = build_stack(NoHead()) if around else NoHead()
    with pytest.raises(NoClassifierError, match="no-head"):
        score_one(TrainedReward(engine))


def test_it_is_asked_again_and_equal_responses_share_an_answer() -> None:
    failures = [EngineBusyError("slow down")]

    def fail_once(request: ClassifyRequest) -> float:
        if failures:
            raise failures.pop()
        return float(len(request.response))

    inside = ScriptedEngine(classify_script=fail_once)
    reward = TrainedReward(build_stack(inside, retry=RetryPolicy(3, first_wait_seconds=0.01)))
    [scores] = reward.score_sync([Group(TALK, ("A pear.", "A pear."))])
    assert [score.value for score in scores] == [7.0, 7.0]
    assert inside.requests == 2
    assert sorted(score.cost.attempts for score in scores) == [0, 2]


def test_refusals_of_everything_are_told_from_those_of_a_text() -> None:
    def refuse(request: ClassifyRequest) -> float:
        if "pear" in request.response:
            raise RequestRefusedError("flagged", status=400, by_server=True)
        return 0.5

    def refuse_all(_: ClassifyRequest) -> float:
        raise RequestRefusedError("no such key", status=400, by_server=True)

    assert make_harmless(ClassifyRequest(TALK, "A pear.")).messages[0] == Message("system", "Say yes.")
    score = score_one(TrainedReward(build_stack(ScriptedEngine(classify_script=refuse))))
    assert score.outcome is Outcome.REQUEST_REFUSED
    with pytest.raises(EngineUnavailableError, match="every request is refused"):
        score_one(TrainedReward(build_stack(ScriptedEngine(classify_script=refuse_all))))


def test_how_responses_are_read_is_recorded() -> None:
    settings = RewardConfig(reward="trained", model="scripted", thinking_opened=True).check().settings
    assert settings == {"reward": "trained", "thinking_opened": True}

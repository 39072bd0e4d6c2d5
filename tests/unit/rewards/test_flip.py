import asyncio
import json
from collections.abc import Callable

import pytest

from flip_reward.core.cautions import Caution, ReliabilityLimits
from flip_reward.core.conversation import Group, Message
from flip_reward.core.replies import ReplyPolicy
from flip_reward.core.response import Target
from flip_reward.core.score import Outcome, Score, Usage
from flip_reward.engines.base import Completion, Request, Sampling
from flip_reward.engines.scripted import ScriptedEngine
from flip_reward.errors import (
    ContextTooLongError,
    ConversationError,
    EngineServerError,
    EngineUnavailableError,
)
from flip_reward.rewards.flip import INFERENCE_SCHEMA, FlipOptions, FlipReward


def verdict(instruction: str) -> str:
    return json.dumps({"REASONING": "because", "INFERRED INSTRUCTION": instruction})


def score_one(
    script: Callable[[Request], str | Completion],
    options: FlipOptions | None = None,
    group: Group | None = None,
) -> Score:
    reward = FlipReward(ScriptedEngine(script), options)
    [scores] = reward.score_sync([group or Group.of("Name three fruits.", "Apples, pears, plums.")])
    return scores[0]


def fail(error: Exception) -> Callable[[Request], str]:
    def script(_request: Request) -> str:
        raise error

    return script


def test_a_scored_response_keeps_everything() -> None:
    completion = Completion(verdict("Name some fruits"), usage=Usage(10, 5), attempts=2)
    score = score_one(lambda _request: completion)
    assert score.value == pytest.approx(2 / 3)
    assert [score.precision, score.recall] == pytest.approx([2 / 3, 2 / 3])
    assert (score.inferred_instruction, score.reasoning) == ("Name some fruits", "because")
    assert (score.raw_reply, score.cost.usage, score.cost.attempts) == (completion.text, Usage(10, 5), 2)


@pytest.mark.parametrize(
    ("completion", "outcome"),
    [
        (Completion("prose"), Outcome.UNPARSEABLE_REPLY),
        (Completion('{"REASONING": "cut', "length"), Outcome.TRUNCATED_REPLY),
        (Completion(None), Outcome.EMPTY_REPLY),
        (Completion(verdict("<instruction>")), Outcome.TEMPLATE_ECHO),
    ],
)
def test_replies_without_a_verdict_are_unscored_and_kept(completion: Completion, outcome: Outcome) -> None:
    score = score_one(lambda _request: completion)
    assert (score.value, score.outcome, score.raw_reply) == (None, outcome, completion.text)


def test_failures_of_the_engine_are_outcomes() -> None:
    failure = score_one(fail(EngineServerError("overloaded")))
    assert (failure.value, failure.outcome, failure.detail) == (None, Outcome.ENGINE_FAILURE, "overloaded")
    assert score_one(fail(ContextTooLongError("9000 tokens"))).outcome is Outcome.CONTEXT_TOO_LONG


def test_an_engine_that_will_never_answer_ends_everything() -> None:
    with pytest.raises(EngineUnavailableError):
        score_one(fail(EngineUnavailableError("nobody")))


def test_responses_without_an_answer_ask_nothing() -> None:
    engine = ScriptedEngine()
    [scores] = FlipReward(engine).score_sync([Group.of("q?", ["", "<think>never", "<think>x</think>  "])])
    assert [score.outcome for score in scores] == [
        Outcome.EMPTY_RESPONSE,
        Outcome.UNFINISHED_THINKING,
        Outcome.EMPTY_RESPONSE,
    ]
    assert engine.requests == 0


def test_an_instruction_without_tokens_has_no_similarity() -> None:
    engine = ScriptedEngine()
    [scores] = FlipReward(engine).score_sync([Group.of("?!", ["a", "b"])])
    assert {score.outcome for score in scores} == {Outcome.EMPTY_INSTRUCTION}
    assert engine.requests == 0


def test_the_thinking_of_a_response_is_not_shown() -> None:
    def script(request: Request) -> str:
        assert "secret" not in request.messages[-1].content
        assert request.messages[-1].content.endswith("Apples.")
        return verdict("x")

    group = Group.of("Name a fruit.", "<think>secret</think><answer>Apples.</answer>")
    assert score_one(script, group=group).outcome is Outcome.SCORED


def test_earlier_turns_are_context_and_the_instruction_is_hidden() -> None:
    seen: list[Request] = []

    def script(request: Request) -> str:
        seen.append(request)
        return verdict("Food, please")

    chat = [Message("user", "Lisbon?"), Message("assistant", "Museums or food?"), Message("user", "Food, please")]
    assert score_one(script, group=Group.of(chat, "Eat sardines.")).value == 1.0
    assert '{"role": "assistant", "content": "Museums or food?"}' in seen[0].messages[-1].content
    assert "Food, please" not in seen[0].messages[-1].content


@pytest.mark.parametrize(
    ("target", "instruction"), [(Target.SYSTEM, "Answer in rhyme."), (Target.CONVERSATION, "Hi\n\nA poem.")]
)
def test_other_targets(target: Target, instruction: str) -> None:
    chat = [
        Message("system", "Answer in rhyme."),
        Message("user", "Hi"),
        Message("assistant", "Hello, fellow"),
        Message("user", "A poem."),
    ]
    options = FlipOptions(target=target)

    def script(request: Request) -> str:
        assert instruction not in request.messages[-1].content
        return verdict(instruction)

    group = Group.of(chat, "Roses are red.")
    assert score_one(script, options, group).value == 1.0
    assert FlipReward(ScriptedEngine(), options).select_target(group).instruction == instruction
    with pytest.raises(ConversationError):
        score_one(script, options, Group.of([Message("assistant", "x")], "y"))


def test_options_reach_the_request() -> None:
    seen: list[Request] = []

    def script(request: Request) -> str:
        seen.append(request)
        return "Name three fruits"

    sampling = Sampling(0.7, 99, 0.9, 3)
    structured = FlipOptions(sampling=sampling, structured=True, reply_policy=ReplyPolicy.RAW_TEXT)
    assert score_one(script, structured).value == 1.0
    plain = FlipOptions("direct", structured=True)
    assert score_one(script, plain).value == 1.0
    assert (seen[0].sampling, seen[0].json_schema) == (sampling, INFERENCE_SCHEMA)
    assert seen[1].json_schema is None, "a template that asks for plain text is not forced into JSON"


def test_settings_tell_apart_what_changes_scores() -> None:
    variants = [
        FlipOptions(),
        FlipOptions("direct"),
        FlipOptions(target=Target.CONVERSATION),
        FlipOptions(normalizer="multilingual"),
        FlipOptions(sampling=Sampling(seed=1)),
        FlipOptions(reply_policy=ReplyPolicy.RAW_TEXT),
        FlipOptions(structured=True),
    ]
    settings = [tuple(sorted(FlipReward(ScriptedEngine(), o).settings.items(), key=str)) for o in variants]
    assert len(set(settings)) == len(variants)


async def test_async_and_sync_from_inside_a_loop_agree() -> None:
    reward = FlipReward(ScriptedEngine(lambda _request: verdict("Name fruits"), latency_seconds=0.001))
    groups = [Group.of(f"Name {n} fruits.", ["Apples.", "Pears."]) for n in range(20)]
    scored = await reward.score(groups)
    assert [[s.value for s in g] for g in scored] == [[s.value for s in g] for g in reward.score_sync(groups)]


def test_a_failure_cancels_what_is_left() -> None:
    engine = ScriptedEngine(fail(EngineUnavailableError("gone")), latency_seconds=0.001)

    async def run() -> int:
        with pytest.raises(EngineUnavailableError):
            await FlipReward(engine).score([Group.of("q", ["a"] * 5) for _ in range(5)])
        await asyncio.sleep(0.01)
        return len(asyncio.all_tasks())

    assert asyncio.run(run()) == 1


def test_a_blank_instruction_costs_no_other_group_its_score() -> None:
    reward = FlipReward(ScriptedEngine(lambda _request: verdict("Name a fruit")))
    [good, blank] = reward.score_sync([Group.of("Name a fruit.", "Apple."), Group.of("  ", "x")])
    assert (good[0].value, blank[0].outcome) == (1.0, Outcome.EMPTY_INSTRUCTION)


def test_a_group_without_an_instruction_is_refused_before_anything_is_asked() -> None:
    engine = ScriptedEngine()
    with pytest.raises(ConversationError):
        FlipReward(engine).score_sync([Group.of("q", "a"), Group.of([Message("assistant", "x")], "y")])
    assert engine.requests == 0


def test_cautions_stand_beside_the_value() -> None:
    engine = ScriptedEngine(lambda _: verdict("Name fruits."))
    group = Group.of("Name fruits.", ["Pears.", "", "Pears and plums."])
    for limits, expected in ((ReliabilityLimits(2, 0.8, 0.1), [(Caution.SHORT_RESPONSE,), (), ()]), (None, [()] * 3)):
        [scores] = FlipReward(engine, limits=limits).score_sync([group])
        assert [score.cautions for score in scores] == expected
        assert scores[0].value == 1.0

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flip_reward.core.cautions import Caution, ReliabilityLimits
from flip_reward.core.conversation import Group, Message
from flip_reward.core.replies.parse import ReplyPolicy
from flip_reward.core.response import Target
from flip_reward.core.score import Aggregation, Outcome, Score, Usage
from flip_reward.engines.base import Completion, Request, Sampling
from flip_reward.engines.cache import ResponseCache
from flip_reward.engines.middleware import CachingEngine
from flip_reward.engines.scripted import Script, ScriptedEngine
from flip_reward.errors import (
    ContextTooLongError,
    ConversationError,
    EngineServerError,
    EngineUnavailableError,
    OptionError,
)
from flip_reward.rewards.backward_likelihood import BackwardLikelihoodReward
from flip_reward.rewards.config import RewardConfig
from flip_reward.rewards.flip import INFERENCE_SCHEMA, FlipOptions, FlipReward
from flip_reward.rewards.judges.pairwise import PairwiseJudge
from flip_reward.rewards.judges.pointwise import PointwiseJudge
from flip_reward.rewards.trained import TrainedReward


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


@pytest.mark.parametrize(
    ("completion", "outcome", "detail"),
    [
        (Completion(verdict("say"), "abort"), Outcome.ENGINE_FAILURE, "abort"),
        (Completion(verdict("say"), "content_filter"), Outcome.REQUEST_REFUSED, "content_filter"),
        (Completion(None, "refusal", detail="I must not."), Outcome.REQUEST_REFUSED, "I must not."),
        (Completion(None, "stop", detail="only reasoning"), Outcome.EMPTY_REPLY, "only reasoning"),
        (Completion("", "length", detail="only reasoning"), Outcome.TRUNCATED_REPLY, "only reasoning"),
        (Completion(None, "MAX_TOKENS"), Outcome.TRUNCATED_REPLY, "--max-tokens"),
    ],
)
def test_how_a_reply_ended_decides_whatever_engine_it_is(
    completion: Completion, outcome: Outcome, detail: str
) -> None:
    score = score_one(lambda _: completion)
    assert (score.value, score.outcome) == (None, outcome)
    assert detail in str(score.detail)


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
    structured = FlipOptions(sampling=sampling, structured=True, reply_policy=ReplyPolicy.AS_PUBLISHED)
    assert score_one(script, structured).value == 1.0
    plain = FlipOptions("direct", structured=True)
    assert score_one(script, plain).value == 1.0
    assert (seen[0].sampling, seen[0].json_schema) == (sampling, INFERENCE_SCHEMA)
    assert seen[1].json_schema is None, "a template that asks for plain text is not forced into JSON"


def test_as_published_a_failed_request_is_worth_nothing_unless_the_failure_may_pass() -> None:
    options = FlipOptions(reply_policy=ReplyPolicy.AS_PUBLISHED)
    score = score_one(fail(ContextTooLongError("9000")), options)
    assert (score.value, score.outcome) == (0.0, Outcome.SCORED)
    assert score.detail == "context_too_long counts as 0: 9000"
    outage = score_one(fail(EngineServerError("overloaded")), options)
    assert (outage.value, outage.outcome) == (None, Outcome.ENGINE_FAILURE)
    assert score_one(lambda _request: Completion(None, "length"), options).value == 0.0
    assert score_one(lambda _request: Completion("Three fruits", "length"), options).value == pytest.approx(0.8)
    blank = Group.of("Name three fruits.", " ")
    assert score_one(lambda _request: verdict("x"), options, blank).outcome is Outcome.EMPTY_RESPONSE
    with pytest.raises(EngineUnavailableError):
        score_one(fail(EngineUnavailableError("nobody")), options)


def test_settings_tell_apart_what_changes_scores() -> None:
    variants = [
        FlipOptions(),
        FlipOptions("direct"),
        FlipOptions(target=Target.CONVERSATION),
        FlipOptions(normalizer="multilingual"),
        FlipOptions(sampling=Sampling(seed=1)),
        FlipOptions(reply_policy=ReplyPolicy.AS_PUBLISHED),
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


INSTRUCTION = "Name three fruits"
INFERRED = {7: "Name three fruits", 8: "Name some fruits", 9: "Explain plate tectonics"}  # F1: 1, 2/3, 0
SEEDED = Sampling(0.7, seed=7)


def by_seed(request: Request) -> Completion:
    return reply(INFERRED[request.sampling.seed or 0])


def reply(inferred: str) -> Completion:
    text = json.dumps({"REASONING": f"about {inferred}", "INFERRED INSTRUCTION": inferred})
    return Completion(text, usage=Usage(100, 10, 50))


def score_samples(script: Script = by_seed, aggregation: Aggregation = Aggregation.MEAN, samples: int = 3) -> Score:
    options = FlipOptions(sampling=SEEDED, samples=samples, aggregation=aggregation)
    [[score]] = FlipReward(ScriptedEngine(script), options).score_sync([Group.of(INSTRUCTION, "Apples, pears.")])
    return score


@pytest.mark.parametrize(
    ("aggregation", "value", "typical"),
    [(Aggregation.MEAN, 5 / 9, 8), (Aggregation.MAX, 1.0, 7), (Aggregation.MEDIAN, 2 / 3, 8)],
)
def test_a_score_is_made_of_all_samples(aggregation: Aggregation, value: float, typical: int) -> None:
    score = score_samples(aggregation=aggregation)
    assert score.value == pytest.approx(value)
    assert score.spread == pytest.approx((14 / 81) ** 0.5)
    assert (score.inferred_instruction, score.reasoning) == (INFERRED[typical], f"about {INFERRED[typical]}")
    assert [sample.inferred_instruction for sample in score.samples] == list(INFERRED.values())
    assert [sample.value for sample in score.samples] == pytest.approx([1, 2 / 3, 0])


def test_usage_is_that_of_the_whole_request_and_counted_once() -> None:
    assert score_samples().cost.usage == Usage(300, 30, 150)


def test_a_sample_that_cannot_be_read_lowers_nothing() -> None:
    def script(request: Request) -> Completion:
        if request.sampling.seed == 9:
            return Completion('{"REASONING": "cut', "length")
        return by_seed(request)

    score = score_samples(script)
    assert score.value == pytest.approx(5 / 6)
    assert [sample.outcome for sample in score.samples] == [
        Outcome.SCORED, Outcome.SCORED, Outcome.TRUNCATED_REPLY,
    ]  # fmt: skip
    assert (score.samples[2].raw_reply, score.detail) == ('{"REASONING": "cut', "left out: 1 truncated_reply")


def test_samples_that_all_cannot_be_read_leave_the_response_unscored() -> None:
    score = score_samples(lambda request: "" if request.sampling.seed == 7 else "prose")
    assert (score.value, score.outcome, score.raw_reply) == (None, Outcome.UNPARSEABLE_REPLY, "prose")
    assert [sample.outcome for sample in score.samples] == [
        Outcome.EMPTY_REPLY, Outcome.UNPARSEABLE_REPLY, Outcome.UNPARSEABLE_REPLY,
    ]  # fmt: skip


def test_a_request_that_fails_has_no_samples() -> None:
    def script(request: Request) -> Completion:
        if request.sampling.seed == 8:
            raise EngineServerError("overloaded")
        return by_seed(request)

    score = score_samples(script)
    assert (score.outcome, score.samples, score.detail) == (Outcome.ENGINE_FAILURE, (), "overloaded")


def test_characters_that_cannot_be_stored_are_replaced_in_every_sample() -> None:
    score = score_samples(lambda _request: reply("Name \ud800 fruits").text or "\ud800")
    score_raw = score_samples(lambda _request: "\ud800")
    assert all((sample.inferred_instruction or "").isprintable() for sample in score.samples)
    assert all("\ud800" not in (sample.raw_reply or "") for sample in score_raw.samples)


def test_one_sample_is_as_before() -> None:
    score = score_samples(samples=1)
    assert (score.value, score.spread, score.samples, score.cost.usage) == (1.0, None, (), Usage(100, 10, 50))


def test_a_seed_makes_samples_repeatable_so_they_are_cached(tmp_path: Path) -> None:
    def ask(sampling: Sampling) -> tuple[Score, int]:
        engine = ScriptedEngine(lambda request: by_seed(request) if request.sampling.seed else reply("Name fruits"))
        with ResponseCache(tmp_path / "cache.sqlite3") as cache:
            reward = FlipReward(CachingEngine(engine, cache), FlipOptions(sampling=sampling, samples=3))
            [[score]] = reward.score_sync([Group.of(INSTRUCTION, "Apples.")])
        return score, engine.requests

    (first, asked), (second, asked_again) = ask(SEEDED), ask(SEEDED)
    assert (asked, asked_again) == (3, 0)
    assert (first.value, first.spread, first.samples) == (second.value, second.spread, second.samples)
    assert (second.cost.cached, second.cost.usage) == (True, Usage())
    assert [ask(Sampling(0.7))[1] for _ in range(2)] == [3, 3], "without a seed nothing is repeatable"


def test_settings_name_several_samples_and_are_as_before_for_one() -> None:
    engine = ScriptedEngine()
    one = FlipReward(engine, FlipOptions(sampling=SEEDED, aggregation=Aggregation.MAX)).settings
    several = FlipReward(engine, FlipOptions(sampling=SEEDED, samples=4, aggregation=Aggregation.MAX)).settings
    assert "samples" not in one
    assert "aggregation" not in one
    assert several == {**one, "samples": 4, "aggregation": "max"}


def test_numbers_of_samples_that_make_no_sense() -> None:
    with pytest.raises(OptionError, match="temperature 0") as caught:
        FlipReward(ScriptedEngine(), FlipOptions(samples=2))
    assert "--temperature" in (caught.value.hint or "")
    with pytest.raises(OptionError, match="sample"):
        FlipReward(ScriptedEngine(), FlipOptions(samples=0))


@pytest.mark.parametrize(
    "make", [FlipReward, BackwardLikelihoodReward, TrainedReward, PointwiseJudge, PairwiseJudge, RewardConfig().load]
)
def test_the_name_of_a_model_is_no_engine(make: Any) -> None:
    with pytest.raises(OptionError, match="an Engine is wanted, and not 'scripted'") as caught:
        make("scripted")
    assert caught.value.hint == "load_engine('scripted') makes one"


@pytest.mark.parametrize("make", [FlipReward, BackwardLikelihoodReward, TrainedReward, PointwiseJudge, PairwiseJudge])
@pytest.mark.parametrize("options", ["direct", {"template": "direct"}])
def test_options_are_those_of_the_reward(make: Any, options: object) -> None:
    with pytest.raises(OptionError, match="Options are wanted, and not"):
        make(ScriptedEngine(), options)


def test_the_name_of_a_similarity_is_none() -> None:
    with pytest.raises(OptionError, match="a Similarity is wanted") as caught:
        FlipReward(ScriptedEngine(), similarity="f1")  # type: ignore[arg-type]  # a mistake
    assert caught.value.hint == "load_similarity('f1') makes one"

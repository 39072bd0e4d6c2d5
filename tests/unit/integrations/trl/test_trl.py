import asyncio
import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from flip_reward import FlipReward, Request, RewardModel, ScriptedEngine
from flip_reward.engines.base import Completion
from flip_reward.errors import (
    EngineConnectionError,
    EngineUnavailableError,
    OptionError,
    RunStoppedError,
    UnscoredError,
)
from flip_reward.integrations import trl
from flip_reward.integrations.trl import TrlReward, find_template_opening
from flip_reward.integrations.trl.options import TrlOptions
from flip_reward.rewards.config import RewardConfig
from flip_reward.rewards.judges.listwise import ListwiseJudge
from flip_reward.rewards.unscored import RAISE

CONFIG = RewardConfig(model="scripted")
PROMPTS = ["Name three fruits that grow on trees."] * 4
COMPLETIONS = ["Name three fruits that grow on trees", "Apples and pears", " ", "Three fruits that grow on"]


def answer(request: Request) -> str:
    """Infer the response itself."""
    response = request.messages[-1].content.partition("RESPONSE:")[2] or request.messages[-1].content
    for completion in COMPLETIONS:
        if completion.strip() and completion in response:
            return f'{{"INFERRED INSTRUCTION": "{completion}"}}'
    return "no verdict"


class Log:
    """What a trainer was told."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self.columns: dict[str, list[str | None]] = {}

    def metric(self, name: str, value: float) -> None:
        self.metrics[name] = value

    def extra(self, column: str, values: list[str | None]) -> None:
        self.columns[column] = values


class Opening:
    """A tokenizer whose chat template opens the thinking, unless it is told not to."""

    def apply_chat_template(
        self, conversation: Sequence[Mapping[str, str]], *, enable_thinking: bool = True, **_: object
    ) -> str:
        opening = "<think>\n" if enable_thinking else "<think>\n\n</think>\n\n"
        return "".join(f"<turn>{one['role']}\n{one['content']}" for one in conversation) + f"<turn>model\n{opening}"


class Strict:
    """A tokenizer without a chat template."""

    def apply_chat_template(self, *_: object, **__: object) -> str:
        raise ValueError("no chat template is set")


def test_the_template_of_the_trainer_shows_that_it_opens_the_thinking() -> None:
    assert find_template_opening(Opening()) == "<think>"
    assert find_template_opening(Opening(), {"enable_thinking": False}) == ""
    assert find_template_opening(Strict()) == ""


async def test_a_response_cut_in_the_thinking_that_the_template_opened_has_no_reward() -> None:
    chat = [{"role": "user", "content": PROMPTS[0]}]
    copied = "The user says: name three fruits that grow on trees"
    reward = TrlReward(flip(), processing_class=Opening())
    for one in (reward, pickle.loads(pickle.dumps(TrlReward(CONFIG, processing_class=Opening())))):
        call = await one.score([chat] * 2, [copied, f"{copied}</think>Apples and pears"])
        assert [score and score.outcome.value for score in call.scores] == ["unfinished_thinking", "scored"]
    told = await TrlReward(CONFIG.updated(thinking_opened=True)).score([chat], [copied])
    assert [score and score.outcome.value for score in told.scores] == ["unfinished_thinking"]


def flip() -> RewardModel:
    return FlipReward(ScriptedEngine(answer))


async def test_a_batch_with_metrics_and_columns() -> None:
    log = Log()
    tokens = [[1] * length for length in (7, 3, 1, 5)]
    rewards = await TrlReward(flip())(
        PROMPTS, COMPLETIONS, completion_ids=tokens, log_extra=log.extra, log_metric=log.metric, trainer_state=None
    )
    assert rewards[0] == 1.0
    assert rewards[1] == 0.0
    assert rewards[2] is None
    assert rewards[3] == pytest.approx(5 / 6)
    assert log.columns == {
        "inferred_instruction": [COMPLETIONS[0], COMPLETIONS[1], None, COMPLETIONS[3]],
        "outcome": ["scored", "scored", "empty_response", "scored"],
    }
    metrics = {name.removeprefix("flip_reward/"): value for name, value in log.metrics.items()}
    assert metrics["mean"] == pytest.approx((1 + 5 / 6) / 3)
    assert metrics["outcomes/scored"] == 0.75
    assert metrics["outcomes/empty_response"] == 0.25
    assert metrics["outcomes/engine_failure"] == metrics["outcomes/truncated"] == 0.0
    assert sum(value for name, value in metrics.items() if name.startswith("outcomes/")) == 1.0
    assert metrics["zero_variance"] == 0.0
    assert metrics["length_correlation"] == 1.0
    assert metrics["instruction_4gram_overlap"] == pytest.approx((1.0 + 0.0 + 0.5) / 3)
    assert metrics["completion_tokens"] > 0
    assert metrics["precision"] <= 1.0
    assert metrics["seconds"] >= 0


async def test_everything_of_a_call_is_asked_at_once() -> None:
    asked_together: list[int] = []
    waiting = 0

    class Counting(ScriptedEngine):
        async def complete(self, request: Request) -> Completion:
            nonlocal waiting
            waiting += 1
            await asyncio.sleep(0)
            asked_together.append(waiting)
            return await super().complete(request)

    await TrlReward(FlipReward(Counting(answer)))(["a b", "c d", "e f"] * 8, [COMPLETIONS[1]] * 24)
    assert asked_together[0] == 24


async def test_truncated_completions_are_left_out_and_never_asked_about() -> None:
    engine = ScriptedEngine(answer)
    options = TrlOptions(mask_truncated_completions=True, max_completion_length=3, end_tokens=frozenset({2}))
    reward, log = TrlReward(FlipReward(engine), options), Log()
    tokens = [[5, 5, 5], [5, 5, 2], [5, 2], [5, 5]]
    rewards = await reward(PROMPTS, COMPLETIONS, completion_ids=tokens, log_extra=log.extra, log_metric=log.metric)
    assert rewards[0] is None
    assert rewards[1] == 0.0
    assert engine.requests == 2
    assert log.columns["outcome"][0] == "truncated"
    assert log.metrics["flip_reward/outcomes/truncated"] == 0.25
    with pytest.raises(OptionError, match="completion_ids"):
        await reward(PROMPTS, COMPLETIONS)


async def test_what_an_unscored_sample_is_given_can_be_chosen() -> None:
    assert TrlOptions.from_environment({"FLIP_REWARD_ON_UNSCORED": "raise"}).unscored == RAISE
    constant = TrlOptions.from_environment({"FLIP_REWARD_ON_UNSCORED": "-1"})
    assert (await TrlReward(flip(), constant)(PROMPTS, COMPLETIONS))[2] == -1.0
    strict = TrlOptions(unscored=RAISE, mask_truncated_completions=True, max_completion_length=3)
    with pytest.raises(UnscoredError, match="2 of 4 responses could not be scored: empty_response 2"):
        await TrlReward(flip(), strict)([*PROMPTS, "x"], [*COMPLETIONS[:3], "", "cut"], [[1]] * 4 + [[1, 1, 1]])
    assert await TrlReward(flip(), strict)(PROMPTS[:2], COMPLETIONS[:2], [[1, 1, 1], [1]]) == [None, 0.0]


async def test_a_reward_that_compares_wants_whole_groups() -> None:
    judge = ListwiseJudge(ScriptedEngine(lambda _: '{"BEST_RESPONSE_INDEX": 0}'))
    with pytest.raises(OptionError, match="how many") as caught:
        await TrlReward(judge)(PROMPTS, COMPLETIONS)
    assert "FLIP_REWARD_ON_NUM_GENERATIONS" in str(caught.value.hint)
    reward = TrlReward(judge, TrlOptions(num_generations=2))
    rewards = await reward(["a"] * 2 + ["b"] * 2, ["x", "y", "z", "w"])
    assert sorted(value for value in rewards if value is not None) == [0.0, 0.0, 1.0, 1.0]
    for prompts in (["a", "b", "b"], ["a", "b", "b", "a"], ["b", "a", "a"]):  # as processes get them from one batch
        with pytest.raises(OptionError, match="compares the 2 responses") as caught:
            await reward(prompts, ["x"] * len(prompts))
        assert "num_generations" in str(caught.value.hint)


def lost(after: int, until: int) -> ScriptedEngine:
    """A model that does not answer from one request to another."""

    def script(request: Request) -> str:
        if after < engine.requests <= until:
            raise EngineConnectionError("the server closed the connection")
        return answer(request)

    engine = ScriptedEngine(script)
    return engine


async def test_a_model_that_goes_away_is_waited_for() -> None:
    said: list[str] = []
    options = TrlOptions(outage_poll_seconds=0.001, max_unscored_share=0.0)
    reward = TrlReward(FlipReward(lost(after=1, until=4)), options, said.append)
    with pytest.raises(RunStoppedError, match="1 of 4 samples could not be scored: empty_response 1"):
        await reward(PROMPTS, COMPLETIONS)  # the blank one is no reason to wait
    assert "does not answer (the server closed the connection): 2 of 4" in said[0]
    assert len(said) == 2
    rewards = await reward(PROMPTS[:2], COMPLETIONS[:2])
    assert rewards == [1.0, 0.0]


async def test_a_model_that_stays_away_ends_the_training() -> None:
    said: list[str] = []
    options = TrlOptions(outage_poll_seconds=0.001, outage_timeout_seconds=0.02, max_unscored_share=0.25)
    reward = TrlReward(FlipReward(lost(after=3, until=10**9)), options, said.append)
    assert await reward(PROMPTS, COMPLETIONS) != [None] * 4
    with pytest.raises(RunStoppedError, match="3 of 3 samples could not be scored: engine_failure 3") as caught:
        await reward(PROMPTS[:3], [COMPLETIONS[0], COMPLETIONS[1], COMPLETIONS[3]])
    assert "checkpoint" in str(caught.value.hint)
    assert said


@pytest.mark.parametrize(("back_after", "rewarded"), [(12, True), (10**9, False)])
async def test_a_model_that_answers_nothing_is_waited_for_whatever_the_share(
    back_after: int, *, rewarded: bool
) -> None:
    said: list[str] = []
    options = TrlOptions(
        outage_poll_seconds=0.001, outage_timeout_seconds=5.0 if rewarded else 0.02, max_unscored_share=1.0
    )
    reward = TrlReward(FlipReward(lost(after=3, until=back_after)), options, said.append)
    await reward(PROMPTS, COMPLETIONS)
    if rewarded:
        assert await reward(PROMPTS, COMPLETIONS) == [1.0, 0.0, None, pytest.approx(5 / 6)]
    else:
        with pytest.raises(RunStoppedError, match=r"engine_failure 3, empty_response 1 .*answered nothing"):
            await reward(PROMPTS, COMPLETIONS)
    assert all("3 of 4 samples are unscored. Asking again" in line for line in said)
    assert len(said) >= 2


async def test_a_call_without_any_reward_is_told_of_once() -> None:
    said: list[str] = []
    options = TrlOptions(mask_truncated_completions=True, max_completion_length=2, max_unscored_share=1.0)
    reward = TrlReward(flip(), options, said.append)
    assert await reward(PROMPTS, COMPLETIONS, completion_ids=[[5, 5]] * 4) == [None] * 4
    assert said == ["None of the 4 samples of a batch has a score: truncated 4"]
    assert await reward(PROMPTS[:2], [" ", "x"], completion_ids=[[5], [5, 5]]) == [None] * 2
    assert said[1:] == ["None of the 2 samples of a batch has a score: empty_response 1, truncated 1"]
    await reward(PROMPTS, COMPLETIONS, completion_ids=[[5]] + [[5, 5]] * 3)
    assert len(said) == 2


async def test_what_never_answered_is_not_waited_for() -> None:
    def unavailable(_: Request) -> str:
        raise EngineUnavailableError("no such model")

    reward = TrlReward(FlipReward(ScriptedEngine(unavailable)), TrlOptions(outage_poll_seconds=1000))
    with pytest.raises(EngineUnavailableError, match="no such model"):
        await reward(PROMPTS, COMPLETIONS)


async def test_pickled_and_loaded_elsewhere() -> None:
    reward = TrlReward(RewardConfig(model="scripted"), TrlOptions(max_unscored_share=1.0))
    reward.load()
    copy = pickle.loads(pickle.dumps(reward))
    assert copy.options == reward.options
    assert await copy(["Say hi."], ["Say hi."]) == await reward(["Say hi."], ["Say hi."]) != [None]
    assert pickle.loads(pickle.dumps(trl.flip_reward)) is trl.flip_reward


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"FLIP_REWARD_ON_END_TOKEN": "1"}, "FLIP_REWARD_ON_END_TOKENS"),
        ({"FLIP_REWARD_ON_OUTAGE_POLL_SECONDS": "0"}, "FLIP_REWARD_ON_OUTAGE_POLL_SECONDS: "),
        ({"FLIP_REWARD_ON_MASK_TRUNCATED_COMPLETIONS": "true"}, "max_completion_length"),
        ({"FLIP_REWARD_ON_TRUNCATED": "leave_out"}, "FLIP_REWARD_ON_MASK_TRUNCATED_COMPLETIONS"),
        ({"FLIP_REWARD_ON_PAUSE_SECONDS": "1"}, "FLIP_REWARD_ON_OUTAGE_POLL_SECONDS"),
        ({"FLIP_REWARD_ON_PATIENCE_SECONDS": "1"}, "FLIP_REWARD_ON_OUTAGE_TIMEOUT_SECONDS"),
        ({"FLIP_REWARD_ON_MAX_UNSCORED_SHARE": "2"}, "FLIP_REWARD_ON_MAX_UNSCORED_SHARE: "),
    ],
)
def test_wrong_variables(environment: Mapping[str, str], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        TrlOptions.from_environment(environment)
    assert message in str(caught.value)


def test_the_guide_lists_every_variable_with_its_default() -> None:
    guide = (Path(__file__).parents[4] / "docs/guides/integrations.md").read_text()
    rows = re.findall(r"^\| `FLIP_REWARD_ON_([A-Z_]+)` \| (?:`([^`]*)`)? *\|", guide, re.MULTILINE)
    defaults = TrlOptions()
    assert [name.lower() for name, _ in rows] == list(TrlOptions.model_fields)
    for name, shown in rows:
        value = getattr(defaults, name.lower())
        if shown == "false":
            assert value is False
        elif shown:
            assert TrlOptions.from_environment({f"FLIP_REWARD_ON_{name}": shown}) == defaults
            assert shown in ("none", str(value))
        else:
            assert not value


async def test_the_function_reads_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    trl.environment_reward.forget()
    monkeypatch.setenv("FLIP_REWARD_MODEL", "scripted")
    monkeypatch.setenv("FLIP_REWARD_CACHE", "off")
    monkeypatch.setenv("FLIP_REWARD_ON_END_TOKENS", "2,7")
    try:
        log = Log()
        [reward] = await trl.flip_reward(["Say hi."], ["Say hi."], log_metric=log.metric, answer=["hi"])
        assert reward == log.metrics["flip_reward/mean"] > 0
        assert trl.environment_reward().options.end_tokens == {2, 7}
    finally:
        trl.environment_reward.forget()


def test_a_prompt_without_a_user_turn_is_the_callers_mistake() -> None:
    chat = [{"role": "system", "content": "Be short."}]
    with pytest.raises(Exception, match="no user message"):
        asyncio.run(TrlReward(flip())([chat], ["x"]))

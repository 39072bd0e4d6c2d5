import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from flip_reward import Completion, FlipReward, Group, Outcome, Request, Sampling, ScriptedEngine
from flip_reward.data.groups import SourceRow
from flip_reward.data.rows import InvalidRow
from flip_reward.engines.middleware import build_stack
from flip_reward.engines.scripted import Script
from flip_reward.engines.stopping import StopSignal
from flip_reward.errors import (
    ContextTooLongError,
    DataError,
    EngineServerError,
    EngineUnavailableError,
    OptionError,
    RunStoppedError,
)
from flip_reward.rewards.judges.pairwise import PairwiseJudge
from flip_reward.scoring.runner import FAILURES_BEFORE_STOP, RunLimits
from flip_reward.selection.candidates import Candidate, CandidateFile
from flip_reward.selection.policy import Policy, Rollout, SampledReward, with_candidates

SAMPLING = Sampling(1.0, 64, seed=5)


class Watching:
    def __init__(self, stop: StopSignal | None = None) -> None:
        self.candidates: list[Candidate] = []
        self.rows = 0
        self._stop = stop

    def sampled(self, candidate: Candidate) -> None:
        self.candidates.append(candidate)

    def row_sampled(self) -> None:
        self.rows += 1
        if self._stop is not None:
            self._stop.requested = True


def policy_of(script: Script, count: int = 3) -> Policy:
    return Policy(ScriptedEngine(script), count, SAMPLING)


def answer(request: Request) -> Completion:
    return Completion(f"{request.messages[-1].content} {request.sampling.seed}")


def prompts(count: int = 4) -> Iterator[SourceRow | InvalidRow]:
    for position in range(count):
        group = Group.of(f"say {position}", ["", "", ""], id=f"row-{position}")
        yield SourceRow(position, "rows", position + 1, group)


async def draw(
    folder: Path,
    policy: Policy,
    rows: Iterator[SourceRow | InvalidRow],
    *,
    strict: bool = False,
    stop: StopSignal | None = None,
    watching: Watching | None = None,
) -> Watching:
    watching = watching or Watching(stop)
    limits = RunLimits(workers=2, strict=strict)
    with CandidateFile(folder, policy.count) as file:
        rollout = Rollout(policy, file, limits=limits, observer=watching, stop=stop or StopSignal())
        await rollout.run(rows, FlipReward(ScriptedEngine()))
    return watching


def candidates_of(folder: Path, policy: Policy) -> list[tuple[str, ...]]:
    with CandidateFile(folder, policy.count) as file:
        drawn = list(with_candidates(prompts(), file, policy))
    return [row.group.responses for row in drawn if isinstance(row, SourceRow)]


async def test_every_candidate_has_its_own_seed_and_is_asked_for_once(tmp_path: Path) -> None:
    policy = policy_of(answer)
    watching = await draw(tmp_path, policy, prompts())
    assert watching.rows == 4
    assert candidates_of(tmp_path, policy)[1] == ("say 1 5", "say 1 6", "say 1 7")
    again = await draw(tmp_path, policy, prompts())
    assert again.candidates == []


async def test_failures_keep_their_kind_and_only_those_that_may_pass_are_tried_again(tmp_path: Path) -> None:
    asked: Counter[int | None] = Counter()

    def fail_at_first(request: Request) -> Completion:
        asked[request.sampling.seed] += 1
        if request.sampling.seed == 5:
            raise ContextTooLongError("too long")
        if request.sampling.seed == 6 and asked[6] == 1:
            raise EngineServerError("overloaded")
        if request.sampling.seed == 7:
            return Completion(None)
        return answer(request)

    policy = policy_of(fail_at_first, 4)
    first = await draw(tmp_path, policy, prompts(1))
    assert {candidate.index: candidate.failure for candidate in first.candidates} == {
        0: Outcome.CONTEXT_TOO_LONG,
        1: Outcome.ENGINE_FAILURE,
        2: Outcome.EMPTY_REPLY,
        3: None,
    }
    second = await draw(tmp_path, policy, prompts(1))
    assert [(candidate.index, candidate.response) for candidate in second.candidates] == [(1, "say 0 6")]


async def test_how_a_candidate_ended_is_known(tmp_path: Path) -> None:
    endings = iter(
        [
            Completion("whole"),
            Completion("cut", "MAX_TOKENS"),
            Completion("who knows", None),
            Completion("half", "abort"),
            Completion("half", "content_filter"),
            Completion("", "length", detail="cut while the model was still reasoning"),
        ]
    )
    watching = await draw(tmp_path, policy_of(lambda _: next(endings), 6), prompts(1))
    assert [(candidate.failure, candidate.truncated) for candidate in watching.candidates] == [
        (None, False),
        (None, True),
        (None, None),
        (Outcome.ENGINE_FAILURE, None),
        (Outcome.REQUEST_REFUSED, None),
        (Outcome.TRUNCATED_REPLY, True),
    ]
    assert watching.candidates[-1].response is None
    assert "reasoning" in str(watching.candidates[-1].detail)


async def test_rows_that_are_not_scored_get_no_candidates(tmp_path: Path) -> None:
    def rows() -> Iterator[SourceRow | InvalidRow]:
        yield InvalidRow(0, 1, "not json", "rows")
        yield SourceRow(1, "rows", 2, Group.of([{"role": "system", "content": "Rhyme."}], ["", "", ""], id="a"))
        yield SourceRow(2, "rows", 3, Group.of("say b", ["", "", ""], id="b"))

    watching = await draw(tmp_path, policy_of(answer), rows())
    assert {candidate.row for candidate in watching.candidates} == {2}
    strict = tmp_path / "strict"
    strict.mkdir()
    for start, message in ((0, "line 1: not json"), (1, "no user message")):
        bad = iter(list(rows())[start:])
        with pytest.raises(DataError, match=message):
            await draw(strict, policy_of(answer), bad, strict=True)


async def test_a_request_to_stop_finishes_the_rows_in_work(tmp_path: Path) -> None:
    policy = policy_of(answer)
    watching = await draw(tmp_path, policy, prompts(), stop=StopSignal())
    assert 1 <= watching.rows <= 2
    assert len(watching.candidates) == 3 * watching.rows


async def test_candidates_that_wait_for_a_slot_are_dropped_and_drawn_later(tmp_path: Path) -> None:
    asked: Counter[tuple[str, int | None]] = Counter()

    def count(request: Request) -> Completion:
        asked[request.messages[-1].content, request.sampling.seed] += 1
        return answer(request)

    engine, stop = ScriptedEngine(count, latency_seconds=0.005), StopSignal()
    policy = Policy(build_stack(engine, concurrency=2), 3, SAMPLING)

    class Stopping(Watching):
        def sampled(self, candidate: Candidate) -> None:
            super().sampled(candidate)
            stop.requested = True

    first = await draw(tmp_path, policy, prompts(), stop=stop, watching=Stopping())
    assert len(first.candidates) == engine.requests == 2
    await draw(tmp_path, policy, prompts())
    assert len(asked) == 12
    assert set(asked.values()) == {1}


async def test_a_policy_that_is_gone_ends_the_session(tmp_path: Path) -> None:
    def fail(_: Request) -> Completion:
        raise EngineServerError("overloaded")

    def refuse(_: Request) -> Completion:
        raise EngineUnavailableError("wrong key")

    with pytest.raises(RunStoppedError, match="overloaded"):
        await draw(tmp_path, policy_of(fail), prompts(FAILURES_BEFORE_STOP))
    with pytest.raises(EngineUnavailableError):
        await draw(tmp_path, policy_of(refuse), prompts())


async def test_a_candidate_that_was_not_drawn_is_never_scored_as_an_empty_response(tmp_path: Path) -> None:
    policy = policy_of(answer)
    with CandidateFile(tmp_path, policy.count) as file:
        file.append(Candidate(0, "row-0", 0, 5, "say 0"))
        file.append(Candidate(0, "row-0", 1, 6, None, Outcome.REQUEST_REFUSED, "a filter"))
        [row] = with_candidates(prompts(1), file, policy)
    assert isinstance(row, SourceRow)
    reward = SampledReward(FlipReward(ScriptedEngine()), policy)
    scores = (await reward.score_group(row.group)).scores
    assert [score.outcome for score in scores] == [Outcome.SCORED, Outcome.REQUEST_REFUSED, Outcome.ENGINE_FAILURE]
    judge = SampledReward(PairwiseJudge(ScriptedEngine()), policy)
    assert (await judge.score_group(row.group)).scores[0].outcome is Outcome.NOTHING_TO_COMPARE
    assert not judge.independent
    [part] = await reward.score([row.group.only([2])])
    assert [score.outcome for score in part] == [Outcome.ENGINE_FAILURE]
    [plain] = await reward.score([Group.of("say a", "say a")])
    assert plain[0].outcome is Outcome.SCORED


def test_the_policy_is_among_the_settings() -> None:
    reward = SampledReward(FlipReward(ScriptedEngine()), policy_of(answer))
    assert reward.settings["policy_seed"] == 5
    assert reward.settings["generate"] == 3
    assert reward.settings["reward"] == "flip"
    group = Group.of("say a", "a")
    assert reward.select_target(group).instruction == "say a"
    assert reward.render(group) == FlipReward(ScriptedEngine()).render(group)


@pytest.mark.parametrize(("count", "temperature"), [(1, 1.0), (4, 0.0)])
def test_a_policy_that_leaves_no_choice_is_refused(count: int, temperature: float) -> None:
    with pytest.raises(OptionError):
        Policy(ScriptedEngine(), count, Sampling(temperature))


def test_drawing_may_be_cancelled(tmp_path: Path) -> None:
    slow = Policy(ScriptedEngine(answer, latency_seconds=30), 2, SAMPLING)

    async def cancel() -> None:
        task = asyncio.create_task(draw(tmp_path, slow, prompts()))
        await asyncio.sleep(0.01)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancel())

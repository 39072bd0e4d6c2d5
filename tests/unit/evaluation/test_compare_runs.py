"""Runs over the same input, compared response by response."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from flip_reward.core.similarity import TokenF1
from flip_reward.engines.scripted import ScriptedEngine
from flip_reward.errors import OptionError, RunError
from flip_reward.evaluation.compare_runs import compare_runs, read_pairs
from flip_reward.evaluation.statistics import estimate_mean
from flip_reward.rewards.config import RewardConfig
from flip_reward.rewards.flip import FlipReward
from flip_reward.scoring.files import score_file
from flip_reward.scoring.rescore import rescore_run

GROUPS = [["a", "a b c", "a b"], ["x y", "x"], ["u v w", ""], ["one"], ["two three"]]


def score(folder: Path, reward: str, groups: Sequence[Sequence[str]] = GROUPS, *, limit: int | None = None) -> Path:
    source = folder / f"{len(groups)}.jsonl"
    rows = [{"id": f"g{n}", "prompt": f"say {n}", "responses": responses} for n, responses in enumerate(groups)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = folder / f"{reward}-{len(groups)}-{limit}"
    score_file(RewardConfig(reward=reward).load(), source, run_folder=run, limit=limit)
    return run


def test_two_rewards_that_turn_the_order_round(tmp_path: Path) -> None:
    found = compare_runs(score(tmp_path, "longest"), score(tmp_path, "shortest"))
    assert (found.a, found.b, found.rows, found.responses) == ("longest", "shortest", 5, 8)
    assert (found.same_scale, found.difference) == (False, None)
    assert found.rank_correlation is not None
    assert found.rank_correlation.value == -1
    assert found.same_best is not None
    assert found.same_best.value == pytest.approx(1 / 3), "one of two is not scored"
    assert found.same_best.n == 3
    assert found.same_best_by_chance == pytest.approx((1 / 3 + 1 / 2 + 1) / 3), "one alone is chosen"
    assert {pair.id for pair in found.most_different[:2]} == {"g4", "g0#0"}


def test_the_same_reward_twice_differs_nowhere(tmp_path: Path) -> None:
    whole, part = score(tmp_path, "longest"), score(tmp_path, "longest", limit=2)
    found = compare_runs(whole, part)
    assert (found.rows, found.responses, found.only_a, found.only_b) == (2, 5, 4, 0)
    assert found.a.startswith("longest (")
    assert found.difference is not None
    assert (found.difference.value, found.difference.low, found.difference.high) == (0, 0, 0)
    assert found.rank_correlation is None, "two rows have no order to speak of"
    assert found.most_different == []
    assert [pair.id for pair in read_pairs(whole, part)] == ["g0#0", "g0#1", "g0#2", "g1#0", "g1#1"]


def test_rounding_errors_have_no_order(tmp_path: Path) -> None:
    groups = [["a", "b" * (n + 2), "c" * (n * n + 3)] for n in range(6)]
    found = compare_runs(score(tmp_path, "z(longest)", groups), score(tmp_path, "longest", groups))
    assert found.rank_correlation is None, "the mean of z is 0 in every row"


def test_formulas_whose_parts_measure_otherwise_are_on_two_scales(tmp_path: Path) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps({"prompt": f"say {n}", "response": f"{n}"}) + "\n" for n in range(4)))
    for similarity in ("f1", "f1-idf"):
        config = RewardConfig(reward=f"2*flip[similarity={similarity}]", model="scripted")
        score_file(config.load(), source, run_folder=tmp_path / similarity)
    assert not compare_runs(tmp_path / "f1", tmp_path / "f1-idf").same_scale


def test_two_values_of_likelihoods_are_on_two_scales(tmp_path: Path) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps({"prompt": f"say {n}", "response": f"{n}"}) + "\n" for n in range(4)))
    for value in ("sum", "mean", "again"):
        config = RewardConfig(
            model="scripted", reward="backward-likelihood", likelihood_value="sum" if value == "again" else value
        )
        score_file(config.load(), source, run_folder=tmp_path / value)
    assert compare_runs(tmp_path / "sum", tmp_path / "again").same_scale
    assert not compare_runs(tmp_path / "sum", tmp_path / "mean").same_scale


def test_models_of_one_reward_are_on_one_scale_and_outcomes_are_counted(tmp_path: Path) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps({"prompt": f"say {n}", "response": f"{n}"}) + "\n" for n in range(12)))
    for name, reply in (("good", '{"INFERRED INSTRUCTION": "say %s"}'), ("bad", '{"INFERRED INSTRUCTION": "it"}')):

        def infer(request: object, reply: str = reply) -> str:
            word = str(request.messages[-1].content).split()[-1]  # type: ignore[attr-defined]
            return "prose" if word == "7" and "%" not in reply else reply.replace("%s", word)

        score_file(FlipReward(ScriptedEngine(infer, model=name)), source, run_folder=tmp_path / name)
    found = compare_runs(tmp_path / "good", tmp_path / "bad")
    assert found.same_scale
    assert found.difference is not None
    assert found.difference.value == 1
    assert (found.responses, found.outcomes) == (11, {"scored, unparseable_reply": 1})
    assert len(found.most_different) == 10


def test_a_run_and_what_rescore_made_of_it_belong_together(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "Say it.", "response": "it"}\n')
    run = tmp_path / "run"
    engine = ScriptedEngine(lambda _request: '{"INFERRED INSTRUCTION": "Say it."}')
    score_file(FlipReward(engine), tmp_path / "rows.jsonl", run_folder=run)
    folder, _ = rescore_run(run, TokenF1("multilingual"))
    assert compare_runs(run, folder).responses == 1


def test_other_inputs_are_refused(tmp_path: Path) -> None:
    run = score(tmp_path, "longest")
    with pytest.raises(OptionError, match="same folder"):
        compare_runs(run, run)
    with pytest.raises(RunError, match=r"5\.jsonl.* 2\.jsonl"):
        compare_runs(run, score(tmp_path, "longest", GROUPS[:2]))
    with pytest.raises(RunError, match="not a run folder"):
        compare_runs(run, tmp_path)
    other = score(tmp_path, "shortest")
    records = other / "records.jsonl"
    records.write_text(records.read_text().replace('"say 1"', '"say one"'))
    with pytest.raises(RunError, match=r"row 2 .*'say one'"):
        compare_runs(run, other)


def test_the_interval_of_very_many_numbers_is_that_of_their_mean() -> None:
    values = [((n * 7919) % 100_003) / 100_003 for n in range(100_003)]
    found = estimate_mean(values, [""] * len(values))
    half = 1.96 * (1 / 12) ** 0.5 / len(values) ** 0.5
    assert found.high - found.value == pytest.approx(half, rel=0.05)
    assert found.value - found.low == pytest.approx(half, rel=0.05)

"""What stands where in a log is found by the names that trainers give their columns."""

from __future__ import annotations

import pytest

from flip_reward.audit.rollouts.columns import RolloutColumns
from flip_reward.errors import OptionError

TEXTS = {"step": 1, "prompt": "a", "response": "b"}
CHAT = [{"role": "user", "content": "Name a fruit."}, {"role": "assistant", "content": "A pear."}]


@pytest.mark.parametrize(
    ("row", "found"),
    [
        (
            {"step": 1, "prompt": "a", "response": "b", "reward": 1},
            RolloutColumns("step", "prompt", "response", ("reward",)),
        ),
        (
            {"Global Step": "1", "Question": "a", "Answer": "b", "Score": "0.5"},
            RolloutColumns("Global Step", "Question", "Answer", ("Score",)),
        ),
        (
            {"input": "a", "output": "b", "gts": "c", "score": 1.0, "step": 3, "acc": True, "answer": "c"},
            RolloutColumns("step", "input", "output", ("score",)),
        ),
        (
            {"step": 1, "prompt": "a", "completion": "b", "shortness": 0.1, "advantage": 0.0, "outcome": "scored"},
            RolloutColumns("step", "prompt", "completion", ("shortness",)),
        ),
        ({"global_step": 1, "text": "a b", "reward": 1.0}, RolloutColumns("global_step", None, "text", ("reward",))),
        (
            {"step": 1, "prompt": "a", "query": "a b", "reward": 1.0},
            RolloutColumns("step", "prompt", "query", ("reward",)),
        ),
        ({"step": 1, "messages": CHAT, "reward": 1.0}, RolloutColumns("step", "messages", None, ("reward",))),
        ({"prompt": "a", "response": "b", "reward": None}, RolloutColumns(None, "prompt", "response", ("reward",))),
        (
            {"step": 1, "prompt": "a", "response": "b", "reward": 1, "gold_reward": 0, "format_reward": 1},
            RolloutColumns("step", "prompt", "response", ("reward",), ("gold_reward",)),
        ),
        (
            {"step": 1, "input": "a", "output": "b", "score": 1, "main_score": 0, "aggregated_aux_score": 1},
            RolloutColumns("step", "input", "output", ("score",), ("main_score",)),
        ),
    ],
)
def test_the_columns_of_trainers_are_known(row: dict[str, object], found: RolloutColumns) -> None:
    assert RolloutColumns().find([row]) == found


def test_parts_of_a_reward_are_not_taken_for_rewards_that_are_not_trained_on() -> None:
    row = {"step": 1, "prompt": "a", "response": "b", "reward": 1.5, "format_reward": 0.5, "fluency_score": 1.0}
    assert RolloutColumns().find([row]).others == ()


def test_where_somebody_says_what_is_trained_on_the_other_rewards_are_not() -> None:
    row = {"step": 1, "prompt": "a", "response": "b", "judge_score": 1.5, "gold": 0.5, "length": 7, "tokens": 9}
    assert RolloutColumns(reward=("judge_score",)).find([row]).others == ("gold",)
    assert RolloutColumns(reward=("judge_score",), others=("tokens",)).find([row]).others == ("tokens",)
    assert RolloutColumns(others=("reward",)).find([{**TEXTS, "score": 1, "reward": 2}]).reward == ("score",)
    with pytest.raises(OptionError, match="known to hold the reward"):
        RolloutColumns(others=("reward",)).find([{**TEXTS, "reward": 2}])


def test_several_reward_functions_of_trl_are_asked_for() -> None:
    row = {"step": 1, "prompt": "a", "completion": "b", "flip": 0.1, "brevity": 0.2, "advantage": 0.0}
    with pytest.raises(OptionError, match="flip, brevity") as error:
        RolloutColumns().find([row])
    assert "--reward-column" in str(error.value.hint)
    assert RolloutColumns(reward=("flip",)).find([row]).others == ("brevity",)
    assert RolloutColumns(reward=("flip", "brevity")).find([row]).others == ()


@pytest.mark.parametrize(
    ("given", "row", "named"),
    [
        (RolloutColumns(), {"step": 1, "prompt": "a", "reward": 1}, "the response"),
        (RolloutColumns(), {"step": 1, "response": "a", "reward": 1}, "the prompt"),
        (RolloutColumns(), {"step": 1, "colour": "a", "reward": 1}, "the prompt or the response"),
        (RolloutColumns(), {"step": 1, "prompt": "a", "response": "b"}, "the reward"),
        (RolloutColumns(step="epoch"), {"step": 1, "prompt": "a", "response": "b", "reward": 1}, "'epoch'"),
        (RolloutColumns(reward=("reward",), others=("reward",)), {"response": "a", "reward": 1}, "'reward' is named"),
        (RolloutColumns(reward=("gain",)), {"prompt": "a", "response": "b", "gains": 1}, "did you mean 'gains'"),
    ],
)
def test_a_column_that_is_not_there_is_named(given: RolloutColumns, row: dict[str, object], named: str) -> None:
    with pytest.raises(OptionError, match=named):
        given.find([row])


def test_a_column_is_judged_by_all_of_the_first_rows() -> None:
    rows = [{"step": 1, "prompt": "a", "completion": "b", "shortness": None, "advantage": None}]
    rows.append({"step": 1, "prompt": "a", "completion": "b", "shortness": 0.25, "advantage": 0.0})
    assert RolloutColumns().find(rows).reward == ("shortness",)

"""Logs of each trainer's form become rollouts."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, strategies

from flip_reward.audit.monitor.rollout import Rollout
from flip_reward.audit.rollouts.columns import RolloutColumns
from flip_reward.audit.rollouts.read import RowReader, open_rollouts
from flip_reward.audit.rollouts.store import StepStore
from flip_reward.data.rows import InvalidRow
from flip_reward.errors import ConversationError, DataError, FlipRewardError

FRUIT = "Name a fruit."
CHATML = f"<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n{FRUIT}<|im_end|>\n<|im_start|>assistant\n"


def write_lines(path: Path, rows: Iterable[Mapping[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(source: Path, columns: RolloutColumns | None = None) -> tuple[list[Rollout], list[InvalidRow]]:
    """Read all of the logs in a source."""
    rollouts, invalid = [], []
    for log in open_rollouts(str(source), columns or RolloutColumns()):
        for found in log.rollouts():
            if isinstance(found, InvalidRow):
                invalid.append(found)
            else:
                rollouts += found
    return rollouts, invalid


def test_rows_of_four_columns(tmp_path: Path) -> None:
    log = write_lines(tmp_path / "log.jsonl", [{"step": 2, "prompt": FRUIT, "response": "A pear.", "reward": 0.5}])
    assert read(log) == ([Rollout(2, FRUIT, "A pear.", 0.5)], [])


def test_a_table_whose_numbers_are_texts(tmp_path: Path) -> None:
    log = tmp_path / "log.csv.gz"
    text = 'step,prompt,response,reward\n1,Hi.,Hello!,0.5\n2.0,Hi.,"Hey,\nyou.",NaN\n'
    log.write_bytes(gzip.compress(text.encode()))
    assert read(log)[0] == [Rollout(1, "Hi.", "Hello!", 0.5), Rollout(2, "Hi.", "Hey,\nyou.", None)]


def test_completions_of_trl_as_text_and_as_messages(tmp_path: Path) -> None:
    """As `GRPOTrainer.log` of TRL 1.16 writes them with `log_completions`, below its output folder."""
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    folder = tmp_path / "out" / "completions"
    folder.mkdir(parents=True)
    chat = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": FRUIT}]
    answers = ["A pear.", "Plums."]
    table = {
        "step": [10, 10],
        "prompt": [chat, chat],
        "completion": [[{"role": "assistant", "content": text}] for text in answers],
        "shortness": [0.5, float("nan")],
        "outcome": ["scored", "blank"],
        "advantage": [1.0, float("nan")],
    }
    pq.write_table(pa.table(table), folder / "completions_00010.parquet")
    texts = {**table, "step": [2, 2], "prompt": [FRUIT, FRUIT], "completion": answers}
    pq.write_table(pa.table(texts), folder / "completions_00002.parquet")
    rewarded = list(zip(answers, (0.5, None), strict=True))
    expected = [Rollout(step, FRUIT, text, value) for step in (2, 10) for text, value in rewarded]
    assert read(tmp_path / "out") == (expected, [])


@pytest.mark.parametrize("prompt", [f"system\nBe kind.\nuser\n{FRUIT}\nassistant\n", CHATML, FRUIT])
def test_generations_of_verl(tmp_path: Path, prompt: str) -> None:
    """As `RayPPOTrainer._dump_generations` writes them to `trainer.rollout_data_dir`: a file a step."""
    row = {"input": prompt, "output": "A pear.", "gts": None, "score": 1.0, "step": 7, "acc": 1.0}
    write_lines(tmp_path / "7.jsonl", [row])
    write_lines(tmp_path / "10.jsonl", [{**row, "step": 10, "output": "A pear.<|im_end|>"}])
    assert sorted(read(tmp_path)[0], key=lambda one: one.step) == [
        Rollout(7, FRUIT, "A pear.", 1.0),
        Rollout(10, FRUIT, "A pear.", 1.0),
    ]


def test_a_number_that_stands_for_an_unscored_response_is_no_reward(tmp_path: Path) -> None:
    row = {"input": FRUIT, "output": "", "score": -0.5, "step": 1, "flip_scored": 0.0}
    log = write_lines(tmp_path / "1.jsonl", [row, {**row, "score": 0.5, "flip_scored": 1.0}])
    assert [one.reward for one in read(log)[0]] == [None, 0.5]


def test_the_four_fields_of_cherrl(tmp_path: Path) -> None:
    """As `detection/docs/DATA_CARD.md` of CHERRL describes the logs that a detector sees."""
    log = write_lines(tmp_path / "1.jsonl", [{"step": 1, "input": FRUIT, "output": "A pear.", "score": 0.25}])
    assert read(log)[0] == [Rollout(1, FRUIT, "A pear.", 0.25)]


def test_the_table_of_samples_of_openrlhf(tmp_path: Path) -> None:
    """As `WandbLogger` of OpenRLHF logs it: one text holds the prompt and the response."""
    text = f"user\n{FRUIT}\nassistant\nA pear."
    log = write_lines(tmp_path / "table.jsonl", [{"global_step": 5, "text": text, "reward": 0.5}])
    assert read(log)[0] == [Rollout(5, FRUIT, "A pear.", 0.5)]


def test_the_arguments_of_a_reward_function_of_openrlhf(tmp_path: Path) -> None:
    """A query begins with its prompt, as `reward_func(queries, prompts, labels)` gets them."""
    row = {"step": 5, "prompt": CHATML, "query": f"{CHATML}A pear.<|im_end|>", "reward": 0.5}
    assert read(write_lines(tmp_path / "log.jsonl", [row]))[0] == [Rollout(5, FRUIT, "A pear.", 0.5)]


def test_samples_of_slime_as_lines(tmp_path: Path) -> None:
    """`Sample.to_dict()` has the prompt, as text or messages, the response and the reward; the file has the step."""
    sample = {"index": 0, "prompt": [{"role": "user", "content": FRUIT}], "response": "A pear.", "reward": 1}
    write_lines(tmp_path / "rollout_12.jsonl", [{**sample, "tokens": [1, 2], "label": "pear", "status": "completed"}])
    assert read(tmp_path)[0] == [Rollout(12, FRUIT, "A pear.", 1.0)]


def test_samples_of_our_own_trainings_with_those_of_held_out_prompts(tmp_path: Path) -> None:
    row = {"step": 3, "row": 0, "prompt": FRUIT, "response": "A pear.", "reward": 0.5, "outcome": "scored"}
    write_lines(tmp_path / "samples" / "train" / "step-000003.jsonl", [{**row, "held_out_rewards": "{}"}])
    held_out = {**row, "held_out_rewards": '{"pointwise": 0.75, "longest": null}'}
    write_lines(tmp_path / "samples" / "held-out" / "step-000003.jsonl", [held_out])
    train, others = open_rollouts(str(tmp_path), RolloutColumns())
    assert (train.held_out, others.held_out) == (False, True)
    assert list(others.rollouts()) == [[Rollout(3, FRUIT, "A pear.", 0.5, {"pointwise": 0.75, "longest": None})]]


def test_a_row_with_several_responses(tmp_path: Path) -> None:
    row = {"step": 1, "prompt": FRUIT, "responses": ["A pear.", "Plums."], "rewards": [0.5, None], "gold": [1, 0]}
    rollouts = [Rollout(1, FRUIT, "A pear.", 0.5, {"gold": 1.0}), Rollout(1, FRUIT, "Plums.", None, {"gold": 0.0})]
    assert read(write_lines(tmp_path / "log.jsonl", [row])) == (rollouts, [])


def test_rewards_that_are_trained_on_together_are_added_up(tmp_path: Path) -> None:
    row = {"step": 1, "prompt": FRUIT, "response": "A pear.", "flip": 0.5, "brevity": 0.25}
    log = write_lines(tmp_path / "log.jsonl", [row, {**row, "flip": None}, {**row, "flip": None, "brevity": None}])
    found, _ = read(log, RolloutColumns(reward=("flip", "brevity")))
    assert [one.reward for one in found] == [0.75, 0.25, None]


def test_what_a_template_began_belongs_to_the_response(tmp_path: Path) -> None:
    row = {"step": 1, "prompt": f"{CHATML}<think>\n", "response": "Hm.</think>A pear.", "reward": 0.5}
    assert read(write_lines(tmp_path / "log.jsonl", [row]))[0][0].response == "<think>\nHm.</think>A pear."


def test_a_prompt_with_unknown_marks_stays_as_it_is(tmp_path: Path) -> None:
    prompt = "<|nobody_knows|>Name a fruit.<|nor_this|>"
    row = {"step": 1, "prompt": prompt, "response": "A pear.", "reward": 0.5}
    assert read(write_lines(tmp_path / "log.jsonl", [row]))[0][0].prompt == prompt


@pytest.mark.parametrize(
    "name", ["step-000040.jsonl", "rollout_40.jsonl", "40.jsonl", "step_40/rank_1.jsonl", "checkpoint_step40_2.jsonl"]
)
def test_a_step_may_stand_in_the_name_of_the_file(tmp_path: Path, name: str) -> None:
    write_lines(tmp_path / "logs" / name, [{"prompt": FRUIT, "response": "A pear.", "reward": 0.5}])
    assert [one.step for one in read(tmp_path / "logs")[0]] == [40]


@pytest.mark.parametrize("name", ["log.jsonl", "rollouts_2026-05-01.jsonl", "run3_part2.jsonl"])
def test_a_step_that_nobody_wrote_is_asked_for(tmp_path: Path, name: str) -> None:
    log = write_lines(tmp_path / name, [{"prompt": FRUIT, "response": "A pear.", "reward": 0.5}])
    with pytest.raises(DataError, match="no column with the step"):
        read(log)


GOOD = {"step": 1, "prompt": FRUIT, "response": "A pear.", "reward": 0.5}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({**GOOD, "reward": "splendid"}, "'reward' must be a number, not the text 'splendid'"),
        ({**GOOD, "reward": {"a": 1}}, "'reward' must be a number, not an object"),
        ({**GOOD, "step": None}, "'step' must be a whole number"),
        ({**GOOD, "step": 1.5}, "'step' must be a whole number, not 1.5"),
        ({**GOOD, "step": 10**30}, "'step' must be a whole number"),
        ({"step": 1, "prompt": FRUIT, "reward": 1}, "there is no 'response'"),
        ({**GOOD, "prompt": 5}, "'prompt' must be text or a list of messages"),
        ({**GOOD, "response": ["A pear.", "Plums."]}, "'reward' has one number for 2 responses"),
        ({**GOOD, "reward": [1, 2, 3]}, "'reward' has 3 numbers for 1 response"),
    ],
)
def test_a_bad_row_says_why_and_the_rest_is_read(tmp_path: Path, bad: dict[str, object], reason: str) -> None:
    rollouts, invalid = read(write_lines(tmp_path / "log.jsonl", [GOOD, bad, GOOD]))
    assert len(rollouts) == 2
    assert [(one.line, reason in one.reason) for one in invalid] == [(2, True)]


JSON = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | strategies.floats() | strategies.text(),
    lambda inner: (
        strategies.lists(inner, max_size=3)
        | strategies.dictionaries(strategies.sampled_from(["role", "content", "messages", "a"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    prompt=JSON,
    response=JSON,
    reward=JSON,
    others=JSON,
    columns=strategies.sampled_from([(True, True), (False, True), (True, False)]),
)
def test_any_row_is_read_or_refused(
    prompt: object, response: object, reward: object, others: object, columns: tuple[bool, bool]
) -> None:
    asked, answered = columns
    reader = RowReader(RolloutColumns("step", "prompt" if asked else None, "text" if answered else None, ("reward",)))
    row = {"step": 1, "prompt": prompt, "text": response, "reward": reward, "others": others}
    with StepStore.open() as store, suppress(DataError, ConversationError):
        rollouts = reader.read(row, "1.jsonl")
        store.add(rollouts)
        assert store.read(1) == rollouts


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), "nan", "", []])
def test_a_reward_that_is_none_stays_none(tmp_path: Path, value: object) -> None:
    log = write_lines(tmp_path / "log.jsonl", [GOOD, {**GOOD, "reward": value}])
    assert [one.reward for one in read(log)[0]] == [0.5, None]


def test_lines_that_are_no_rows_are_left_out(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(f"{json.dumps(GOOD)}\nstep 2 begins\n{json.dumps(GOOD)}\n", encoding="utf-8")
    rollouts, invalid = read(log)
    assert (len(rollouts), len(invalid)) == (2, 1)


@pytest.mark.parametrize("content", ["", "\n\n", "begin\nend\n"])
def test_a_file_without_rows_is_an_error(tmp_path: Path, content: str) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match="no rows that can be read"):
        read(log)


def test_a_folder_of_several_formats_is_an_error(tmp_path: Path) -> None:
    write_lines(tmp_path / "1.jsonl", [GOOD])
    (tmp_path / "2.csv").write_text("step,prompt,response,reward\n2,a,b,1\n", encoding="utf-8")
    with pytest.raises(FlipRewardError, match="several formats"):
        read(tmp_path)


def test_files_of_a_folder_may_name_their_columns_otherwise(tmp_path: Path) -> None:
    ours = {"prompt": FRUIT, "response": "A pear.", "reward": 0.5}
    write_lines(tmp_path / "a-step_1.jsonl", [ours])
    write_lines(tmp_path / "b.jsonl", [{"step": 2, "input": FRUIT, "output": "A plum.", "score": 1}])
    write_lines(tmp_path / "c-step_3.jsonl", [{"prompt": FRUIT, "response": "A fig.", "reward": None}])
    write_lines(tmp_path / "d-step_4.jsonl", [{"prompt": FRUIT, "reward": 0.5}])
    rollouts, invalid = read(tmp_path)
    assert [(one.step, one.response, one.reward) for one in rollouts] == [
        (1, "A pear.", 0.5),
        (2, "A plum.", 1.0),
        (3, "A fig.", None),
    ]
    assert [one.reason for one in invalid] == ["d-step_4.jsonl: there is no 'response'"]

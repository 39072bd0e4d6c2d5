from __future__ import annotations

from dataclasses import fields

import orjson
import pytest

from flip_reward.core.cautions import Caution
from flip_reward.core.score import Cost, Likelihood, Outcome, Part, Reading, Sample, Score, Usage
from flip_reward.scoring.records import CountedRecord, Record, RecordLine

SAMPLES = (
    Sample(0.5, Outcome.SCORED, 0.25, 1.0, "Name fruits.", "raw", "They are fruits."),
    Sample(None, Outcome.TRUNCATED_REPLY, raw_reply="{"),
)
SCORE = Score(
    0.5,
    Outcome.SCORED,
    0.25,
    1.0,
    "Name fruits.",
    "They are fruits.",
    "raw",
    "detail",
    Cost(Usage(3, 2, 1), attempts=2, latency_seconds=0.25, cached=True),
    spread=0.125,
    samples=SAMPLES,
    likelihood=Likelihood(-12.5, 5, -20.0, 1.5),
    cautions=(Caution.SHORT_RESPONSE,),
    parts=(Part("flip", 0.5, Outcome.SCORED), Part("pointwise", None, Outcome.EMPTY_REPLY)),
    copied_share=0.75,
    other_reading=Reading(False, 0.75, Outcome.SCORED, SAMPLES[:1], Likelihood(-2.5, 5)),
)


def test_a_record_comes_back_as_it_was_written() -> None:
    record = Record(3, "row-3", 2, 1, "Name three fruits.", SCORE)
    assert Record.from_line(record.to_line()) == record


def test_a_record_of_an_earlier_version_lacks_the_newer_fields() -> None:
    fields = orjson.loads(Record(0, "row-0", 1, 0, "Hi", SCORE).to_line())
    for name in ("spread", "samples", "likelihood", "cautions", "parts", "copied_share", "other_reading"):
        del fields[name]
    score = Record.from_line(orjson.dumps(fields)).score
    assert (score.value, score.spread, score.samples, score.likelihood) == (0.5, None, (), None)
    assert (score.cautions, score.parts, score.copied_share, score.other_reading) == ((), (), None, None)


def test_a_likelihood_of_an_earlier_version_has_no_weighted_gain() -> None:
    fields = orjson.loads(Record(0, "row-0", 1, 0, "Hi", SCORE).to_line())
    del fields["likelihood"]["surprisal_weighted"]
    assert Record.from_line(orjson.dumps(fields)).score.likelihood == Likelihood(-12.5, 5, -20.0)


def test_a_line_holds_the_fields_of_a_record_flat_and_in_their_order() -> None:
    assert Record(3, "row-3", 2, 1, "Name three fruits.", SCORE).to_line().decode() == (
        '{"id":"row-3#1","row":3,"group_id":"row-3","group_size":2,"response_index":1,"outcome":"scored","reward":0.5,'
        '"precision":0.25,"recall":1.0,"instruction":"Name three fruits.","inferred_instruction":"Name fruits.",'
        '"reasoning":"They are fruits.","raw_reply":"raw","detail":"detail",'
        '"usage":{"prompt_tokens":3,"completion_tokens":2,"cached_tokens":1},"attempts":2,"latency_seconds":0.25,'
        '"cached":true,"spread":0.125,"samples":[{"outcome":"scored","reward":0.5,"precision":0.25,"recall":1.0,'
        '"inferred_instruction":"Name fruits.","reasoning":"They are fruits.","raw_reply":"raw"},'
        '{"outcome":"truncated_reply","reward":null,"precision":null,"recall":null,"inferred_instruction":null,'
        '"reasoning":null,"raw_reply":"{"}],"likelihood":{"log_probability":-12.5,"tokens":5,'
        '"prior_log_probability":-20.0,"surprisal_weighted":1.5},"cautions":["short_response"],'
        '"parts":[{"name":"flip","value":0.5,"outcome":"scored"},'
        '{"name":"pointwise","value":null,"outcome":"empty_reply"}],"copied_share":0.75,"other_reading":{"masked":false,'
        '"value":0.75,"outcome":"scored","samples":[{"value":0.5,"outcome":"scored","precision":0.25,"recall":1.0,'
        '"inferred_instruction":"Name fruits.","raw_reply":"raw","reasoning":"They are fruits."}],"likelihood":'
        '{"log_probability":-2.5,"tokens":5,"prior_log_probability":null,"surprisal_weighted":null}}}\n'
    )
    blank = Score(None, Outcome.EMPTY_REPLY, cost=Cost(latency_seconds=0.12345678))
    assert Record(1, "é", 1, 0, "Say 🍎\n", blank).to_line().decode() == (
        '{"id":"é","row":1,"group_id":"é","group_size":1,"response_index":0,"outcome":"empty_reply","reward":null,'
        '"precision":null,"recall":null,"instruction":"Say 🍎\\n","inferred_instruction":null,"reasoning":null,'
        '"raw_reply":null,"detail":null,"usage":{"prompt_tokens":0,"completion_tokens":0,"cached_tokens":0},'
        '"attempts":0,"latency_seconds":0.123457,"cached":false,"spread":null,"samples":[],"likelihood":null,'
        '"cautions":[],"parts":[],"copied_share":null,"other_reading":null}\n'
    )


def test_a_line_holds_what_is_read_of_it() -> None:
    assert list(Record(0, "row-0", 1, 0, "Hi", SCORE).lay_out()) == [field.name for field in fields(RecordLine)]


def test_what_is_counted_is_what_was_written() -> None:
    found = CountedRecord.read(Record(3, "row-3", 2, 1, "Name three fruits.", SCORE).to_line())
    assert (found.row, found.group_id, found.group_size, found.response_index) == (3, "row-3", 2, 1)
    assert (found.outcome, found.reward, found.detail, found.cached) == (Outcome.SCORED, 0.5, "detail", True)
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (3, 2)
    assert found.cautions == (Caution.SHORT_RESPONSE,)


@pytest.mark.parametrize(
    "damage",
    [
        {"row": -1},
        {"row": 1 << 30},
        {"row": "1"},
        {"row": True},
        {"group_size": 1},
        {"group_size": (1 << 24) + 1},
        {"response_index": -1},
        {"reward": None},
        {"reward": "0.5"},
        {"outcome": "empty_reply"},
        {"outcome": "good"},
        {"usage": 7},
        {"usage": {"prompt_tokens": 1 << 54}},
        {"cached": 1},
        {"cautions": ["none"]},
        {"group_id": None},
    ],
)
def test_a_damaged_record_is_not_counted(damage: dict[str, object]) -> None:
    line = Record(3, "row-3", 2, 1, "Name three fruits.", SCORE).to_line()
    assert CountedRecord.read(line).row == 3
    with pytest.raises(ValueError, match=r"."):
        CountedRecord.read(orjson.dumps({**orjson.loads(line), **damage}))

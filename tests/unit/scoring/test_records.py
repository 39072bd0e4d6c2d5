from __future__ import annotations

import orjson

from flip_reward.core.cautions import Caution
from flip_reward.core.score import Likelihood, Outcome, Sample, Score, Usage
from flip_reward.scoring.records import Record

SAMPLES = (
    Sample(0.5, Outcome.SCORED, 0.25, 1.0, "Name fruits.", "Name fruits.", "They are fruits."),
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
    Usage(3, 2, 1),
    attempts=2,
    latency_seconds=0.25,
    cached=True,
    spread=0.125,
    samples=SAMPLES,
    likelihood=Likelihood(-12.5, 5, -20.0),
    cautions=(Caution.SHORT_RESPONSE,),
)


def test_a_record_comes_back_as_it_was_written() -> None:
    record = Record(3, "row-3", 2, 1, "Name three fruits.", SCORE)
    assert Record.from_line(record.to_line()) == record


def test_a_record_of_an_earlier_version_lacks_the_newer_fields() -> None:
    fields = Record(0, "row-0", 1, 0, "Hi", SCORE).to_json()
    for name in ("spread", "samples", "likelihood", "cautions"):
        del fields[name]
    score = Record.from_line(orjson.dumps(fields)).score
    assert (score.value, score.spread, score.samples, score.likelihood, score.cautions) == (0.5, None, (), None, ())

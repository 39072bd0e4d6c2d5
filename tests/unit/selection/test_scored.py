"""Scored rows are read from a file and from a table in memory alike."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest

from flip_reward import FlipReward, ScriptedEngine
from flip_reward.errors import DataError
from flip_reward.selection import LeftOut, Pair, open_scored, select_above, select_best_of_groups, select_pairs

ROWS = {
    "prompt": ["Name a fruit."] * 3 + ["Say hi."],
    "response": ["Bread.", "A pear is a fruit.", "", "Hi!"],
}


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame])
def test_pairs_of_a_table_that_was_scored(make: Callable[[object], Any]) -> None:
    table = FlipReward(ScriptedEngine()).score_table(make(ROWS))
    found = list(select_pairs(open_scored(table).read))
    [pair] = [one for one in found if isinstance(one, Pair)]
    assert (pair.chosen.text, pair.rejected.text) == ("A pear is a fruit.", "Bread.")
    reasons = {one.response.text: one.reason for one in found if isinstance(one, LeftOut)}
    assert reasons == {"": "not scored: empty_response", "Hi!": "the only scored response of its group"}


def test_lists_of_responses_in_a_table() -> None:
    table = pd.DataFrame({"prompt": ["Name a fruit."], "responses": [["Bread.", "A pear is a fruit."]]})
    scored = open_scored(FlipReward(ScriptedEngine()).score_table(table))
    assert [one.text for one in select_best_of_groups(scored.read) if not isinstance(one, LeftOut)] == [
        "A pear is a fruit."
    ]


def test_a_file_gives_what_its_table_gives(tmp_path: Path) -> None:
    table = FlipReward(ScriptedEngine()).score_table(pd.DataFrame(ROWS))
    table.to_csv(tmp_path / "scored.csv", index=False)
    of_table, of_file = (list(select_pairs(open_scored(source).read)) for source in (table, tmp_path / "scored.csv"))
    pairs = [[one.to_row() for one in found if isinstance(one, Pair)] for found in (of_table, of_file)]
    assert pairs[0] == pairs[1] != []


def test_columns_can_be_named() -> None:
    table = pd.DataFrame({"q": ["Say hi."], "a": ["Hi!"], "points": [3.0], "topic": ["greetings"]})
    scored = open_scored(table, columns={"instruction": "q", "response": "a"}, reward="points", group_by="topic")
    [kept] = select_above(scored.read, 3.0)
    assert not isinstance(kept, LeftOut)
    assert (kept.text, kept.key) == ("Hi!", "greetings")


def test_a_table_that_was_not_scored_is_refused() -> None:
    with pytest.raises(DataError, match="'reward'"):
        list(select_above(open_scored(pd.DataFrame(ROWS)).read, 0.5))

"""What libraries for tables give for a cell."""

from __future__ import annotations

import numpy as np
import pytest

from flip_reward.data.cells import is_missing, read_id, read_response

pd = pytest.importorskip("pandas")


@pytest.mark.parametrize("cell", [None, float("nan"), np.float32("nan"), pd.NA, pd.NaT], ids=repr)
def test_what_pandas_has_for_nothing_is_missing(cell: object) -> None:
    assert is_missing(cell)
    assert read_id(cell) is None
    assert read_response(cell) == ""


@pytest.mark.parametrize(
    ("cell", "name", "text"),
    [
        (np.int64(7), "7", "7"),
        (np.float64(7.0), "7", "7.0"),
        (np.str_("seven"), "seven", "seven"),
        (pd.Timestamp("2026-05-01"), "2026-05-01T00:00:00", None),
        (np.bool_(True), None, None),
    ],
)
def test_numpy_and_pandas_cells_read_as_python_s_own(cell: object, name: str | None, text: str | None) -> None:
    assert (read_id(cell), read_response(cell)) == (name, text)
    assert type(read_id(cell)) in (str, type(None))

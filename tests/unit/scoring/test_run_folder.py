from hypothesis import given
from hypothesis import strategies as st

from flip_reward.scoring.run_folder import CompletedRows, SeenIds


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2))))
def test_missing_responses(done: list[tuple[int, int]]) -> None:
    completed = CompletedRows()
    for row, index in done:
        completed.add(row=row, group_size=3, response_index=index)
    for row in range(6):
        expected = [index for index in range(3) if (row, index) not in done]
        assert completed.pending(row, group_size=3) == expected
        assert (row in completed) == (not expected)


def test_ids() -> None:
    seen = SeenIds()
    assert seen.add("x", row=4) is None
    assert seen.add("x", row=4) is None, "a row that is tried again is no duplicate of itself"
    assert seen.add("x", row=9) == 4
    seen.close()

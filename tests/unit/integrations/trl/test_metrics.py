import pytest

from flip_reward.integrations.trl.metrics import instruction_4gram_overlap, share_without_variance


def test_groups_without_variance() -> None:
    assert share_without_variance([]) is None
    assert share_without_variance([[0.1, 0.1, 0.2]]) == 0.0
    assert share_without_variance([[0.1], [0.3, 0.3]]) == 1.0


@pytest.mark.parametrize(
    ("instruction", "response", "share"),
    [
        ("Write a poem about the sea and the wind", "Write poem about sea and wind!", 1.0),
        ("one two three four five", "Two, three, four, FIVE", 0.5),
        ("one two three four five", "five four three two one", 0.0),
        ("one two three", "one two three", None),
        ("one two three four", "", 0.0),
    ],
)
def test_copied_4grams(instruction: str, response: str, share: float | None) -> None:
    assert instruction_4gram_overlap(instruction, response) == share

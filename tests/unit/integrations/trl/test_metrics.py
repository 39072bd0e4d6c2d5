from flip_reward.integrations.trl.metrics import share_without_variance


def test_groups_without_variance() -> None:
    assert share_without_variance([]) is None
    assert share_without_variance([[0.1, 0.1, 0.2]]) == 0.0
    assert share_without_variance([[0.1], [0.3, 0.3]]) == 1.0

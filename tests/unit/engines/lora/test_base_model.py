"""Which model an adapter is for, on a matrix that is written down here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from flip_reward.engines.lora.base_model import BASE_FILE, BaseModelIdentity, SampledWeight, find_difference

MATRIX = [[0.5, -0.25, 1.0], [2.0, 0.125, -3.0]]
SAMPLED = {"a": [SampledWeight(0, 1, -0.25), SampledWeight(1, 2, -3.0)]}


class Matrices:
    """A model of a few numbers."""

    name = "numbers"

    def __init__(self, matrices: Mapping[str, Sequence[Sequence[float]]], *, quantised: bool = False) -> None:
        self.matrices = matrices
        self.quantised = quantised

    def shape(self, tensor: str) -> tuple[int, int] | None:
        matrix = self.matrices.get(tensor)
        return (len(matrix), len(matrix[0])) if matrix else None

    def is_quantised(self, _tensor: str) -> bool:
        return self.quantised

    def weight(self, tensor: str, row: int, column: int) -> float:
        return self.matrices[tensor][row][column]


def scale(factor: float) -> list[list[float]]:
    return [[value * factor for value in row] for row in MATRIX]


def test_the_same_weights_in_another_precision() -> None:
    assert find_difference(SAMPLED, Matrices({"a": MATRIX})) is None
    assert find_difference(SAMPLED, Matrices({"a": scale(1 + 2**-9)})) is None
    assert find_difference({}, Matrices({})) is None


@pytest.mark.parametrize("matrices", [{"a": scale(1.02)}, {"a": [[0.5]]}, {"b": MATRIX}])
def test_another_model_differs(matrices: Mapping[str, Sequence[Sequence[float]]]) -> None:
    assert "a" in str(find_difference(SAMPLED, Matrices(matrices)))


def test_quantised_weights_are_the_same_but_for_rounding() -> None:
    rounded = [[0.5, -0.2, 1.0], [2.0, 0.0, -3.1]]
    assert find_difference(SAMPLED, Matrices({"a": rounded}, quantised=True)) is None
    assert "a" in str(find_difference(SAMPLED, Matrices({"a": rounded})))
    assert find_difference(SAMPLED, Matrices({"a": [[0.0, 3.0, 0.0], [0.0, 0.0, 0.2]]}, quantised=True)) is not None


def test_weights_are_at_fifths_of_the_flattened_matrix() -> None:
    identity = BaseModelIdentity(name="numbers", weights={"a": [1.0, 2.0, 3.0, 4.0], "gone": [0.0] * 4})
    located = identity.locate(Matrices({"a": [[0.0] * 4] * 5}).shape)
    assert located == {"a": [(1, 0, 1.0), (2, 0, 2.0), (3, 0, 3.0), (4, 0, 4.0)]}


def test_a_folder_without_an_identity_was_made_elsewhere(tmp_path: Path) -> None:
    assert BaseModelIdentity.read(tmp_path) is None
    identity = BaseModelIdentity(name="numbers", weights={"a": [1.0]})
    (tmp_path / BASE_FILE).write_text(identity.model_dump_json())
    assert BaseModelIdentity.read(tmp_path) == identity

from pathlib import Path

import pytest

from flip_reward.errors import DataError
from tests.unit.evaluation.benchmarks.rows import PAIR, read


def test_a_preference_file(tmp_path: Path) -> None:
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a tree."}]
    first, second, third = read(
        tmp_path,
        PAIR,
        {"prompt": chat, "chosen": "Oak.", "rejected": ["Stone.", "Rain."], "models": ["x"]},
        {"id": 7, "prompt": "Name a bird.", "chosen": ["Owl.", "Jay."], "rejected": "Cat."},
    )
    assert (first.id, first.subset, first.chosen) == ("1", "fruit", (True, False))
    assert (second.id, second.subset, second.group.responses) == ("row-1", "all", ("Oak.", "Stone.", "Rain."))
    assert [message.role for message in second.group.messages] == ["system", "user"]
    assert (third.id, third.chosen) == ("7", (True, True, False))


def test_rows_with_one_labelled_response_are_joined_by_their_prompts(tmp_path: Path) -> None:
    rows = [
        {"prompt": prompt, "completion": completion, "label": label}
        for prompt, completion, label in [
            ("Name a tree.", "An oak.", True),
            ("Name a bird.", "A stone.", False),
            ("Name a tree.", "A stone.", False),
            ("Name a bird.", "An owl.", True),
            ("Name a bird.", "A jay.", True),
        ]
    ]
    tree, bird = read(tmp_path, *rows)
    assert (tree.id, tree.group.responses, tree.chosen) == ("row-0", ("An oak.", "A stone."), (True, False))
    assert (bird.id, bird.group.responses) == ("row-1", ("An owl.", "A jay.", "A stone."))


def test_labels_that_are_all_alike_or_none_cannot_be_used(tmp_path: Path) -> None:
    good = {"prompt": "Name a tree.", "response": "An oak.", "label": 1}
    with pytest.raises(DataError, match="no rejected responses"):
        read(tmp_path, good)
    odd = [{**good, "label": 0, "response": "A cup."}] * 100 + [{**good, "label": "maybe"}]
    with pytest.raises(DataError, match="'label' must be true or false"):
        read(tmp_path, good, *odd)

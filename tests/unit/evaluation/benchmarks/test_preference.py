from pathlib import Path

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

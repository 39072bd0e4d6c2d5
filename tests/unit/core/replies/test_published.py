"""Every value was worked out by hand from the published code's steps."""

import pytest

from flip_reward.core.replies.published import rate_as_published, read_as_published
from flip_reward.metrics import f1_score

INSTRUCTION = "Name three fruits"


@pytest.mark.parametrize(
    ("reply", "reading", "reward"),
    [
        # a whole object on one line is read
        ('{"REASONING": "x", "INFERRED INSTRUCTION": "Name fruits"}', "Name fruits", 0.8),
        ('{"inferred_instruction": "Name fruits"}', "Name fruits", 0.8),
        ('<think>Hm.</think>\n<answer>{"Inferred_Instruction": "Name fruits"}</answer>', "Name fruits", 0.8),
        ('```{"INFERRED INSTRUCTION": "Name fruits"}```', "Name fruits", 0.8),
        (r'{"INFERRED INSTRUCTION": "Name \(fruits\)"}', r"Name \(fruits\)", 0.8),
        # over several lines it is none: one of 'nnreasoning xninferred instruction name fruitsnn' is right
        (
            '```json\n{\n"REASONING": "x",\n"INFERRED INSTRUCTION": "Name fruits"\n}\n```',
            r'\n{\n"REASONING": "x",\n"INFERRED INSTRUCTION": "Name fruits"\n}\n',
            0.25,
        ),
        # a line break in a string is escaped first, so the string holds one
        ('{"INFERRED INSTRUCTION": "Name\nfruits"}', "Name\nfruits", 0.8),
        # what is no JSON is scored whole: 'name threenfruits', one of two words
        ("Name three\nfruits", r"Name three\nfruits", 0.4),
        ("assistantName <|assistant|>fruits<|text|>", "Name <||>fruits", 0.8),
        ('{"REASONING": "Name', '{"REASONING": "Name', 0.4),
        ("<think>Name three fruits", "Name three fruits", 1.0),
        # JSON without an instruction is scored whole too: 'score 7 fruits'
        ('{"SCORE": 7, "": "fruits"}', '{"SCORE": 7, "": "fruits"}', 1 / 3),
        ('{"INFERRED INSTRUCTION": ""}', '{"INFERRED INSTRUCTION": ""}', 0.0),
        # what raises there earns nothing
        ('["Name three fruits"]', "", 0.0),
        ('"Name three fruits"', "", 0.0),
        ('{"INFERRED INSTRUCTION": ["Name three fruits"]}', "", 0.0),
        ('{"INFERRED INSTRUCTION": {"text": "Name three fruits"}}', "", 0.0),
        ("[" * 100_000, "", 0.0),
        ("9" * 5_000, "", 0.0),
        (None, "", 0.0),
        ("", "", 0.0),
    ],
    ids=lambda value: str(value)[:30],
)
def test_readings(reply: str | None, reading: str, reward: float) -> None:
    assert read_as_published(reply).instruction == reading
    assert f1_score(reading, INSTRUCTION)["f1"] == pytest.approx(reward)


def test_the_reasoning_is_read_too() -> None:
    assert read_as_published('{"Reasoning": "x", "INFERRED INSTRUCTION": "y"}').reasoning == "x"


@pytest.mark.parametrize(
    ("reply", "reward"),
    [
        ('{"REASONING": "x", "SCORE": "7"}', 0.7),
        ('```json\n{"SCORE": 7}\n```', 0.7),
        ('{"SCORE": 15}', 1.5),
        ('{"SCORE": -3}', -0.3),
        ('{"SCORE": true}', 0.1),
        ('{"SCORE": "7/10"}', 0.0),
        ('{"SCORE": null}', 0.0),
        ('{"RATING": 7}', 0.0),
        ('{"SCORE": 1e999}', 0.0),
        ("[7]", 0.0),
        ("I would say 7.", 0.0),
        (None, 0.0),
    ],
)
def test_ratings(reply: str | None, reward: float) -> None:
    assert rate_as_published(reply) == pytest.approx(reward)

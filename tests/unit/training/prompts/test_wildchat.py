from typing import Any

from flip_reward.data.rows import Input, InvalidRow, RawRow
from flip_reward.training.prompts.wildchat import LeftOutReason, WildChatOptions, build_wildchat


def chat(text: str, **changes: Any) -> dict[str, Any]:
    """A row of WildChat-1M's schema, as far as it is read."""
    turn = {"content": text, "role": "user", "language": "English", "toxic": False, "redacted": False}
    turn |= {name.removeprefix("turn_"): value for name, value in changes.items() if name.startswith("turn_")}
    answer = {"content": "Sure!", "role": "assistant", "language": "English", "toxic": False, "redacted": False}
    row = {
        "conversation_hash": "0", "model": "m", "conversation": [turn, answer, {**turn, "content": "And then?"}],
        "turn": 2, "language": "English", "toxic": False, "redacted": False,
    }  # fmt: skip
    return row | {name: value for name, value in changes.items() if not name.startswith("turn_")}


def source(*rows: dict[str, Any]) -> Input:
    found = [RawRow(n, n + 1, row) for n, row in enumerate(rows)]
    return Input("wildchat", read=lambda _: iter([*found, InvalidRow(len(found), len(found) + 1, "damaged")]))


def test_what_is_taken_and_what_is_left_out() -> None:
    found = build_wildchat(
        source(
            chat("Write a poem about the sea"),
            chat("write a poem, about the SEA!"),
            chat("Schreib ein Gedicht bitte", language="German", turn_language="German"),
            chat("Schreib noch ein Gedicht", turn_language="German"),
            chat("Something very toxic here", toxic=True),
            chat("Something else toxic here", turn_toxic=True),
            chat("My number is NAME_1", redacted=True),
            chat("too short"),
            chat("long " * 2000),
            chat("A robot speaks first", turn_role="assistant"),
            {"conversation": None},
            chat("Explain how bread is made"),
        ),
        WildChatOptions(dataset="general-quality"),
    )
    assert [row.instruction for row in found.rows] == ["Write a poem about the sea", "Explain how bread is made"]
    assert {row.datasets for row in found.rows} == {("general-quality",)}
    assert all(len(row.messages) == 1 for row in found.rows)
    assert {reason.name: count for reason, count in found.left_out.items()} == {
        "REPEATED": 1, "LANGUAGE": 2, "TOXIC": 2, "REDACTED": 1, "LENGTH": 2, "UNREADABLE": 3,
    }  # fmt: skip


def test_the_seed_draws_the_same_ones_again() -> None:
    rows = [chat(f"Write {number} poems about the sea") for number in range(200)]

    def draw(seed: int) -> list[str]:
        found = build_wildchat(source(*rows), WildChatOptions(count=20, seed=seed))
        assert found.left_out[LeftOutReason.NOT_DRAWN] == 180
        return [row.instruction for row in found.rows]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    numbers = [int(text.split()[1]) for text in draw(1)]
    assert numbers == sorted(numbers)
    assert len(set(numbers)) == 20
    assert max(numbers) > 100

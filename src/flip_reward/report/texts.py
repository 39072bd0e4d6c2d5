"""The texts of a report: each once, long ones cut."""

from __future__ import annotations

from dataclasses import dataclass, field

from flip_reward.core.characters import replace_lone_surrogates


@dataclass(slots=True)
class TextTable:
    """Texts by number, so that what several rewards share is stored once.

    Spare texts are cut at a quarter of the limit of the others, and so go first where there is no room.

    Example:
        >>> table = TextTable()
        >>> table.add("a"), table.add("bcd"), table.add("a")
        (0, 1, 0)
        >>> table.add("efghij", spare=True)
        2
        >>> table.cut(2)
        CutTexts(texts=['a', 'bc', ''], omitted=[(1, 1), (2, 6)])
    """

    _numbers: dict[str, int] = field(default_factory=dict)
    _needed: set[int] = field(default_factory=set)

    def add(self, text: str, *, spare: bool = False) -> int:
        """Return the number of a text. One that is spare here and needed elsewhere is needed."""
        number = self._numbers.setdefault(text, len(self._numbers))
        if not spare:
            self._needed.add(number)
        return number

    def longest(self) -> int:
        """Return the length of the longest text, in characters; 0 without a text."""
        return max(map(len, self._numbers), default=0)

    def cut(self, limit: int) -> CutTexts:
        """Return the texts by number, each with at most `limit` characters, spare ones with at most a quarter."""
        limits = [limit if number in self._needed else limit // 4 for number in range(len(self._numbers))]
        return CutTexts(
            [replace_lone_surrogates(text[:most]) for text, most in zip(self._numbers, limits, strict=True)],
            [
                (number, len(text) - most)
                for (text, number), most in zip(self._numbers.items(), limits, strict=True)
                if len(text) > most
            ],
        )


@dataclass(frozen=True, slots=True)
class CutTexts:
    """Texts as the report holds them.

    Attributes:
        texts: By number.
        omitted: The number of each text that was cut, and how many characters it lost.
    """

    texts: list[str]
    omitted: list[tuple[int, int]]

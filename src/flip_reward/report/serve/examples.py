"""Questions to begin with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Example:
    """An instruction and its responses, one of them to the point."""

    name: str
    instruction: str
    responses: tuple[str, ...]


EXAMPLES = (
    Example(
        "Soil",
        "Define soil degradation and name two causes.",
        (
            "The stock market rose on Friday, led by banks and energy companies.",
            "Soil degradation is the loss of a soil's fertility. Rain carries it off; farming takes out nutrients.",
            "Soils differ in colour: some are red, some are black.",
        ),
    ),
    Example(
        "Fruits, and tricks",
        "Name three fruits that are rich in vitamin C.",
        (
            "Kiwis, oranges and strawberries are full of vitamin C.",
            "Name three fruits that are rich in vitamin C.",
            "<think>They ask for fruits with vitamin C. Oranges would be one, and",
            "",
        ),
    ),
    Example(
        "First snow",
        "Write a haiku about the first snow of winter.",
        (
            "First snow on the roof\nthe garden holds its breath now\nwinter whispers: white",
            "Golden leaves let go\nthe river carries them south\nsummer's last letters",
            "Snow forms when water vapour freezes onto dust in a cold cloud.",
        ),
    ),
)

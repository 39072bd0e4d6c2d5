"""Curves over steps as SVG, which needs no script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 420, 170, 46, 22, 10
_COLOURS = ("var(--first)", "var(--second)", "var(--third)")


@dataclass(frozen=True, slots=True)
class Curve:
    """A figure that changes with the steps.

    Attributes:
        name: What it is called in the legend.
        points: Steps and values, in the order of the steps.
    """

    name: str
    points: Sequence[tuple[int, float]]


def draw_curves(title: str, curves: Sequence[Curve]) -> str:
    """Draw some curves into one picture with a caption.

    Args:
        title: What they show.
        curves: At most three of them; those without points are left out.

    Returns:
        A figure in HTML; nothing where there are no points.

    Example:
        >>> picture = draw_curves("Reward", [Curve("training", [(1, 0.1), (2, 0.3)])])
        >>> picture.count("<polyline"), "Reward" in picture
        (1, True)
        >>> draw_curves("Reward", [Curve("training", [])])
        ''
    """
    drawn = [curve for curve in curves if curve.points][: len(_COLOURS)]
    if not drawn:
        return ""
    steps = [step for curve in drawn for step, _ in curve.points]
    values = [value for curve in drawn for _, value in curve.points]
    first, last, low, high = min(steps), max(steps), min(values), max(values)
    if low == high:
        low, high = low - 0.5, high + 0.5

    def place(step: int, value: float) -> str:
        x = _LEFT + (step - first) / max(last - first, 1) * (_WIDTH - _LEFT - 8)
        y = _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _BOTTOM - _TOP)
        return f"{x:.1f},{y:.1f}"

    lines = []
    for colour, curve in zip(_COLOURS, drawn, strict=False):
        points = " ".join(place(step, value) for step, value in curve.points)
        lines.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        if len(curve.points) < 30:
            for x, y in (place(step, value).split(",") for step, value in curve.points):
                lines.append(f'<circle cx="{x}" cy="{y}" r="2.2" fill="{colour}"/>')
    legend = " ".join(
        f'<span class="key"><i style="background:{colour}"></i>{escape(curve.name)}</span>'
        for colour, curve in zip(_COLOURS, drawn, strict=False)
    )
    bottom = _HEIGHT - _BOTTOM
    return (
        f"<figure><figcaption>{escape(title)} {legend if len(drawn) > 1 else ''}</figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">'
        f'<line x1="{_LEFT}" y1="{bottom}" x2="{_WIDTH - 8}" y2="{bottom}" class="axis"/>'
        f'<text x="{_LEFT - 4}" y="{_TOP + 8}" text-anchor="end">{high:.3g}</text>'
        f'<text x="{_LEFT - 4}" y="{bottom}" text-anchor="end">{low:.3g}</text>'
        f'<text x="{_LEFT}" y="{_HEIGHT - 6}">step {first}</text>'
        f'<text x="{_WIDTH - 8}" y="{_HEIGHT - 6}" text-anchor="end">{last}</text>'
        f"{''.join(lines)}</svg></figure>"
    )

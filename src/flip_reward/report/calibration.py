"""A calibration as one HTML page: the reliability diagram and the map, as SVG."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

from flip_reward.data.files import write_atomically
from flip_reward.evaluation.calibration import CurvePoint, FittedCalibration, ReliabilityBin, describe_precision

_SIZE, _LEFT, _BOTTOM, _TOP, _RIGHT = 340, 38, 38, 10, 12
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


def write_calibration_page(path: Path, fitted: FittedCalibration, title: str) -> None:
    """Write the page of a calibration, whose name is that of a run."""
    found = fitted.figures
    figures = [("AUC", f"{found.auc.value:.3f} ({found.auc.low:.3f} to {found.auc.high:.3f})")]
    for method, loss in found.log_loss.items():
        what = "without rewards" if method == "none" else f"{method}{', chosen' * (method == fitted.curve.method)}"
        figures.append((f"Log loss, {what}", f"{loss:.3f}"))
    for name, after, before in (
        ("Brier score", found.brier, found.brier_before),
        ("Calibration error", found.calibration_error, found.calibration_error_before),
    ):
        as_is = [] if before is None else [(f"{name} of the rewards as they are", f"{before:.3f}")]
        figures += [(name, f"{after:.3f}"), *as_is]
    bins = [
        (f"{one.probability:.2f}", f"{one.labels:,}", f"{one.good:.2f} ({one.low:.2f} to {one.high:.2f})")
        for one in found.bins
    ]
    values = {
        "title": escape(title),
        "reward": escape(str(fitted.reward.get("reward", ""))),
        "counts": f"{found.labels:,} labels, {found.good:,} of good responses, to {found.prompts:,} prompts",
        "method": fitted.curve.method,
        "figures": _tabulate(figures),
        "bins": _tabulate(bins),
        "diagram": draw_reliability(found.bins),
        "curve": draw_curve(found.points),
        "precision": escape(describe_precision(found)),
        "settings": _tabulate((name, str(value)) for name, value in fitted.reward.items()),
    }
    template = (files("flip_reward.report") / "page" / "calibration.html").read_text(encoding="utf-8")
    write_atomically(path, re.sub(r"\{\{ (\w+) \}\}", lambda place: values[place[1]], template).encode())


def _tabulate(rows: Iterable[Sequence[str]]) -> str:
    lines = []
    for first, *others in rows:
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in others)
        lines.append(f"<tr><th>{escape(first)}</th>{cells}</tr>")
    return "".join(lines)


def draw_reliability(bins: Sequence[ReliabilityBin]) -> str:
    """Draw the share of good labels over the probability that was predicted; on the diagonal both are the same."""
    most = max(one.labels for one in bins)
    drawn = [f'<line class="even" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/>']
    for one in bins:
        x = _x(one.probability)
        said = f"{one.probability:.2f} predicted, {one.good:.2f} good of {one.labels:,} labels"
        drawn.append(f'<line class="reach" x1="{x}" y1="{_y(one.low)}" x2="{x}" y2="{_y(one.high)}"/>')
        radius = 2.5 + 3 * (one.labels / most) ** 0.5
        drawn.append(f'<circle cx="{x}" cy="{_y(one.good)}" r="{radius:.1f}"><title>{said}</title></circle>')
    ticks = [(tick, f"{tick:g}") for tick in _TICKS]
    return _frame("Reliability", ticks, "predicted probability", "share of good labels", drawn)


def draw_curve(points: Sequence[CurvePoint]) -> str:
    """Draw the probability over the reward, with its intervals."""
    first, last = points[0].reward, points[-1].reward

    def place(reward: float) -> float:
        return (reward - first) / ((last - first) or 1.0)

    above = [f"{_x(place(one.reward))},{_y(one.high)}" for one in points]
    below = [f"{_x(place(one.reward))},{_y(one.low)}" for one in reversed(points)]
    line = [f"{_x(place(one.reward))},{_y(one.probability)}" for one in points]
    drawn = [
        f'<polygon class="band" points="{" ".join(above + below)}"/>',
        f'<polyline class="map" points="{" ".join(line)}"/>',
    ]
    ticks = [(tick, _show(first + tick * (last - first))) for tick in (_TICKS if last > first else (0.0,))]
    return _frame("Map", ticks, "reward", "probability of being good", drawn)


def _show(number: float) -> str:
    return f"{number:.3g}" if abs(number) < 1000 else f"{number:,.0f}"


def _x(share: float) -> float:
    return round(_LEFT + share * (_SIZE - _LEFT - _RIGHT), 1)


def _y(share: float) -> float:
    return round(_SIZE - _BOTTOM - share * (_SIZE - _BOTTOM - _TOP), 1)


def _frame(name: str, ticks: Sequence[tuple[float, str]], below: str, left: str, drawn: Sequence[str]) -> str:
    """Put axes around a drawing: from 0 to 1 upwards, with the ticks given to the right."""
    axes = []
    for tick in _TICKS:
        axes.append(f'<line class="grid" x1="{_x(0)}" y1="{_y(tick)}" x2="{_x(1)}" y2="{_y(tick)}"/>')
        axes.append(f'<text x="{_x(0) - 5}" y="{_y(tick) + 3.5}" text-anchor="end">{tick:g}</text>')
    for tick, said in ticks:
        axes.append(f'<text x="{_x(tick)}" y="{_y(0) + 14}" text-anchor="middle">{said}</text>')
    middle = (_y(0) + _y(1)) / 2
    axes.append(f'<text x="{_x(0.5)}" y="{_SIZE - 6}" text-anchor="middle">{below}</text>')
    axes.append(f'<text transform="translate(9 {middle}) rotate(-90)" text-anchor="middle">{left}</text>')
    return (
        f'<svg viewBox="0 0 {_SIZE} {_SIZE}" role="img" aria-label="{name}: {left} over {below}">'
        f"{''.join(axes)}{''.join(drawn)}</svg>"
    )

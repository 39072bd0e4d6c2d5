"""The page of a calibration: drawings within their frame, and texts that stay texts."""

import re
from pathlib import Path
from xml.etree import ElementTree as ET

from flip_reward.evaluation.calibration import CurvePoint, ReliabilityBin, fit_calibration
from flip_reward.report.calibration import draw_curve, draw_reliability, write_calibration_page
from flip_reward.rewards.calibration import LabelledRewards

BINS = [
    ReliabilityBin(probability=0.0, labels=10, good=0.0, low=0.0, high=0.3),
    ReliabilityBin(probability=1.0, labels=40, good=0.9, low=0.7, high=1.0),
]


def read_places(drawing: str) -> list[float]:
    """Return every coordinate of what is drawn."""
    found = []
    for element in ET.fromstring(drawing).iter():
        found += [float(element.get(name, "0")) for name in ("x", "x1", "x2", "cx", "y", "y1", "y2", "cy")]
        found += [float(number) for number in re.split("[ ,]", element.get("points", "0"))]
    return found


def test_a_bin_is_a_point_with_its_interval() -> None:
    drawing = draw_reliability(BINS)
    assert drawing.count("<circle") == drawing.count('class="reach"') == 2
    assert "1.00 predicted, 0.90 good of 40 labels" in drawing
    assert all(0 <= place <= 340 for place in read_places(drawing))


def test_a_map_is_a_line_in_a_band() -> None:
    points = [CurvePoint(reward=r, probability=p, low=p - 0.1, high=p + 0.1) for r, p in ((-3000.0, 0.1), (2.5, 0.9))]
    for shown in (points, points[:1]):
        drawing = draw_curve(shown)
        assert drawing.count("<poly") == 2
        assert ">-3,000<" in drawing
        assert all(0 <= place <= 340 for place in read_places(drawing))


def test_the_page_is_whole_and_runs_nothing(tmp_path: Path) -> None:
    rewards = [number / 40 for number in range(40)]
    good = [(number > 20) != (number % 7 == 0) for number in range(40)]
    labelled = LabelledRewards({"reward": "<script>"}, rewards, good, [str(number) for number in range(40)])
    write_calibration_page(tmp_path / "page.html", fit_calibration(labelled), "run <b>1</b>")
    page = (tmp_path / "page.html").read_text()
    assert page.count("<svg") == 2
    assert "{{" not in page
    assert "&lt;script&gt;" in page
    assert "run &lt;b&gt;1&lt;/b&gt;" in page
    assert "<script" not in page
    assert "of the rewards as they are" in page

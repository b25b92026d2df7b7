"""Charts as text: places, escaping, the same bytes, and figures that say in words what they show."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from wardround.evaluation.figures.figure_set import DecisionCurve, DecisionPoint, Estimate, RiskCoverage, RiskPoint
from wardround.evaluation.figures_svg import confusion_figure, reliability_diagram
from wardround.evaluation.per_class import rate
from wardround.evaluation.reliability import reliability_bins
from wardround.evaluation.sections.drawings import class_reliability, decision_figure, forest, risk_figure
from wardround.evaluation.svg_chart import Chart, room, shortened

NASTY = '<b>"x"</b> & y'


def test_places_of_the_data() -> None:
    chart = Chart((200, 100), (0, 10), (0, 1), left=20, right=10, top=5, bottom=15)
    assert (chart.px(0), chart.px(10)) == (20, 190)
    assert (chart.py(0), chart.py(1)) == (85, 5)
    chart.dot(5, 0.5, "#000000")
    assert '<circle cx="105" cy="45"' in chart.svg("k", "t", "d")


def test_text_is_escaped_and_cut_where_there_is_no_room() -> None:
    chart = Chart((100, 100), (0, 1), (0, 1))
    chart.words((1, 2), NASTY, turn=-30)
    drawn = chart.svg("k", NASTY, NASTY)
    assert "<b>" not in drawn
    root = ElementTree.fromstring(drawn)  # noqa: S314
    assert [element.text for element in root] == [NASTY] * 3
    assert shortened("short", 100) == "short"
    assert shortened("a" * 50, 100).endswith("\N{HORIZONTAL ELLIPSIS}")
    assert room(["a" * 500], 120) == 120
    assert room([], 120) == 10


def bins() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(1)
    stated = generator.random(50)
    return stated, (generator.random(50) < stated).astype(np.float64)


def point(threshold: float, value: float, treat_all: float, *, named: bool = False) -> DecisionPoint:
    return DecisionPoint(threshold, Estimate(value, value - 0.1, value + 0.1), treat_all, named)


def figures() -> dict[str, str]:
    curve = DecisionCurve(NASTY, 0.3, (point(0.1, 0.3, 0.2, named=True), point(0.5, 0.2, -0.4), point(0.9, 0.1, -6.0)))
    risks = tuple(RiskPoint(0.1 * i, 1 - 0.1 * i, 100 - 10 * i, rate(10 - i, 100 - 10 * i)) for i in range(9))
    return {
        "reliability": reliability_diagram("a", NASTY, reliability_bins(*bins())),
        "empty": reliability_diagram("b", "Empty", reliability_bins(np.zeros(0), np.zeros(0))),
        "class": class_reliability("c", NASTY, reliability_bins(*bins())),
        "decision": decision_figure("d", curve),
        "risk": risk_figure("e", RiskCoverage(risks, Estimate(0.1), None, risks[3], 0.05)),
        "forest": forest("f", NASTY, [("one", Estimate(0.5, 0.4, 0.6)), (NASTY, Estimate(None))], reference=0.6),
        "matrix": confusion_figure("g", NASTY, np.array([[3, 1], [0, 0]]), ["ill", "w" * 60]),
    }


@pytest.mark.parametrize("name", sorted(figures()))
def test_a_figure_is_well_formed_titled_and_the_same_every_time(name: str) -> None:
    drawn = figures()[name]
    assert drawn == figures()[name]
    root = ElementTree.fromstring(drawn)  # noqa: S314
    assert root.get("role") == "img"
    title, description = root[0], root[1]
    assert root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
    assert len(description.text or "") > len(title.text or "")
    assert "nan" not in drawn.lower().replace("nantes", "")
    width, height = (float(part) for part in (root.get("viewBox") or "").split()[2:])
    for element in root.iter():
        for key, limit in (("cx", width), ("cy", height), ("x", width), ("y", height)):
            if element.get(key) is not None:
                assert -1 <= float(element.get(key) or 0) <= limit + 1


def test_decision_figure_says_the_named_thresholds_and_stays_in_its_frame() -> None:
    drawn = figures()["decision"]
    assert "10 %: model 0.300, everybody 0.200, nobody 0" in drawn
    assert "50 %" not in drawn[drawn.index("<desc") : drawn.index("</desc>")]
    height = float(re.findall(r'viewBox="0 0 \d+ ([\d.]+)"', drawn)[0])
    for path in re.findall(r' d="M([^"]+)"', drawn):
        for pair in path.replace("Z", "").split("L"):
            assert -1 <= float(pair.split()[1]) <= height


def test_a_matrix_says_its_cells_in_words_and_scrolls_where_classes_are_many() -> None:
    drawn = figures()["matrix"]
    assert "of 4 ill: 3 called ill, 1 called " in drawn
    assert ">none<" in drawn  # the row without images has no share
    assert "min-width" in drawn


def test_groups_without_a_figure_are_said_to_be_too_few() -> None:
    drawn = figures()["forest"]
    assert ">too few<" in drawn
    assert "one: 0.50, 0.40 to 0.60" in drawn
    assert "not known" in drawn

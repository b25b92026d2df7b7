"""The small figures of a report: reliability and decision curve of a class, risk over coverage, intervals of groups."""

from __future__ import annotations

from collections.abc import Sequence

from ..figures.figure_set import DecisionCurve, DecisionPoint, Estimate, RiskCoverage, RiskPoint
from ..page_parts import MINUS, number
from ..reliability import Bin
from ..svg_chart import FEDERATED, INK, LOCAL, MUTED, PALE, PAPER, RULE, Chart, room, shortened

_SHARES = ((0.0, "0"), (0.5, "0.5"), (1.0, "1"))


def class_reliability(key: str, name: str, bins: Sequence[Bin]) -> str:
    """How often images with a stated probability of the class are of it; bars below: how many images a bin holds."""
    filled = [b for b in bins if b.n]
    said = "; ".join(
        f"{b.low:.1f} to {b.high:.1f}: {b.n} images, mean probability {b.mean_confidence:.2f}, share {b.accuracy:.2f}"
        for b in filled
    )
    chart = Chart((214, 214), (0, 1), (-0.34, 1.03), left=30, right=8, bottom=38)
    most = max([b.n for b in bins] + [1])
    for b in filled:
        chart.bar(b.low, b.high, -0.34 + 0.22 * b.n / most, PALE, FEDERATED)
    chart.ticks_x(_SHARES, "Stated probability")
    chart.ticks_y(_SHARES)
    chart.frame()
    chart.stroke([(0, 0), (1, 1)], MUTED, width=1, dash="4 3")
    for b in filled:
        if b.mean_confidence is not None and b.accuracy_low is not None and b.accuracy_high is not None:
            chart.whisker(b.mean_confidence, b.accuracy_low, b.accuracy_high, FEDERATED)
    points = [
        (b.mean_confidence, b.accuracy) for b in filled if b.mean_confidence is not None and b.accuracy is not None
    ]
    chart.stroke(points, FEDERATED, width=1, opacity=0.4)
    for x, y in points:
        chart.dot(x, y, FEDERATED, radius=3.4)
    title = f"Reliability of the probability of {name}"
    return chart.svg(key, title, f"{title}. By bin of stated probability: {said or 'no images'}.", scale=1.65)


def decision_figure(key: str, curve: DecisionCurve) -> str:
    """Net benefit over the threshold probability: the model, acting on everybody, and acting on nobody."""
    points = [point for point in curve.points if point.model.value is not None]
    values = [point.model.value for point in points if point.model.value is not None]
    starts = [point.treat_all for point in points if point.treat_all is not None]
    top = max([0.05, *values, *starts, *(point.model.high or 0.0 for point in points)]) * 1.06
    floor = max(min([-0.22 * top, *values]), -0.45 * top)
    chart = Chart((214, 206), (0, 1), (floor, top), left=36, right=12, bottom=38)
    chart.ticks_x([(share, f"{100 * share:.0f}") for share in (0.0, 0.25, 0.5, 0.75, 1.0)], "Threshold probability, %")
    chart.ticks_y([(0.0, "0"), *((share, f"{share:.2f}".removesuffix("0")) for share in _round_steps(top))])
    for point in points:
        if point.named:
            chart.upright(point.threshold, MUTED, width=0.9, dash="1.5 2.5")
    chart.band(
        [
            (p.threshold, max(p.model.low, floor), max(p.model.high, floor))
            for p in points
            if p.model.low is not None and p.model.high is not None
        ],
        FEDERATED,
    )
    chart.level(0.0, INK, width=1.1)
    for piece in _above([(p.threshold, p.treat_all) for p in points if p.treat_all is not None], floor):
        chart.stroke(piece, LOCAL, width=1.6, dash="6 3")
    for piece in _above([(p.threshold, p.model.value) for p in points if p.model.value is not None], floor):
        chart.stroke(piece, FEDERATED, width=2.2)
    for point in points:
        if point.named and point.model.value is not None and point.model.value >= floor:
            chart.dot(point.threshold, point.model.value, FEDERATED)
    title = f"Decision curve of {curve.name}"
    named = [point for point in points if point.named] or points[:: max(1, len(points) // 6)]
    said = "; ".join(_decision_words(point) for point in named)
    return chart.svg(key, title, f"{title}. Net benefit at a threshold: {said or 'none'}.", scale=1.65)


def _decision_words(point: DecisionPoint) -> str:
    return (
        f"{100 * point.threshold:.0f} %: model {number(point.model.value, 3)}, everybody {number(point.treat_all, 3)}, "
        "nobody 0"
    )


def _round_steps(top: float) -> list[float]:
    step = next(s for s in (0.02, 0.05, 0.1, 0.2, 0.5, 1.0) if top / s <= 4.5)
    return [step * i for i in range(1, int(top / step + 1e-9) + 1)]


def _above(points: Sequence[tuple[float, float]], floor: float) -> list[list[tuple[float, float]]]:
    """The parts of a line that lie in the plot area, cut where it crosses the floor."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for at, (x, y) in enumerate(points):
        if at and (y < floor) != (points[at - 1][1] < floor):
            before_x, before_y = points[at - 1]
            share = (before_y - floor) / (before_y - y)
            pieces[-1].append((before_x + share * (x - before_x), floor))
        if y >= floor:
            pieces[-1].append((x, y))
        elif pieces[-1]:
            pieces.append([])
    return pieces


def risk_figure(key: str, risk: RiskCoverage) -> str:
    """Share wrong among the images that are answered, over the share that is answered."""
    known = [point for point in risk.points if point.risk.value is not None]
    highest = max([p.risk.high or 0.0 for p in known if p.coverage >= 0.1] + [0.05])
    top = min(1.0, highest * 1.08)
    chart = Chart((430, 232), (0, 1), (0, top), left=46, right=22)
    chart.ticks_x([(share / 100, f"{share} %") for share in (0, 25, 50, 75, 100)], "Share of images that is answered")
    chart.ticks_y([(0.0, "0 %"), *((share, f"{100 * share:.0f} %") for share in _round_steps(top))])
    rows = sorted(known, key=lambda point: point.coverage)
    chart.band([(p.coverage, p.risk.low or 0.0, min(top, p.risk.high or 0.0)) for p in rows], FEDERATED)
    chart.frame()
    if risk.wanted_risk is not None and risk.wanted_risk <= top:
        chart.level(risk.wanted_risk, LOCAL, width=1.3, dash="6 3")
        chart.words((chart.left + 6, chart.py(risk.wanted_risk) - 5), "wanted risk", anchor="start", colour=LOCAL)
    chart.stroke([(p.coverage, min(top, p.risk.value or 0.0)) for p in rows], FEDERATED, width=2.2)
    chosen = risk.chosen
    if chosen is not None and chosen.risk.value is not None:
        chart.upright(chosen.coverage, MUTED, width=1, dash="1.5 2.5")
        chart.dot(chosen.coverage, min(top, chosen.risk.value), FEDERATED, shape="square", fill=PAPER, radius=4.4)
    said = "; ".join(
        f"answering {100 * p.coverage:.0f} %: wrong in {100 * (p.risk.value or 0.0):.1f} %" for p in _thinned(known)
    )
    return chart.svg(key, "Risk over coverage", f"Risk over coverage. {said or 'No images'}.", scale=1.35)


def _thinned(points: Sequence[RiskPoint]) -> list[RiskPoint]:
    step = max(1, len(points) // 8)
    return list(points[::step])


def forest(
    key: str, title: str, rows: Sequence[tuple[str, Estimate]], *, reference: float | None = None, axis: str = ""
) -> str:
    """A figure of several groups, one under the other, with 95 % intervals; a dashed line marks all together."""
    space = room([label for label, _ in rows], 150)
    chart = Chart((430, 26 * len(rows) + 56), (0, 1), (len(rows) - 0.5, -0.5), left=space, right=52, bottom=40)
    chart.ticks_x([(share, f"{share:g}") for share in (0.0, 0.25, 0.5, 0.75, 1.0)], axis, grid=True)
    if reference is not None:
        chart.upright(reference, LOCAL, width=1.3, dash="6 3")
    for at, (label, value) in enumerate(rows):
        chart.words((space - 8, chart.py(at) + 4), shortened(label, space), anchor="end")
        if value.value is None:
            chart.words((chart.px(0) + 6, chart.py(at) + 4), "too few", anchor="start", colour=MUTED)
            continue
        if value.low is not None and value.high is not None:
            chart.whisker(at, value.low, value.high, FEDERATED, across=True)
        chart.dot(value.value, at, FEDERATED, radius=4)
        chart.words((chart.right + 10, chart.py(at) + 4), number(value.value), anchor="start", bold=True)
    for at in range(len(rows) - 1):
        chart.level(at + 0.5, RULE, width=0.5)
    said = "; ".join(
        f"{label}: {'not known' if value.value is None else number(value.value).replace(MINUS, '-')}"
        + (
            f", {number(value.low)} to {number(value.high)}"
            if value.low is not None and value.value is not None
            else ""
        )
        for label, value in rows
    )
    return chart.svg(key, title, f"{title}. {said}.", scale=1.35)

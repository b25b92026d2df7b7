"""The links of everything that is published by confidence: segments, bins before a temperature, decisions.

The unknowns and why they are complete is said in `constraints`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..reliability import N_BINS, bin_edges
from .bands import Band
from .decisions import cut_of
from .published import Published, ReliabilityRow
from .softening import Reach, reaches
from .system import System, Terms, plus, times

PARTS = ("hits", "misses")
NEAR_MEAN = 0.004
"""How far from a printed mean confidence the real one may be for sure; it is rounded to 0.01."""


def segments(reports: Sequence[Published]) -> tuple[float, ...]:
    """Edges of the finest segments of confidence that any of these reports speaks of: tenths, and cuts of decisions."""
    tenths = [b / N_BINS for b in range(N_BINS + 1)]
    cuts = {cut_of(row.threshold) for report in reports for row in report.decisions}
    return tuple(sorted([*tenths, *(cut for cut in cuts if all(abs(cut - edge) > 1e-9 for edge in tenths))]))


def inside(edges: Sequence[float], low: float, high: float) -> list[int]:
    """Numbers of the segments between two edges."""
    return [s for s in range(len(edges) - 1) if low - 1e-9 <= edges[s] and edges[s + 1] <= high + 1e-9]


def add_confidence(
    system: System,
    published: Published,
    key: dict[tuple[object, ...], int],
    prefix: str,
    hits: Sequence[Terms],
    misses: Sequence[Terms],
) -> None:
    """Everything that a report says of confidences: its tables, and counts of decisions.

    Args:
        system: grows. published: with a reliability table. key: its unknowns so far, grows. prefix: before names.
        hits, misses: right and wrong images of each class, as sums of cells.
    """
    # The finest segments are always the unknowns, so that reports with ten and with five bins can be compared.
    size = len(system.edges) - 1
    for part, wholes in (("hits", hits), ("misses", misses)):
        for s in range(size):
            empty = system.edges[s + 1] * published.n_classes <= 1.0 + 1e-9
            key[part, s] = system.unknown(Band(0, 0) if empty else None)
        _add_rows(system, published.reliability, part, prefix + "bin", {(s,): key[part, s] for s in range(size)})
        every = {key[part, s]: 1.0 for s in range(size)}
        system.row(every | {j: -1.0 for whole in wholes for j in whole}, 0, 0)
    for row in published.reliability:
        both = {key[part, s]: 1.0 for part in PARTS for s in inside(system.edges, row.low, row.high)}
        system.watch(f"{prefix}bin {row.low}", both)
    reach: dict[tuple[int, int], Reach] = {}
    if published.raw_reliability:
        reach = _add_raw(system, published, key, prefix)
    _add_means(system, published, key, reach)
    if published.decisions:
        _add_decisions(system, published, key, prefix)


def _add_rows(
    system: System, rows: Sequence[ReliabilityRow], part: str, name: str, places: Mapping[tuple[int, ...], int]
) -> None:
    """Bands of a reliability table, of unknowns by the segment that stands last in their name."""
    for row in rows:
        kept = set(inside(system.edges, row.low, row.high))
        terms = {place: 1.0 for where, place in places.items() if where[-1] in kept}
        band = row.right if part == "hits" else row.wrong
        system.row(terms, band.low, band.high)
        system.watch(f"{name} {row.low} {part}", terms)


def reach_of(published: Published, edges: Sequence[float]) -> dict[tuple[int, int], Reach]:
    """Pairs of a segment after the temperature and a bin before it that an image can have."""
    k, divisor = published.n_classes, published.temperature or 1.0
    tenths = [float(edge) for edge in bin_edges(N_BINS)]
    found = {}
    for s in range(len(edges) - 1):
        if edges[s + 1] * k > 1.0 + 1e-9:
            for reach in reaches(k, divisor, edges[s], edges[s + 1], tenths):
                found[s, reach.bin] = reach
    return found


def _add_raw(
    system: System, published: Published, key: dict[tuple[object, ...], int], prefix: str
) -> dict[tuple[int, int], Reach]:
    reach = reach_of(published, system.edges)
    for part in PARTS:
        for s, b in reach:
            key["raw", part, s, b] = system.unknown(None)
            system.watch(f"{prefix}segment {s}, bin {b} before {part}", {key["raw", part, s, b]: 1.0})
        for s in range(len(system.edges) - 1):
            held = {key["raw", part, s, b]: 1.0 for at, b in reach if at == s}
            system.row(held | {key[part, s]: -1.0}, 0, 0)
        for row in published.raw_reliability:
            bins = [b for b in range(N_BINS) if row.low <= (b + 0.5) / N_BINS < row.high]
            terms = {key["raw", part, s, b]: 1.0 for s, b in reach if b in bins}
            band = row.right if part == "hits" else row.wrong
            system.row(terms, band.low, band.high)
            system.watch(f"{prefix}bin before {row.low} {part}", terms)
    for row in published.raw_reliability:
        bins = [b for b in range(N_BINS) if row.low <= (b + 0.5) / N_BINS < row.high]
        both = {key["raw", part, s, b]: 1.0 for part in PARTS for s, b in reach if b in bins}
        system.watch(f"{prefix}bin before {row.low}", both)
    return reach


def _add_means(
    system: System,
    published: Published,
    key: dict[tuple[object, ...], int],
    reach: Mapping[tuple[int, int], Reach],
) -> None:
    """Images of a row with a mean confidence can have it: sum of least <= mean * n <= sum of largest confidences."""
    for row in published.reliability:
        if row.mean_confidence is None:
            continue
        low: Terms = {}
        high: Terms = {}
        for part in PARTS:
            for s in inside(system.edges, row.low, row.high):
                ends = {key["raw", part, s, b]: (each.low, each.high) for (at, b), each in reach.items() if at == s}
                least = max(system.edges[s], 1.0 / published.n_classes)
                for place, (first, last) in (ends or {key[part, s]: (least, system.edges[s + 1])}).items():
                    low[place] = first - row.mean_confidence - NEAR_MEAN
                    high[place] = last - row.mean_confidence + NEAR_MEAN
        system.row(low, -float("inf"), 0)
        system.row(high, 0, float("inf"))


def _add_decisions(system: System, published: Published, key: dict[tuple[object, ...], int], prefix: str) -> None:
    k, size = published.n_classes, len(system.edges) - 1
    for part in PARTS:
        for c in range(k):
            for s in range(size):
                empty = system.high[key[part, s]] == 0
                key["called", part, c, s] = system.unknown(Band(0, 0) if empty else None)
            whole = [(c, c)] if part == "hits" else [(i, c) for i in range(k) if i != c]
            cells = {key["cell", i, j]: -1.0 for i, j in whole}
            system.row({key["called", part, c, s]: 1.0 for s in range(size)} | cells, 0, 0)
        for s in range(size):
            called = {key["called", part, c, s]: 1.0 for c in range(k)}
            system.row(called | {key[part, s]: -1.0}, 0, 0)
    for c in range(k):
        earlier: dict[str, Terms] = {}
        of_class = {key["cell", c, j]: 1.0 for j in range(k)}
        others = {key["cell", i, j]: 1.0 for i in range(k) for j in range(k) if i != c}
        for row in published.decisions:
            acted: Terms = {}
            for name, band, whole_ in (("true", row.true[c], of_class), ("false", row.false[c], others)):
                terms = acted_on(key, system.edges, k, c, row.threshold, name)
                where = f"{prefix}class {c} at {row.threshold} {name}"
                system.row(terms, band.low, band.high)
                system.watch(where, terms)
                system.watch(f"{where}, left", plus(whole_, times(terms, -1.0)))
                if name in earlier:
                    system.watch(f"{where}, since the last", plus(earlier[name], times(terms, -1.0)))
                earlier[name], acted = terms, plus(acted, terms)
            system.watch(f"{prefix}class {c} at {row.threshold}", acted)


def acted_on(
    key: Mapping[tuple[object, ...], int], edges: Sequence[float], k: int, c: int, threshold: float, name: str
) -> Terms:
    """True or false positives of class c at a publishable threshold."""
    cut = cut_of(threshold)
    above, below = inside(edges, cut, 1.0), inside(edges, 0.0, cut)
    # What is called c and is right is of the class; of two classes, what is called the other and is wrong is so too.
    part, other = ("hits", "misses") if name == "true" else ("misses", "hits")
    if threshold >= 0.5:
        return {key["called", part, c, s]: 1.0 for s in above}
    called = {key["called", part, c, s]: 1.0 for s in range(len(edges) - 1)}
    return called | {key["called", other, k - 1 - c, s]: 1.0 for s in below}

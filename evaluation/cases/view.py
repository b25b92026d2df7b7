"""From a :class:`CaseReview` to the words and marks of its page, image by image."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from ..page_parts import number, plural, sentence_list
from .model import Box, Case, CaseReview, Neighbour, OcclusionMap, Outcome, Picture
from .occlusion import LEAST, places

_SPACE = "\N{NO-BREAK SPACE}"
_SYMBOLS: dict[Outcome, str] = {"wrong": "✗", "abstained": "?", "right": "✓"}
_WORDS: dict[Outcome, str] = {"wrong": "Wrong", "abstained": "Abstains", "right": "Right"}
OUTLINED = 0.5
"""Squares from this share of the largest drop on are outlined, so that a map can be read without colour."""
STRONGEST_TINT = 0.5
_MANY_PLACES = 3


@dataclass(frozen=True, slots=True)
class Bar:
    """One class: name, probability in words and as a share, and what the class is here."""

    name: str
    text: str
    share: float
    called: bool
    truth: bool
    member: bool

    @property
    def tags(self) -> tuple[str, ...]:
        """What stands beside the name."""
        return tuple(word for word, holds in (("truth", self.truth), ("in set", self.member)) if holds)


@dataclass(frozen=True, slots=True)
class Square:
    """One square of a map in a drawing of 100 by 100: its place, its tint from 0 to 1, and whether it is outlined."""

    x: float
    y: float
    side: float
    tint: float
    outlined: bool


@dataclass(frozen=True, slots=True)
class MapView:
    """A map as squares and as words; ``outline`` is a path around the outlined squares, in the same drawing."""

    squares: tuple[Square, ...]
    outline: str
    words: str


@dataclass(frozen=True, slots=True)
class NeighbourView:
    """A training image: its picture, what it is, and whether its class is the truth."""

    picture: Picture
    name: str
    alt: str
    similarity: str
    same: bool


@dataclass(frozen=True, slots=True)
class CaseView:
    """What the template prints of one image, and what its script filters by."""

    key: str
    record: int
    group: str
    outcome: Outcome
    symbol: str
    verdict: str
    called: str
    truth: str
    sure: str
    confident: bool
    set_misses: bool
    truth_index: int
    called_index: int
    confidence: str
    picture: Picture
    alt: str
    seen: Box | None
    frame: Box
    bars: tuple[Bar, ...]
    set_words: str
    map: MapView | None
    nearest: tuple[NeighbourView, ...]
    near_words: str


@dataclass(frozen=True, slots=True)
class PageView:
    """All that the template prints, in order."""

    review: CaseReview
    lede: str
    tiles: tuple[tuple[str, str, str], ...]
    reading: tuple[str, ...]
    cases: tuple[CaseView, ...]
    filters: tuple[tuple[str, str, int], ...]
    maps: int
    confident: str


def page_view(review: CaseReview) -> PageView:
    """Compute the page."""
    of_group = Counter(case.group for case in review.cases)
    cases = tuple(_case(review, case, of_group[case.group]) for case in review.cases)
    return PageView(
        review=review,
        lede=_lede(review),
        tiles=_tiles(review),
        reading=_reading(review),
        cases=cases,
        filters=_filters(review, cases),
        maps=sum(case.map is not None for case in review.cases),
        confident=probability(review.confident),
    )


def probability(value: float) -> str:
    """ "86 %", and never 0 or 100 % for what is not quite that: a rounded certainty would be read as one."""
    if 0.995 <= value < 1.0:
        return f">{_SPACE}99{_SPACE}%"
    if 0.0 < value < 0.005:
        return f"<{_SPACE}1{_SPACE}%"
    return f"{100 * value:.0f}{_SPACE}%"


def _lede(review: CaseReview) -> str:
    role = "training site" if review.role == "training" else "unseen site: took no part in training"
    return f"{review.dataset} · study {review.study} · {review.method} · {role}"


def _tiles(review: CaseReview) -> tuple[tuple[str, str, str], ...]:
    counts = review.counts
    every = [
        ("Test images", f"{counts.images:,}", "of this site"),
        ("Right", f"{counts.right:,}", "answers"),
        ("Wrong", f"{counts.wrong:,}", "answers"),
        ("Confident errors", f"{counts.confident:,}", f"wrong with {probability(review.confident)} or more"),
        ("Abstained", f"{counts.abstained:,}", f"under {probability(review.abstain_below)}"),
    ]
    if counts.misses is not None and review.coverage is not None:
        every.append(("Sets without the truth", f"{counts.misses:,}", f"sets aim at {probability(review.coverage)}"))
    return tuple(every)


def _reading(review: CaseReview) -> tuple[str, ...]:
    on_page, counts = len(review.cases), review.counts
    said = []
    if on_page == counts.images:
        said.append(f"All {plural(on_page, 'test image')} of this site are on the page.")
    else:
        said.append(
            f"The page shows {on_page:,} of {plural(counts.images, 'test image')} and leaves out "
            f"{counts.images - on_page:,}: errors and abstentions come first, right answers were drawn by chance."
        )
    if review.withdrawn:
        said.append(
            f"Left out: {plural(review.withdrawn, 'image')} of withdrawn {review.group_key}s, which the site's report "
            "still counts."
        )
    maps = sum(case.map is not None for case in review.cases)
    if maps and maps == on_page:
        said.append("Every image on the page has an attention map.")
    elif maps:
        said.append(
            f"{plural(maps, 'image')} {'has' if maps == 1 else 'have'} an attention map; the others have none, because "
            "a map costs 49 runs of the model. Confident errors, abstentions and other errors got one first, and some "
            "right answers for comparison."
        )
    else:
        said.append("No attention maps were made.")
    if maps and review.shared_map:
        said.append(
            "This site answers with a model of its own, which is not in the run folder: its answers are shown, and the "
            "maps are of the shared model."
        )
    said.append(f"Calibration: {review.calibration}.")
    if review.coverage is None:
        said.append("No prediction sets: none were fitted for this site.")
    return tuple(said)


def _filters(review: CaseReview, cases: tuple[CaseView, ...]) -> tuple[tuple[str, str, int], ...]:
    every = [
        ("all", "All", len(cases)),
        ("wrong", "Wrong", sum(case.outcome == "wrong" for case in cases)),
        ("confident", "Confident errors", sum(case.confident for case in cases)),
        ("abstained", "Abstained", sum(case.outcome == "abstained" for case in cases)),
    ]
    if review.counts.misses is not None:
        every.append(("misses", "Set without the truth", sum(case.set_misses for case in cases)))
    return (*every, ("right", "Right", sum(case.outcome == "right" for case in cases)))


def _case(review: CaseReview, case: Case, in_group: int) -> CaseView:
    names = [label.clinical_name for label in review.classes]
    called, truth = names[case.called], names[case.truth]
    group = f"{review.group_key} {case.group}" + (f", {in_group} images here" if in_group > 1 else "")
    whole = case.seen == Box()
    return CaseView(
        key=f"image-{case.record}",
        record=case.record,
        group=group,
        outcome=case.outcome,
        symbol=_SYMBOLS[case.outcome],
        verdict=_WORDS[case.outcome],
        called=called,
        truth=truth,
        sure=probability(case.confidence),
        confident=case.outcome == "wrong" and case.confidence >= review.confident,
        set_misses=case.set_misses,
        truth_index=case.truth,
        called_index=case.called,
        confidence=f"{case.confidence:.6f}",
        picture=case.picture,
        alt=f"Picture of test image {case.record}",
        seen=None if whole else case.seen,
        frame=_inside(case.seen),
        bars=tuple(
            Bar(
                name,
                probability(p),
                p,
                called=k == case.called,
                truth=k == case.truth,
                member=k in (case.members or ()),
            )
            for k, (name, p) in enumerate(zip(names, case.probabilities, strict=True))
        ),
        set_words=_set(case, names, review.coverage),
        map=None if case.map is None else _map(case.map, called),
        nearest=tuple(_neighbour(near, names, case.truth) for near in case.nearest),
        near_words=_near(review, case, names),
    )


def _inside(box: Box) -> Box:
    """The part of a box that lies on the picture: a frame around what is padding would be off it."""
    left, top = max(box.left, 0.0), max(box.top, 0.0)
    right, bottom = min(box.left + box.width, 1.0), min(box.top + box.height, 1.0)
    return Box(left, top, right - left, bottom - top)


def _set(case: Case, names: list[str], coverage: float | None) -> str:
    if case.members is None or coverage is None:
        return ""
    held = sentence_list([names[k] for k in case.members]) if case.members else "empty: no class is likely enough"
    whether = "does not hold the truth" if case.set_misses else "holds the truth"
    return f"{held}; {whether}."


def _map(given: OcclusionMap, called: str) -> MapView:
    values = np.asarray(given.drops, dtype=np.float64)
    grid, top = len(values), float(values.max())
    # A picture without a strong square must not look as if it had one: the scale never falls below LEAST.
    scale = max(top, LEAST)
    side = 100.0 / grid
    strong = values >= max(OUTLINED * top, LEAST * OUTLINED) if top >= LEAST else np.zeros_like(values, dtype=bool)
    squares = tuple(
        Square(c * side, r * side, side, max(0.0, float(values[r, c])) / scale, bool(strong[r, c]))
        for r in range(grid)
        for c in range(grid)
    )
    return MapView(squares, _outline(strong, side), _map_words(given, called, top))


def _outline(strong: np.ndarray, side: float) -> str:
    """An SVG path along every side between an outlined square and one that is not."""
    padded = np.pad(strong, 1)
    steps = []
    for r, c in zip(*np.nonzero(strong), strict=True):
        x, y = float(c) * side, float(r) * side
        if not padded[r, c + 1]:
            steps.append(f"M{x:.2f} {y:.2f}h{side:.2f}")
        if not padded[r + 2, c + 1]:
            steps.append(f"M{x:.2f} {y + side:.2f}h{side:.2f}")
        if not padded[r + 1, c]:
            steps.append(f"M{x:.2f} {y:.2f}v{side:.2f}")
        if not padded[r + 1, c + 2]:
            steps.append(f"M{x + side:.2f} {y:.2f}v{side:.2f}")
    return "".join(steps)


def _map_words(given: OcclusionMap, called: str, top: float) -> str:
    found = places(given.drops)
    if not found:
        return f"No single square matters: covering any one of them hardly changes the probability of {called}."
    if len(found) > _MANY_PLACES:
        where = f"Spread over the picture, strongest in the {found[0]}"
    else:
        where = f"Strongest in the {found[0]}" + (f", also in the {sentence_list(found[1:])}" if found[1:] else "")
    return (
        f"{where}. With the strongest square covered, {called} falls from {probability(given.before)} to "
        f"{probability(given.after)} (log odds down by {number(top, 1)})."
    )


def _neighbour(near: Neighbour, names: list[str], truth: int) -> NeighbourView:
    return NeighbourView(
        picture=near.picture,
        name=names[near.label],
        alt=f"Training image {near.record}: {names[near.label]}",
        similarity=number(near.similarity, 3),
        same=near.label == truth,
    )


def _near(review: CaseReview, case: Case, names: list[str]) -> str:
    if not case.nearest:
        return "This site has no training images." if not review.training else ""
    of = Counter(near.label for near in case.nearest)
    order = sorted(of.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{count} × {names[label]}" for label, count in order) + "."

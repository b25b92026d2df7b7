"""Acting on a class at a threshold: which counts may be published, and what all that is published says of the rest.

Whether an image is acted on follows from its called class and its confidence alone where the threshold t is at least
1/2 (then only the called class can reach it), and always with two classes (where the other class has 1 minus the
confidence). There the counts are cuts of the confusion matrix by confidence, all links are known, and the counts are
published in bands. At a lower threshold with more classes an image is acted on for classes that it was not called, and
counts would be linked to every class's probability: they are withheld by this rule, whatever they are. What is said of
them is the range that matrix and reliability table leave, which reveals nothing beyond those.
"""

from __future__ import annotations

from dataclasses import dataclass

from .bands import Band, Range, outward
from .published import Published, ReliabilityRow
from .ranges import Matrix, both, class_ranges, images, share


def publishable(threshold: float, k: int) -> bool:
    """Whether counts at this threshold may be published at all; a rule that depends on no count."""
    return threshold >= 0.5 or k == 2


def cut_of(threshold: float) -> float:
    """The confidence at which a publishable threshold cuts: of the called class, or of the other one of two."""
    return threshold if threshold >= 0.5 else round(1.0 - threshold, 12)


@dataclass(frozen=True, slots=True)
class Decision:
    """One class at one threshold.

    Attributes:
        k: class. threshold: named. true, false: between what the counts lie. published: whether they are
            bands of their own, and not only what other tables leave.
        missed: images of the class that are not acted on. model, treat_all: net benefit; acting on nobody is 0.
    """

    k: int
    threshold: float
    true: Band
    false: Band
    published: bool
    missed: Band
    model: Range
    treat_all: Range | None


def decisions(published: Published) -> tuple[Decision, ...]:
    """Every class at every named threshold, by class; empty where no confusion matrix is published.

    Net benefit is TP / n - FP / n * t / (1 - t) (Vickers and Elkin 2006, Medical Decision Making 26:565).
    """
    matrix = published.confusion
    if matrix is None or images(matrix, published.margins).low == 0:
        return ()
    size = range(published.n_classes)
    return tuple(_decision(published, matrix, k, threshold) for k in size for threshold in published.facts.thresholds)


def _decision(published: Published, matrix: Matrix, k: int, threshold: float) -> Decision:
    of_class = class_ranges(matrix, k, published.margins)
    hit = matrix[k][k]
    missed = Band(of_class.n.low - hit.low, of_class.n.high - hit.high)
    false = Band(of_class.called.low - hit.low, of_class.called.high - hit.high)
    n = images(matrix, published.margins)
    others = Band(max(0, n.low - of_class.n.high), n.high - of_class.n.low)
    row = next((row for row in published.decisions if row.threshold == threshold), None)
    true, wrongly = _derived(published.reliability, threshold, published.n_classes, hit, missed, false, others)
    if row is not None:
        true, wrongly = both(true, row.true[k]), both(wrongly, row.false[k])
    weight = threshold / (1.0 - threshold)
    worst, best = true.low - weight * wrongly.high, true.high - weight * wrongly.low
    model = outward(worst / (n.high if worst >= 0 else n.low), best / (n.low if best >= 0 else n.high))
    prevalence = share(of_class.n, others)
    everybody = (
        None
        if prevalence is None
        else outward(*(value - (1.0 - value) * weight for value in (prevalence.low, prevalence.high)))
    )
    left = Band(max(0, of_class.n.low - true.high), of_class.n.high - true.low)
    return Decision(k, threshold, true, wrongly, row is not None, left, model, everybody)


def _derived(
    rows: tuple[ReliabilityRow, ...], threshold: float, k: int, hit: Band, missed: Band, false: Band, others: Band
) -> tuple[Band, Band]:
    """True and false positives, as far as called classes and confidences tell.

    The called class is acted on where its confidence reaches the threshold; another class at most where the confidence
    leaves it enough, 1 - c >= t, and not at all where t is above 1/2.
    """
    unsure_right, unsure_wrong = (_below(rows, threshold, part) for part in ("right", "wrong"))
    true_low, false_low = max(0, hit.low - unsure_right), max(0, false.low - unsure_wrong)
    if threshold <= 1.0 / k:  # a called class always reaches it
        true_low, false_low = hit.low, false.low
    true_high, false_high = hit.high, false.high
    if threshold <= 0.5:
        open_right, open_wrong = (_below(rows, 1.0 - threshold, part, closed=True) for part in ("right", "wrong"))
        true_high += min(missed.high, open_wrong)
        false_high += min(max(0, others.high - false.low), open_right + open_wrong)
    return Band(true_low, true_high), Band(false_low, false_high)


def _below(rows: tuple[ReliabilityRow, ...], confidence: float, part: str, *, closed: bool = False) -> int:
    """Most images of rows that begin below a confidence; without a table there is no such bound."""
    if not rows:
        return 10**9
    kept = [row for row in rows if row.low < confidence - 1e-9 or (closed and row.low <= confidence + 1e-9)]
    return sum((row.right if part == "right" else row.wrong).high for row in kept)

"""Everything that a report says of one model on one set of images, as frozen values that can be written to JSON.

Pages, the JSON twin and the CSV twin are all made from a :class:`FigureSet`, so they cannot disagree. What the number
of images or groups does not carry is None, with the reason in ``note``; it is never 0.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..per_class import Rate
from ..reliability import Bin


@dataclass(frozen=True, slots=True)
class Estimate:
    """One figure with its 95 % interval.

    Attributes:
        value: None where it cannot be known, and where it is from fewer than 10 groups.
        low, high: bounds; None where the sample carries no interval.
        n: images. n_groups: patients, lesions or clusters that were resampled.
        note: why something is missing, or how far to trust it; empty otherwise.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    n_groups: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Chance:
    """A calibration error at one image a group, beside what perfect calibration shows by chance.

    Attributes:
        observed: median over draws of one image per group. bound: 95 % quantile under perfect calibration.
        effective_n: images of one draw, which is the number of groups.
        exceeded: whether ``observed`` is above ``bound``.
    """

    observed: float
    bound: float
    effective_n: int
    exceeded: bool


@dataclass(frozen=True, slots=True)
class CalibrationFigures:
    """How far stated probabilities are from how often they come true, under one calibration.

    Attributes:
        label: which calibration: ``"as trained"``, ``"temperature 1.31, this site's"`` …
        ece: top label, equal width. chance: of ``ece``. ece_equal_mass: bins of equal count.
        mce: largest gap of a bin. mce_n: images in that bin.
        classwise_ece: mean over classes. smooth_ece: Blasiok and Nakkiran (2023).
        l2_debiased: Kumar, Liang and Ma (2019), may be slightly negative before the root, then 0.
        brier: 0..2. nll: nats.
        slope, intercept: of logistic recalibration of the top label's log odds; 1 and 0 where calibrated.
        bins: of the top label.
    """

    label: str
    ece: Estimate
    chance: Chance | None
    ece_equal_mass: Estimate
    mce: Estimate
    mce_n: int
    classwise_ece: Estimate
    smooth_ece: Estimate
    l2_debiased: Estimate
    brier: Estimate
    nll: Estimate
    slope: Estimate
    intercept: Estimate
    bins: tuple[Bin, ...]


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """One class against all others, after calibration.

    Attributes:
        name: of the class. n, n_groups: images and groups of it. predicted: images called so.
        sensitivity, specificity, ppv, npv: with Wilson intervals by group.
        f1, auroc: with intervals by group.
        ece: of this class's probability. slope, intercept: of its log odds. bins: of its probability.
        called: predicted / all images; None in figure sets from before it was kept.
    """

    name: str
    n: int
    n_groups: int
    predicted: int
    sensitivity: Rate
    specificity: Rate
    ppv: Rate
    npv: Rate
    f1: Estimate
    auroc: Estimate
    ece: Estimate
    slope: Estimate
    intercept: Estimate
    bins: tuple[Bin, ...]
    called: Rate | None = None


@dataclass(frozen=True, slots=True)
class DecisionPoint:
    """Net benefit of acting on a class at one threshold probability.

    Attributes:
        threshold: p_t, in (0, 1). model: with interval. treat_all: of acting on everybody; acting on nobody is 0.
        named: whether the study named this threshold beforehand.
        gain: of the model over the better of acting on everybody and on nobody, all on the same resamples; None at
            thresholds that were not named.
    """

    threshold: float
    model: Estimate
    treat_all: float | None
    named: bool
    gain: Estimate | None = None


@dataclass(frozen=True, slots=True)
class DecisionCurve:
    """Decision curve of one class (Vickers and Elkin 2006); ``note`` says why there are no points."""

    name: str
    prevalence: float | None
    points: tuple[DecisionPoint, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class RiskPoint:
    """Answering only above a confidence: share answered, and share wrong among those with Wilson bounds by group."""

    threshold: float
    coverage: float
    answered: int
    risk: Rate


@dataclass(frozen=True, slots=True)
class RiskCoverage:
    """What abstaining buys.

    Attributes:
        points: from full coverage down. aurc: area under risk over coverage (Geifman and El-Yaniv 2017).
        excess_aurc: above the best possible order of the same errors.
        chosen: at the threshold that ``predict`` uses here; None without one. wanted_risk: what it was chosen for.
        declined: share of images that it declines to answer there; None without a threshold.
    """

    points: tuple[RiskPoint, ...]
    aurc: Estimate
    excess_aurc: float | None
    chosen: RiskPoint | None = None
    wanted_risk: float | None = None
    declined: Rate | None = None


@dataclass(frozen=True, slots=True)
class SetCoverage:
    """How often prediction sets hold the true class, for all images, one class, or one site.

    Attributes:
        name: ``"all"``, or of the class or site. nominal: what was aimed at, 0..1.
        covered: share of sets with the true class, Wilson by group. mean_size: classes in a set on average.
        empty, single: share of sets with no class and with one.
    """

    name: str
    nominal: float
    covered: Rate
    mean_size: float | None
    empty: float | None = None
    single: float | None = None


@dataclass(frozen=True, slots=True)
class SubgroupFigures:
    """One value of one column.

    Attributes:
        column, level: e.g. ``"sex"``, ``"female"``; level ``"not recorded"`` for images without a value.
        n, n_groups: images and groups. classes_present: classes among them, in label order.
        balanced_accuracy, macro_auroc, accuracy, brier, ece: after calibration. note: why figures are missing.
    """

    column: str
    level: str
    n: int
    n_groups: int
    classes_present: tuple[str, ...]
    accuracy: Estimate
    balanced_accuracy: Estimate
    macro_auroc: Estimate
    brier: Estimate
    ece: Estimate
    note: str = ""


@dataclass(frozen=True, slots=True)
class Missingness:
    """How much of a subgroup column is not recorded."""

    column: str
    missing: int
    n: int


@dataclass(frozen=True, slots=True)
class FigureSet:
    """All figures of one model on one set of images.

    Attributes:
        model: in words, e.g. ``"Federated"``.
        classes: clinical names, in label order. counts: images of each. group_counts: groups that have such an image.
        n, n_groups: images and groups. group_key: what a group is, e.g. ``"patient"``, ``"lesion"``, ``"image"``.
        classes_present: names of classes that occur; averages are over these.
        accuracy, balanced_accuracy, macro_f1, macro_auroc: after calibration (only AUROC depends on it).
        confusion: counts, rows truth. per_class: in label order.
        before, after: calibration as trained, and as applied; ``after`` is None where none is applied.
        decision: one curve a class. risk: abstention. sets: conformal sets; empty without.
        subgroups, missingness: by column and level. sites: by the column ``site``, where there is one.
        resamples: bootstrap draws behind the intervals. seed: of all of them.
    """

    model: str
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    group_counts: tuple[int, ...]
    n: int
    n_groups: int
    group_key: str
    classes_present: tuple[str, ...]
    accuracy: Estimate
    balanced_accuracy: Estimate
    macro_f1: Estimate
    macro_auroc: Estimate
    confusion: tuple[tuple[int, ...], ...]
    per_class: tuple[ClassFigures, ...]
    before: CalibrationFigures
    after: CalibrationFigures | None
    decision: tuple[DecisionCurve, ...]
    risk: RiskCoverage
    sets: tuple[SetCoverage, ...] = ()
    subgroups: tuple[SubgroupFigures, ...] = ()
    missingness: tuple[Missingness, ...] = ()
    sites: tuple[SubgroupFigures, ...] = ()
    resamples: int = 0
    seed: int = 0

    @property
    def calibration(self) -> CalibrationFigures:
        """The calibration that answers are given with."""
        return self.after or self.before

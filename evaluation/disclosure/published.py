"""What leaves a deployed coordinator, and nothing else does: bands of counts, ranges of figures, and public facts.

Page, JSON, CSV and summary are made from a :class:`Published` alone. It holds no count of a patient's image, no exact
rate and no sum, so whatever is computed from it reveals what it reveals.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InvalidReportError
from ..report_model import ClassName, PrivacyFacts, Provenance
from .bands import Band, Range

SCHEMA = 1
PROTECTED = "withheld to protect small cells"
TOO_LITTLE = "too few images to say"


@dataclass(frozen=True, slots=True)
class Facts:
    """Public facts of a study that pass through unchanged; none of them may be computed from test images.

    Attributes:
        study, method, dataset: names. rounds: completed rounds. classes: in label order.
        synthetic: True for phantoms. simulation: True when all sites ran on one machine.
        privacy, provenance: see there. ledger_root: root hash of the coordinator's ledger, hex; empty without one.
        marks: sentences that must be read before any figure.
        thresholds: probabilities of a class at which somebody would act, named by the study, ascending, in (0, 1).
        abstain_below: ``predict`` abstains when its top probability is lower, as the model card has it; None without.
        wanted_risk: share of wrong answers that it was chosen for on validation images; None without.
    """

    study: str
    method: str
    dataset: str
    rounds: int
    classes: tuple[ClassName, ...]
    privacy: PrivacyFacts
    provenance: Provenance
    synthetic: bool = False
    simulation: bool = False
    ledger_root: str = ""
    marks: tuple[str, ...] = ()
    thresholds: tuple[float, ...] = ()
    abstain_below: float | None = None
    wanted_risk: float | None = None


@dataclass(frozen=True, slots=True)
class ReliabilityRow:
    """Images by confidence of the top label.

    Attributes:
        low, high: edges of the bin, the upper one outside but for 1.0. right, wrong: how many the model called so.
        mean_confidence: rounded to 0.01; None where ``right`` and ``wrong`` together may be under 11.
    """

    low: float
    high: float
    right: Band
    wrong: Band
    mean_confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Margins:
    """Sums over cells of the confusion matrix, each in a band of its own, which is narrower than what cells give.

    Attributes:
        wrong: images off the diagonal. missed: by true class, images called otherwise. false: by called class, images
            of other classes; empty where withheld.
    """

    wrong: Band
    missed: tuple[Band, ...]
    false: tuple[Band, ...] = ()


@dataclass(frozen=True, slots=True)
class DecisionRow:
    """Images whose probability of a class is at least ``threshold``, by that class, in label order.

    Attributes:
        threshold: named by the study. true: images of the class. false: images of other classes.
    """

    threshold: float
    true: tuple[Band, ...]
    false: tuple[Band, ...]


@dataclass(frozen=True, slots=True)
class SubgroupRow:
    """One level of a column: images called rightly and wrongly, by true class in label order, and of all classes."""

    level: str
    right: tuple[Band, ...]
    wrong: tuple[Band, ...]
    all_right: Band
    all_wrong: Band


@dataclass(frozen=True, slots=True)
class SubgroupTable:
    """One column; its rows are all levels, in the study's order."""

    column: str
    rows: tuple[SubgroupRow, ...]


@dataclass(frozen=True, slots=True)
class Withheld:
    """What is not published, and why."""

    what: str
    why: str = PROTECTED


@dataclass(frozen=True, slots=True)
class Published:
    """A coordinator's report.

    Attributes:
        facts: see there. sites: number of sites in the sum. temperature: of all sites, or None.
        confusion: bands, rows truth; None where withheld.
        margins: of the matrix; None where withheld.
        reliability: ten bins, or five; empty where withheld.
        brier: 0..2, neighbours on a grid of 0.01 or 0.05. macro_auroc: likewise, around the histogram's own bound. None
            where withheld or not defined.
        raw_reliability: as ``reliability``, before the temperature and without mean confidences; empty where withheld,
            or where there is no temperature. raw_brier: as ``brier``, before the temperature.
        decisions: by threshold; only those of `decisions.publishable`, and empty where withheld.
        subgroups: columns that are published.
        earlier: SHA-256 of the JSON of the earlier report that this one was checked against, hex; empty without one.
        withheld: what is not, in the order of the report.
        schema: version of this layout.

    Raises:
        InvalidReportError: when shapes do not fit the classes, or the layout is another version's.
    """

    facts: Facts
    sites: int
    temperature: float | None
    confusion: tuple[tuple[Band, ...], ...] | None
    margins: Margins | None = None
    reliability: tuple[ReliabilityRow, ...] = ()
    brier: Range | None = None
    macro_auroc: Range | None = None
    raw_reliability: tuple[ReliabilityRow, ...] = ()
    raw_brier: Range | None = None
    decisions: tuple[DecisionRow, ...] = ()
    subgroups: tuple[SubgroupTable, ...] = ()
    earlier: str = ""
    withheld: tuple[Withheld, ...] = ()
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise InvalidReportError(
                f"layout version {self.schema}, and this version of Wardround reads {SCHEMA}", where="schema"
            )
        k = self.n_classes
        if k < 2:
            raise InvalidReportError(f"{k} classes", remedy="A report needs at least two")
        rows = [] if self.confusion is None else [len(row) for row in (*self.confusion, self.confusion)]
        if self.margins is not None:
            rows += [len(self.margins.missed), len(self.margins.false) or k]
        rows += [len(bands) for row in self.decisions for bands in (row.true, row.false)]
        for table in self.subgroups:
            rows += [len(bands) for row in table.rows for bands in (row.right, row.wrong)]
        if any(length != k for length in rows):
            raise InvalidReportError(f"a table does not have {k} classes")

    @property
    def n_classes(self) -> int:
        """Classes of the study."""
        return len(self.facts.classes)

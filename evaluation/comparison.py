"""What a page that compares methods is made from: frozen values that can be written to JSON and read back without loss.

Figures are means over seeds; where each site was left out in turn, a seed's value is its mean over these folds. Spread
is the standard deviation over seeds (n - 1). What is not known is None, never 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .errors import InvalidReportError
from .report_model import ClassName, check_link

SCHEMA = 1
Score = Literal["personalisation", "generalisation", "transductive"]
FIGURES = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auroc", "ece", "brier")


@dataclass(frozen=True, slots=True)
class Mean:
    """A figure over seeds.

    Attributes:
        mean: over the ``seeds`` that have a value; None for none.
        sd: standard deviation over them, n - 1; None for fewer than two.
        seeds: how many have a value.
    """

    mean: float | None = None
    sd: float | None = None
    seeds: int = 0


@dataclass(frozen=True, slots=True)
class FigureSet:
    """The figures of one score, as :class:`.metrics.Figures` defines each."""

    accuracy: Mean
    balanced_accuracy: Mean
    macro_f1: Mean
    macro_auroc: Mean
    ece: Mean
    brier: Mean


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One round: training loss and balanced accuracy on validation parts, over seeds."""

    round: int
    loss: Mean
    balanced_accuracy: Mean


@dataclass(frozen=True, slots=True)
class Limits:
    """What a method that trains on pictures was granted.

    Attributes:
        rounds: it ran at most. images: training images of a site, at most; 0: all. seeds: at most.
        folds: whether each site was left out in turn for it, where it was for others.
    """

    rounds: int
    images: int
    seeds: int
    folds: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One method in one variant.

    Attributes:
        method: its name. variant: label of the ablation's variant, or empty.
        exchange: ``federated``, ``alone``, ``pooled`` or ``nothing``.
        limits: of a method that trains on pictures; None for others.
        cells, finished: planned and finished cells; where they differ, figures are of the finished ones alone.
        seeds, folds: different seeds and left-out sites among the finished cells.
        rounds: of training in each cell; None where no cell is finished.
        personalisation: on test parts of participating sites; a cell's value is the mean over its sites.
        generalisation: on the site that took no part; of strict cells only.
        transductive: likewise, of cells whose reference set holds images that are tested on.
        bytes_per_site_round: that left one site in one round, from its ledger; None where nothing is measured.
        bytes_ratio: FedAvg's bytes divided by these; None without FedAvg in the grid.
        parameters: numbers of one update, by block.
        seconds: mean over cells, training and figures.
        curve: round by round.
    """

    method: str
    variant: str
    exchange: str
    limits: Limits | None
    cells: int
    finished: int
    seeds: int
    folds: int
    rounds: int | None
    personalisation: FigureSet
    generalisation: FigureSet
    transductive: FigureSet
    bytes_per_site_round: float | None
    bytes_ratio: float | None
    parameters: dict[str, int]
    seconds: float | None
    curve: tuple[CurvePoint, ...]

    @property
    def name(self) -> str:
        """Method and variant in words."""
        return f"{self.method}, {self.variant}" if self.variant else self.method

    def figures(self, score: Score) -> FigureSet:
        """The figures of one score."""
        chosen: FigureSet = getattr(self, score)
        return chosen


@dataclass(frozen=True, slots=True)
class PairedTest:
    """Balanced accuracy of one row minus that of its rival, on the same test images.

    Attributes:
        method, variant: of the row. rival, rival_variant: of the rival.
        against: ``baseline`` for the best baseline of the same variant, ``variant`` for the ablation's first variant.
        score: whose test images.
        difference, low, high, p, n_images, n_groups, note: as :class:`.paired.PairedDifference`.
        p_holm: p after Holm's correction over all tests of this score and kind.
        parts: site, seed and fold combinations that both have answered for.
    """

    method: str
    variant: str
    rival: str
    rival_variant: str
    against: Literal["baseline", "variant"]
    score: Score
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    n_images: int
    n_groups: int
    parts: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class CellLine:
    """One cell of the grid.

    Attributes:
        identifier: name of its folder. method, variant, seed, fold: which; an empty fold is none.
        wardround: version that ran it; empty where it is not finished.
        reason: why it failed; empty where it is finished.
        transductive: whether its reference set holds images that are tested on.
        personalisation, generalisation: balanced accuracy; of a transductive cell, ``generalisation`` is transductive.
        link: relative to the page.
    """

    identifier: str
    method: str
    variant: str
    seed: int
    fold: str
    wardround: str
    reason: str
    transductive: bool
    personalisation: float | None
    generalisation: float | None
    rounds: int | None
    seconds: float | None
    link: str

    def __post_init__(self) -> None:
        check_link(self.link)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that the page is made from.

    Attributes:
        study: name. dataset: title in words. classes: in label order.
        synthetic: True for phantoms.
        ablation: name of the ablation, or empty; option: what it varies, in words.
        methods: in the order of the tables. seeds: numbers. folds: sites that took no part; empty: none did.
        leave_one_out: whether each site was left out in turn.
        reference: the study's reference set in words.
        rows, tests, cells: see there.
        backbone: name. backbone_fingerprint: hash, hex.
        schema: version of this layout.
    """

    study: str
    dataset: str
    classes: tuple[ClassName, ...]
    synthetic: bool
    ablation: str
    option: str
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    folds: tuple[str, ...]
    leave_one_out: bool
    reference: str
    rows: tuple[Row, ...]
    tests: tuple[PairedTest, ...]
    cells: tuple[CellLine, ...]
    backbone: str
    backbone_fingerprint: str
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise InvalidReportError(
                f"layout version {self.schema}, and this version of Wardround reads {SCHEMA}",
                where="schema",
                remedy="Compare again with the version of Wardround that made it",
            )

    @property
    def failed(self) -> tuple[CellLine, ...]:
        """Cells without a result."""
        return tuple(cell for cell in self.cells if cell.reason)

    @property
    def scores(self) -> tuple[Score, ...]:
        """Scores that any row has a figure of."""
        return tuple(
            score
            for score in ("personalisation", "generalisation", "transductive")
            if any(row.figures(score).accuracy.mean is not None for row in self.rows)
        )

"""What a page that compares methods is made from: frozen values that can be written to JSON and read back without loss.

Figures are means over seeds; where each site was left out in turn, a seed's value is its mean over these folds. Spread
is the standard deviation over seeds (n - 1). What is not known is None, never 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from .errors import InvalidReportError
from .report_model import ClassName, check_link

SCHEMA = 1
Score = Literal["personalisation", "generalisation", "transductive"]
Against = Literal["baseline", "fedclip", "pixels", "variant"]
"""Kinds of tests: see :class:`PairedTest`."""
RIVALS = ("zero-shot", "local-only", "fedavg", "fedprox", "moon", "prompt-fl", "lora")
"""Baselines that a method is tested against the best of. Pooled training sees all data, so it is a bound, no rival."""
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
        unseen: whether any site took no part in its cells.
    """

    rounds: int
    images: int
    seeds: int
    folds: bool
    unseen: bool = True


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
        bytes_per_site_round: that left one site in the whole study, from its ledger, divided by the rounds; None where
            nothing is measured.
        bytes_ratio: FedAvg's bytes divided by these; None without FedAvg in the grid.
        parameters: numbers of one update, by block.
        seconds: mean over cells, training and figures.
        curve: round by round.
        options: of the method, by name. lr: Adam step size in effect; None where nothing is trained.
        logit_adjustment: weight of the log class shares in training.
        trains: of ``local-only`` and ``pooled``, the method whose adapter they train; empty for others.
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
    options: dict[str, str | float | bool] = field(default_factory=dict)
    lr: float | None = None
    logit_adjustment: float = 0.0
    trains: str = ""

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
        against: ``baseline`` for the best baseline of the same variant, by the very figure that is tested;
            ``fedclip`` for FedCLIP; ``pixels`` for a method that trains on pictures, on the cells that both have;
            ``variant`` for the ablation's first variant.
        score: whose test images.
        difference, low, high, n_images, n_groups, note: as :class:`.paired.PairedDifference`.
        p: two-sided. A rival that was chosen by its score is ahead by that choice alone, so against ``baseline`` p says
            nothing where the row is behind.
        p_holm: p after Holm's correction over the tests of this score and kind; None where there is no claim to make:
            behind a rival that was chosen, and for baselines, of which one is always the best.
        parts: site, seed and fold combinations that both have answered for.
    """

    method: str
    variant: str
    rival: str
    rival_variant: str
    against: Against
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

    @property
    def beyond_chance(self) -> bool:
        """Whether the difference is more than chance explains, at 5 % after Holm's correction."""
        return self.p_holm is not None and self.difference is not None and self.p_holm < 0.05


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
        code: SHA-256 of the source that ran it; empty where that is not known.
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
    code: str = ""

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
        reference: the reference set in words; several where the ablation varies it.
        rows, tests, cells: see there.
        backbone: name. backbone_fingerprint: hash, hex.
        notes: what a reader has to know of this grid. calibrations: values of ``calibration.method`` in the grid.
        base: the study that every cell is a variation of, all its keys but the images' path.
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
    notes: tuple[str, ...] = ()
    calibrations: tuple[str, ...] = ("after",)
    base: dict[str, Any] = field(default_factory=dict)

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

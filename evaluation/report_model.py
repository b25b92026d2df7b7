"""What a page is made from: frozen values that can be written to JSON and read back without loss.

A :class:`SiteReport` becomes a site's ``report.html``, a :class:`Dossier` the study's ``index.html``. Both
hold inputs (logits, counts, facts), and pages are recomputed from them, so a page can always be rebuilt and
checked. A site's JSON holds per-image logits: it belongs to the site and stays there. Patient names do not
enter it, groups are only numbered.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from .arrays import FloatArray, IntArray, check_predictions, check_temperature, group_codes
from .errors import InvalidReportError
from .privacy_model import AuditFacts, SitePrivacy
from .site_facts import Collection, Gain, PartitionFacts, SubgroupColumn

SCHEMA = 1
Role = Literal["training", "unseen"]
TemperatureSource = Literal["none", "site", "federated", "model"]
"""``model``: none was fitted, because the model carries a temperature of its own, learnt in training."""
_SAFE_LINK = re.compile(r"^(?!/)[A-Za-z0-9._~/#%-]+$")


@dataclass(frozen=True, slots=True)
class ClassName:
    """A class as files call it (``name``) and as a clinician writes it (``clinical_name``)."""

    name: str
    clinical_name: str


@dataclass(frozen=True, slots=True)
class Predictions:
    """Test predictions of one model.

    Attributes:
        logits: one row of K finite numbers per image, before temperature.
        labels: class index per image.
        groups: number of the patient, lesion or cluster per image, 0.. in order of first appearance.
        temperature: what divides the logits, fitted on validation images; None where it could not be fitted, and
            where the model carries one of its own.
        temperature_source: which fit it came from.
    """

    logits: tuple[tuple[float, ...], ...]
    labels: tuple[int, ...]
    groups: tuple[int, ...]
    temperature: float | None = None
    temperature_source: TemperatureSource = "none"

    def __post_init__(self) -> None:
        if not len(self.logits) == len(self.labels) == len(self.groups):
            raise InvalidReportError(
                f"{len(self.logits)} rows of logits, {len(self.labels)} labels and {len(self.groups)} groups",
                remedy="Give one of each per test image",
            )
        if len({len(row) for row in self.logits}) > 1:
            raise InvalidReportError("rows of logits differ in length")
        if any(not math.isfinite(value) for row in self.logits for value in row):
            raise InvalidReportError("a logit is not finite", remedy="Check the adapter for overflow")
        check_temperature(self.temperature)
        if (self.temperature is None) != (self.temperature_source in ("none", "model")):
            raise InvalidReportError(
                f"temperature {self.temperature} does not go with source {self.temperature_source!r}",
                remedy='Say "site" or "federated" for a fitted temperature, "none" or "model" without one',
            )

    @classmethod
    def from_arrays(
        cls,
        logits: ArrayLike,
        labels: ArrayLike,
        groups: Sequence[str] | Sequence[int] | IntArray,
        *,
        temperature: float | None = None,
        source: TemperatureSource | None = None,
    ) -> Predictions:
        """From arrays (n, K) and (n,) and group names, which are replaced by numbers.

        ``source`` defaults to ``"site"`` with a temperature and to ``"none"`` without.
        """
        z, y = check_predictions(logits, labels)
        return cls(
            logits=tuple(tuple(row) for row in z.tolist()),
            labels=tuple(y.tolist()),
            groups=tuple(group_codes(groups, len(y)).tolist()),
            temperature=None if temperature is None else float(temperature),
            temperature_source=source or ("none" if temperature is None else "site"),
        )

    def arrays(self, n_classes: int) -> tuple[FloatArray, IntArray, IntArray]:
        """Logits float64 (n, K), labels int64 (n,), groups int64 (n,)."""
        z = np.array(self.logits, dtype=np.float64).reshape(len(self.labels), n_classes)
        return z, np.array(self.labels, dtype=np.int64), np.array(self.groups, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class FlowRow:
    """Images of one class in each part of the split."""

    name: str
    train: int
    validation: int
    test: int


@dataclass(frozen=True, slots=True)
class DataFlow:
    """Where a site's images went.

    Attributes:
        rows: one per class, in label order.
        skipped: images left out because they could not be read.
        group_key: what one group is, in words, e.g. ``"patient"``; no group is on two sides of the split.
        train_groups, validation_groups, test_groups: groups in each part, or None where not counted.
    """

    rows: tuple[FlowRow, ...]
    skipped: int = 0
    group_key: str = "group"
    train_groups: int | None = None
    validation_groups: int | None = None
    test_groups: int | None = None


@dataclass(frozen=True, slots=True)
class PrivacyFacts:
    """What protected the site's images, and what left the site.

    Attributes:
        secure_aggregation: True when only masked vectors were sent.
        threshold: sites that must finish a round for its sum to be opened; None without secure aggregation.
        participants: sites in the roster.
        epsilon: differential privacy spent, or None where it was off. delta: its delta. unit: "patient", "lesion" or
            "record".
        bytes_sent: bytes that passed the egress gate in the whole study. messages_sent: messages they made up.
        ledger_entries: entries of the transmission ledger. ledger_head: hash of its last entry, hex; empty
            without one.
    """

    secure_aggregation: bool
    threshold: int | None = None
    participants: int | None = None
    epsilon: float | None = None
    delta: float | None = None
    unit: str | None = None
    bytes_sent: int = 0
    messages_sent: int | None = None
    ledger_entries: int = 0
    ledger_head: str = ""


@dataclass(frozen=True, slots=True)
class Provenance:
    """What would have to be the same to get the same page.

    Attributes:
        model_hash: SHA-256 of the adapter file, hex. backbone: its name. backbone_fingerprint: hash, hex.
        versions: (package, version) pairs, in the order they are shown.
    """

    model_hash: str
    backbone: str
    backbone_fingerprint: str
    versions: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class SiteReport:
    """Everything that one site's report is made from.

    Attributes:
        study, method, site: names. rounds: completed rounds. dataset: title in words.
        role: whether the site trained, or was only scored.
        synthetic: True for phantoms; the page then says so on top.
        classes: all classes of the study, in label order.
        flow, privacy, provenance: see there.
        federated: test predictions of the federated model.
        local_only, zero_shot: the same images under the model trained here alone, and under no training; or None.
        seed: of the bootstrap and of consistency resampling, so that a page is the same every time.
        marks: sentences that must be read before any figure; the page has them on top.
        private: what the site spent under differential privacy; None where it was off, and at unseen sites.
        columns: subgroup columns of the test images.
        thresholds: probabilities of a class at which somebody would act, named beforehand; each in (0, 1).
        wanted_risk: share of wrong answers that the abstention threshold was chosen for; None without one.
        abstain_below: ``predict`` abstains when its top probability is lower; None where nothing says so.
        calibrator: of the federated model at this site, as its own JSON; None: ``federated.temperature`` alone.
        partition, collection: facts of the split and of the data set; None where nothing is known.
        not_summed: why nothing was summed over sites; empty where it was. schema: version of this layout.
    """

    study: str
    method: str
    site: str
    role: Role
    synthetic: bool
    dataset: str
    rounds: int
    classes: tuple[ClassName, ...]
    flow: DataFlow
    federated: Predictions
    privacy: PrivacyFacts
    provenance: Provenance
    local_only: Predictions | None = None
    zero_shot: Predictions | None = None
    seed: int = 0
    marks: tuple[str, ...] = ()
    private: SitePrivacy | None = None
    columns: tuple[SubgroupColumn, ...] = ()
    thresholds: tuple[float, ...] = ()
    wanted_risk: float | None = None
    abstain_below: float | None = None
    calibrator: dict[str, Any] | None = field(default=None, hash=False)
    partition: PartitionFacts | None = None
    collection: Collection | None = None
    not_summed: str = ""
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        _check_schema(self.schema)
        for column in self.columns:
            if len(column.codes) != len(self.federated.labels):
                raise InvalidReportError(
                    f"{len(column.codes)} values for {len(self.federated.labels)} test images",
                    where=f"columns.{column.name}",
                    remedy="Give one value per test image, -1 where nothing is recorded",
                )
        if any(not 0.0 < threshold < 1.0 for threshold in self.thresholds):
            raise InvalidReportError("a decision threshold is not between 0 and 1", where="thresholds")
        if len(self.classes) < 2:
            raise InvalidReportError(f"{len(self.classes)} classes", remedy="A report needs at least two")
        if tuple(row.name for row in self.flow.rows) != tuple(label.name for label in self.classes):
            raise InvalidReportError("the rows of the data flow are not the classes, in order", where="flow.rows")
        for key in ("federated", "local_only", "zero_shot"):
            given: Predictions | None = getattr(self, key)
            if given is None:
                continue
            if given.logits and len(given.logits[0]) != len(self.classes):
                raise InvalidReportError(
                    f"{len(given.logits[0])} logits per image for {len(self.classes)} classes", where=key
                )
            if any(not 0 <= label < len(self.classes) for label in given.labels):
                raise InvalidReportError("a label is outside the classes", where=key)
            # Paired differences compare image by image, so all models must have scored the same test set in
            # the same order.
            if given.labels != self.federated.labels or given.groups != self.federated.groups:
                raise InvalidReportError(
                    "labels or groups differ from those of the federated predictions",
                    where=key,
                    remedy="Score every model on the same test images in the same order",
                )


@dataclass(frozen=True, slots=True)
class Score:
    """One model at one site, as the dossier shows it; what is not known is None.

    Attributes:
        n, n_groups: images and groups. balanced_accuracy: 0..1, brier: 0..2, each with a 95 % interval. note: why not.
        ece: calibration error after temperature; ece_once: at one image a group; ece_bound: of that, by chance.
    """

    n: int
    balanced_accuracy: float | None
    low: float | None = None
    high: float | None = None
    ece: float | None = None
    note: str = ""
    ece_once: float | None = None
    ece_bound: float | None = None
    brier: float | None = None
    brier_low: float | None = None
    brier_high: float | None = None
    n_groups: int | None = None


@dataclass(frozen=True, slots=True)
class SiteRow:
    """One site in the dossier; links are relative to the dossier, None where there is nothing to open."""

    site: str
    role: Role
    train_n: int
    test_n: int
    federated: Score
    local_only: Score | None = None
    zero_shot: Score | None = None
    bytes_sent: int | None = None
    report_link: str | None = None
    ledger_link: str | None = None
    cases_link: str | None = None
    twin_links: tuple[str, ...] = ()
    over_local_only: Gain | None = None
    over_zero_shot: Gain | None = None

    def __post_init__(self) -> None:
        for link in (self.report_link, self.ledger_link, self.cases_link, *self.twin_links):
            if link is not None:
                check_link(link)


@dataclass(frozen=True, slots=True)
class RoundRow:
    """One round: sites in the opened sum, sites that dropped out, seconds, bytes, and figures where known.

    ``remarks`` say who dropped out, where and why, and which tries at the round released nothing.
    """

    round: int
    participants: int
    dropped: int
    seconds: float
    bytes_up: int
    bytes_down: int
    train_loss: float | None = None
    validation_balanced_accuracy: float | None = None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Link:
    """A file of the run folder: ``label``, relative ``href`` and what it holds."""

    label: str
    href: str
    description: str

    def __post_init__(self) -> None:
        check_link(self.href)


@dataclass(frozen=True, slots=True)
class Dossier:
    """The study at a glance.

    Attributes:
        study, method, dataset: names. synthetic: True for phantoms. simulation: True when all ran on one machine.
        classes: in label order. seconds: of the whole study, or None.
        sites: training sites and unseen ones, in the order they are shown.
        overall, overall_local_only, overall_zero_shot: over all training sites' test images together, or None.
        rounds: in order. privacy: of the study; bytes_sent is the sum over sites, ledger facts the
            coordinator's.
        provenance, links: see there.
        marks: sentences that must be read before any figure; the page has them on top.
        privacy_sites: what each training site spent under differential privacy; empty where it was off.
        audit: what attacks on such a training measured, or None where nobody made them.
        not_summed: why there are no figures of all sites together; empty where there are, and where nothing is known.
        schema: version of this layout.
    """

    study: str
    method: str
    dataset: str
    synthetic: bool
    simulation: bool
    classes: tuple[ClassName, ...]
    sites: tuple[SiteRow, ...]
    rounds: tuple[RoundRow, ...]
    privacy: PrivacyFacts
    provenance: Provenance
    links: tuple[Link, ...] = ()
    overall: Score | None = None
    overall_local_only: Score | None = None
    overall_zero_shot: Score | None = None
    seconds: float | None = None
    marks: tuple[str, ...] = ()
    privacy_sites: tuple[SitePrivacy, ...] = ()
    audit: AuditFacts | None = None
    not_summed: str = ""
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        _check_schema(self.schema)


def _check_schema(schema: int) -> None:
    if schema != SCHEMA:
        raise InvalidReportError(
            f"layout version {schema}, and this version of Wardround reads {SCHEMA}",
            where="schema",
            remedy="Rebuild the report with the version of Wardround that made it",
        )


def check_link(href: str) -> None:
    """Refuse what is not a plain relative path: a scheme, a host, a root path, or a step up and out.

    Escaping makes a string harmless as text, not as an address: ``javascript:`` survives it.
    """
    if not _SAFE_LINK.match(href) or ".." in href.split("/"):
        raise InvalidReportError(f"link {href!r} is not a relative path inside the run folder")

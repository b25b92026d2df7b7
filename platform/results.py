"""What a finished study knows, and its summary.json and model card; docs/run-folder.md describes both layouts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..evaluation.calibration.calibrator import Calibrator
from ..evaluation.privacy_model import SitePrivacy
from .assessment import Assessment, Prediction
from .backbone import Backbone
from .class_means import constants_of
from .config import Study
from .figures_loop import FederatedFigures
from .marks import Marks, marks_of
from .methods.method import Method
from .model_card import CardFacts, federated_calibrator, spent, why_not_calibrated, why_not_summed
from .model_card import model_card as card_of
from .study_data import StudyData


@dataclass(frozen=True, slots=True)
class Transmissions:
    """What left one site, by its own ledger.

    Attributes:
        bytes_sent: wire bytes of everything that passed the gate.
        messages_sent: how many messages that was.
        entries: entries of the ledger.
        head: hash of its last entry, hexadecimal.
    """

    bytes_sent: int
    messages_sent: int
    entries: int
    head: str


@dataclass(frozen=True, slots=True)
class Results:
    """Everything that the dossier is written from.

    Attributes:
        study: the resolved study.
        backbone: the frozen CLIP.
        method: the method with its options.
        data: features and cohort.
        federated, zero_shot, local_only: the three models.
        rounds: lines of rounds.jsonl that released an adapter, one a round.
        sent: per training site.
        received: the coordinator's own ledger.
        threshold: t of the roster.
        adapter_sha256: hash of model/adapter.safetensors.
        seconds: wall time of the study.
        skipped: images that could not be read.
        unreleased: lines of rounds.jsonl of tries that released nothing.
        omitted: classes without a mean, where the study aligns to class means.
        privacy: by training site, what its budget says of this study; empty without differential privacy.
        figures: sums over the sites' held-out images; None where none were to be made.
    """

    study: Study
    backbone: Backbone
    method: Method
    data: StudyData
    federated: Assessment
    zero_shot: Assessment
    local_only: Assessment
    rounds: Sequence[Mapping[str, Any]]
    sent: Mapping[str, Transmissions]
    received: Transmissions
    threshold: int
    adapter_sha256: str
    seconds: float
    skipped: int
    unreleased: Sequence[Mapping[str, Any]] = ()
    omitted: Sequence[str] = ()
    privacy: Mapping[str, SitePrivacy] = field(default_factory=dict)
    figures: FederatedFigures | None = None

    @property
    def calibrator(self) -> Calibrator:
        """The federation's own calibration, from sums alone; it travels in the model card, without counts."""
        return federated_calibrator(
            self.study,
            self.figures,
            classes=len(self.data.cohort.dataset.classes),
            calibrated=self.federated.calibrated,
            temperature=self.federated.temperature,
        )

    @property
    def not_summed(self) -> str:
        """Why there are no figures of all sites together; empty where there are."""
        return why_not_summed(self.study, self.figures)

    @property
    def not_calibrated(self) -> str:
        """Why the federation's probabilities are not calibrated; empty where they are."""
        known = self.federated
        return why_not_calibrated(self.study, self.figures, calibrated=known.calibrated, temperature=known.temperature)

    @property
    def marks(self) -> Marks:
        """What a reader must know before any figure."""
        return marks_of(self.study, self.method, self.data, self.federated)


def summary(results: Results) -> dict[str, Any]:
    """The content of summary.json; what is not known is None."""
    sites = {}
    for site in results.data.sites:
        sites[site.name] = {
            **results.federated.sites[site.name].figures.as_dict(),
            **spent(results.privacy.get(site.name)),
            "bytes_sent": results.sent[site.name].bytes_sent,
            "train_n": len(site.train),
            "test_n": len(site.test),
            "personal": site.name in results.federated.own,
        }
    return {
        "study": results.study.name,
        "method": results.method.name,
        "rounds": len(results.rounds),
        "simulation": True,
        "secure_aggregation": True,
        **results.marks.flags(),
        "global": results.federated.together.as_dict(),
        "sites": sites,
        "unseen": _unseen(results, results.federated.unseen),
        "baselines": {
            "zero_shot": _baseline(results, results.zero_shot),
            "local_only": _baseline(results, results.local_only),
        },
        "bytes_up": sum(transmissions.bytes_sent for transmissions in results.sent.values()),
        "bytes_down": results.received.bytes_sent,
        "seconds": round(results.seconds, 3),
    }


def _baseline(results: Results, assessment: Assessment) -> dict[str, Any]:
    return {
        "global": assessment.together.as_dict(),
        "sites": {name: prediction.figures.as_dict() for name, prediction in assessment.sites.items()},
        "unseen": _unseen(results, assessment.unseen),
    }


def _unseen(results: Results, prediction: Prediction | None) -> dict[str, Any]:
    if results.data.unseen is None or prediction is None:
        return {}
    return {results.data.unseen.name: prediction.figures.as_dict()}


def model_card(results: Results) -> dict[str, Any]:
    """The content of model/card.json: what the adapter is, for what, and how far it can be trusted."""
    return card_of(card_facts(results))


def card_facts(results: Results) -> CardFacts:
    """What the card of a finished study is made from."""
    study, data = results.study, results.data
    return CardFacts(
        study=study,
        method=results.method,
        backbone=results.backbone,
        dataset=data.cohort.dataset,
        synthetic=data.cohort.synthetic,
        rounds=len(results.rounds),
        adapter_sha256=results.adapter_sha256,
        calibrated=results.federated.calibrated,
        calibrator=results.calibrator,
        calibration_note=results.not_calibrated,
        marks=results.marks,
        privacy=results.privacy,
        reference_n=data.reference_n,
        transductive=data.transductive,
        skipped=results.skipped,
        omitted=results.omitted if constants_of(study, data.shared) else None,
    )

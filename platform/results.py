"""What a finished study knows, and its summary.json and model card; docs/run-folder.md describes both layouts."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rfc8785

from .. import __version__
from ..evaluation.calibration.calibrator import Calibrator
from ..evaluation.calibration.fitting import from_sums
from ..evaluation.privacy_model import SitePrivacy
from ..privacy.differential_privacy.releases import Relation
from .assessment import Assessment, Prediction
from .backbone import Backbone
from .class_means import constants_of
from .config import Study
from .enrolment import weighting_of
from .figures_loop import FederatedFigures
from .held_out import EVALUATION, TEMPERATURE
from .marks import Marks, marks_of
from .methods.method import Method
from .study_data import StudyData

CARD_CHECKSUM = "card_sha256"


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
        settings, summed = self.study.evaluation, self.figures.summed if self.figures is not None else None
        fields = summed.fields if summed is not None else {}
        counts = {
            name: np.atleast_1d(fields[name]).astype(np.int64)
            for name in ("scores", "class_scores", "answers", "right_answers")
            if name in fields
        }
        return from_sums(
            self.federated.temperature,
            classes=len(self.data.cohort.dataset.classes),
            coverage=settings.coverage,
            risk=settings.abstain_risk or None,
            abstain_below=settings.abstain_below,
            scores=counts.get("class_scores"),
            once=counts.get("scores"),
            confidences=np.stack([counts["answers"], counts["right_answers"]]) if counts else None,
            own_temperature=self.federated.calibrated,
        )

    @property
    def not_summed(self) -> str:
        """Why there are no figures of all sites together; empty where there are."""
        if self.figures is not None:
            return self.figures.reasons.get(EVALUATION, "")
        if self.study.private:
            return "under differential privacy no sums over validation and test images are made"
        return "the study makes no sums over validation and test images (evaluation.federated = false)"

    @property
    def not_calibrated(self) -> str:
        """Why the federation's probabilities are not calibrated; empty where they are."""
        if self.federated.calibrated or self.federated.temperature is not None:
            return ""
        if self.figures is None:
            return self.not_summed
        return self.figures.reasons.get(TEMPERATURE, "too few validation images, or the fit had no optimum")

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
            **_spent(results.privacy.get(site.name)),
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


def _spent(private: SitePrivacy | None) -> dict[str, float | None]:
    """What a site spent in this study, rounded up: never less than what it was."""
    if private is None:
        return {"epsilon": None, "delta": None}
    return {"epsilon": math.ceil(private.epsilon * 1e6) / 1e6, "delta": private.delta}


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
    calibrator = results.calibrator
    study, cohort = results.study, results.data.cohort
    card: dict[str, Any] = {
        "study": study.name,
        "study_hash": study.digest(),
        "wardround": __version__,
        "synthetic": cohort.synthetic,
        "method": results.method.name,
        "options": results.method.options(),
        "training": study.training.model_dump(mode="json"),
        "rounds": len(results.rounds),
        "selection": study.selection,
        **results.marks.flags(),
        "adapter_sha256": results.adapter_sha256,
        "backbone": {
            "name": results.backbone.name,
            "weights": Path(results.backbone.weights).name,  # of a local file its name; the place is the machine's own
            "fingerprint": results.backbone.fingerprint,
            "embed_dim": results.backbone.embed_dim,
        },
        "dataset": cohort.dataset.title,
        "images_left_out": results.skipped,
        "classes": [
            {"name": label.name, "clinical_name": label.clinical_name, "prompts": list(label.prompts)}
            for label in cohort.dataset.classes
        ],
        "reference": {
            "source": study.reference.source,
            "images": results.data.reference_n,
            "labels_known": study.reference.labels_known,
            "transductive": results.data.transductive,
            # What was summed for this method; one that aligns to nothing has neither means nor omissions.
            **({"omitted": list(results.omitted)} if constants_of(study, results.data.shared) else {}),
        },
        "weighting": weighting_of(study, results.method),
        "server": study.server.model_dump(mode="json"),
        "personalisation": study.personalisation.model_dump(mode="json"),
        "calibration_settings": study.calibration.model_dump(mode="json"),
        "calibration": calibrator.to_dict(),
        "calibration_note": results.not_calibrated,
        "temperature": results.federated.temperature,
        "temperature_source": _temperature_source(results.federated),
        "abstain_below": calibrator.abstain_below,
        **_privacy(results),
        "secure_aggregation": True,
        "intended_use": "Research on federated training. Not a medical device; not for diagnosis.",
        "limits": [
            *_privacy_limits(results),
            "Figures hold for the sites and periods of this study; check them on local data before any use.",
            "An image that shows none of the classes still gets probabilities over them.",
            *results.marks.of_study(),
            *(["Trained and tested on synthetic phantoms: it knows nothing of patients."] if cohort.synthetic else []),
        ],
    }
    return {**card, CARD_CHECKSUM: card_checksum(card)}


def _privacy(results: Results) -> dict[str, Any]:
    """The card's claim: the largest epsilon of any site, and how it came about."""
    if not results.privacy:
        return {"epsilon": None, "delta": None, "unit": None}
    worst = max(results.privacy.values(), key=lambda site: site.epsilon)
    settings = results.study.privacy
    return {
        **_spent(worst),
        "unit": worst.unit,
        "privacy": {
            "relation": str(Relation.ZERO_OUT),
            "target_epsilon": settings.epsilon,
            "records_per_unit": settings.records_per_unit,
            "clip": settings.clip,
            "alignment": settings.alignment if results.study.adapts else "none",
            "rdp_epsilon": worst.rdp_epsilon,
            "noise_multipliers": {name: site.noise_multiplier for name, site in results.privacy.items()},
            "units": {name: site.units for name, site in results.privacy.items()},
        },
    }


def _privacy_limits(results: Results) -> Iterator[str]:
    if not results.privacy:
        yield "Trained without differential privacy: the sum of the sites' updates may carry traces of single patients."
        return
    unit = next(iter(results.privacy.values())).unit
    yield (
        f"Differential privacy covers the training images of one {unit} at each site, given which images were dealt to "
        "training. Validation and test images, the reference set and the number of units are not covered."
    )
    yield f"A {unit} whose images lie at k sites spends k epsilons, and another k in every further run on them."
    if results.study.personalisation.fine_tune_epochs > 0:
        yield "Sites' own models are fine-tuned without noise; they and their figures must stay at the site."


def _temperature_source(assessment: Assessment) -> str:
    """Where the adapter's temperature is: fitted after training, within the adapter itself, or nowhere."""
    if assessment.calibrated:
        return "model"
    return "none" if assessment.temperature is None else "federated"


def card_checksum(card: Mapping[str, Any]) -> str:
    """SHA-256 of a card's canonical JSON without its checksum: an edited class name must not pass for the model's."""
    content = {key: value for key, value in card.items() if key != CARD_CHECKSUM}
    return hashlib.sha256(rfc8785.dumps(content)).hexdigest()

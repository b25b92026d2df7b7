"""The model card: what an adapter is, for what, and how far it can be trusted; and the federation's calibration in it.

It is made of public facts and of sums over sites alone, so a coordinator without data writes the same card as a
simulation; what it does not know is null there.
"""

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
from ..medical_datasets.cohort import Dataset
from ..privacy.differential_privacy.releases import Relation
from .backbone import Backbone
from .config import Study
from .enrolment import weighting_of
from .figures_loop import FederatedFigures
from .held_out import EVALUATION, TEMPERATURE
from .marks import Marks
from .methods.method import Method

CARD_CHECKSUM = "card_sha256"


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What a card is made from.

    Attributes:
        study, method, backbone: what was trained, how, on which encoder.
        dataset: title, and classes with prompts. synthetic: True for phantoms.
        rounds: that released an adapter. adapter_sha256: of model/adapter.safetensors.
        calibrated: whether the adapter carries a temperature of its own.
        calibrator: the federation's. calibration_note: why its probabilities are not calibrated; empty where they are.
        marks: what a reader must know before any figure.
        privacy: by site, what differential privacy cost; empty without.
        bound: whether these are the most that sites can have spent, and not what they spent.
        reference_n: reference images. transductive: whether images that are tested on are among them. skipped: images
            that could not be read. Each is None where that is not known.
        omitted: classes without a mean, where the study aligns to class means; None where it does not.
        limits: sentences beside those of every card.
    """

    study: Study
    method: Method
    backbone: Backbone
    dataset: Dataset
    synthetic: bool
    rounds: int
    adapter_sha256: str
    calibrated: bool
    calibrator: Calibrator
    calibration_note: str
    marks: Marks
    privacy: Mapping[str, SitePrivacy] = field(default_factory=dict)
    bound: bool = False
    reference_n: int | None = None
    transductive: bool | None = None
    skipped: int | None = None
    omitted: Sequence[str] | None = None
    limits: Sequence[str] = ()

    @property
    def temperature(self) -> float | None:
        """The federated temperature; None where there is none."""
        return self.calibrator.temperature if self.calibrator.source == "federated" else None


def model_card(facts: CardFacts) -> dict[str, Any]:
    """The content of model/card.json."""
    study, backbone = facts.study, facts.backbone
    card: dict[str, Any] = {
        "study": study.name,
        "study_hash": study.digest(),
        "wardround": __version__,
        "synthetic": facts.synthetic,
        "method": facts.method.name,
        "options": facts.method.options(),
        "training": study.training.model_dump(mode="json"),
        "rounds": facts.rounds,
        "selection": study.selection,
        **facts.marks.flags(),
        "adapter_sha256": facts.adapter_sha256,
        "backbone": {
            "name": backbone.name,
            "weights": Path(backbone.weights).name,  # of a local file its name; the place is the machine's own
            "fingerprint": backbone.fingerprint,
            "embed_dim": backbone.embed_dim,
        },
        "dataset": facts.dataset.title,
        "images_left_out": facts.skipped,
        "classes": [
            {"name": label.name, "clinical_name": label.clinical_name, "prompts": list(label.prompts)}
            for label in facts.dataset.classes
        ],
        "reference": {
            "source": study.reference.source,
            "images": facts.reference_n,
            "labels_known": study.reference.labels_known,
            "transductive": facts.transductive,
            # What was summed for this method; one that aligns to nothing has neither means nor omissions.
            **({"omitted": list(facts.omitted)} if facts.omitted is not None else {}),
        },
        "weighting": weighting_of(study, facts.method),
        "server": study.server.model_dump(mode="json"),
        "personalisation": study.personalisation.model_dump(mode="json"),
        "calibration_settings": study.calibration.model_dump(mode="json"),
        "calibration": facts.calibrator.to_dict(),
        "calibration_note": facts.calibration_note,
        "temperature": facts.temperature,
        "temperature_source": temperature_source(facts.temperature, calibrated=facts.calibrated),
        "abstain_below": facts.calibrator.abstain_below,
        **_privacy(facts),
        "secure_aggregation": True,
        "intended_use": "Research on federated training. Not a medical device; not for diagnosis.",
        "limits": [
            *_privacy_limits(facts),
            "Figures hold for the sites and periods of this study; check them on local data before any use.",
            "An image that shows none of the classes still gets probabilities over them.",
            *facts.marks.of_study(),
            *facts.limits,
            *(["Trained and tested on synthetic phantoms: it knows nothing of patients."] if facts.synthetic else []),
        ],
    }
    return {**card, CARD_CHECKSUM: card_checksum(card)}


def federated_calibrator(
    study: Study, figures: FederatedFigures | None, *, classes: int, calibrated: bool, temperature: float | None
) -> Calibrator:
    """The federation's own calibration, from sums alone; it travels in the model card, without counts.

    Args:
        study: coverage, risk and abstention. figures: sums over sites; None where none were made.
        classes: K. calibrated: whether the model carries a temperature of its own.
        temperature: the federated one; None where it is not known.
    """
    settings, summed = study.evaluation, figures.summed if figures is not None else None
    fields = summed.fields if summed is not None else {}
    counts = {
        name: np.atleast_1d(fields[name]).astype(np.int64)
        for name in ("scores", "class_scores", "answers", "right_answers")
        if name in fields
    }
    return from_sums(
        temperature,
        classes=classes,
        coverage=settings.coverage,
        risk=settings.abstain_risk or None,
        abstain_below=settings.abstain_below,
        scores=counts.get("class_scores"),
        once=counts.get("scores"),
        confidences=np.stack([counts["answers"], counts["right_answers"]]) if counts else None,
        own_temperature=calibrated,
    )


def why_not_summed(study: Study, figures: FederatedFigures | None) -> str:
    """Why there are no figures of all sites together; empty where there are."""
    if figures is not None:
        return figures.reasons.get(EVALUATION, "")
    if study.private:
        return "under differential privacy no sums over validation and test images are made"
    return "the study makes no sums over validation and test images (evaluation.federated = false)"


def why_not_calibrated(
    study: Study, figures: FederatedFigures | None, *, calibrated: bool, temperature: float | None
) -> str:
    """Why the federation's probabilities are not calibrated; empty where they are."""
    if calibrated or temperature is not None:
        return ""
    if figures is None:
        return why_not_summed(study, figures)
    return figures.reasons.get(TEMPERATURE, "too few validation images, or the fit had no optimum")


def temperature_source(temperature: float | None, *, calibrated: bool) -> str:
    """Where the adapter's temperature is: fitted after training, within the adapter itself, or nowhere."""
    if calibrated:
        return "model"
    return "none" if temperature is None else "federated"


def spent(private: SitePrivacy | None) -> dict[str, float | None]:
    """What a site spent in a study, rounded up: never less than what it was."""
    if private is None:
        return {"epsilon": None, "delta": None}
    return {"epsilon": math.ceil(private.epsilon * 1e6) / 1e6, "delta": private.delta}


def _privacy(facts: CardFacts) -> dict[str, Any]:
    """The card's claim: the largest epsilon of any site, and how it came about."""
    if not facts.privacy:
        return {"epsilon": None, "delta": None, "unit": None}
    worst = max(facts.privacy.values(), key=lambda site: site.epsilon)
    settings = facts.study.privacy
    return {
        **spent(worst),
        "unit": worst.unit,
        "privacy": {
            "relation": str(Relation.ZERO_OUT),
            "target_epsilon": settings.epsilon,
            "records_per_unit": settings.records_per_unit,
            "clip": settings.clip,
            "alignment": settings.alignment if facts.study.adapts else "none",
            "rdp_epsilon": worst.rdp_epsilon,
            "noise_multipliers": {name: site.noise_multiplier for name, site in facts.privacy.items()},
            "units": {name: site.units for name, site in facts.privacy.items()},
        },
    }


def _privacy_limits(facts: CardFacts) -> Iterator[str]:
    if not facts.privacy:
        yield "Trained without differential privacy: the sum of the sites' updates may carry traces of single patients."
        return
    unit = next(iter(facts.privacy.values())).unit
    if facts.bound:
        yield (
            "Epsilon is the most that a site's own gate lets out over all rounds, by its public number of units. A "
            "site that missed rounds spent less; what each spent stands in its own report."
        )
    yield (
        f"Differential privacy covers the training images of one {unit} at each site, given which images were dealt to "
        "training. Validation and test images, the reference set and the number of units are not covered."
    )
    yield f"A {unit} whose images lie at k sites spends k epsilons, and another k in every further run on them."
    if facts.study.personalisation.fine_tune_epochs > 0:
        yield "Sites' own models are fine-tuned without noise; they and their figures must stay at the site."


def card_checksum(card: Mapping[str, Any]) -> str:
    """SHA-256 of a card's canonical JSON without its checksum: an edited class name must not pass for the model's."""
    content = {key: value for key, value in card.items() if key != CARD_CHECKSUM}
    return hashlib.sha256(rfc8785.dumps(content)).hexdigest()

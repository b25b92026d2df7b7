"""Parts of a study's course that a simulation and real machines share: its encoder, its method, its three models."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..evaluation.calibration.calibrator import Calibrator
from .assessment import Logits, assess_local_only, assess_shared, trained, zero_shot
from .backbone import Backbone, load_backbone
from .baselines import train_alone
from .calibration import carries_temperature
from .config import Study
from .errors import MethodError, RunFolderError
from .federation import Federated, assess_federated
from .methods.method import Method
from .methods.table import method_of, without_adaptation
from .site_calibration import fit_site
from .study_data import Part, StudyData
from .watching import Watcher


def study_backbone(study: Study) -> Backbone:
    """The study's frozen CLIP; refused when the study pins another fingerprint."""
    wanted = study.backbone
    backbone = load_backbone(wanted.name, wanted.weights or None, device=study.device, allow_random=wanted.allow_random)
    if wanted.fingerprint and wanted.fingerprint != backbone.fingerprint:
        raise RunFolderError(
            f"the backbone's fingerprint is {backbone.fingerprint}, the study pins {wanted.fingerprint}",
            where="backbone.fingerprint",
            remedy="Use the weights that the study was written for, or change the pin in every site's study",
        )
    return backbone


def federated_method(study: Study) -> Method:
    """The study's method, if sites train it together.

    Raises:
        MethodError: it is one that nothing is sent for.
    """
    method = method_of(study)
    if method.exchange != "federated":
        raise MethodError(
            f"nothing is exchanged for the method '{method.name}', so there are no rounds to run",
            where="method",
            remedy=f"See how it compares: wardround compare STUDY.toml --methods {method.name},{study.baseline.method}",
        )
    return method


def calibrate(study: Study, logits: Logits, part: Part, federated: float | None, own: bool) -> Calibrator:
    """A site's calibration, on its validation part."""
    return fit_site(study, logits, part.labels, part.groups, federated_temperature=federated, own_temperature=own)


def assess_study(
    study: Study, method: Method, data: StudyData, federated: Federated, watcher: Watcher
) -> dict[str, Any]:
    """The federated model beside the frozen CLIP and beside each site on its own, for the fields of `.results.Results`.

    A site of ``data`` gets the same figures whichever other sites are in it.
    """
    models, alone, calibrated = {}, without_adaptation(method), False
    for number, site in enumerate(data.sites):
        watcher.progress(number, len(data.sites), "sites trained alone")
        part, held_out = site.train.training(method.consumes), site.validation.training(method.consumes)
        state = train_alone(study, alone, site.name, part, held_out, data.shared)
        calibrated = carries_temperature(state)
        models[site.name] = trained(alone, state, data.shared)
    classes = data.cohort.dataset.class_names
    return {
        "federated": assess_federated(method, data, federated, partial(calibrate, study)),
        "zero_shot": assess_shared(zero_shot(data.shared), data, classes),
        "local_only": assess_local_only(models, data, classes, consumes=method.consumes, calibrated=calibrated),
    }

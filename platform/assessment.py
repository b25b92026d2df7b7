"""Who predicts what, and how well: zero-shot, local-only and federated, per site, together and on the unseen site.

Temperatures are fitted on validation parts only and applied to test parts. A training site uses its own; everything
that is no single site's (the whole federation, the unseen site) uses the federated one, fitted on a fixed grid of sums.
A model that carries a temperature of its own, learnt in training, gets none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..evaluation.calibration.calibrator import Calibrator
from ..evaluation.calibration.temperature import fit, fit_federated, grid_nll_sums
from ..evaluation.metrics import Figures, figures
from .adapters import State
from .methods.method import Consumes, Method, SharedInputs
from .study_data import Part, StudyData
from .training import one_thread, ready_module, zero_shot_logits

Logits = NDArray[np.float64]
Predictor = Callable[[Tensor], Logits]
Calibrate = Callable[[Logits, Part, float | None, bool], Calibrator]
"""From validation logits and their part, the federated temperature, and whether the model carries one of its own."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """One model on one site.

    Attributes:
        logits: (n, K) float64 on the test part, before temperature.
        temperature: fitted on validation; None where it could not be, and where the model carries one of its own.
        figures: of the test part, at that temperature, or as the site's calibrator has it where that is none.
        calibrator: of a training site, fitted on its validation part; None of other models, and away from the sites.
    """

    logits: Logits
    temperature: float | None
    figures: Figures
    calibrator: Calibrator | None = None


@dataclass(frozen=True, slots=True)
class Assessment:
    """One model over the whole study.

    Attributes:
        together: the test parts of all training sites at once, at the federated temperature: figures of the shared
            model, also where sites have models of their own; of local-only models, each at its own temperature.
        sites: per training site, by its own model where it has one.
        unseen: on the site that took no part; for local-only models the mean over them. None when there is none.
        temperature: the federated temperature; None for local-only models, where it could not be fitted, and where
            the model carries one of its own.
        pooled: what ``together`` is of: logits per training site, to be divided by ``temperature`` where there is one.
        own: training sites whose entry in ``sites`` is of a model of their own, a variant of the shared one.
        calibrated: whether the model carries a temperature of its own.
        calibrators: each training site's calibration of the shared model, also where it has a model of its own; empty
            where none were fitted.
    """

    together: Figures
    sites: Mapping[str, Prediction]
    unseen: Prediction | None
    temperature: float | None
    pooled: Mapping[str, Logits]
    own: tuple[str, ...] = ()
    calibrated: bool = False
    calibrators: Mapping[str, Calibrator] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fitted:
    """A federated temperature that is known already; None where its fit found none."""

    temperature: float | None


def zero_shot(shared: SharedInputs) -> Predictor:
    """The frozen CLIP alone, on features."""
    return lambda features: zero_shot_logits(features, shared).numpy()


def trained(method: Method, state: State, shared: SharedInputs) -> Predictor:
    """A trained module, on what its method consumes; built once."""
    with one_thread():
        module = ready_module(method, state, shared)

    def predict(inputs: Tensor) -> Logits:
        with one_thread(), torch.no_grad():
            return method.logits(module, inputs, shared).numpy()

    return predict


def assess_shared(
    predict: Predictor,
    data: StudyData,
    classes: Sequence[str],
    *,
    consumes: Consumes = "features",
    personal: Mapping[str, Predictor] | None = None,
    calibrated: bool = False,
    fitted: Fitted | None = None,
    calibrate: Calibrate | None = None,
) -> Assessment:
    """Figures of one model that all sites share.

    Args:
        predict: the shared model; it answers for the unseen site, and for all sites together.
        data: the parts. classes: names in label order.
        consumes: what the model takes.
        personal: by site, its own variant of the model where it has one; it answers for that site alone.
        calibrated: whether the model carries a temperature of its own, so that none is fitted.
        fitted: the federated temperature that sites have summed for; None to fit it here, on all validation parts.
        calibrate: fits a site's own calibration on its validation part; None for a temperature alone.
    """
    own = {site.name: (personal or {}).get(site.name, predict) for site in data.sites}
    # What is fitted for all, and what a site answers with when it is given the shared model, is of the shared model.
    shared = {site.name: predict(site.validation.inputs(consumes)) for site in data.sites}
    validation = {
        site.name: own[site.name](site.validation.inputs(consumes))
        if site.name in (personal or {})
        else shared[site.name]
        for site in data.sites
    }
    federated = None if fitted is None or calibrated else fitted.temperature
    if not calibrated and fitted is None:
        sums = sum((grid_nll_sums(shared[s.name], s.validation.labels) for s in data.sites), np.zeros(()))
        federated = fit_federated(sums, n=sum(len(site.validation) for site in data.sites))
    sites, calibrators = {}, {}
    for site in data.sites:
        if calibrate is None:
            temperature = None if calibrated else fit(validation[site.name], site.validation.labels)
            sites[site.name] = _predict(own[site.name], site.test, temperature, classes, consumes)
            continue
        of_shared = calibrate(shared[site.name], site.validation, federated, calibrated)
        of_own = of_shared
        if site.name in (personal or {}):
            of_own = calibrate(validation[site.name], site.validation, None, calibrated)
        calibrators[site.name] = of_shared
        sites[site.name] = _calibrated(own[site.name], site.test, of_own, classes, consumes)
    named = tuple(site.name for site in data.sites if site.name in (personal or {}))
    # Of the shared model alone: what sites make of it for themselves is not what is handed on.
    pooled = {
        site.name: predict(site.test.inputs(consumes)) if site.name in named else sites[site.name].logits
        for site in data.sites
    }
    together = _together(pooled, data, federated, classes)
    unseen = _predict(predict, data.unseen.test, federated, classes, consumes) if data.unseen else None
    return Assessment(together, sites, unseen, federated, pooled, named, calibrated, calibrators)


def assess_local_only(
    models: Mapping[str, Predictor],
    data: StudyData,
    classes: Sequence[str],
    *,
    consumes: Consumes = "features",
    calibrated: bool = False,
) -> Assessment:
    """Figures of one model per site, each on its own site; on the unseen site, the mean over the models.

    Args:
        models: by site. data: the parts. classes: names in label order.
        consumes: what the models take.
        calibrated: whether they carry temperatures of their own, so that none is fitted.
    """
    sites, pooled, away = {}, {}, []
    for site in data.sites:
        predict = models[site.name]
        temperature = None
        if not calibrated:
            temperature = fit(predict(site.validation.inputs(consumes)), site.validation.labels)
        sites[site.name] = _predict(predict, site.test, temperature, classes, consumes)
        pooled[site.name] = sites[site.name].logits / (temperature or 1.0)
        if data.unseen:
            away.append(_predict(predict, data.unseen.test, temperature, classes, consumes))
    together = _together(pooled, data, None, classes)
    unseen = None
    if away:
        mean = _mean_figures([prediction.figures for prediction in away])
        unseen = Prediction(np.mean([prediction.logits for prediction in away], axis=0), None, mean)
    return Assessment(together, sites, unseen, None, pooled, calibrated=calibrated)


def _together(
    pooled: Mapping[str, Logits], data: StudyData, temperature: float | None, classes: Sequence[str]
) -> Figures:
    logits = np.concatenate([pooled[site.name] for site in data.sites])
    labels = np.concatenate([site.test.labels for site in data.sites])
    return figures(logits, labels, temperature=temperature, classes=classes)


def _predict(
    predict: Predictor, part: Part, temperature: float | None, classes: Sequence[str], consumes: Consumes
) -> Prediction:
    logits = predict(part.inputs(consumes))
    return Prediction(logits, temperature, figures(logits, part.labels, temperature=temperature, classes=classes))


def _calibrated(
    predict: Predictor, part: Part, calibrator: Calibrator, classes: Sequence[str], consumes: Consumes
) -> Prediction:
    """As the site answers with its own calibration; only a temperature can be named in one number."""
    logits, temperature = predict(part.inputs(consumes)), calibrator.temperature
    if temperature is not None or not calibrator.calibrated:
        found = figures(logits, part.labels, temperature=temperature, classes=classes)
    else:
        found = figures(calibrator.apply(logits), part.labels, classes=classes)
    return Prediction(logits, temperature, found, calibrator)


def _mean_figures(several: Sequence[Figures]) -> Figures:
    """Mean of each figure over models; None as soon as one model lacks it. The count is of images, not of models."""
    values: dict[str, float | None] = {}
    for each_field in fields(Figures):
        known = [getattr(each, each_field.name) for each in several]
        values[each_field.name] = None if None in known else float(np.mean(known))
    values["n"] = several[0].n
    values["temperature"] = None
    return Figures(**values)  # type: ignore[arg-type]

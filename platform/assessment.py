"""Who predicts what, and how well: zero-shot, local-only and federated, per site, together and on the unseen site.

Temperatures are fitted on validation parts only and applied to test parts. A training site uses its own; everything
that is no single site's (the whole federation, the unseen site) uses the federated one, fitted on a fixed grid of sums.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray

from ..evaluation.metrics import Figures, figures
from ..evaluation.temperature import fit, fit_federated, grid_nll_sums
from .config import TrainingSection
from .methods.method import Method, SharedInputs
from .study_data import Part, SiteData, StudyData
from .training import derive_seed, predict_logits, train_locally, zero_shot_logits
from .update import State

Logits = NDArray[np.float64]
Predictor = Callable[[NDArray[np.float32]], Logits]


@dataclass(frozen=True, slots=True)
class Prediction:
    """One model on one site.

    Attributes:
        logits: (n, K) float64 on the test part, before temperature.
        temperature: fitted on validation; None where it could not be.
        figures: of the test part, at that temperature.
    """

    logits: Logits
    temperature: float | None
    figures: Figures


@dataclass(frozen=True, slots=True)
class Assessment:
    """One model over the whole study.

    Attributes:
        together: the test parts of all training sites at once.
        sites: per training site.
        unseen: on the site that took no part; for local-only models the mean over them. None when there is none.
        temperature: the federated temperature; None for local-only models and where it could not be fitted.
    """

    together: Figures
    sites: Mapping[str, Prediction]
    unseen: Prediction | None
    temperature: float | None


def zero_shot(shared: SharedInputs) -> Predictor:
    """The frozen CLIP alone."""
    return lambda features: zero_shot_logits(torch.from_numpy(features), shared).numpy()


def adapted(method: Method, state: State, shared: SharedInputs) -> Predictor:
    """The frozen CLIP with a trained adapter."""
    return lambda features: predict_logits(method, state, torch.from_numpy(features), shared).numpy()


def assess_shared(predict: Predictor, data: StudyData, classes: Sequence[str]) -> Assessment:
    """Figures of one model that all sites share."""
    validation = {site.name: predict(site.validation.features) for site in data.sites}
    sums = sum((grid_nll_sums(validation[s.name], s.validation.labels) for s in data.sites), np.zeros(()))
    federated = fit_federated(sums, n=sum(len(site.validation) for site in data.sites))
    sites = {
        site.name: _predict(predict, site.test, fit(validation[site.name], site.validation.labels), classes)
        for site in data.sites
    }
    together = figures(
        np.concatenate([prediction.logits for prediction in sites.values()]),
        np.concatenate([site.test.labels for site in data.sites]),
        temperature=federated,
        classes=classes,
    )
    unseen = _predict(predict, data.unseen.test, federated, classes) if data.unseen else None
    return Assessment(together, sites, unseen, federated)


def train_local_only(
    method: Method,
    start: State,
    site: SiteData,
    shared: SharedInputs,
    settings: TrainingSection,
    *,
    study: str,
    seed: int,
    rounds: int,
) -> State:
    """A site on its own: as many rounds of the same local training, from the same start, without ever aggregating."""
    state = start
    moments: State | None = None
    for number in range(1, rounds + 1):
        result = train_locally(
            method,
            state,
            site.train.training(),
            shared,
            settings,
            seed=derive_seed(study, site.name, seed, number),
            moments=moments if settings.optimiser_state == "keep" else None,
        )
        state, moments = result.state, result.moments
    return state


def assess_local_only(models: Mapping[str, Predictor], data: StudyData, classes: Sequence[str]) -> Assessment:
    """Figures of one model per site, each on its own site; on the unseen site, the mean over the models."""
    sites, calibrated, away = {}, [], []
    for site in data.sites:
        predict = models[site.name]
        temperature = fit(predict(site.validation.features), site.validation.labels)
        sites[site.name] = _predict(predict, site.test, temperature, classes)
        calibrated.append(sites[site.name].logits / (temperature or 1.0))
        if data.unseen:
            away.append(_predict(predict, data.unseen.test, temperature, classes))
    together = figures(
        np.concatenate(calibrated),
        np.concatenate([s.test.labels for s in data.sites]),
        temperature=None,
        classes=classes,
    )
    unseen = None
    if away:
        mean = _mean_figures([prediction.figures for prediction in away])
        unseen = Prediction(np.mean([prediction.logits for prediction in away], axis=0), None, mean)
    return Assessment(together, sites, unseen, None)


def _predict(predict: Predictor, part: Part, temperature: float | None, classes: Sequence[str]) -> Prediction:
    logits = predict(part.features)
    return Prediction(logits, temperature, figures(logits, part.labels, temperature=temperature, classes=classes))


def _mean_figures(several: Sequence[Figures]) -> Figures:
    """Mean of each figure over models; None as soon as one model lacks it. The count is of images, not of models."""
    values: dict[str, float | None] = {}
    for field in fields(Figures):
        known = [getattr(each, field.name) for each in several]
        values[field.name] = None if None in known else float(np.mean(known))
    values["n"] = several[0].n
    values["temperature"] = None
    return Figures(**values)  # type: ignore[arg-type]

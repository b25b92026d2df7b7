"""What a site does once under differential privacy: class sums, Fourier sums, each round's update.

Every one of them is charged to the site's budget before it is computed, stored, sealed there by its hash, and never
computed again after that: asked again, the site answers with what is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor

from ..privacy.atomic import make_private
from ..privacy.differential_privacy.budget import Budget
from ..privacy.differential_privacy.class_sums import NoisyClassSums, noisy_class_sums
from ..privacy.differential_privacy.once import released_once
from ..privacy.differential_privacy.randomness import SecretStream
from ..privacy.differential_privacy.releases import Release
from .config import Study
from .methods.facmic import Facmic
from .methods.method import Method, SharedInputs, TrainingPart
from .methods.private import Alignment
from .private_alignment import Known, align, fourier_vectors, frequencies_of, with_gap
from .private_plan import CLASS_SUMS, PrivatePlan, plan_of, units_of
from .private_training import Observer, PrivateWork, private_form, train_privately
from .study_data import Part
from .training import Carried, LocalResult, module_from, one_thread


@dataclass(frozen=True, slots=True)
class PrivateSite:
    """One site's private training in one study.

    Attributes:
        study, method: what is trained, and how.
        work: form, units, plan and clip.
        budget: the site's, over all studies.
        folder: the site's state folder for this study.
        stream: secret randomness.
        aligned: proxies by the hash of the class sums that they were made of, so that they are made once.
    """

    study: Study
    method: Method
    work: PrivateWork
    budget: Budget
    folder: Path
    stream: SecretStream = field(default_factory=SecretStream)
    aligned: dict[str, Alignment] = field(default_factory=dict, repr=False)

    @property
    def plan(self) -> PrivatePlan:
        """Sampling, steps and noise."""
        return self.work.plan

    def once(self, path: Path, key: str, release: Release, make: Callable[[], bytes]) -> bytes:
        """What a release gave: made now and charged, or stored before and as it was sealed.

        Raises:
            BudgetError: it would exceed the budget, or what is stored is not what was sealed.
        """
        make_private(self.folder)
        privacy = self.study.privacy
        return released_once(
            self.budget,
            path,
            study=self.study.digest(),
            key=key,
            release=release,
            unit=privacy.unit,
            limit=(privacy.epsilon, privacy.delta),
            make=make,
        )

    def train(
        self,
        start: Mapping[str, Tensor],
        part: TrainingPart,
        shared: SharedInputs,
        *,
        seed: int,
        carried: Carried,
        alignment: Alignment | None,
        observer: Observer | None = None,
    ) -> LocalResult:
        """The steps of one round; the caller has charged them.

        Args:
            start: the global adapter.
            part: all training images.
            shared: prompts, scale, reference.
            seed: of public choices.
            carried: from the round before.
            alignment: of this round.
            observer: for audits.
        """
        return train_privately(
            self.work,
            self.method,
            start,
            part,
            shared,
            self.study,
            seed=seed,
            stream=self.stream,
            carried=carried,
            alignment=alignment,
            observer=observer,
        )

    def alignment(
        self, number: int, start: Mapping[str, Tensor], part: TrainingPart, shared: SharedInputs, carried: Carried
    ) -> Alignment | None:
        """What round ``number`` aligns with; None where the plan releases nothing for it."""
        releases = {key: release for _, key, release in self.plan.beside}
        if CLASS_SUMS not in releases:
            return None
        known = self._class_sums(releases[CLASS_SUMS], part, shared)
        seal = self.budget.sealed(self.study.digest(), CLASS_SUMS) or ""
        aligned = self.aligned.get(seal) or self.aligned.setdefault(seal, align(known, shared))
        key = self.plan.fourier_due(number)
        if not key or not isinstance(self.method, Facmic):
            return aligned
        frequencies = frequencies_of(shared, self.study.privacy.fourier_features, self.study.seed)
        gap = self._gap(key, releases[key], known, aligned, start, part, shared, carried, frequencies)
        return replace(aligned, gap=gap, frequencies=frequencies)

    def _class_sums(self, release: Release, part: TrainingPart, shared: SharedInputs) -> Known:
        def make() -> bytes:
            noisy = self._noisy(part.inputs, part, len(shared.text), self.study.privacy.class_noise, counts=True)
            return save({"sums": noisy.sums, "counts": noisy.counts})

        stored = load(self.once(self.folder / f"{CLASS_SUMS}.safetensors", CLASS_SUMS, release, make))
        noise = self.study.privacy.class_noise
        return Known(stored["sums"].numpy(), stored["counts"].numpy(), noise, self.plan.units)

    def _gap(
        self,
        key: str,
        release: Release,
        known: Known,
        aligned: Alignment,
        start: Mapping[str, Tensor],
        part: TrainingPart,
        shared: SharedInputs,
        carried: Carried,
        frequencies: Tensor,
    ) -> Tensor:
        """The gap of the Fourier sums in force: under the adapter that they were made with, so the gap is stored."""
        method = self.method
        through = method.reference_through_adapter if isinstance(method, Facmic) else True

        def make() -> bytes:
            with one_thread():
                module = module_from(method, start, carried.local, shared)
                phi = fourier_vectors(module, part, frequencies)
                noisy = self._noisy(phi, part, len(shared.text), release.noise_multiplier, counts=False)
                sums = noisy.sums.numpy()
                gap = with_gap(aligned, known, sums, module, shared, frequencies, through_adapter=through).gap
            return save({"gap": gap.contiguous()})

        return load(self.once(self.folder / f"{key}.safetensors", key, release, make))["gap"]

    def _noisy(
        self, vectors: Tensor, part: TrainingPart, classes: int, noise: float, *, counts: bool
    ) -> NoisyClassSums:
        units = self.work.units
        owners = torch.from_numpy(units.owners.copy())
        return noisy_class_sums(
            vectors, part.labels, owners, units.count, classes, noise_std=noise, stream=self.stream, counts=counts
        )


def private_site(study: Study, method: Method, part: Part, budget: Budget, folder: Path) -> PrivateSite:
    """A site ready to train privately; a begun study keeps the noise that it began with.

    Raises:
        MethodError: the method has no legal form.
        StudyFileError: delta does not suit the number of units.
        AccountError: no noise reaches the study's epsilon.
    """
    begun = [release for release in budget.study(study.digest()) if release.kind == "training"]
    units = units_of(study, part)
    plan = plan_of(study, units.count, noise_multiplier=begun[0].noise_multiplier if begun else None)
    budget.plan(study.digest(), plan.planned)  # what is planned is accounted for once, and not anew in every round
    privacy = study.privacy
    work = PrivateWork(private_form(method, study), units, plan, privacy.clip, privacy.records_per_unit)
    return PrivateSite(study, method, work, budget, folder)

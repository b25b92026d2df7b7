"""A site's plan under differential privacy, before its first round: units, sampling, noise, and what will be released.

Everything follows from the study and from the number of the site's units, which is public. Nothing here looks at an
image or a label.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..medical_datasets.cohort import Cohort
from ..privacy.differential_privacy.accountant import noise_multiplier_for
from ..privacy.differential_privacy.class_sums import class_sums_release
from ..privacy.differential_privacy.releases import Release
from ..privacy.differential_privacy.units import Units
from .config import Study
from .errors import StudyFileError
from .study_data import Part, StudyData

CLASS_SUMS = "class-sums"
PREFIXES = {"patient": ("patient:", "patient_id:"), "lesion": ("lesion_id:",)}


@dataclass(frozen=True, slots=True)
class PrivatePlan:
    """What one site will release, and with how much noise.

    Attributes:
        units: number of units of its training part, public.
        sample_rate: probability that a unit is in a step, min(1, batch_size / units).
        expected_batch: units of an average step, min(batch_size, units).
        steps: of one round.
        rounds: of the study.
        noise_multiplier: standard deviation of a step's noise over the clip.
        beside: what is released beside gradients, with the round that it comes in; class sums come in round 1.
    """

    units: int
    sample_rate: float
    expected_batch: float
    steps: int
    rounds: int
    noise_multiplier: float
    beside: tuple[tuple[int, str, Release], ...]

    @property
    def round(self) -> Release:
        """The gradients of one round."""
        return Release("training", self.noise_multiplier, self.sample_rate, self.steps)

    def fourier_due(self, number: int) -> str:
        """Key of the Fourier sums in force in round ``number``; empty where there are none."""
        keys = [key for at, key, release in self.beside if release.kind == "fourier-sums" and at <= number]
        return keys[-1] if keys else ""

    @property
    def planned(self) -> tuple[Release, ...]:
        """Everything, over the whole study."""
        training = Release("training", self.noise_multiplier, self.sample_rate, self.steps * self.rounds)
        return (*(release for _, _, release in self.beside), training)


def plan_of(study: Study, units: int, *, noise_multiplier: float | None = None) -> PrivatePlan:
    """The plan of a site with so many units; the noise is what the study's epsilon needs over all its rounds.

    Args:
        study: with differential privacy on.
        units: of its training part, >= 1.
        noise_multiplier: what a begun study used; None to search for it.

    Raises:
        StudyFileError: delta is not under 1 / units.
        AccountError: what is released beside gradients costs more than the study's epsilon.
    """
    privacy = study.privacy
    if privacy.delta * units >= 1.0:
        raise StudyFileError(
            f"delta = {privacy.delta:g} with {units} training units at a site",
            where="privacy.delta",
            remedy=f"It must be under 1 / units, better far under it; use at most {0.1 / units:.1g}",
        )
    batch = min(study.training.batch_size, units)
    rate, steps = batch / units, study.training.local_epochs * math.ceil(units / study.training.batch_size)
    beside = tuple(_beside(study))
    sigma = noise_multiplier or noise_multiplier_for(
        privacy.epsilon,
        privacy.delta,
        sample_rate=rate,
        steps=steps * study.rounds,
        others=tuple(release for _, _, release in beside),
    )
    return PrivatePlan(units, rate, float(batch), steps, study.rounds, sigma, beside)


def _beside(study: Study) -> Iterator[tuple[int, str, Release]]:
    """Class sums, where adaptation needs them; Fourier sums, whose noise grows with their number so that all of them
    together cost what one of the class sums' noise would."""
    privacy = study.privacy
    fourier = study.method == "facmic" and privacy.alignment == "per-record"
    if not study.adapts or (privacy.alignment == "per-record" and not fourier):
        return
    yield 1, CLASS_SUMS, class_sums_release("class-sums", privacy.class_noise)
    if fourier:
        due = range(1, study.rounds + 1, privacy.fourier_every)
        noise = privacy.class_noise * math.sqrt(len(due))
        for number in due:
            yield number, f"fourier-{number}", class_sums_release("fourier-sums", noise, counts=False)


def units_of(study: Study, part: Part) -> Units:
    """The units of a training part; record units are its images. One that was withdrawn stays, without rows."""
    if study.privacy.unit == "record":
        every = Units.records(len(part))
    else:
        every = Units.of_groups((*part.groups, *part.withdrawn))
    return every if not part.withdrawn else Units(every.owners[: len(part.groups)], every.count)


def check_units(study: Study, data: StudyData) -> Iterator[str]:
    """Refuse units that are none; yields what a person should know of those that are.

    Raises:
        StudyFileError: the data do not say whose images they are, or an image of a training unit is in the reference
            set, which nothing protects.
    """
    cohort, unit = data.cohort, study.privacy.unit
    training = [row for site in data.sites for row in site.train.rows]
    if unit != "record":
        _check_groups(cohort, unit, training)
    public = {cohort.records[row].group for row in data.reference_rows}
    shared = sorted(public & {cohort.records[row].group for row in training})
    if shared:
        raise StudyFileError(
            f"{len(shared)} groups of training images are in the reference set too, which nothing protects",
            where="reference",
            remedy="Take a reference set of other people, or reference.source = 'none' with adaptation_weight = 0",
        )
    owners = Counter(group for site in data.sites for group in set(site.train.groups))
    doubled = sum(count > 1 for count in owners.values())
    if doubled:
        yield f"{doubled} groups of images lie at several sites: each of these sites spends its own epsilon on them"


def rehearse_plans(study: Study, data: StudyData) -> None:
    """Plan every site's releases, so that an epsilon or delta that cannot be shows before anything is made.

    Raises:
        StudyFileError, AccountError: as :func:`plan_of`.
    """
    for site in data.sites:
        plan_of(study, units_of(study, site.train).count)


def _check_groups(cohort: Cohort, unit: str, rows: Sequence[int]) -> None:
    if cohort.synthetic:  # phantoms have patients
        known = unit == "patient"
        lacking = 0 if known else len(rows)
    else:
        lacking = sum(not cohort.records[row].group.startswith(PREFIXES[unit]) for row in rows)
        known = lacking == 0
    if not known:
        key = "patient" if cohort.synthetic else cohort.dataset.group_key
        raise StudyFileError(
            f"the {unit} of {lacking} of {len(rows)} training images is not known: the data set '{cohort.dataset.key}' "
            f"groups them by {key}",
            where="privacy.unit",
            remedy=f"Use privacy.unit = '{key}'" * (key in ("patient", "lesion") and key != unit)
            or "Add the column to the data's table, or choose privacy.unit = 'record', which protects single images "
            "and nobody who has several",
        )

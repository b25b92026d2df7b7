"""What pages say about differential privacy: what each site spent, on what, and what an audit of it measured.

Every epsilon here is what an accountant computed; nothing is accounted for again. Files of a run that was made without
differential privacy have none of these values.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from .errors import InvalidReportError

_ROUND = re.compile(r"(?:round|fourier)-([1-9][0-9]{0,8})")


@dataclass(frozen=True, slots=True)
class ReleaseRow:
    """One noisy release that a site paid for.

    Attributes:
        key: its name within the study, e.g. ``"round-7"``, ``"class-sums"``, ``"fourier-6"``.
        kind: ``"training"``, ``"class-sums"`` or ``"fourier-sums"``.
        noise_multiplier: standard deviation of the noise / most that one unit can change; > 0.
        sample_rate: probability that a unit is in a step; 0 < q <= 1.
        steps: noisy sums in it; >= 1.
        cost: epsilon of this release alone. Costs do not add up: together, releases cost less than the sum.
        epsilon_after: epsilon of this release and all before it.
    """

    key: str
    kind: str
    noise_multiplier: float
    sample_rate: float
    steps: int
    cost: float
    epsilon_after: float

    def __post_init__(self) -> None:
        _finite(self.key, self.noise_multiplier, self.sample_rate, self.cost, self.epsilon_after)

    @property
    def round(self) -> int | None:
        """The round that it belongs to; None for what is released once, before the first round's training."""
        found = _ROUND.fullmatch(self.key)
        return int(found.group(1)) if found else None


@dataclass(frozen=True, slots=True)
class ReleaseGroup:
    """Releases of one kind, noise, rate and length, one after the other.

    Attributes:
        kind, noise_multiplier, sample_rate, steps, cost: of each of them.
        count: how many.
        first, last: their rounds; None where they belong to none.
        epsilon_after: epsilon after the last of them.
    """

    kind: str
    count: int
    first: int | None
    last: int | None
    noise_multiplier: float
    sample_rate: float
    steps: int
    cost: float
    epsilon_after: float

    @property
    def title(self) -> str:
        """What was released, e.g. ``"training, rounds 1 to 20"``."""
        name = {"class-sums": "class sums", "fourier-sums": "Fourier sums"}.get(self.kind, self.kind)
        if self.first is None or self.last is None:
            return name
        if self.first == self.last:
            return f"{name}, round {self.first}"
        every = self.last - self.first + 1 == self.count
        return f"{name}, {'' if every else f'{self.count} in '}rounds {self.first} to {self.last}"


@dataclass(frozen=True, slots=True)
class SitePrivacy:
    """One site's budget in one study.

    Attributes:
        site: its name.
        unit: what one epsilon protects: ``"patient"``, ``"lesion"`` or ``"record"``.
        units: how many of them trained, a public number; None where it is not known.
        epsilon: spent so far, an upper bound; 0 before the first release.
        limit: the most that the study may spend.
        rdp_epsilon: the same releases by Renyi differential privacy, a looser bound by another way.
        delta: probability with which epsilon may not hold.
        noise_multiplier, sample_rate: of a training step; None before the first round.
        steps: training steps so far, all rounds together.
        releases: in order of time.
    """

    site: str
    unit: str
    units: int | None
    epsilon: float
    limit: float
    rdp_epsilon: float
    delta: float
    noise_multiplier: float | None
    sample_rate: float | None
    steps: int
    releases: tuple[ReleaseRow, ...] = ()

    def __post_init__(self) -> None:
        _finite(self.site, self.epsilon, self.limit, self.rdp_epsilon, self.delta)

    @property
    def left(self) -> float:
        """What the study may still spend; negative if it spent too much."""
        return self.limit - self.epsilon

    @property
    def by_round(self) -> tuple[tuple[int, float], ...]:
        """(round, epsilon after all that was released up to its end), from round 0: what was spent before the first."""
        spent, at = {0: 0.0}, 0
        for row in self.releases:
            at = row.round if row.round is not None else at
            spent[at] = row.epsilon_after
        return tuple(sorted(spent.items()))


@dataclass(frozen=True, slots=True)
class AuditFacts:
    """What attacks on a training run of this kind measured.

    Attributes:
        canaries: records that were in the training set or not by a fair coin each.
        guesses: how many of them an auditor guessed, fixed before the run. right: guesses that were right.
        lower_bound: epsilon is at least this, at the confidence; 0: nothing proved.
        ceiling: the bound if every guess had been right; the audit cannot show more.
        confidence: of the lower bounds, such as 0.95.
        claimed_epsilon: the accountant's figure for the audited run; None: it ran without noise and claimed nothing.
        membership_auc: of a membership attack on the final model alone; 0.5 is chance. None: not made.
        membership_tpr: share of members found at a false positive rate of 1 %. None: not made.
        membership_lower_bound: epsilon by that attack's error rates, at the same confidence. None: not made.
        leak_unmasked_cosine: of an image's features, read off one plain update of one image, with the true ones; 1: the
            features themselves. None: not made.
        leak_unmasked_rank: place of the true image among the gallery by that reading; 1: found. None: not made.
        leak_masked_cosine, leak_masked_rank: the same from what the coordinator received, masked. None: not made.
        gallery: images that the true one was looked for among, itself included. None: not made.
    """

    canaries: int
    guesses: int
    right: int
    lower_bound: float
    ceiling: float
    confidence: float
    claimed_epsilon: float | None = None
    membership_auc: float | None = None
    membership_tpr: float | None = None
    membership_lower_bound: float | None = None
    leak_unmasked_cosine: float | None = None
    leak_unmasked_rank: int | None = None
    leak_masked_cosine: float | None = None
    leak_masked_rank: int | None = None
    gallery: int | None = None

    def __post_init__(self) -> None:
        _finite("audit", self.lower_bound, self.ceiling, self.confidence)


def groups_of(releases: Sequence[ReleaseRow]) -> tuple[ReleaseGroup, ...]:
    """Neighbouring releases that are alike as one group, in order of time.

    Fourier sums between rounds of training would cut those into many groups: releases of a kind come together, in the
    order in which the kinds first appear.
    """
    kinds = list(dict.fromkeys(row.kind for row in releases))
    return tuple(group for kind in kinds for group in _alike([row for row in releases if row.kind == kind]))


def _alike(rows: Sequence[ReleaseRow]) -> Iterator[ReleaseGroup]:
    for (kind, noise, rate, steps), together in groupby(
        rows, key=lambda row: (row.kind, row.noise_multiplier, row.sample_rate, row.steps)
    ):
        members = list(together)
        yield ReleaseGroup(
            kind=kind,
            count=len(members),
            first=members[0].round,
            last=members[-1].round,
            noise_multiplier=noise,
            sample_rate=rate,
            steps=steps,
            cost=members[0].cost,
            epsilon_after=members[-1].epsilon_after,
        )


def _finite(where: str, *values: float) -> None:
    if not all(math.isfinite(value) for value in values):
        raise InvalidReportError("a figure of differential privacy is not finite", where=where)

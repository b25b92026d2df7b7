"""Sites become a consortium: identities in their homes, one roster that every site signs and pins.

In a simulation all of it happens in one process. Each simulated site still makes its own key and signs for itself,
and every signature is checked; only the comparison of fingerprints over the telephone is replaced by the process
knowing them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from ..evaluation.sums.layout import VectorLayout
from ..privacy.atomic import write_atomic
from ..privacy.identity import Identity
from ..privacy.secure_aggregation.parameters import MIN_COHORT, RING_BITS, Block, Thresholds, choose_thresholds
from ..privacy.secure_aggregation.roster import PinnedRoster, Roster, RosterSite
from ..privacy.secure_aggregation.session import Purpose
from .class_means import CLASS_MEANS, PURPOSE, blocks_of_means
from .config import Study
from .held_out import block_of
from .methods.method import Method, Weighting
from .update import BUFFERS, METRICS, Layout

MOVABLE_CLIP = 64.0
STEPS_THAT_MATTER = 10_000  # of Adam's memory: with any usual beta the bound has long reached its limit
METRICS_CLIP = 64.0
HEAD, HEAD_CLIP = "log_temperature", 6.0  # all of its range, so that a first fit is not cut
BUFFERS_CLIP = 4.0
BUFFERS_BITS = 24
METRICS_BITS = 16
PASSPHRASE_FILE = "passphrase"  # noqa: S105 - the name of a file


def movable(study: Study, lr: float, samples: int) -> float:
    """How far one round of Adam can move a coordinate at a site with so many training images, at step size ``lr``.

    A step is lr m / sqrt(v), both corrected for their start, with m = (1 - beta1) sum beta1^k g_k and v = (1 - beta2)
    sum beta2^k g_k^2 (Kingma and Ba 2015, algorithm 1). By Cauchy and Schwarz, whatever the t gradients so far,

        |m| / sqrt(v)  <=  (1 - beta1) / sqrt(1 - beta2) * sqrt(sum over k < t of (beta1^2 / beta2)^k).
    """
    training = study.training
    steps = training.local_epochs * math.ceil(samples / training.batch_size)
    remembered = steps * study.rounds if training.optimiser_state == "keep" else steps
    ratio = training.beta1**2 / training.beta2 if training.beta2 else (math.inf if training.beta1 else 0.0)
    series, largest = 0.0, 1.0
    for t in range(1, min(remembered, STEPS_THAT_MATTER) + 1):
        series = 1.0 + (ratio * series if series else 0.0)
        start = math.sqrt(1.0 - training.beta2**t) / (1.0 - training.beta1**t)
        largest = max(largest, (1.0 - training.beta1) * math.sqrt(series / (1.0 - training.beta2)) * start)
    return lr * steps * largest


def blocks_of(study: Study, method: Method, layout: Layout, samples: Sequence[int]) -> tuple[Block, ...]:
    """The blocks of one update, with the finest fixed point that cannot overflow.

    BatchNorm's moments of unit-norm features are about 1e-3, so they get as many fractional bits as the ring allows. A
    packed update takes the finest step that its value bits can carry up to the clip.

    Args:
        study: clip and bits.
        method: step size and weighting.
        layout: of what it sends.
        samples: each site's number of training images, or of units under differential privacy.
    """
    settings, sizes, sites = study.secure_aggregation, layout.sizes(), len(samples)
    weight = settings.w_max if weighting_of(study, method) == "weighted" else 1.0

    def bits(clip: float, most: int) -> int:
        return next(f for f in range(most, -1, -1) if sites * (int(weight * clip * 2**f) + 1) < 2**31)

    clip = settings.clip or min(MOVABLE_CLIP, movable(study, method.lr or study.training.lr, max(samples)))
    fraction = settings.fraction_bits
    if settings.bits < RING_BITS:
        most = 2 ** (settings.bits - 1) - 1
        fraction = max((f for f in range(31) if int(weight * clip * 2**f) <= most), default=0)
    blocks = [
        Block(HEAD, sizes[HEAD], HEAD_CLIP, bits(HEAD_CLIP, BUFFERS_BITS))
        if block.name == HEAD
        else Block(block.name, block.size, clip, fraction, bits=settings.bits)
        for block in layout.blocks
    ]
    if BUFFERS in sizes:
        blocks.append(Block(BUFFERS, sizes[BUFFERS], BUFFERS_CLIP, bits(BUFFERS_CLIP, BUFFERS_BITS)))
    if METRICS in sizes:
        blocks.append(Block(METRICS, sizes[METRICS], METRICS_CLIP, bits(METRICS_CLIP, METRICS_BITS)))
    return tuple(blocks)


def weighting_of(study: Study, method: Method) -> Weighting:
    """How sites are averaged: as the study says, or as the method's paper does."""
    chosen = study.secure_aggregation.weighting
    return method.weighting if chosen == "paper" else chosen


def draw_roster(
    study: Study,
    method: Method,
    layout: Layout,
    keys: Mapping[str, bytes],
    samples: Mapping[str, int],
    coordinator: bytes = b"",
    held_out: Mapping[Purpose, VectorLayout] | None = None,
) -> Roster:
    """The roster of a study, before anybody signed it. It has a vector of class means where the layout has their place.

    Args:
        study: bounds, weighting, threshold.
        method: what is trained.
        layout: of what it sends, for the sizes of the blocks.
        keys: raw Ed25519 public key of each site.
        samples: public number of training images of each site, or of units under differential privacy.
        coordinator: its raw Ed25519 public key; empty where it has none.
        held_out: vectors of figures that are summed after the last round, by purpose.

    Raises:
        ParameterError, RosterError: a threshold, cohort, bound, name or count does not hold.
    """
    settings = study.secure_aggregation
    names = sorted(keys)
    counts = [samples[name] for name in names]
    vectors: dict[Purpose, tuple[Block, ...]] = {"update": blocks_of(study, method, layout, counts)}
    if CLASS_MEANS in layout.constants:
        vectors[PURPOSE] = blocks_of_means(layout.constants[CLASS_MEANS], counts)
    vectors |= {purpose: (block_of(figures),) for purpose, figures in (held_out or {}).items()}
    return Roster(
        study=bytes.fromhex(study.digest()),
        sites=tuple(RosterSite(name, keys[name].hex(), samples[name]) for name in names),
        thresholds=_thresholds(study, len(names)),
        vectors=vectors,
        weighting=weighting_of(study, method),
        w_max=settings.w_max,
        coordinator_key=coordinator.hex(),
    )


def _thresholds(study: Study, sites: int) -> Thresholds:
    """t and m as the study gives them; where they are left at their lowest, they rise to the asked collusion bound."""
    settings = study.secure_aggregation
    free = settings.colluding and settings.minimum_cohort == MIN_COHORT
    return choose_thresholds(
        sites,
        t=settings.threshold or None,
        m=None if free else settings.minimum_cohort,
        colluding=settings.colluding or None,
        private=study.private,
    )


def enrol_together(
    roster: Roster, identities: Mapping[str, Identity], *, private: Collection[str] = ()
) -> PinnedRoster:
    """Every simulated site signs the roster; the result is checked and pinned with every fingerprint known.

    Args:
        roster, identities: what is signed, and by whom.
        private: sites whose own noise makes each of their updates differentially private.
    """
    signatures = {name: roster.sign(key, name, private=name in private) for name, key in identities.items()}
    return roster.pin(signatures, confirmed=set(identities))


def open_identity(folder: Path, path: Path) -> Identity:
    """A simulated site's key, made on first use.

    The key file is encrypted like a real site's. Its passphrase lies beside it, readable by the owner alone, because a
    simulation must resume without a person; a deployed site gets its passphrase from its administrator.
    """
    secret = folder / PASSPHRASE_FILE
    if not secret.is_file():
        write_atomic(secret, os.urandom(32).hex().encode())
    passphrase = secret.read_bytes()
    return Identity.load(path, passphrase) if path.exists() else Identity.create(path, passphrase)

"""Pictures that look unlike the rest of a set, by features of a CLIP: a photograph among scans, alone or by dozens.

Pictures of one kind hang together: from one to the next most alike, every picture of the kind is reached. So the set is
grown like a crystal, see :func:`grown`. What is left over are single pictures, which hardly resemble any other, and
small groups, whose pictures resemble one another and nothing else. Distance to the nearest neighbours alone would
miss the groups, and distance from the centre would blame a class that is rare or looks different.

How unlike is given as cosine similarity. It was chosen on features of the embedded encoder: on brain MRI and
dermoscopy photographs, and on the synthetic phantoms; docs/datasets.md has the figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError

LEAST_IMAGES: Final = 60  # fewer do not say what is usual
LINKS: Final = (2, 5)  # neighbours that hold a picture in a kind: a hundredth of the images, within these bounds
ALONE: Final = 0.20  # cosine with the last of these neighbours under which a picture stands alone
FEW: Final = 300  # images under which neighbours are sparse, and ALONE is
ALONE_OF_FEW: Final = 0.15
FAR: Final = 0.22  # the same for the median picture of a small group
MANY: Final = 1000  # images from which neighbours are dense, and FAR is what this share of the set's own is under
FURTHEST: Final = 0.005
KIND: Final = 0.32  # cosine over which two pictures are neighbours in a kind
SMALL: Final = 0.10  # of all images; a larger group is a part of the set and no stranger
COMMON: Final = 0.5  # of all images; where the larger kinds hold fewer, the set has no common look to be unlike
_OWN, _NONE = -1, -2
_REFERENCE: Final = 8192  # images that the kinds are grown on; of a larger set a sample
_BLOCK: Final = 2048

Features = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Outliers:
    """Suspicious rows of a feature table.

    Attributes:
        rows: (k,) int64, rising.
        similarity: (k,) float32, cosine with the fifth (in sets under 500: second to fourth) most similar picture of
            the set's own kinds, -1 to 1; lower is stranger.
        group: (k,) int64, number of the small group from 0, or -1 for one that stands alone.
    """

    rows: NDArray[np.int64]
    similarity: NDArray[np.float32]
    group: NDArray[np.int64]


def outliers(features: Features, *, seed: int = 0) -> Outliers:
    """Rows that look unlike the rest.

    A picture stands alone when fewer than five pictures (two to four in sets under 500) of the set's own kinds have a
    cosine of ``ALONE`` with it. A small group is a kind, grown at ``KIND``, of at most ``SMALL`` of all images, whose
    median picture is about as far from the rest. A set that is scattered over small groups has none.

    Args:
        features: float32 (n, D), rows of norm 1. Fewer than ``LEAST_IMAGES`` rows give no outlier.
        seed: of the sample that kinds are grown on where there are more than 8,192 images.

    Raises:
        DataError: another shape, or a row that is not of norm 1.
    """
    if features.ndim != 2 or not np.allclose(np.linalg.norm(features, axis=1), 1.0, atol=1e-3):
        raise DataError(f"features must be rows of norm 1, not an array of shape {features.shape}")
    count = len(features)
    if count < LEAST_IMAGES:
        return Outliers(np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.int64))
    sample = np.arange(count)
    if count > _REFERENCE:
        sample = np.sort(np.random.default_rng(seed).choice(count, _REFERENCE, replace=False))
    reference = features[sample]
    links = min(max(count // 100, LINKS[0]), LINKS[1])
    kinds = _small(grown(reference, KIND, links))
    similarity = np.empty(count, dtype=np.float32)
    group = np.full(count, -1, dtype=np.int64)
    for start in range(0, count, _BLOCK):
        stop = min(start + _BLOCK, count)
        cosines = features[start:stop] @ reference.T
        places = np.flatnonzero((sample >= start) & (sample < stop))
        cosines[sample[places] - start, places] = -1.0  # nothing is its own neighbour
        similarity[start:stop] = np.partition(cosines[:, kinds == _OWN], -links, axis=1)[:, -links]
        # A picture outside the sample joins as one inside would have: by its links, and the set's own kinds first.
        free = similarity[start:stop] < KIND
        for number in range(int(kinds.max()) + 1):
            held = (cosines[:, kinds == number] >= KIND).sum(axis=1) >= links
            group[start:stop][free & held] = number
    group[sample] = np.maximum(kinds, -1)
    far = FAR
    if count >= MANY:
        far = max(far, float(np.quantile(similarity[sample[kinds == _OWN]], FURTHEST)))
    for number in range(int(kinds.max()) + 1):
        if np.median(similarity[group == number]) >= far:
            group[group == number] = -1
    rows = np.flatnonzero((group >= 0) | (similarity < (ALONE_OF_FEW if count < FEW else ALONE)))
    return Outliers(rows, similarity[rows], group[rows])


def _small(kinds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Kinds renumbered: the small ones from 0; ``_OWN`` for what makes up the set, ``_NONE`` for a picture of none."""
    sizes = np.bincount(kinds[kinds >= 0], minlength=1)
    small = np.flatnonzero((sizes > 0) & (sizes <= SMALL * len(kinds)))
    if sizes.sum() - sizes[small].sum() < COMMON * len(kinds):
        return np.full(len(kinds), _OWN, dtype=np.int64)
    renumbered = np.where(kinds < 0, _NONE, _OWN)
    for number, kind in enumerate(small.tolist()):
        renumbered[kinds == kind] = number
    return renumbered


def grown(features: Features, cosine: float, links: int) -> NDArray[np.int64]:
    """Kinds of pictures: numbers from 0, int64 (n,), -1 for a picture of no kind.

    A kind begins with the free picture that has the most free neighbours (pictures of at least this ``cosine``), if
    these are ``links`` or more, and all of them. It takes in every free picture that has ``links`` neighbours in it,
    until there is none. One link, which a chance resemblance makes, never joins two kinds.

    Args:
        features: float32 (n, D), rows of norm 1.
        cosine: least similarity of neighbours.
        links: neighbours that hold a picture in a kind, >= 1.
    """
    count = len(features)
    near = np.empty((count, count), dtype=np.bool_)
    for start in range(0, count, _BLOCK):
        near[start : start + _BLOCK] = features[start : start + _BLOCK] @ features.T >= cosine
    np.fill_diagonal(near, False)
    kinds = np.full(count, -1, dtype=np.int64)
    free = np.ones(count, dtype=np.bool_)
    number = 0
    for seed in np.argsort(-near.sum(axis=1), kind="stable").tolist():
        if not free[seed]:
            continue
        fresh = np.flatnonzero(near[seed] & free)
        if len(fresh) < links:
            continue
        fresh = np.append(fresh, seed)
        held = np.zeros(count, dtype=np.int64)
        while len(fresh):
            free[fresh] = False
            kinds[fresh] = number
            # Each picture is counted once, when it comes in.
            held += near[fresh].sum(axis=0)
            fresh = np.flatnonzero(free & (held >= links))
        number += 1
    return kinds

"""The federation's own class means as what adaptation aligns to: no outside reference set is needed.

Once a study, before round 1, the sites' class sums and counts are added up securely. A mean over fewer than
:data:`FEWEST` images is left out. The means are constants of the study: every site receives them inside the adapter's
bytes, and moves its own images to them: a proxy is an image's own deviation from its site's class mean, put on the
federation's. Everything here is a pure function of what it is given. Decision: docs/decisions/0012.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..privacy.errors import ProtocolError, Refusal
from ..privacy.messages import Message
from ..privacy.secure_aggregation.parameters import RING_BITS, Block
from ..privacy.secure_aggregation.session import Purpose, SessionId
from .config import Study
from .errors import CheckpointError
from .methods.method import SharedInputs, TrainingPart

PURPOSE: Purpose = "class-means"
CLASS_MEANS = "class_means"
"""The constant's name among an adapter's tensors: (K, D) float32, rows of unit norm, or all zero where left out."""
CLASS_SUMS, CLASS_COUNTS = "class_sums", "class_counts"
FEWEST = 11
"""Images of all sites together that a class needs; the smallest cell in published tables of the US Medicare agency."""
FINEST = 30  # fraction bits that a block can have
UNIT = 1e-5  # how far a float32 row's norm may be from 1

Sums = Mapping[str, NDArray[np.float64]]


def constants_of(study: Study, shared: SharedInputs) -> dict[str, tuple[int, ...]]:
    """Name and shape of what a study's adapter carries beside what is trained; nothing where no means are summed.

    A method that aligns to nothing needs no means, so none are summed for it, whatever the study's reference is.
    """
    wanted = study.reference.source == PURPOSE and study.adapts
    return {CLASS_MEANS: tuple(shared.text.shape)} if wanted else {}


def blocks_of_means(shape: Sequence[int], samples: Sequence[int]) -> tuple[Block, ...]:
    """The blocks of the one vector that a site gives to the class means, neither of them weighted.

    No coordinate of a sum of unit vectors exceeds their number, so the largest site's is the clip and nothing is ever
    cut. Sums get as many fractional bits as the ring allows; counts are integers and stay exact.

    Args:
        shape: (K, D). samples: each site's number of training images.
    """
    classes, width = shape
    clip, half = float(max(samples)), 2 ** (RING_BITS - 1)
    fits = (f for f in range(FINEST, -1, -1) if len(samples) * (int(clip * 2**f) + 1) < half)
    return (
        Block(CLASS_SUMS, classes * width, clip, next(fits, 0), weighted=False),
        Block(CLASS_COUNTS, classes, clip, 0, weighted=False),
    )


def class_sums(part: TrainingPart, classes: int) -> dict[str, NDArray[np.float64]]:
    """A site's vector: ``class_sums`` (K * D,), class after class, and ``class_counts`` (K,), both float64.

    Args:
        part: (n, D) float32 unit-norm features of the training images, and their classes.
        classes: K.
    """
    features, labels = _arrays(part)
    counts = np.bincount(labels, minlength=classes).astype(np.float64)
    sums = np.stack([features[labels == c].sum(axis=0) for c in range(classes)])
    return {CLASS_SUMS: sums.ravel(), CLASS_COUNTS: counts}


def means_of(total: Sums, shape: Sequence[int], blocks: Sequence[Block], sites: int) -> Tensor:
    """The class means of the federation: (K, D) float32, unit-norm rows, zero where a class has too few images.

    Args:
        total: the secure sum, by block. shape: (K, D). blocks: its blocks. sites: how many vectors are in it.

    Raises:
        ProtocolError: OUT_OF_BOUND where no unit vectors can have such a sum: some site's vector was none of images.
    """
    sums, counts = total[CLASS_SUMS].reshape(tuple(shape)), total[CLASS_COUNTS]
    lengths = np.sqrt((sums**2).sum(axis=1))
    step = next(2.0**-block.fraction_bits for block in blocks if block.name == CLASS_SUMS)
    rounding = 0.5 * sites * step * shape[1] ** 0.5  # each site's coordinates are off by half a step at most
    if (lengths > counts * (1.0 + UNIT) + rounding).any():
        raise ProtocolError(
            "the sum of the features of a class is longer than their number", code=Refusal.OUT_OF_BOUND, stage="finish"
        )
    kept = (counts >= FEWEST) & (lengths > 0.0)
    means = np.where(kept[:, None], sums / np.where(kept, lengths, 1.0)[:, None], 0.0)
    return torch.from_numpy(means.astype(np.float32))


def check_means(means: Tensor) -> None:
    """Refuse class means of which a row is neither zero nor of unit norm.

    Raises:
        CheckpointError: names the first such class by its number.
    """
    lengths = means.double().norm(dim=1)
    for number, length in enumerate(lengths.tolist()):
        if length != 0.0 and not abs(length - 1.0) <= UNIT:
            raise CheckpointError(f"the mean of class {number} has the norm {length:.3g}, neither 0 nor 1")


def omitted(means: Tensor, classes: Sequence[str]) -> tuple[str, ...]:
    """Names of the classes that were left out, in class order."""
    return tuple(name for name, row in zip(classes, means, strict=True) if not bool(row.any()))


def with_proxies(shared: SharedInputs, part: TrainingPart, constants: Mapping[str, Tensor]) -> SharedInputs:
    """What a site trains with: its own images, moved to the federation's class means, as a labelled reference set.

    proxy = normalise(x - own mean of the class + the federation's mean of the class), one for each training image of a
    class that was not left out, in the order of the images. The own mean is the plain one, so that the deviations of a
    class sum to zero. They stay at the site. Without such an image the reference set is empty and nothing is aligned.

    Args:
        shared: of the study.
        part: (n, D) float32 unit-norm features of the training images, and their classes.
        constants: what came with the adapter; ``shared`` is returned as it is where there is none.
    """
    if CLASS_MEANS not in constants:
        return shared
    features, labels = _arrays(part)
    means = constants[CLASS_MEANS].double().numpy()
    counts = np.bincount(labels, minlength=len(means))
    moved = features.copy()
    for c in np.flatnonzero(counts):
        own = labels == c
        moved[own] += means[c] - features[own].sum(axis=0) / counts[c]
    has_mean = (means != 0.0).any(axis=1)[labels]
    moved = moved[has_mean]
    lengths = np.sqrt((moved**2).sum(axis=1, keepdims=True))
    proxies = (moved / np.maximum(lengths, np.finfo(np.float64).tiny)).astype(np.float32)
    return replace(shared, reference=torch.from_numpy(proxies), reference_labels=torch.from_numpy(labels[has_mean]))


def _arrays(part: TrainingPart) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Features (n, D) float64 and labels (n,); sums over them run in numpy, in one order whatever the threads."""
    return part.inputs.double().numpy(), part.labels.numpy()


def comes_before(message: Message, current: SessionId) -> bool:
    """Whether a message is of an earlier round, sum or attempt: late, not wrong."""
    session = getattr(message, "session", None)
    return isinstance(session, SessionId) and _place(session) < _place(current)


def _place(session: SessionId) -> tuple[int, int, int]:
    order: dict[Purpose, int] = {PURPOSE: 0, "update": 1, "temperature": 2, "evaluation": 3}
    return session.round, order[session.purpose], session.attempt

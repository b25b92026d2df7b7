"""What one update gives away about the record it was trained on, and what is left of that behind a mask or noise.

The gradient of a Linear layer is g x' for its weight and g for its bias: every row of the one is the input times the
same row of the other. The sum over rows of dW_i db_i is therefore along the input x, after plain gradient steps
exactly. Adam's first step keeps little more than signs, dW_ij near -lr sign(g_i x_j) and db_i near -lr sign(g_i); the
same sum is then a vote of the rows on the sign of x_j, and a sign pattern picks one record out of thousands. Updates of
several records have their inputs in the space that the rows of dW span.

Source: Phong et al. 2018, "Privacy-Preserving Deep Learning via Additively Homomorphic Encryption", section 3; Geiping
et al. 2020, "Inverting Gradients", arXiv 2003.14053, section 3; Zhao, Mopuri and Bilen 2020, "iDLG", arXiv 2001.02610,
for labels. The vote on Adam's signs is the same formula, read for its first step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import AuditError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Reconstruction:
    """What an update says about the inputs of a layer.

    Attributes:
        directions: (r, I), float64, orthonormal rows; r = 0 when the update is zero. One record: its direction.
            Several: a space in which their inputs lie.
        signed: whether the sign is known too: one direction, from a layer with a bias.
    """

    directions: Floats
    signed: bool


@dataclass(frozen=True)
class Leakage:
    """How far a reconstruction got.

    Attributes:
        cosine: of the reconstruction with the true input, in [-1, 1]; 1 is the input itself, up to its length. Where
            the sign is unknown or the reconstruction is a space: how much of the input lies in it, in [0, 1].
        rank: place of the true input among all, ordered by that figure; 1 is found, (others + 2) / 2 is chance.
        others: how many other inputs it was compared with.
        label: the class that the update of a classifier shows; None: it shows none, or there is none.
    """

    cosine: float
    rank: int
    others: int
    label: int | None


def reconstruct(weight: NDArray[np.floating], bias: NDArray[np.floating] | None, records: int = 1) -> Reconstruction:
    """Recover inputs from a Linear layer's update.

    Args:
        weight: (O, I), finite; the weight after local training minus before.
        bias: (O,), finite; the same of the bias. None: the layer has none.
        records: how many records it was trained on, in [1, min(O, I)]; an attacker who does not know tries some.

    Raises:
        AuditError: arrays that do not fit each other or are not finite, or a number outside its range.
    """
    matrix = np.asarray(weight, dtype=np.float64)
    if matrix.ndim != 2 or min(matrix.shape) < 1 or not np.isfinite(matrix).all():
        raise AuditError(f"a weight update of shape {matrix.shape}, or not finite")
    if not 1 <= records <= min(matrix.shape):
        raise AuditError(f"{records} records", remedy=f"Use 1 to {min(matrix.shape)} with this layer.")
    if bias is not None and (bias.shape != matrix.shape[:1] or not np.isfinite(bias).all()):
        raise AuditError(f"a bias update of shape {bias.shape} beside a weight of {matrix.shape}, or not finite")
    if records == 1 and bias is not None:
        along = matrix.T @ bias.astype(np.float64)
        length = float(np.linalg.norm(along))
        if length > 0:
            return Reconstruction(along[None] / length, signed=True)
    _, sizes, directions = np.linalg.svd(matrix, full_matrices=False)
    kept = min(records, int(np.sum(sizes > sizes[0] * 1e-12)))
    return Reconstruction(directions[:kept], signed=False)


def similarities(reconstruction: Reconstruction, inputs: NDArray[np.floating]) -> Floats:
    """How well each input fits: (n, I) -> (n,); the cosine, or the part of the input inside the space.

    Raises:
        AuditError: inputs of another width, not finite, or zero.
    """
    rows = np.asarray(inputs, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != reconstruction.directions.shape[1] or not np.isfinite(rows).all():
        raise AuditError(
            f"inputs of shape {rows.shape} for a reconstruction of width {reconstruction.directions.shape[1]}"
        )
    lengths = np.linalg.norm(rows, axis=1)
    if (lengths == 0).any():
        raise AuditError("an input of zeros has no direction")
    parts = (rows / lengths[:, None]) @ reconstruction.directions.T
    result: Floats = parts[:, 0] if reconstruction.signed else np.linalg.norm(parts, axis=1)
    return result


def rank_of(true: NDArray[np.floating], gallery: NDArray[np.floating], reconstruction: Reconstruction) -> int:
    """Place of the true input among itself and a gallery of others; 1 is found. Ties count against the attack.

    Args:
        true: (I,). gallery: (n, I), without the true input.

    Raises:
        AuditError: inputs that do not fit; see :func:`similarities`.
    """
    own = similarities(reconstruction, true[None])[0]
    return 1 + int(np.sum(similarities(reconstruction, gallery) >= own))


def label_of(bias: NDArray[np.floating]) -> int | None:
    """The label that a softmax classifier's bias shows: the only class whose bias rose.

    The gradient of cross-entropy there is p - onehot(y), negative for y alone, and every optimiser steps against it.

    Args:
        bias: (K,), finite; the bias after training minus before.

    Returns:
        The label; None when no class or more than one rose, as with several labels or with noise.

    Raises:
        AuditError: another shape, or not finite.
    """
    if bias.ndim != 1 or not np.isfinite(bias).all():
        raise AuditError(f"a bias update of shape {bias.shape}, or not finite")
    risen = np.flatnonzero(bias > 0)
    return int(risen[0]) if len(risen) == 1 else None


def leakage(
    weight: NDArray[np.floating],
    bias: NDArray[np.floating] | None,
    true: NDArray[np.floating],
    gallery: NDArray[np.floating],
    *,
    records: int = 1,
    classifier_bias: NDArray[np.floating] | None = None,
) -> Leakage:
    """Attack an update and compare with the truth.

    Args:
        weight, bias, records: see :func:`reconstruct`; of the layer that sees the input itself.
        true: (I,), an input that was trained on. gallery: (n, I), n >= 1, inputs that were not.
        classifier_bias: (K,), the update of a softmax classifier's bias, where the model has one.

    Raises:
        AuditError: arrays that do not fit each other, or are not finite.
    """
    if true.ndim != 1 or gallery.ndim != 2 or len(gallery) < 1:
        raise AuditError(f"a true input of shape {true.shape} and a gallery of shape {gallery.shape}")
    found = reconstruct(weight, bias, records)
    return Leakage(
        cosine=float(similarities(found, true[None])[0]),
        rank=rank_of(true, gallery, found),
        others=len(gallery),
        label=None if classifier_bias is None else label_of(classifier_bias),
    )


def read_as_plain(words: NDArray[np.uint32], fraction_bits: int) -> Floats:
    """A site's vector on the wire, read as if it were not masked: signed fixed point; (d,) uint32 -> (d,) float64.

    Behind a mask every word is uniform, so this gives numbers without meaning, which is what an eavesdropper has.
    """
    signed = words.astype(np.uint32, copy=False).view(np.int32)
    return np.multiply(signed, 2.0**-fraction_bits, dtype=np.float64)

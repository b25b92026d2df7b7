"""Sums of clipped gradients in closed form: one forward pass, one backward pass to the layers' outputs, one product.

Nothing of the size of a gradient is made for a record or a unit (the "ghost norm" of Goodfellow 2015, arXiv 1510.01799,
and Li et al. 2022, arXiv 2110.05679), and the second pass needs no backward: a layer's inputs and output gradients are
all that its clipped sum is made of.

The bound holds for what is summed, whatever the losses are, as long as a unit's rows decide alone over the unit's
inputs and output gradients. :func:`check_independent` tests that; nothing here could enforce it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import MechanismError
from .layers import Layer, layers_of, output_gradients, watched

SLACK = 32.0
"""Roundings, in units of the type's precision, that a norm is enlarged by: sums of squares over some thousand terms
and the products with the factor stay within it."""


@dataclass(frozen=True)
class ClippedSum:
    """The sum over units of their clipped gradients.

    Attributes:
        gradients: by parameter name, of the parameter's shape and type; zeros where no unit was drawn. What one unit
            gives has, over all of them together, a norm of at most the clip.
        dropped: units whose gradient was not finite; they give zeros. Secret: it never leaves the site.
    """

    gradients: Mapping[str, Tensor]
    dropped: int


def clipped_sum(
    module: nn.Module,
    losses: Callable[[], Tensor],
    *,
    clip: float,
    trained: Collection[str],
    owners: Tensor | None = None,
    units: int | None = None,
    rows: int | None = None,
) -> ClippedSum:
    """Clip the gradient of every unit's summed loss to a norm and add them up.

    Args:
        module: holds the trained parameters; its ``.grad`` stay as they are.
        losses: runs the forward pass and returns (R,) one loss a row, float32 or float64. It is not called for an empty
            batch (``units`` or ``rows`` = 0, or no owner).
        clip: largest norm C of one unit's gradient over all trained parameters together; > 0.
        trained: names of the parameters that the losses reach. Each belongs to an nn.Linear or an nn.LayerNorm that is
            called once with the R rows.
        owners: (R,) int64, the unit of each row, in 0..units-1; None: every row is a unit.
        units: number of units drawn; None: one more than the largest owner. One without rows gives zeros.
        rows: R, where the caller knows it before the losses are made.

    Returns:
        The sum, not divided by anything.

    Raises:
        MechanismError: the clip is no positive number, owners do not fit the losses, or the module or the losses are
            not of the legal form: what was met, and what is legal.
    """
    _check_clip(clip)
    layers = layers_of(module, trained)
    if rows == 0 or units == 0 or (owners is not None and len(owners) == 0):
        return ClippedSum(_flat_views(layers, torch.zeros), 0)
    with watched(layers), torch.enable_grad():
        found = losses()
    gradients = output_gradients(found, layers)
    with torch.no_grad():
        squares = sum((a.row_squares(g) for a, g in zip(layers, gradients, strict=True)), start=_no_squares(found))
        slack = SLACK * torch.finfo(found.dtype).eps
        sizes = _unit_sizes(owners, units, rows, len(found))
        if owners is None or sizes is None:
            owners = None
            largest = squares.sqrt_().mul_(1.0 + slack)
        else:
            padded = _padding(owners, sizes)
            squared = sum(
                (a.unit_squares(g, padded) for a, g in zip(layers, gradients, strict=True)), start=_no_squares(found)
            )
            # Where the rows of a unit cancel, rounding is relative to the rows and not to their sum.
            rounding = torch.zeros_like(squared).index_add_(0, owners, squares.sqrt_())
            largest = squared.sqrt_().add_(rounding, alpha=slack)
        factors = clip / largest.clamp_min(clip)
        bad = ~torch.isfinite(largest)
        dropped = int(bad.sum())
        if dropped:
            factors.masked_fill_(bad, 0.0)
            _silence(layers, gradients, bad if owners is None else bad[owners])
        by_row = (factors if owners is None else factors[owners]).to(found.dtype)
        out = _flat_views(layers, torch.empty)
        for layer, gradient in zip(layers, gradients, strict=True):
            layer.write(gradient, by_row, out)
    return ClippedSum(out, dropped)


def check_independent(
    module: nn.Module,
    losses_of: Callable[[Tensor], Tensor],
    rows: int,
    *,
    trained: Collection[str],
    owners: Tensor | None = None,
) -> None:
    """Refuse losses in which one unit's loss or gradient depends on who else is in the batch.

    Twice, by every other unit and by the first and the second half, each half is put beside copies of itself instead of
    the others, and is run alone. Losses and output gradients of its rows must stay what they were. The first comparison
    has the shapes of the whole batch and so its rounding too; the second one, with other shapes, is loose on gradients,
    because a rounding may carry a value over the kink of a ReLU.

    BatchNorm, contrasts within the batch, discrepancies of batches, detached batch statistics and losses divided by the
    batch's size are caught. So is noise in the forward pass, e.g. dropout: switch it off.

    Args:
        module: holds the trained parameters.
        losses_of: runs the forward pass of the rows it is given, (m,) int64 out of 0..rows-1 with repetitions, and
            returns their losses (m,). It may be called a dozen times.
        rows: how many rows there are; 0 passes, for nothing depends on anything. A single unit can only be put beside
            itself, which shows less: give several.
        trained: as for :func:`clipped_sum`, whose demands on module and losses are checked too.
        owners: (rows,) int64, the unit of each row; None: every row is a unit. Rows of one unit stay together.

    Raises:
        MechanismError: a dependence was found, or what :func:`clipped_sum` refuses.
    """
    if rows == 0:
        return
    own = torch.arange(rows) if owners is None else torch.unique(owners, return_inverse=True)[1]
    if len(own) != rows:
        raise MechanismError(f"{len(own)} owners for {rows} rows", where="clipping", remedy="Give one to each row")
    everyone, units = torch.arange(rows), int(own.max()) + 1
    whole = _probe(module, losses_of, everyone, trained)
    if units == 1:
        _compare(whole, _probe(module, losses_of, torch.cat([everyone, everyone]), trained), everyone, exact=False)
        return
    for first in (own % 2 == 0, own < (units + 1) // 2):
        for kept in (everyone[first], everyone[~first]):
            mixed = kept[everyone % len(kept)]
            mixed[kept] = kept
            _compare(_part(whole, kept), _probe(module, losses_of, mixed, trained), kept, exact=True)
            alone = _probe(module, losses_of, kept, trained)
            _compare(_part(whole, kept), alone, torch.arange(len(kept)), exact=False)


_Probe = tuple[Tensor, list[Tensor]]


def _probe(module: nn.Module, losses_of: Callable[[Tensor], Tensor], rows: Tensor, trained: Collection[str]) -> _Probe:
    """Losses (m,) and output gradients (m, O) of each layer."""
    layers = layers_of(module, trained)
    with watched(layers), torch.enable_grad():
        losses = losses_of(rows)
    if losses.shape != rows.shape:
        raise MechanismError(
            f"losses of shape {tuple(losses.shape)} for {len(rows)} rows", where="clipping", remedy="Give one to each"
        )
    return losses.detach(), output_gradients(losses, layers)


def _part(probe: _Probe, rows: Tensor) -> _Probe:
    return probe[0][rows], [gradient[rows] for gradient in probe[1]]


def _compare(expected: _Probe, other: _Probe, rows: Tensor, *, exact: bool) -> None:
    """Compare ``expected`` with the given rows of another probe."""
    losses, gradients = _part(other, rows)
    fine = torch.finfo(losses.dtype).eps
    loss_bound = (100.0 if exact else 1000.0) * fine
    relative, absolute = (100.0 * fine, 10.0 * fine) if exact else (0.25, 1e-3)
    _refuse_unless(
        _close((losses - expected[0]).abs(), expected[0].abs().clamp_min(1.0) * loss_bound, expected[0], losses), "loss"
    )
    for wanted, found in zip(expected[1], gradients, strict=True):
        sizes, sizes_found = torch.linalg.vector_norm(wanted, dim=1), torch.linalg.vector_norm(found, dim=1)
        largest = sizes[torch.isfinite(sizes)].max() if bool(torch.isfinite(sizes).any()) else 0.0
        apart = torch.linalg.vector_norm(found - wanted, dim=1)
        _refuse_unless(_close(apart, relative * sizes + absolute * largest, sizes, sizes_found), "gradient")


def _close(apart: Tensor, bound: Tensor, expected: Tensor, found: Tensor) -> Tensor:
    """Rows that agree: both finite and near, or neither finite."""
    finite = torch.isfinite(expected)
    return torch.where(finite, apart <= bound, ~torch.isfinite(found))


def _refuse_unless(close: Tensor, what: str) -> None:
    if not bool(close.all()):
        raise MechanismError(
            f"the {what} of a record depends on who else is in the batch, so no bound on one record's influence holds",
            where="clipping",
            remedy="Use losses of one record each: class-prompt cross-entropy, alignment to noisy proxies, LayerNorm",
        )


def _check_clip(clip: float) -> None:
    if not 0.0 < clip < float("inf"):
        raise MechanismError(f"a clip of {clip!r}", where="clipping", remedy="Give a finite norm above 0")


def _no_squares(losses: Tensor) -> Tensor:
    return torch.zeros((), dtype=torch.float64, device=losses.device)


def _unit_sizes(owners: Tensor | None, units: int | None, rows: int | None, found: int) -> Tensor | None:
    """Rows of each unit, (units,) int64; None where no unit has more than one."""
    if rows not in (None, found) or (owners is None and units not in (None, found)):
        raise MechanismError(
            f"{rows} rows, {units} units and {found} losses do not fit",
            where="clipping",
            remedy="Give one loss to each row, and an owner where a unit has several rows",
        )
    if owners is None:
        return None
    if owners.dtype != torch.int64 or owners.shape != (found,):
        raise MechanismError(
            f"{owners.dtype} owners of shape {tuple(owners.shape)} for {found} losses",
            where="clipping",
            remedy="Give an int64 unit to each row",
        )
    low, high = (int(value) for value in torch.aminmax(owners))
    if low < 0 or (units is not None and high >= units):
        raise MechanismError(
            f"owners from {low} to {high} of {units} units", where="clipping", remedy="Units count from 0"
        )
    sizes = torch.bincount(owners, minlength=units or 0)
    return None if int(sizes.max()) == 1 else sizes


def _padding(owners: Tensor, sizes: Tensor) -> Callable[[Tensor], Tensor]:
    """Puts rows (R, d) in their units' places: (U, k, d) float64, zeros where a unit has fewer rows than k."""
    order = torch.argsort(owners, stable=True)
    within = torch.arange(len(owners), device=owners.device) - (sizes.cumsum(0) - sizes)[owners[order]]
    most = int(sizes.max())
    places = owners[order] * most + within

    def padded(rows: Tensor) -> Tensor:
        out = torch.zeros(len(sizes) * most, rows.shape[1], dtype=torch.float64, device=rows.device)
        out[places] = rows[order].double()
        return out.view(len(sizes), most, rows.shape[1])

    return padded


def _silence(layers: list[Layer], gradients: list[Tensor], bad: Tensor) -> None:
    """Zero the rows of dropped units in inputs and gradients: a factor of 0 times infinity would not be 0."""
    for index, layer in enumerate(layers):
        layer.inputs = layer.inputs.masked_fill(bad[:, None], 0.0)
        gradients[index] = gradients[index].masked_fill(bad[:, None], 0.0)


def _flat_views(layers: list[Layer], make: Callable[..., Tensor]) -> dict[str, Tensor]:
    """One vector, as long as all trained parameters, and the parameters' places in it."""
    parameters = {
        name: layer.parameter(key) for layer in layers for key in ("weight", "bias") if (name := getattr(layer, key))
    }
    first = next(iter(parameters.values()))
    flat = make(sum(p.numel() for p in parameters.values()), dtype=first.dtype, device=first.device)
    pieces = torch.split_with_sizes(flat, [p.numel() for p in parameters.values()])
    return {name: piece.view(p.shape) for (name, p), piece in zip(parameters.items(), pieces, strict=True)}

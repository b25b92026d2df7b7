"""The two layers whose gradient of one row has a closed form: what each of them saw, and what its rows gave.

For a row r with input x and gradient g at the layer's output, the gradients of the row's loss are

    Linear      weight  g x'            bias  g     squared norm  |g|^2 (|x|^2 + 1)     (Goodfellow 2015, 1510.01799)
    LayerNorm   weight  g * xhat        bias  g     squared norm  |g * xhat|^2 + |g|^2

so sums of clipped gradients need the rows' inputs and output gradients only, never a gradient of one row. They hold
while a layer is called once, on one row for each loss, and its parameters are used nowhere else. That is checked on
autograd's graph, not assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import MechanismError

LEGAL = "Legal are nn.Linear, and nn.LayerNorm over the last dimension, each called once on one row for each loss"


@dataclass(slots=True)
class Layer:
    """One layer with trained parameters, and what one forward pass showed of it.

    Attributes:
        name: of the module; ``weight`` and ``bias`` are names of the parameters that are trained, or None.
        module: an nn.Linear or nn.LayerNorm.
        calls: times it was called since :func:`watched` began.
        inputs: (R, I) what it saw; of a LayerNorm the normalised rows xhat, (R, O).
        edge: the place of its output in autograd's graph.
    """

    name: str
    module: nn.Linear | nn.LayerNorm
    weight: str | None = None
    bias: str | None = None
    calls: int = 0
    inputs: Tensor = field(default_factory=lambda: torch.empty(0))
    version: int = 0
    edge: Any = None
    rows: int = 0

    def parameter(self, key: str) -> nn.Parameter:
        """``weight`` or ``bias``, which must be trained."""
        return getattr(self.module, key)  # type: ignore[no-any-return]

    def see(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        """A forward hook."""
        self.calls += 1
        if self.calls > 1:
            return
        if len(args) != 1 or args[0].ndim != 2:
            raise MechanismError(
                f"layer '{self.name}' saw something else than a matrix of rows", where="clipping", remedy=LEGAL
            )
        self.rows = len(output)
        if output.requires_grad:
            self.edge = torch.autograd.graph.get_gradient_edge(output)
        seen = args[0].detach()
        if isinstance(self.module, nn.LayerNorm):
            with torch.no_grad():
                seen = torch.native_layer_norm(seen, self.module.normalized_shape, None, None, self.module.eps)[0]
        self.inputs, self.version = seen, seen._version

    def row_squares(self, gradients: Tensor) -> Tensor:
        """Squared norm of each row's gradient: (R, O) output gradients -> (R,) float64."""
        own = _squares(gradients)
        if self.weight is None:
            return own
        if isinstance(self.module, nn.LayerNorm):
            scaled = _squares(gradients * self.inputs)
            return scaled + own if self.bias is not None else scaled
        seen = _squares(self.inputs)
        return own * (seen + 1.0 if self.bias is not None else seen)

    def unit_squares(self, gradients: Tensor, padded: Callable[[Tensor], Tensor]) -> Tensor:
        """Squared norm of the gradient of each unit's summed loss; float64, for the terms of a unit may cancel.

        Args:
            gradients: (R, O) output gradients.
            padded: puts rows (R, d) in their units' places: (U, k, d) float64, zeros where a unit has fewer rows.

        Returns:
            (U,) float64, >= 0.
        """
        own = padded(gradients)
        total = torch.zeros(len(own), dtype=torch.float64, device=own.device)
        if isinstance(self.module, nn.LayerNorm):
            # No Gram form: the rows of a unit are summed first.
            if self.weight is not None:
                total += (own * padded(self.inputs)).sum(dim=1).square().sum(dim=1)
            if self.bias is not None:
                total += own.sum(dim=1).square().sum(dim=1)
            return total
        # |sum_r g_r x_r'|^2 = sum_rs (g_r . g_s)(x_r . x_s): Gram matrices of one unit's rows, k x k.
        gram = torch.bmm(own, own.mT)
        if self.weight is not None:
            seen = padded(self.inputs)
            inner = torch.bmm(seen, seen.mT)
            total += (gram * (inner + 1.0 if self.bias is not None else inner)).sum(dim=(1, 2))
        elif self.bias is not None:
            total += gram.sum(dim=(1, 2))
        return total.clamp_min_(0.0)

    def write(self, gradients: Tensor, factors: Tensor, out: Mapping[str, Tensor]) -> None:
        """Write the sums over rows of factor * gradient: (R, O) output gradients and (R,) factors of their type."""
        if self.bias is not None:
            torch.mv(gradients.T, factors, out=out[self.bias])
        if self.weight is not None:
            if isinstance(self.module, nn.LayerNorm):
                torch.mv((gradients * self.inputs).T, factors, out=out[self.weight])
            else:
                torch.mm((gradients * factors[:, None]).T, self.inputs, out=out[self.weight])


def _squares(rows: Tensor) -> Tensor:
    """Squared norms of rows: (R, d) -> (R,) float64."""
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1)
    return norms.double().square_()


def layers_of(module: nn.Module, trained: Collection[str]) -> list[Layer]:
    """The layers that own the trained parameters, in the module's order.

    Raises:
        MechanismError: no parameter, an unknown one, one that is shared, frozen, of another type than float32 or
            float64, or of another layer than those that are legal.
    """
    if not trained:
        raise MechanismError("no parameter is trained", where="clipping", remedy="Name at least one")
    wanted, layers = set(trained), []
    owned: dict[int, str] = {}
    for prefix, owner in module.named_modules(remove_duplicate=False):
        layer = None
        for key, parameter in owner._parameters.items():
            name = f"{prefix}.{key}" if prefix else key
            if parameter is None:
                continue
            twin = owned.setdefault(id(parameter), name)
            if twin != name and (name in trained or twin in trained):
                raise MechanismError(
                    f"parameter '{name}' is '{twin}' too", where="clipping", remedy="Give each layer its own"
                )
            if name not in wanted:
                continue
            wanted.discard(name)
            _check_parameter(name, owner, parameter)
            if layer is None:
                layer = Layer(prefix, owner)
                layers.append(layer)
            setattr(layer, key, name)
    if wanted:
        raise MechanismError(
            f"the module has no parameter '{sorted(wanted)[0]}'", where="clipping", remedy="Name parameters it has"
        )
    return layers


def _check_parameter(name: str, owner: nn.Module, parameter: nn.Parameter) -> None:
    # Not isinstance: a subclass may compute something else.
    legal = type(owner) is nn.Linear or (type(owner) is nn.LayerNorm and len(owner.normalized_shape) == 1)
    if not legal:
        raise MechanismError(
            f"parameter '{name}' belongs to a {type(owner).__name__}, whose gradients cannot be clipped row by row",
            where="clipping",
            remedy=f"{LEGAL}; use LayerNorm instead of BatchNorm",
        )
    if not parameter.requires_grad or parameter.dtype not in (torch.float32, torch.float64):
        raise MechanismError(
            f"parameter '{name}' is {parameter.dtype}, requires_grad {parameter.requires_grad}",
            where="clipping",
            remedy="Trained parameters are float32 or float64 and require a gradient",
        )


@contextmanager
def watched(layers: list[Layer]) -> Iterator[None]:
    """Let the layers see what passes through them inside."""
    handles = [layer.module.register_forward_hook(layer.see) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def output_gradients(losses: Tensor, layers: list[Layer]) -> list[Tensor]:
    """Gradients of the losses' sum at each layer's output, (R, O); no gradient of a parameter is computed.

    Args:
        losses: (R,) one loss a row, made while the layers were watched.
        layers: all layers with trained parameters.

    Raises:
        MechanismError: the losses are not one for each row of each layer, or depend on a parameter in another way than
            through its layer's single call.
    """
    if losses.ndim != 1 or not losses.requires_grad:
        raise MechanismError(
            f"losses of shape {tuple(losses.shape)}, requires_grad {losses.requires_grad}",
            where="clipping",
            remedy="Give one loss for each row, (R,), that depends on the trained parameters",
        )
    for layer in layers:
        if layer.calls != 1:
            raise MechanismError(f"layer '{layer.name}' was called {layer.calls} times", where="clipping", remedy=LEGAL)
        if layer.rows != len(losses):
            raise MechanismError(
                f"layer '{layer.name}' saw {layer.rows} rows for {len(losses)} losses", where="clipping", remedy=LEGAL
            )
        if layer.inputs._version != layer.version:
            raise MechanismError(
                f"the input of layer '{layer.name}' was changed in place", where="clipping", remedy="Make a new tensor"
            )
    check_graph(losses, layers)
    found = torch.autograd.grad(losses, [layer.edge for layer in layers], torch.ones_like(losses))
    for layer, gradient in zip(layers, found, strict=True):
        if gradient.dtype != layer.inputs.dtype:
            raise MechanismError(
                f"layer '{layer.name}' computes in {gradient.dtype} from {layer.inputs.dtype}",
                where="clipping",
                remedy="Train in one type, without autocast",
            )
    return list(found)


def check_graph(losses: Tensor, layers: list[Layer]) -> None:
    """Refuse losses that reach a parameter past its layer, another parameter, or a normalisation over the batch.

    Raises:
        MechanismError: names what was reached.
    """
    parents: dict[Any, list[Any]] = {losses.grad_fn: []}
    leaves: dict[int, tuple[Tensor, Any]] = {}
    waiting = [losses.grad_fn]
    while waiting:
        node: Any = waiting.pop()
        for child, _ in node.next_functions:
            if child is None:
                continue
            if child in parents:
                parents[child].append(node)
                continue
            parents[child] = [node]
            leaf = getattr(child, "variable", None)
            if leaf is not None:
                leaves[id(leaf)] = (leaf, child)
                continue
            if "BatchNorm" in child.name():
                raise MechanismError(
                    "a loss passes through BatchNorm, which mixes the rows of a batch",
                    where="clipping",
                    remedy='Use LayerNorm: normalisation = "layer"',
                )
            waiting.append(child)
    for layer in layers:
        for key in ("weight", "bias"):
            name: str | None = getattr(layer, key)
            if name is None:
                continue
            leaf, node = leaves.pop(id(layer.parameter(key)), (None, None))
            if leaf is None:
                raise MechanismError(
                    f"the losses do not reach '{name}'", where="clipping", remedy="Name only what they train"
                )
            if not _through_call(parents, node, layer.edge.node):
                raise MechanismError(
                    f"the losses use '{name}' in another way than by calling its layer once",
                    where="clipping",
                    remedy=LEGAL,
                )
    if leaves:
        shape = tuple(next(iter(leaves.values()))[0].shape)
        raise MechanismError(
            f"the losses reach a tensor of shape {shape} that requires a gradient and is not among the trained ones",
            where="clipping",
            remedy="Freeze it or detach it, or name it among the trained parameters",
        )


def _through_call(parents: Mapping[Any, list[Any]], leaf: Any, call: Any) -> bool:
    """Whether a leaf feeds the call and nothing else: at once, or transposed first, as the weight of a Linear is."""
    users = parents[leaf]
    if len(users) == 1 and users[0] is not call and len(users[0].next_functions) == 1:
        users = parents[users[0]]
    return len(users) == 1 and users[0] is call

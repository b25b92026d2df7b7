"""Low-rank factors on the projections of an image tower that stays frozen and is shared, never copied.

Hu et al. 2021 (arXiv 2106.09685), section 4.1: a weight W acts as W + alpha / r * B A, of which A and B alone are
trained. Covered are every ``nn.Linear`` (also timm's), the query, key, value and output projections of
``nn.MultiheadAttention`` and of open_clip's own attention, and 1x1 convolutions, which are linear maps of channels.
Queries, keys and values that are stored as one matrix get factors of their own each. Left alone are patch embeddings
and wider or grouped convolutions, norms, biases, embeddings, and the projection that a ViT keeps as a bare matrix.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .clip_inputs import pixels_of, unit_features
from .method import ClipInputs

# How many projections a weight holds, one below the other: in_proj_weight of MultiheadAttention, qkv and kv of timm.
STACKED = {"in_proj_weight": 3, "qkv": 3, "kv": 2}
ATTENTION_WEIGHTS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")


def projections(tower: nn.Module) -> Iterator[tuple[str, Tensor, int]]:
    """Names and values of the covered weights in the tower's order, with how many projections each holds."""
    for place, layer in tower.named_modules():
        prefix = f"{place}." if place else ""
        if isinstance(layer, nn.Linear):
            stacked = STACKED.get(place.rpartition(".")[2], 1)
            yield f"{prefix}weight", layer.weight, stacked if layer.out_features % stacked == 0 else 1
        elif isinstance(layer, nn.Conv2d):
            if layer.kernel_size == (1, 1) and layer.groups == 1:
                yield f"{prefix}weight", layer.weight, 1
        else:
            for name in ATTENTION_WEIGHTS:
                weight = getattr(layer, name, None)
                if isinstance(weight, nn.Parameter):
                    yield f"{prefix}{name}", weight, STACKED.get(name, 1)


class FactorPair(nn.Module):
    """A and B of one weight: ``down`` (S, r, columns), Gaussian, and ``up`` (S, rows, r), zero.

    With B = 0 training starts at the frozen tower, bit for bit. A's variance is 1 / columns, so that the
    entries of A x are as large as those of x whatever the width; the paper leaves it open.

    Args:
        weight: W; a convolution's counts as its (out, in) matrix.
        stacked: S, the projections that it holds, of equal height.
        rank: r; a weight with fewer rows or columns gets as many as the fewer.
        generator: draws A.
    """

    def __init__(self, weight: Tensor, stacked: int, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        rows, columns = weight.shape[0] // stacked, weight[0].numel()
        own = min(rank, rows, columns)
        drawn = torch.randn((stacked, own, columns), generator=generator) * columns**-0.5
        self.down = nn.Parameter(drawn.to(weight))
        self.up = nn.Parameter(weight.new_zeros((stacked, rows, own)))

    def product(self) -> Tensor:
        """B A of each projection, one below the other: (S rows, columns)."""
        return torch.einsum("sor,sri->soi", self.up, self.down).flatten(0, 1)


class LowRankTower(nn.Module):
    """The factors of one image tower; its one child ``lora`` is the block that is sent.

    The tower itself is no part of the module: it is handed in with every call. For ViT-B/32, whose image tower has
    87,849,216 weights, rank 4 has 663,552.

    Args:
        tower: CLIP's image tower.
        rank: r >= 1.
        alpha: factors are scaled by alpha / r.
        seed: of A; every site draws the same.
    """

    def __init__(self, tower: nn.Module, *, rank: int, alpha: float, seed: int) -> None:
        super().__init__()
        self.factor = alpha / rank
        generator = torch.Generator().manual_seed(seed)
        # A module's name holds no dot.
        self.lora = nn.ModuleDict(
            {
                name.replace(".", "/"): FactorPair(weight, stacked, rank, generator)
                for name, weight, stacked in projections(tower)
            }
        )

    def weights(self, tower: nn.Module) -> dict[str, Tensor]:
        """W + alpha / r * B A of every covered weight, by its name in the tower and of its shape."""
        adapted: dict[str, Tensor] = {}
        for key, pair in self.lora.items():
            name = key.replace("/", ".")
            frozen = tower.get_parameter(name)
            adapted[name] = frozen + self.factor * pair.product().view(frozen.shape)  # type: ignore[operator]
        return adapted

    def merged(self, tower: nn.Module) -> nn.Module:
        """A frozen copy of the tower with the factors folded in: equal outputs, and no more work than without."""
        folded = copy.deepcopy(tower)
        with torch.no_grad():
            for name, weight in self.weights(tower).items():
                folded.get_parameter(name).copy_(weight)
        return folded

    def image_features(self, pictures: Tensor, inputs: ClipInputs, weights: dict[str, Tensor]) -> Tensor:
        """Unit-norm features by the tower with ``weights`` in place: uint8 (n, H, W, 3) -> (n, D).

        The tower's own weights are back in place afterwards. Only one thread may use a tower meanwhile.
        """
        tower = tower_of(inputs)
        like = next(tower.parameters())
        return unit_features(functional_call(tower, weights, (pixels_of(pictures, inputs, like),)))


def tower_of(inputs: ClipInputs) -> nn.Module:
    """CLIP's frozen image tower."""
    return inputs.model.get_submodule("visual")

"""The proximal term of FedProx, by itself: any method can be held near what its site received."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def proximal_term(module: nn.Module, received: Mapping[str, Tensor]) -> Tensor:
    """Squared distance ``sum ||w - w_received||^2`` of the trained parameters from the received ones.

    Li et al. 2020 (arXiv 1812.06127), equation 2, without its factor: a loss adds ``mu / 2`` times this.

    Args:
        module: whose trained parameters are compared, with a gradient.
        received: the global tensors by name; constants. Statistics among them are skipped, and a trained parameter
            that is not among them (a local one) adds nothing.

    Returns:
        A scalar >= 0; 0 where the two have no name in common.
    """
    pairs = [(w, received[name]) for name, w in module.named_parameters() if w.requires_grad and name in received]
    terms = [(w - constant.detach().to(w)).square().sum() for w, constant in pairs]
    return torch.stack(terms).sum() if terms else torch.zeros(())

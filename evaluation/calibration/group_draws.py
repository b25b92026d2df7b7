"""Images of one patient are not independent: one image a group for guarantees, and folds that keep groups whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..arrays import IntArray, group_codes

Groups = Sequence[str] | Sequence[int] | IntArray


def one_per_group(groups: Groups, generator: np.random.Generator) -> IntArray:
    """One row of each group, drawn at random; int64 (groups,), ascending.

    Rows that are drawn without a look at their scores are exchangeable where groups are, which all images together
    are not.

    Args:
        groups: (n,) group of each row.
        generator: the only source of randomness.
    """
    codes = group_codes(groups, len(groups))
    shuffled = generator.permutation(len(codes))
    # np.unique gives the first index of each code, which after a shuffle is a uniform choice in the group.
    chosen = shuffled[np.unique(codes[shuffled], return_index=True)[1]]
    return np.sort(chosen).astype(np.int64)


def group_folds(labels: IntArray, groups: Groups, folds: int, generator: np.random.Generator) -> IntArray:
    """Fold 0.. of each row, int64 (n,): a group lies in one fold, and classes are dealt out evenly by group.

    Args:
        labels: (n,). groups: (n,). folds: how many, at least 2.
        generator: the only source of randomness.
    """
    codes = group_codes(groups, len(labels))
    first = np.unique(codes, return_index=True)[1]
    order = generator.permutation(len(first))
    # By the label of a group's first image, in random order within a label; then dealt like cards.
    order = order[np.argsort(labels[first][order], kind="stable")]
    fold_of = np.empty(len(first), dtype=np.int64)
    fold_of[order] = np.arange(len(first)) % folds
    return fold_of[codes]

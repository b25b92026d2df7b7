"""Occlusion maps through the frozen encoder: each picture is encoded once for every square that is covered.

Pictures are spread over the cores as in :mod:`.features`, and the encoder sees batches of one shape, so a map depends
neither on the other pictures nor on the number of cores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..evaluation.arrays import FloatArray
from ..evaluation.cases.model import OcclusionMap
from ..evaluation.cases.occlusion import GRID, covered, drops
from .backbone import Backbone, fixed_numerics
from .features import default_workers
from .methods.method import Consumes

Answer = Callable[[Tensor], FloatArray]
"""From what a method consumes, (n, …), to calibrated probabilities, (n, K)."""
Progress = Callable[[int, int], None]


def attention_maps(
    pictures: Sequence[NDArray[np.uint8]],
    called: Sequence[int],
    backbone: Backbone,
    answer: Answer,
    *,
    consumes: Consumes = "features",
    grid: int = GRID,
    progress: Progress | None = None,
) -> list[OcclusionMap]:
    """A map of each picture for its called class.

    Args:
        pictures: the model's inputs, (H, W, 3) uint8 each, as :meth:`.Backbone.prepare` makes them.
        called: class whose log odds are watched, one a picture.
        backbone: the frozen encoder; not used where the method consumes pictures.
        answer: the model with its calibration.
        consumes: what ``answer`` takes.
        grid: squares along each side; a picture costs grid * grid + 1 encodings.
        progress: called with (pictures done, pictures in all).
    """
    maps = []
    for done, inputs in enumerate(_inputs(pictures, backbone, consumes, grid), start=1):
        label = called[done - 1]
        probabilities = answer(inputs)
        values = drops(probabilities, label, grid)
        strongest = 1 + int(values.argmax())
        maps.append(
            OcclusionMap(
                tuple(tuple(row) for row in values.tolist()),
                float(probabilities[0, label]),
                float(probabilities[strongest, label]),
            )
        )
        if progress is not None:
            progress(done, len(pictures))
    return maps


def _inputs(
    pictures: Sequence[NDArray[np.uint8]], backbone: Backbone, consumes: Consumes, grid: int
) -> Iterator[Tensor]:
    """What the model takes, picture by picture: itself and its covered variants, (1 + grid * grid, …)."""

    def variants(picture: NDArray[np.uint8]) -> Tensor:
        return torch.from_numpy(np.concatenate([picture[None], covered(picture, grid)]))

    def features(picture: NDArray[np.uint8]) -> Tensor:
        rows, size = variants(picture), backbone.batch_size
        return torch.from_numpy(
            np.concatenate([backbone.encode_prepared(rows[at : at + size]) for at in range(0, len(rows), size)])
        )

    if consumes == "pixels":
        yield from map(variants, pictures)
        return
    workers = default_workers() if backbone.device.type == "cpu" else 1
    # OpenMP counts threads per thread, so each worker says again that an operation has one.
    with fixed_numerics(), ThreadPoolExecutor(workers, "maps", torch.set_num_threads, (1,)) as pool:
        yield from pool.map(features, pictures)

"""Small seeded case reviews for the tests of this folder."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image
from wardround.evaluation.cases.choosing import Judged
from wardround.evaluation.cases.model import Box, Case, CaseReview, Neighbour, OcclusionMap, Picture
from wardround.evaluation.report_model import ClassName

CLASSES = (ClassName("ash", "Ash"), ClassName("beech", "Beech tree"), ClassName("cedar", "Cedar of Lebanon"))


def make_picture(seed: int, width: int = 24, height: int = 18) -> Picture:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return Picture(buffer.getvalue(), "image/png", width, height)


def make_map(seed: int, top: float = 2.0) -> OcclusionMap:
    values = np.random.default_rng(seed).uniform(-0.2, 0.3, (7, 7))
    values[1, 5] = top
    return OcclusionMap(tuple(tuple(row) for row in values.tolist()), 0.91, 0.54)


def make_review(n: int = 12, *, sets: bool = True, **changes: Any) -> CaseReview:
    """``n`` images whose probabilities are drawn; every third has a map, and the first has two images of one group."""
    generator = np.random.default_rng(7)
    probabilities = generator.dirichlet((0.5, 0.5, 0.5), n)
    labels = generator.integers(0, 3, n)
    abstains = probabilities.max(axis=1) < 0.6
    members = [tuple(np.flatnonzero(row > 0.15).tolist()) for row in probabilities]
    missed = np.array([int(label) not in held for label, held in zip(labels, members, strict=True)])
    judged = Judged(
        probabilities.max(axis=1), probabilities.argmax(axis=1) == labels, abstains, missed if sets else None, 0.8
    )
    cases = tuple(
        Case(
            record=at,
            group=max(at - 1, 0),
            truth=int(labels[at]),
            probabilities=tuple(probabilities[at].tolist()),
            abstains=bool(abstains[at]),
            members=members[at] if sets else None,
            picture=make_picture(at),
            seen=Box(0.125, 0.0, 0.75, 1.0),
            nearest=tuple(Neighbour(3 * at + k, k, 0.9 - 0.1 * k, make_picture(100 + k, 8, 8)) for k in range(3)),
            map=make_map(at) if at % 3 == 0 else None,
        )
        for at in range(n)
    )
    values: dict[str, Any] = {
        "study": "toy",
        "method": "facmic",
        "site": "amber",
        "role": "training",
        "dataset": "Toy trees",
        "synthetic": False,
        "marks": (),
        "classes": CLASSES,
        "group_key": "tree",
        "calibration": "temperature 1.31, this site's",
        "coverage": 0.9 if sets else None,
        "abstain_below": 0.6,
        "confident": 0.8,
        "counts": judged.counts(),
        "cases": cases,
        "typical": 0.7,
        "training": 40,
    }
    return CaseReview(**{**values, **changes})

"""Figures of subgroups: every level of a column, with images without a value as a level of their own.

Under ten groups no figure is given: a subgroup is where a report is most easily read for more than it holds. A
subgroup's balanced accuracy and AUROC average over the classes that occur in it, so levels with other classes do not
compare; the classes stand beside them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..intervals import RESAMPLES
from .answers import Answers
from .bootstrap import NO_IMAGES, group_bootstrap
from .calibration_figures import brier_estimate, error_estimate
from .discrimination import discrimination
from .figure_set import Missingness, SubgroupFigures
from .sample import MISSING, Column, Sample

FEWEST_IMAGES = 5
TOO_FEW_IMAGES = "too few: under 5 images"
NOT_RECORDED = "not recorded"


def subgroups(
    sample: Sample, answers: Answers, name: str, column: Column, *, seed: int, resamples: int | None = None
) -> tuple[SubgroupFigures, ...]:
    """Figures of every level of ``column`` in its order, then of images without a value, where there are any.

    Args:
        sample: gives groups and class names. answers: of its images. name: of the column.
        seed: with the level's place, of its resamples; so that a level's interval does not depend on
            which other columns are asked for. resamples: 1000 where None.
    """
    levels = [(level, column.codes == code) for code, level in enumerate(column.levels)]
    absent = column.codes == MISSING
    if absent.any():
        levels.append((NOT_RECORDED, absent))
    return tuple(
        _level(sample, answers, name, level, rows, np.random.default_rng([seed, 5, place]), resamples)
        for place, (level, rows) in enumerate(levels)
    )


def missingness(name: str, column: Column) -> Missingness:
    """How many images have no value in ``column``."""
    return Missingness(name, int((column.codes == MISSING).sum()), len(column.codes))


def _level(
    sample: Sample,
    answers: Answers,
    column: str,
    level: str,
    rows: NDArray[np.bool_],
    generator: np.random.Generator,
    resamples: int | None,
) -> SubgroupFigures:
    told = answers.at(rows)
    n = len(told.labels)
    bootstrap = group_bootstrap(sample.groups[rows], generator, RESAMPLES if resamples is None else resamples)
    present = told.present(sample.classes)
    if n < FEWEST_IMAGES:
        note = TOO_FEW_IMAGES if n else NO_IMAGES
        none = bootstrap.bare(None, note)
        return SubgroupFigures(column, level, n, bootstrap.n_groups, present, none, none, none, none, none, note)
    found = discrimination(told, bootstrap)
    return SubgroupFigures(
        column=column,
        level=level,
        n=n,
        n_groups=bootstrap.n_groups,
        classes_present=present,
        accuracy=found.accuracy,
        balanced_accuracy=found.balanced_accuracy,
        macro_auroc=found.macro_auroc,
        brier=brier_estimate(told, bootstrap),
        ece=error_estimate(told.confidence, told.right, bootstrap),
        note=bootstrap.note(),
    )

"""Contact sheets: many pictures on one page, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .population import PhantomStudy, planned_images, render_planned


def contact_sheet(pictures: Sequence[NDArray[np.uint8]], columns: int) -> NDArray[np.uint8]:
    """Lay pictures of one size out in rows.

    Args:
        pictures: uint8 (size, size, 3) each, at least one.
        columns: pictures in a row, at least 1.

    Returns:
        uint8 (rows * size, columns * size, 3); what stays empty is black.
    """
    size = pictures[0].shape[0]
    rows = -(-len(pictures) // columns)
    sheet = np.zeros((rows * size, columns * size, 3), dtype=np.uint8)
    for index, picture in enumerate(pictures):
        top, left = index // columns * size, index % columns * size
        sheet[top : top + size, left : left + size] = picture
    return sheet


def study_sheet(study: PhantomStudy, each: int = 2) -> NDArray[np.uint8]:
    """A row for each site, with the first ``each`` pictures of every class."""
    planned = planned_images(study)
    classes = range(len(study.dataset.classes))
    black = np.zeros((study.size, study.size, 3), dtype=np.uint8)
    pictures = []
    for site in study.sites:
        for label in classes:
            chosen = [image for image in planned if image.site == site.name and image.label == label][:each]
            drawn = [render_planned(study, image) for image in chosen]
            pictures.extend(drawn + [black] * (each - len(drawn)))
    return contact_sheet(pictures, each * len(classes))

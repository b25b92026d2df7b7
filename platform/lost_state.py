"""State files of a site that are gone although others show that they were written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .class_means import PURPOSE
from .held_out import HELD_OUT
from .held_out_memory import HELD_OUT_FILE, HeldOutMemory
from .means_memory import MEANS_FILE, MeansMemory
from .progress import PROGRESS_FILE, Progress
from .state_files import damaged

SURVIVORS_FILE = "survivors.json"


def refuse_loss(
    signed: Mapping[str, Any], progress: Progress, means: MeansMemory, figures: HeldOutMemory, *, sums_means: bool
) -> None:
    """Stop where a state file is gone: what was signed, or which sums were entered, is not known any more.

    Args:
        signed: content of the survivors' file. progress, means, figures: what else a site remembers, in one folder.
        sums_means: whether the study sums class means before its first round.

    Raises:
        CheckpointError: names the file.
    """
    folder: Path = means.folder
    begun, asked, figured = progress.begun, means.path.is_file(), figures.begun
    purposes = {key.rpartition("/")[2] for key in signed}
    for lost, here in (
        (PROGRESS_FILE, begun or purposes <= {PURPOSE, *HELD_OUT}),
        (MEANS_FILE, asked or not (PURPOSE in purposes or (sums_means and begun))),
        (HELD_OUT_FILE, figured or not purposes & set(HELD_OUT)),
        (SURVIVORS_FILE, (folder / SURVIVORS_FILE).is_file() or not (begun or asked or figured)),
    ):
        if not here:
            raise damaged(folder / lost)

"""What a hospital has for a study: where it lies on this machine, what is counted of it, and by which filters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ...medical_datasets.split_record import SplitRecord
from ..config import Study
from ..image_index import image_index
from ..own_data import own_data, own_plan
from ..private_plan import check_units
from ..site_side import count_of
from ..study_cohort import own_sources
from ..study_parts import federated_method, study_backbone
from ..study_split import own_split
from .documents import FEWEST_SAMPLES, Invitation, Signed
from .errors import EnrolmentError
from .portable import OwnPlaces, needs_weights, received
from .site_folder import SiteFolder, make_folder

Note = Callable[[str], None]


@dataclass(frozen=True)
class Counted:
    """What a hospital has for a study.

    Attributes:
        samples: the number that a request states: training images, or units under differential privacy.
        what: what is counted, in the plural.
        train, validation, test: images of each part.
        withdrawn: training images that were withdrawn and are in the number all the same.
        skipped: images that could not be read.
        backbone: fingerprint of the frozen CLIP.
        split: the site's part of the split under a salt; None draws one.
    """

    samples: int
    what: str
    train: int
    validation: int
    test: int
    withdrawn: int
    skipped: int
    backbone: str
    split: Callable[[bytes | None], SplitRecord] = field(repr=False, compare=False)


def own_study(
    signed: Signed[Invitation],
    study: Study,
    site: str,
    data: Sequence[Path],
    reference: Sequence[Path],
    weights: Path | None,
) -> Study:
    """The study with this machine's paths.

    Args:
        signed: the invitation. study: its study, without paths. site: whose paths.
        data: folder of each source of the site, in the study's order. reference: likewise of the public set.
        weights: file or folder of the backbone's weights, where the study does not name or ship them.

    Raises:
        EnrolmentError: a path is missing, not there, or not wanted.
    """
    places: dict[int, str] = {}
    for option, holder, given in (("--data", site, data), ("--reference", study.reference.site, reference)):
        wanted = own_sources(study, {holder} - {""}) if study.data.source == "joined" else ()
        if len(given) != len(wanted):
            each = "; ".join(_described(study, at) for at in wanted)
            raise EnrolmentError(
                f"{len(given)} folders are given with {option}, {len(wanted)} are wanted"
                + (f": {each}" if each else ""),
                where=option,
                remedy=f"Give {option} DIR once for each, in this order" if wanted else f"Leave {option} out",
            )
        for at, path in zip(wanted, given, strict=True):
            if not path.exists():
                raise EnrolmentError("there is no such folder", where=str(path), remedy=f"Check the path of {option}")
            places[at] = str(path.resolve())
    if needs_weights(study) != (weights is not None):
        raise EnrolmentError(
            "the study's weights lie in a file of this machine, and it is not said where"
            if weights is None
            else "this study's weights are named or shipped, so none are taken from a file",
            where="--weights",
            remedy="Give --weights PATH" if weights is None else "Leave --weights out",
        )
    if weights is not None and not weights.exists():
        raise EnrolmentError("there are no such weights", where=str(weights), remedy="Check the path of --weights")
    own = OwnPlaces(sources=places, weights=str(weights.resolve()) if weights is not None else "")
    return received(signed.document.study, signed.document.study_hash, own, where=signed.source)


def _described(study: Study, at: int) -> str:
    source = study.data.sources[at]
    return f"{source.dataset} (its table, where the data set has none of its own: {source.labels})"


def filters_of(study: Study, site: str) -> dict[str, str]:
    """What decides which images count, in words by key: a coordinator could ask narrowly to learn about few."""
    found: dict[str, str] = {"classes": ", ".join(study.data.classes) or "all of the data set"}
    if study.data.source == "joined":
        for at in own_sources(study, {site}):
            source = study.data.sources[at]
            found[f"source {at + 1}"] = _described(study, at)
            found[f"source {at + 1}, classes renamed"] = ", ".join(f"{a} → {b}" for a, b in source.map.items())
            found[f"source {at + 1}, classes left out"] = ", ".join(source.exclude)
            found[f"source {at + 1}, slices of a volume"] = str(source.slices) if source.slices > 1 else ""
    most = study.data.max_train_images
    found["training images used, at most"] = str(most) if most else ""
    found["split"] = " / ".join(f"{100 * part:g} %" for part in study.data.split) + " for training, validation, test"
    return {key: words for key, words in found.items() if words}


def count_own(
    folder: SiteFolder, study: Study, cache: Path, note: Note, progress: Callable[[int, int, float], None]
) -> Counted:
    """Read the site's own data as it will be read when the study runs, and count.

    Args:
        folder: of the consortium. study: with this machine's paths. cache: of features.
        note, progress: as for :func:`..own_data.own_data`.

    Raises:
        EnrolmentError: too few to be hidden in a sum.
        StudyFileError, DataError, BackboneError, RunFolderError, HomeError: from what is read.
    """
    backbone, method = study_backbone(study), federated_method(study)
    make_folder(folder)
    with image_index(study, cache, folder.home.parent, note) as reader:
        plan = own_plan(study, folder.site, folder.phantoms, reader=reader, note=note)
        own = own_data(study, method, backbone, plan, folder.home, cache, reader=reader, note=note, progress=progress)
    (site,) = own.data.sites
    if study.private:
        for told in check_units(study, own.data):
            note(told)
    samples, what = count_of(study, site), "images" if not study.private else f"{study.privacy.unit}s"
    if samples < FEWEST_SAMPLES:
        raise EnrolmentError(
            f"this site has {samples} training {what}; at least {FEWEST_SAMPLES} are needed",
            where=f"site '{folder.site}'",
            remedy="Do not take part with so few: they could be told apart in a sum. Nothing was told to anybody",
        )
    parts = (site.train.rows, site.validation.rows, site.test.rows)
    split = partial(own_split, study, own.data.cohort, folder.site, parts)
    sizes = (len(site.train), len(site.validation), len(site.test))
    return Counted(samples, what, *sizes, len(site.train.withdrawn), len(own.skipped), backbone.fingerprint, split)

"""A study as it travels: what its hash covers and no more, so that nothing unsigned or of another machine comes along.

Paths, device, split files, faults, options of other methods and the coordinator's patience stay behind. Each machine
adds its own paths to what it received; the hash must then be the one that was announced.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ..config import Study
from ..errors import StudyFileError
from ..own_data import check_deployable
from ..study_file import parse_study
from .errors import EnrolmentError

LOCAL = "local"
"""What stands for weights that lie in a file or folder: each machine has its own path."""
_NOWHERE = Path(os.devnull) / "study.toml"  # nothing lies beside it, so no name is taken for a file's
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class OwnPlaces:
    """Where one machine has what a study needs.

    Attributes:
        sources: folder of an entry of ``[[data.sources]]``, by its position; entries of other hospitals have none.
        folder: of a study with ``source = "folder"``.
        weights: file or folder of the backbone's weights, absolute; empty where they are named or shipped.
        device: where images are encoded.
    """

    sources: Mapping[int, str] = field(default_factory=dict)
    folder: str = ""
    weights: str = ""
    device: str = "auto"


def portable(study: Study) -> dict[str, Any]:
    """A study as JSON without anything that its hash does not cover, except whether figures are summed.

    The roster has the sums that are asked for, so that key is bound too, later.
    """
    values: dict[str, Any] = json.loads(study.canonical())
    values["evaluation"]["federated"] = study.evaluation.federated
    if study.data.split_rule == "balanced":  # which the canonical form leaves out
        values["data"]["split_rule"] = "balanced"
    return values


def received(values: Mapping[str, Any], study_hash: str, places: OwnPlaces, *, where: str) -> Study:
    """A study that came from elsewhere, with this machine's own paths.

    Args:
        values: of :func:`portable`. study_hash: what it must hash to.
        places: of this machine. where: the file it came in, for messages.

    Raises:
        EnrolmentError: a key or value that no study has, another hash, or more than the hash covers.
    """
    own: dict[str, Any] = json.loads(json.dumps(values))  # a copy: it is changed
    data, backbone = own.get("data"), own.get("backbone")
    if isinstance(data, dict) and isinstance(backbone, dict):
        sources = data.get("sources", [])
        for at, source in enumerate(sources if isinstance(sources, list) else []):
            if isinstance(source, dict):
                source["path"] = places.sources.get(at, "")
        if places.folder:
            data["path"] = places.folder
        if places.weights:
            if backbone.get("weights") != LOCAL:
                raise EnrolmentError(
                    "this study names its weights; they are not taken from a file",
                    where=where,
                    remedy="Leave the path of weights out",
                )
            backbone["weights"] = places.weights
    own["device"] = places.device
    try:
        study = parse_study(own, where=_NOWHERE)
    except StudyFileError as error:
        raise EnrolmentError(
            f"the study cannot be read: {error.what}", where=where, remedy="Use the same version of Wardround"
        ) from None
    if study.digest() != study_hash:
        raise EnrolmentError(
            "the study is not the one that its hash names",
            where=where,
            remedy="Do not use the file. Ask the coordinator, and check that both sides have the same version",
        )
    if portable(study) != dict(values):
        raise EnrolmentError(
            "the study holds more than its hash covers, which could be changed unseen",
            where=where,
            remedy="Do not use the file. Ask the coordinator why",
        )
    return study


def needs_weights(study: Study) -> bool:
    """Whether each machine must say where its weights are, and this study does not yet."""
    return study.backbone.weights == LOCAL


def check_invitable(study: Study) -> None:
    """Refuse a study that cannot be carried to other machines.

    Raises:
        StudyFileError: says which key, and what to write instead.
    """
    check_deployable(study)
    if not _FINGERPRINT.fullmatch(study.backbone.fingerprint):
        raise StudyFileError(
            "the study does not pin its backbone",
            where="backbone.fingerprint",
            remedy="Ask the coordinator to found the consortium with: wardround consortium new",
        )
    for at, source in enumerate(study.data.sources):
        table = PurePosixPath(source.labels)
        if table.is_absolute() or ".." in table.parts or source.labels.startswith("~"):
            raise StudyFileError(
                f"the table {source.labels!r} lies outside the folder of its images",
                where=f"data.sources.{at}.labels",
                remedy="Name a file inside it: a study must not say what else is read on a hospital's machine",
            )

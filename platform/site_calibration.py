"""A site's own calibration: fitted on its validation images, kept beside its report, applied by ``predict --site``.

The file says which adapter it was fitted for, because a temperature of one model says nothing of another. It never
leaves the site: thresholds are scores of single validation images.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from ..evaluation.calibration.calibrator import Calibrator
from ..evaluation.calibration.fitting import fit_calibrator
from ..evaluation.errors import EvaluationError
from ..privacy.atomic import canonical_json, make_private, write_json
from .config import NAME, Study
from .errors import CheckpointError, RunFolderError
from .run_folder import RunFolder

FILE_NAME = "calibration.json"
CHECKSUM = "calibration_sha256"
_KEYS = {"site", "study_hash", "adapter_sha256", "calibration", CHECKSUM}


def fit_site(
    study: Study,
    validation_logits: ArrayLike,
    labels: ArrayLike,
    groups: Sequence[str],
    *,
    federated_temperature: float | None = None,
    own_temperature: bool | None = None,
) -> Calibrator:
    """A site's calibration as the study asks for it.

    Args:
        study: with ``calibration.site``, ``evaluation.coverage``, ``evaluation.abstain_risk`` and
            ``evaluation.abstain_below``.
        validation_logits: (n, K), as trained, of the model that answers with this calibration.
        labels: (n,). groups: n group names.
        federated_temperature: used where the site's own cannot be fitted; None without.
        own_temperature: whether the model carries a temperature of its own; None: where the study trains one.
    """
    trained = study.calibration.method == "federated-head" if own_temperature is None else own_temperature
    return fit_calibrator(
        study.calibration.site,
        validation_logits,
        labels,
        groups,
        coverage=study.evaluation.coverage,
        risk=study.evaluation.abstain_risk or None,
        abstain_below=study.evaluation.abstain_below,
        federated_temperature=federated_temperature,
        own_temperature=trained,
    )


def calibration_file(run: RunFolder, site: str) -> Path:
    """Where a site's calibration lies: RUN/sites/<site>/calibration.json."""
    return run.site(site) / FILE_NAME


def write_site_calibration(
    run: RunFolder, site: str, calibrator: Calibrator, *, study_hash: str, adapter_sha256: str
) -> Path:
    """Write a site's calibration whole or not at all, mode 0600; the folder is made where it is missing.

    Args:
        study_hash: :meth:`.Study.digest`. adapter_sha256: hash of the adapter file whose logits it was fitted on.
    """
    content = {
        "site": site,
        "study_hash": study_hash,
        "adapter_sha256": adapter_sha256,
        "calibration": calibrator.to_dict(),
    }
    path = calibration_file(run, site)
    make_private(path.parent)
    write_json(path, {**content, CHECKSUM: _checksum(content)})
    return path


def read_site_calibration(run: RunFolder, site: str, *, study_hash: str, adapter_sha256: str) -> Calibrator:
    """A site's calibration, for this adapter.

    Raises:
        RunFolderError: there is no such site, or it has no calibration.
        CheckpointError: the file is damaged or was edited, or belongs to another site, study or adapter.
    """
    path = calibration_file(run, site)
    if not NAME.fullmatch(site) or not path.is_file():
        raise RunFolderError(
            f"there is no calibration of a site '{site}' in this run",
            where=str(run.root),
            remedy=_instead(calibrated_sites(run)),
        )
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        # The parts must be there before their hash is worth comparing: a foreign JSON file has neither.
        whole = set(content) == _KEYS and content[CHECKSUM] == _checksum(content)
        calibrator = Calibrator.from_dict(content["calibration"]) if whole else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EvaluationError):
        calibrator = None
    if calibrator is None:
        raise CheckpointError(
            "the site's calibration is damaged, or was edited",
            where=str(path),
            remedy="Restore it from a backup, or run again",
        )
    expected = {"site": site, "study_hash": study_hash, "adapter_sha256": adapter_sha256}
    foreign = [key.split("_")[0] for key, value in expected.items() if content[key] != value]
    if foreign:
        raise CheckpointError(
            f"the site's calibration belongs to another {' and another '.join(foreign)}",
            where=str(path),
            remedy="Restore model and calibration from one backup, or run again",
        )
    return calibrator


def calibrated_sites(run: RunFolder) -> tuple[str, ...]:
    """Sites of a run that have a calibration, in order of their names."""
    return tuple(sorted(path.parent.name for path in (run.root / "sites").glob(f"*/{FILE_NAME}")))


def _instead(sites: Sequence[str]) -> str:
    if not sites:
        return "Leave --site out: no site has a calibration of its own here"
    return f"Name one of these sites: {', '.join(sites)}"


def _checksum(content: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON without the checksum itself."""
    return hashlib.sha256(canonical_json({k: v for k, v in content.items() if k != CHECKSUM})).hexdigest()

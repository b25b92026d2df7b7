"""A site's calibration follows its study, and its file is whole, private and for one adapter, or refused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from wardround.evaluation.calibration.calibrator import Calibrator
from wardround.evaluation.calibration.fitting import fit_calibrator
from wardround.platform.config import Study
from wardround.platform.errors import CheckpointError, RunFolderError
from wardround.platform.run_folder import RunFolder
from wardround.platform.site_calibration import (
    calibrated_sites,
    calibration_file,
    fit_site,
    read_site_calibration,
    write_site_calibration,
)

IDS = {"study_hash": "ab" * 32, "adapter_sha256": "cd" * 32}


def validation(n: int = 200) -> tuple[np.ndarray, np.ndarray, list[str]]:
    generator = np.random.default_rng(2)
    y = generator.integers(0, 3, size=n)
    return 4 * (generator.normal(size=(n, 3)) + 2 * np.eye(3)[y]), y, [f"patient {k // 2}" for k in range(n)]


@pytest.mark.parametrize("kind", ["temperature", "vector", "isotonic"])
def test_it_is_fitted_as_the_study_says(toy_study: Callable[..., Study], kind: Any) -> None:
    evaluation = {"coverage": 0.8, "abstain_risk": 0.2, "abstain_below": 0.45}
    study = toy_study(calibration={"site": kind}, evaluation=evaluation)
    z, y, groups = validation()
    found = fit_site(study, z, y, groups)
    assert found == fit_calibrator(kind, z, y, groups, coverage=0.8, risk=0.2, abstain_below=0.45)
    assert (found.kind, found.source) == (kind, "site")
    assert found.sets is not None
    assert found.sets.nominal == 0.8


def test_a_study_without_a_risk_keeps_its_threshold(toy_study: Callable[..., Study]) -> None:
    z, y, groups = validation()
    found = fit_site(toy_study(evaluation={"abstain_below": 0.45}), z, y, groups)
    assert (found.abstain_below, found.abstain_risk, found.risk_reached) == (0.45, None, False)
    few = fit_site(toy_study(), z[:5], y[:5], groups[:5], federated_temperature=3.0)
    assert (few.source, few.parameters) == ("federated", 3.0)


def test_a_model_with_its_own_temperature_gets_none(toy_study: Callable[..., Study]) -> None:
    z, y, groups = validation()
    study = toy_study(calibration={"method": "federated-head"})
    for found in (fit_site(study, z, y, groups), fit_site(toy_study(), z, y, groups, own_temperature=True)):
        assert (found.kind, found.source, found.parameters) == ("none", "model", None)
    assert fit_site(study, z, y, groups, own_temperature=False).kind == "temperature"


@pytest.fixture
def made(toy_study: Callable[..., Study], tmp_path: Path) -> tuple[RunFolder, Calibrator, Path]:
    run = RunFolder(tmp_path / "run")
    calibrator = fit_site(toy_study(calibration={"site": "isotonic"}), *validation(300))
    assert calibrator.kind == "isotonic"
    return run, calibrator, write_site_calibration(run, "alder", calibrator, **IDS)


def test_the_file_gives_back_exactly_what_was_written(made: tuple[RunFolder, Calibrator, Path]) -> None:
    run, calibrator, path = made
    assert path == calibration_file(run, "alder") == run.root / "sites" / "alder" / "calibration.json"
    assert read_site_calibration(run, "alder", **IDS) == calibrator
    assert os.stat(path).st_mode & 0o777 == 0o600
    before = path.read_bytes()
    write_site_calibration(run, "alder", calibrator, **IDS)
    assert path.read_bytes() == before
    assert calibrated_sites(run) == ("alder",)
    assert [each.name for each in path.parent.iterdir()] == ["calibration.json"]


@pytest.mark.parametrize("key", ["site", "study_hash", "adapter_sha256", "calibration", "calibration_sha256", "more"])
def test_an_edited_file_is_refused(made: tuple[RunFolder, Calibrator, Path], key: str) -> None:
    run, _, path = made
    content = json.loads(path.read_bytes())
    if key == "calibration":
        content[key]["abstain_below"] = 0.1
    else:
        content[key] = "0" * 64
    path.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="damaged, or was edited") as caught:
        read_site_calibration(run, "alder", **IDS)
    assert caught.value.where == str(path)
    assert "backup" in caught.value.remedy


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b"null"])
def test_what_is_no_calibration_is_refused(made: tuple[RunFolder, Calibrator, Path], content: bytes) -> None:
    run, _, path = made
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged, or was edited"):
        read_site_calibration(run, "alder", **IDS)


def test_every_torn_file_is_refused(made: tuple[RunFolder, Calibrator, Path]) -> None:
    run, _, path = made
    whole = path.read_bytes().rstrip()
    for length in range(0, len(whole), max(1, len(whole) // 40)):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="damaged, or was edited"):
            read_site_calibration(run, "alder", **IDS)


def test_a_file_of_another_site_study_or_adapter_is_refused(made: tuple[RunFolder, Calibrator, Path]) -> None:
    run, _, path = made
    for key, what in (("study_hash", "another study"), ("adapter_sha256", "another adapter")):
        with pytest.raises(CheckpointError, match=what):
            read_site_calibration(run, "alder", **(IDS | {key: "0" * 64}))
    path.parent.rename(run.site("birch"))
    with pytest.raises(CheckpointError, match="another site"):
        read_site_calibration(run, "birch", **IDS)


@pytest.mark.parametrize("site", ["cedar", "", "../alder", "../../etc", "Alder", "/etc"])
def test_a_site_without_a_calibration_is_named(made: tuple[RunFolder, Calibrator, Path], site: str) -> None:
    run, _, _ = made
    with pytest.raises(RunFolderError, match="no calibration of a site") as caught:
        read_site_calibration(run, site, **IDS)
    assert caught.value.remedy == "Name one of these sites: alder"
    with pytest.raises(RunFolderError, match="no calibration of a site") as caught:
        read_site_calibration(RunFolder(run.root / "other"), site, **IDS)
    assert "Leave --site out" in caught.value.remedy

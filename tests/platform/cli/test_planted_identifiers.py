"""Identifiers planted in DICOM tags, file names and table columns are in no file that a study leaves behind."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from wardround.medical_datasets.errors import SplitError
from wardround.medical_datasets.readers.dicom import patient_group
from wardround.platform.compare import runner

from ...medical_datasets.readers.dicom_files import dataset, write
from ..canaries import Detector

SITES = ("alder", "birch", "cedar")
CLASSES = ("benign", "malignant")
PATIENTS = 14
STUDY = """name = "planted"
rounds = 1
method = "fedclip"
[data]
dataset = "{dataset}"
path = "{path}"
classes = ["benign", "malignant"]
[sites]
partition = "column"
unseen = ""
[reference]
source = "none"
"""


@dataclass
class Planted:
    """A folder of real-looking data, and every string in it that could name a patient."""

    root: Path
    strings: set[str]

    def detector(self) -> Detector:
        found = Detector()
        for text in sorted(self.strings):
            found.add_text(text, text)
        return found


def _shade(seed: int, label: str) -> np.ndarray[Any, np.dtype[np.uint16]]:
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:40, :40]
    disc = 3000 * np.exp(-((y - draw.integers(12, 28)) ** 2 + (x - draw.integers(12, 28)) ** 2) / 60)
    noise = np.asarray(Image.fromarray(draw.integers(0, 255, (6, 6), dtype=np.uint8)).resize((40, 40)), dtype=float)
    return (noise * 4 + (disc if label == "malignant" else 0)).astype(np.uint16)


def _people(strings: set[str]) -> list[dict[str, str]]:
    people = []
    for number, site in enumerate(SITES):
        for at in range(PATIENTS):
            tag = f"{number}{at:02d}"
            person = {
                "name": f"QUASIMODOVICH{tag}^ESMERALDA{tag}",
                "id": f"MRNXQ-77{tag}-PLANTED",
                "file": f"scan_of_quasimodovich_{tag}_1931-02-{at + 1:02d}",
                "note": f"plantednote{tag} telephone 030-5550{tag}",
            }
            strings |= set(person.values())
            people.append({**person, "site": site, "label": CLASSES[at % 2], "seed": str(1000 * number + at)})
    return people


def plant_dicom(folder: Path) -> Planted:
    """One file a patient, everything of the patient in its tags, its name and the table."""
    planted = Planted(folder / "archive", set())
    rows = []
    for person in _people(planted.strings):
        pixels = _shade(int(person["seed"]), person["label"])
        institution = f"plantedhospital{person['seed']}ward"
        accession = f"AC{sha256(person['seed'].encode()).hexdigest()[:12]}"
        planted.strings |= {institution, patient_group(person["id"]).partition(":")[2]}
        made = dataset(
            pixels,
            bits=12,
            Modality="CR",
            PatientName=person["name"],
            PatientID=person["id"],
            PatientBirthDate="19310217",
            InstitutionName=institution,
            ImageComments=person["note"],
            AccessionNumber=accession,
        )
        planted.strings |= {str(made.SOPInstanceUID), str(made.StudyInstanceUID), accession}
        made.add_new(0x00091010, "LO", f"private-{person['id']}")
        write(made, planted.root / f"{person['file']}.dcm")
        rows.append(
            {"path": f"{person['file']}.dcm", **{key: person[key] for key in ("label", "site", "name", "note")}}
        )
    _table(planted.root / "labels.csv", rows)
    return planted


def plant_csv(folder: Path) -> Planted:
    """Ordinary pictures with a table that has the patients' identifiers in columns."""
    planted = Planted(folder / "archive", set())
    planted.root.mkdir()
    rows = []
    for person in _people(planted.strings):
        pixels = (_shade(int(person["seed"]), person["label"]) / 16).astype(np.uint8)
        Image.fromarray(pixels).save(planted.root / f"{person['file']}.png")
        keys = ("label", "site", "name", "note")
        source = f"Waldtraut {person['seed']} of ward nine"
        planted.strings.add(source)
        told = {"patient_id": person["id"], "source": source, **{key: person[key] for key in keys}}
        rows.append({"path": f"{person['file']}.png", **told})
    _table(planted.root / "labels.csv", rows)
    return planted


def _table(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _leave_failures(
    compared: Path, study: Path, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Let cells fail whose errors name a patient: in what, where and remedy, and in an error that is none of ours."""

    def failing(study: Any, *rest: Any) -> Any:
        if study.method == "lora":
            raise RuntimeError(f"no memory for {name}")
        raise SplitError(f"{name} is on two sides", where=f"/archive/{name}.dcm", remedy=f"Ask {name}")

    monkeypatch.setattr(runner, "run_cell", failing)
    # A cell as earlier versions left it, with names of groups.
    (older,) = compared.glob("cells/fedclip*/cell.json")
    record = json.loads(older.read_bytes())
    for answer in record["result"]["answers"]["sites"].values():
        answer["groups"] = [f"patient_id:{name}-{number}" for number in answer["groups"]]
    older.write_text(json.dumps(record))
    ended = cli("compare", study, "--methods", "zero-shot,local-only,fedclip,lora,prompt-fl", "--out", compared)
    assert ended.code == 1
    assert name in ended.err  # on the terminal it is said
    assert name not in ended.out
    assert len(list(compared.rglob("failed.json"))) == 2


@pytest.mark.parametrize(("key", "plant"), [("dicom-folder", plant_dicom), ("csv", plant_csv)])
def test_no_identifier_is_in_any_file_that_a_study_leaves(
    cli: Callable[..., Any],
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
    plant: Callable[[Path], Planted],
) -> None:
    planted = plant(tmp_path)
    detector = planted.detector()
    study, run, own = tmp_path / "study.toml", tmp_path / "run", tmp_path / "cache"
    study.write_text(STUDY.format(dataset=key, path=planted.root))
    monkeypatch.setenv("WARDROUND_CACHE", str(own))
    for words in (
        ("run", study, "--out", run),
        ("report", "build", run),
        ("report", "cases", run, "--site", "alder", "--maps", "0"),
        ("audit", "export", run, "--format", "csv", "--out", tmp_path / "export.csv"),
        ("audit", "export", run, "--format", "fhir", "--out", tmp_path / "export.json"),
        ("data", "split", study, "--out", tmp_path / "split.json"),
        ("compare", study, "--methods", "zero-shot,local-only,fedclip", "--out", tmp_path / "compared"),
    ):
        ended = cli(*words)
        assert ended.code == 0, ended.err
        assert [find.what for find in detector.search((ended.out + ended.err).encode())] == [], words
    _leave_failures(tmp_path / "compared", study, cli, monkeypatch, sorted(planted.strings)[0])
    left = [path for folder in (run, own, tmp_path / "compared") for path in folder.rglob("*") if path.is_file()]
    for name in ("cell.json", "failed.json", "index.html"):
        assert any(path.name == name for path in left), name
    left += [tmp_path / "export.csv", tmp_path / "export.json", tmp_path / "split.json"]
    assert len(left) > 40
    assert any(path.is_relative_to(own) for path in left)
    for path in left:
        assert [find.what for find in detector.search(path.read_bytes())] == [], path
        assert [find.what for find in detector.search(str(path.relative_to(tmp_path)).encode())] == [], path
    # The search is not blind: the table has them all.
    table = detector.search((planted.root / "labels.csv").read_bytes())
    assert table

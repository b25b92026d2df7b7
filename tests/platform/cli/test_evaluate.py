"""``wardround evaluate`` as a person and a script call it."""

from __future__ import annotations

import csv
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, log_loss, roc_auc_score
from wardround.evaluation.figures.twins import from_json

Cli = Callable[..., Any]
CLASSES = ("benign", "malignant", "other")
M = {
    "n",
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "macro_auroc",
    "ece",
    "classwise_ece",
    "brier",
    "nll",
    "temperature",
}


def table(path: Path, n: int = 96, *, part: str = "", classes: int = 3, delimiter: str = ",") -> Path:
    """Predictions of 2 images a patient, at two sites, with a column of sex that is not recorded for some."""
    generator = np.random.default_rng(5)
    labels = np.repeat(generator.integers(0, classes, n // 2), 2)
    logits = np.round(2.0 * generator.normal(size=(n, 3)) + 2.5 * np.eye(3)[labels], 3)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    head = ["label", *(f"prob_{name}" for name in CLASSES), "patient", "site", "sex", *(["split"] if part else [])]
    lines = [delimiter.join(head)]
    for i, y in enumerate(labels):
        cells = [CLASSES[y], *map(repr, map(float, p[i])), f"p{i // 2}", ("north", "south")[i // 48 % 2]]
        cells += [("female", "male", "")[i // 2 % 3], *([("validation", "test")[i // 2 % 2]] if part else [])]
        lines.append(delimiter.join(cells))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    return table(tmp_path / "predictions.csv")


def test_for_people(cli: Cli, predictions: Path) -> None:
    ended = cli("evaluate", predictions, "--groups", "patient", "--subgroups", "sex")
    assert ended.code == 0, ended.err
    assert "Traceback" not in ended.err
    for words in (
        "predictions.csv · 96 images in 48 of 'patient', 3 classes · research use, not for diagnosis",
        "balanced accuracy",
        "macro AUROC",
        "calibration, as given",
        "perfect calibration stays under",
        "Brier (0 to 2)",
        "NLL (nats)",
        "malignant",
        "not recorded",
        "sex: not recorded for 32 of 96 images",
        "south",
    ):
        assert words in ended.out
    assert "every image counts as its own patient" not in ended.out


def test_for_scripts_and_twice_the_same(cli: Cli, predictions: Path) -> None:
    ended = cli("evaluate", predictions, "--json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert set(found) == M | {"intervals", "classes", "source", "notes", "figures"}
    rows = [line.split(",") for line in predictions.read_text().splitlines()[1:]]
    y = np.array([CLASSES.index(row[0]) for row in rows])
    p = np.array([[float(cell) for cell in row[1:4]] for row in rows])
    expected = {
        "n": 96,
        "accuracy": accuracy_score(y, p.argmax(axis=1)),
        "balanced_accuracy": balanced_accuracy_score(y, p.argmax(axis=1)),
        "macro_f1": f1_score(y, p.argmax(axis=1), average="macro"),
        "macro_auroc": np.mean([roc_auc_score(y == k, p[:, k]) for k in range(3)]),
        "brier": ((p - np.eye(3)[y]) ** 2).sum(axis=1).mean(),
        "nll": log_loss(y, p),
    }
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, abs=1e-9), key
    assert found["temperature"] is None
    assert found["classes"] == list(CLASSES)
    interval = found["intervals"]["balanced_accuracy"]
    assert interval["low"] < found["balanced_accuracy"] < interval["high"]
    assert interval["n_groups"] == 96
    assert found["figures"]["balanced_accuracy"]["value"] == found["balanced_accuracy"]
    assert "every image counts as its own patient" in found["notes"][0]
    assert "Columns that were not used: patient, sex." in found["notes"]
    assert cli("evaluate", predictions, "--json").out == ended.out


def test_a_page_with_its_twins(cli: Cli, predictions: Path) -> None:
    out = predictions.with_name("report.html")
    before = predictions.read_bytes()
    written = []
    for _ in range(2):
        ended = cli("evaluate", predictions, "--groups", "patient", "--html", out)
        assert ended.code == 0, ended.err
        written.append({path.name: path.read_bytes() for path in predictions.parent.iterdir()})
    assert written[0] == written[1]
    assert set(written[0]) == {"predictions.csv", "report.html", "report.json", "report.csv"}
    assert predictions.read_bytes() == before
    for path in (out, out.with_suffix(".json"), out.with_suffix(".csv")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert f"Written: {path}" in ended.out
    page = out.read_text()
    assert "Evaluation of predictions.csv" in page
    assert "<script" not in page
    assert str(predictions.parent) not in page
    twin = from_json(out.with_suffix(".json").read_bytes())
    assert (twin.n, twin.n_groups, twin.group_key) == (96, 48, "patient")
    rows = list(csv.DictReader(out.with_suffix(".csv").read_text(encoding="utf-8").splitlines()))
    assert {row["model"] for row in rows} == {"predictions.csv"}
    found = {row["figure"]: row["value"] for row in rows if row["section"] == "overview"}
    assert float(found["balanced_accuracy"]) == twin.balanced_accuracy.value


def test_validation_rows_give_a_temperature(cli: Cli, tmp_path: Path) -> None:
    found = json.loads(cli("evaluate", table(tmp_path / "p.csv", part="split", delimiter=";"), "--json").out)
    assert found["n"] == 48
    assert found["source"]["rows"] == 96
    assert found["temperature"] > 0
    assert found["figures"]["after"]["label"] == f"temperature {found['temperature']:.3f}, fitted on validation rows"
    assert found["nll"] == found["figures"]["after"]["nll"]["value"]
    assert found["nll"] != found["figures"]["before"]["nll"]["value"]


def test_what_cannot_be_known_is_null(cli: Cli, tmp_path: Path) -> None:
    path = table(tmp_path / "p.csv", 2, classes=1)
    found = json.loads(cli("evaluate", path, "--json").out)
    assert (found["n"], found["balanced_accuracy"], found["macro_auroc"]) == (2, None, None)
    assert (found["accuracy"], found["intervals"]["accuracy"]["note"]) == (None, "too few groups")
    assert np.array(found["figures"]["confusion"]).sum() == 2
    people = cli("evaluate", path)
    assert people.code == 0
    assert "No image is of: malignant, other." in people.out


def test_a_faulty_file_is_explained(cli: Cli, predictions: Path) -> None:
    lines = predictions.read_text().splitlines()
    lines[7] = lines[7].replace(lines[7].split(",")[2], "nan")
    predictions.write_text("\n".join(lines))
    cli("evaluate", predictions).assert_explains("'nan', not a number", "line 8, column 'prob_malignant'")
    cli("evaluate", predictions.with_name("none.csv")).assert_explains("no such file", "none.csv")
    cli("evaluate", predictions, "--groups", "patiend").assert_explains("'patiend'", "Did you mean 'patient'?")
    cli("evaluate", predictions, "--subgroups", "sex", "--subgroups", "sex").assert_explains("asked for twice")


def test_where_a_page_may_not_go(cli: Cli, predictions: Path) -> None:
    folder = predictions.parent
    before = predictions.read_bytes()
    none = folder / "none.csv"  # what is said of OUT is said before the predictions are looked at
    cli("evaluate", none, "--html", folder / "no" / "x.html").assert_explains("no such folder", str(folder / "no"))
    cli("evaluate", none, "--html", folder).assert_explains("this is a folder")
    cli("evaluate", none, "--html", folder / "x.csv").assert_explains("the name of the CSV", "ends in .html")
    for out in ("predictions.html", "predictions"):
        cli("evaluate", predictions, "--html", folder / out).assert_explains(
            "written over the predictions", "predictions.csv", "predictions-report.html"
        )
    (folder / "link.html").symlink_to(predictions)
    cli("evaluate", predictions, "--html", folder / "link.html").assert_explains("over the predictions")
    (folder / "other.json").write_text("mine")
    cli("evaluate", predictions, "--html", folder / "other.html").assert_explains("not written over", "other.json")
    assert predictions.read_bytes() == before
    assert (folder / "other.json").read_text() == "mine"


def test_wrong_usage(cli: Cli, predictions: Path) -> None:
    assert cli("evaluate").code == 2
    assert cli("evaluate", predictions, "--group", "patient").code == 2

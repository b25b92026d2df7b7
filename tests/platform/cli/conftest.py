"""The command line as a person calls it, and one finished run that tests only read."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from wardround.platform.cli import app as app_module
from wardround.platform.demo_study import demo_study_values
from wardround.platform.study_file import dump_study, parse_study

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")
ROUNDS = 6


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    def assert_explains(self, *words: str) -> None:
        """Exit code 1, nothing on standard output, three lines on standard error, no traceback."""
        assert self.code == 1, self.err
        assert self.out == ""
        assert "error: " in self.err
        assert "where: " in self.err
        assert "do:    " in self.err
        assert "Traceback" not in self.err
        assert "internal error" not in self.err
        for word in words:
            assert word in self.err, self.err


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, cache: Path) -> Callable[..., Ended]:
    """``cli("run", ...)``: through the real entry point, in this process."""
    monkeypatch.setenv("WARDROUND_CACHE", str(cache))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv(app_module.DEBUG_VARIABLE, "0")

    def call(*words: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["wardround", *map(str, words)])
        capfd.readouterr()
        try:
            app_module.main()
            code: Any = 0
        except SystemExit as leaving:
            code = leaving.code or 0
        out, err = capfd.readouterr()
        return Ended(int(code), out, err)

    return call


@pytest.fixture(scope="session")
def phantom_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study file of three small phantom sites and an unseen one."""
    values = demo_study_values("brain", method="facmic", sites=3, rounds=ROUNDS, seed=3)
    values["data"]["images_per_site"] = 24
    path = tmp_path_factory.mktemp("study") / "phantoms.toml"
    path.write_text(dump_study(parse_study(values, where=path)))
    return path


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, phantom_study: Path, cache: Path) -> Path:
    """A finished run of ``phantom_study``, made once through the real entry point."""
    out = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WARDROUND_CACHE", str(cache))
        patch.setattr(sys, "argv", ["wardround", "run", str(phantom_study), "--out", str(out)])
        with contextlib.suppress(SystemExit):  # the summary below says whether the run went well
            app_module.main()
    assert json.loads((out / "summary.json").read_bytes())["rounds"] == ROUNDS
    return out


def picture(path: Path, seed: int) -> Path:
    """A smooth grey picture that looks like no other."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 256, size=(6, 6), dtype=np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse.resize((64, 64), Image.Resampling.BICUBIC).convert("RGB").save(path)
    return path


@pytest.fixture
def images(tmp_path: Path) -> Callable[..., Path]:
    """``images(per_class)``: a folder of class folders with small pictures."""

    def make(per_class: int = 2) -> Path:
        root = tmp_path / "images"
        for label, name in enumerate(CLASSES):
            for index in range(per_class):
                picture(root / name / f"{index:03d}.png", 1000 * label + index)
        return root

    return make


@pytest.fixture
def study_file(tmp_path: Path) -> Callable[..., Path]:
    """``study_file(text)``: a study of ``images/`` beside it, with more lines in it."""

    def make(extra: str = "", *, head: str = "", path: str = "images") -> Path:
        file = tmp_path / "study.toml"
        file.write_text(
            f'name = "small"\nrounds = 1\n{head}\n[data]\ndataset = "brain-mri"\npath = "{path}"\n{extra}\n'
        )
        return file

    return make

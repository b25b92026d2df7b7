"""What the documents promise: every study key, every example study, the two commands."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel
from wardround.platform.config import Study
from wardround.platform.faults_section import FaultsSection, Lie, ShareFault, Stage
from wardround.platform.study_file import load_study, parse_study

ROOT = Path(__file__).parent.parent


def study_keys() -> list[tuple[str, str]]:
    keys = []
    for name, field in Study.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            keys += [(f"[{name}]", key) for key in inner.model_fields]
        else:
            keys.append(("Top level", name))
    return keys


def test_every_study_key_is_documented_with_its_meaning() -> None:
    text = (ROOT / "docs" / "study.md").read_text()
    sections = {title.strip(): body for title, body in re.findall(r"^## (.+?)$(.*?)(?=^## |\Z)", text, re.M | re.S)}
    for section, key in study_keys():
        model = Study if section == "Top level" else Study.model_fields[section.strip("[]")].annotation
        meaning = model.model_fields[key].description  # type: ignore[union-attr]
        row = next((line for line in sections[section].splitlines() if line.startswith(f"| `{key}` |")), None)
        assert row is not None, f"docs/study.md has no row for {section} {key}"
        assert row.rstrip().endswith(f"| {meaning} |"), f"docs/study.md says something else of {section} {key}"


def test_documented_keys_exist() -> None:
    text = (ROOT / "docs" / "study.md").read_text()
    known = {key for _, key in study_keys()}
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.M)) <= known


def test_the_faults_of_the_document_are_one_of_each_kind_and_valid() -> None:
    text = (ROOT / "docs" / "study.md").read_text()
    (shown,) = [block for block in re.findall(r"^```toml$(.*?)^```$", text, re.M | re.S) if "[faults]" in block]
    values = {"name": "shown", "data": {"dataset": "brain-mri", "path": "nowhere"}, **tomllib.loads(shown)}
    faults = parse_study(values, where=Path("/study.toml")).faults
    assert [len(getattr(faults, kind)) for kind in FaultsSection.model_fields] == [1, 1, 1, 1]
    for what, key in (("stage", Stage), ("kind", ShareFault.model_fields["kind"].annotation), ("lie", Lie)):
        assert [value for value in get_args(key) if f"`{value}`" not in text] == [], what


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "studies").glob("*.toml")), ids=lambda path: path.stem)
def test_example_studies_are_valid(path: Path) -> None:
    assert load_study(path).name == path.stem


@pytest.mark.parametrize("command", ["make demo", "make test"])
def test_readme_shows_the_two_commands(command: str) -> None:
    assert command in (ROOT / "README.md").read_text()


def test_links_between_documents_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    broken = []
    for page in pages:
        for target in re.findall(r"\]\(([^)#\s]+)\)", page.read_text()):
            if "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)} -> {target}")
    assert broken == []

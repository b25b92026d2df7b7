"""What the documents promise: every study key, every example study, the two commands."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel
from wardround.medical_datasets.catalog import DATASETS
from wardround.platform.config import Study
from wardround.platform.data_sections import SourceSection
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


def study_rows() -> list[tuple[str, Any, str | None]]:
    """Every key as section and name, its field, and its row in the document."""
    text = (ROOT / "docs" / "study.md").read_text()
    sections = {title.strip(): body for title, body in re.findall(r"^## (.+?)$(.*?)(?=^## |\Z)", text, re.M | re.S)}
    found = []
    for section, key in study_keys():
        model: Any = Study if section == "Top level" else Study.model_fields[section.strip("[]")].annotation
        lines = sections.get(section, "").splitlines()
        row = next((line.rstrip() for line in lines if line.startswith(f"| `{key}` |")), None)
        found.append((f"{section} {key}", model.model_fields[key], row))
    return found


def test_every_study_key_is_documented_with_its_meaning() -> None:
    for key, field, row in study_rows():
        assert row is not None, f"docs/study.md has no row for {key}"
        assert row.endswith(f"| {field.description} |"), f"docs/study.md says something else of {key}"


def test_documented_defaults_are_the_defaults() -> None:
    for key, field, row in study_rows():
        assert row is not None
        stated = row.split(" | ")[2].strip()
        if field.is_required():
            assert stated == "required", key
            continue
        default = field.get_default(call_default_factory=True)
        written = tomllib.loads(f"x = {stated.strip('`')}")["x"]
        assert written == (list(default) if isinstance(default, tuple) else default), key
        assert type(written) is (list if isinstance(default, tuple) else type(default)), key


def test_documented_values_are_all_that_are_allowed() -> None:
    for key, field, row in study_rows():
        assert row is not None
        stated = row.split(" | ")[1].strip()
        if get_origin(field.annotation) is Literal:
            options = get_args(field.annotation)
            choices = [f'`"{value}"`' if isinstance(value, str) else f"`{value}`" for value in options]
            assert stated == " or ".join(choices), key
        for limit in field.metadata:
            for name, sign in (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<")):
                if hasattr(limit, name):
                    bounds = re.findall(rf"(?<![<>]){sign} (-?[0-9.e+-]+)", stated)
                    assert [float(bound.rstrip(",")) for bound in bounds] == [float(getattr(limit, name))], key


def test_documented_keys_exist() -> None:
    text = (ROOT / "docs" / "study.md").read_text()
    known = {key for _, key in study_keys()}
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.M)) <= known
    assert set(re.findall(r"^\| `sources\.(\w+)` \|", text, re.M)) == set(SourceSection.model_fields)


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


@pytest.mark.parametrize("command", ["make demo", "make test", "make consortium-demo"])
def test_readme_shows_the_commands(command: str) -> None:
    assert command in (ROOT / "README.md").read_text()


def test_links_between_documents_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    broken = []
    for page in pages:
        for target in re.findall(r"\]\(([^)#\s]+)\)", page.read_text()):
            if "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)} -> {target}")
    assert broken == []


def test_every_data_set_is_in_the_table_of_the_document() -> None:
    text = (ROOT / "docs" / "datasets.md").read_text()
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    named = {key for cell in rows for key in re.findall(r"`([\w-]+)`", cell)}
    assert set(DATASETS) <= named

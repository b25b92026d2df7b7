"""Study files: read, explained, written out whole, read back equal."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from wardround.platform.config import METHOD_TABLES, MethodName, Study
from wardround.platform.errors import StudyFileError
from wardround.platform.study_file import dump_study, load_study, parse_study

SMALLEST = 'name = "toy"\n[data]\ndataset = "brain-mri"\npath = "pictures"\n'
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
FRACTIONS = st.floats(0.0, 1.0, exclude_min=True, exclude_max=True)


def write(folder: Path, text: str) -> Path:
    path = folder / "study.toml"
    path.write_text(text, encoding="utf-8")
    return path


def fault(folder: Path, text: str) -> StudyFileError:
    with pytest.raises(StudyFileError) as caught:
        load_study(write(folder, text))
    return caught.value


def test_the_path_is_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_study(write(tmp_path, SMALLEST)).data.path == str(tmp_path / "pictures")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    home = SMALLEST.replace("pictures", "~/pictures")
    assert load_study(write(tmp_path, home)).data.path == str(tmp_path / "home" / "pictures")


@pytest.mark.parametrize("path", ["~nobody-of-this-name/x", "a\\u0000b"])
def test_what_is_no_path_is_named(tmp_path: Path, path: str) -> None:
    assert "data.path" in fault(tmp_path, SMALLEST.replace("pictures", path)).what


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("[trainig]\nlr = 1e-3", "unknown key 'trainig'; did you mean 'training'?"),
        ("[training]\nbatchsize = 8", "unknown key 'training.batchsize'; did you mean 'batch_size'?"),
        ("[secure_aggregation]\ntreshold = 3", "unknown key 'secure_aggregation.treshold'; did you mean 'threshold'?"),
        ("[sites]\nzzzzzz = 1", "unknown key 'sites.zzzzzz'; known here: partition, count, alpha, unseen"),
        (
            "[fedclip]\ndepth = 8",
            "unknown key 'fedclip.depth'; fedclip has no option 'depth'; facmic and faa_clip have it",
        ),
        (
            "[facmic]\ndomain_classifier = 'shared'",
            "unknown key 'facmic.domain_classifier'; facmic has no option 'domain_classifier'; faa_clip has it",
        ),
        (
            "[lora]\nloss = 'in-batch'",
            "unknown key 'lora.loss'; lora has no option 'loss'; fedclip, facmic and faa_clip have it",
        ),
        ("[facmic]\ndpeth = 8", "unknown key 'facmic.dpeth'; did you mean 'depth'?"),
        ("[training]\ndepth = 8", "unknown key 'training.depth'; did you mean 'eps'?"),
        ("method = 'facmik'", "did you mean 'facmic'?"),
        ("[facmic]\nnormalisation = 'batch_local'", "did you mean 'batch-local'?"),
        ("[server]\noptimiser = 'fedavg'", "did you mean 'fedavgm'?"),
        ("[reference]\nsource = 'fractoin'", "did you mean 'fraction'?"),
        ("[reference]\nsource = 'non'", "did you mean 'none'?"),
        ("[sites]\npartition = 'Dirichlet'", "did you mean 'dirichlet'?"),
        ("[training]\nlr = 'fast'", "'training.lr' = 'fast'"),
        ("[training]\nlr = 0.0", "'training.lr' = 0.0: input should be greater than 0"),
    ],
)
def test_a_slip_is_named_with_the_nearest_valid_one(tmp_path: Path, line: str, named: str) -> None:
    error = fault(tmp_path, f"{line}\n{SMALLEST}" if line[0] != "[" else f"{SMALLEST}{line}\n")
    assert named in error.what
    assert str(tmp_path / "study.toml") == error.where
    assert "docs/study.md" in error.remedy


def test_every_fault_is_named_at_once(tmp_path: Path) -> None:
    error = fault(tmp_path, "rounds = 0\nsed = 1\n[data]\npath = 'x'\n")
    assert sorted(line.split(" = ")[0].split(";")[0] for line in error.what.splitlines()) == [
        "'rounds'",
        "key 'data.dataset' is missing",
        "key 'name' is missing",
        "unknown key 'sed'",
    ]


def test_a_value_in_the_place_of_a_table_is_named(tmp_path: Path) -> None:
    assert "'data' = 5: this must be a table, [data]" in fault(tmp_path, "name = 'toy'\ndata = 5\n").what
    assert fault(tmp_path, SMALLEST.replace('"toy"', "{ a = 1 }", 1)).what.startswith("'name' = {'a': 1}")


def test_broken_missing_and_unreadable_files(tmp_path: Path) -> None:
    assert "not valid TOML" in fault(tmp_path, "name = toy\n").what
    with pytest.raises(StudyFileError, match="no such study file"):
        load_study(tmp_path / "absent.toml")
    with pytest.raises(StudyFileError, match="this is a folder"):
        load_study(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"')
    with pytest.raises(StudyFileError, match="cannot be read"):
        load_study(tmp_path / "latin.toml")


def test_the_dump_writes_every_key_with_its_meaning() -> None:
    study = parse_study(tomllib.loads(SMALLEST), where=Path("/folder/study.toml"))
    text = dump_study(study)
    written = tomllib.loads(text)
    assert written.keys() == Study.model_fields.keys()
    assert written["training"] == study.training.model_dump()
    assert all("  # " in line for line in text.splitlines() if " = " in line)


@settings(max_examples=150, deadline=None)
@given(
    name=st.from_regex(r"[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True),
    rounds=st.integers(1, 10_000),
    seed=st.integers(0, 2**31 - 1),
    classes=st.lists(TEXT, max_size=3),
    weights=TEXT,
    site=TEXT,
    lr=st.floats(0.0, 1.0, exclude_min=True),
    eps=st.floats(0.0, exclude_min=True, allow_infinity=False),
    alpha=st.floats(0.0, 1000.0, exclude_min=True),
    test=FRACTIONS,
    through=st.booleans(),
    prompts=st.dictionaries(TEXT, st.lists(TEXT.filter(str.strip), min_size=1, max_size=3), max_size=3),
)
def test_a_dumped_study_is_read_back_equal(**drawn: Any) -> None:
    rest = (1.0 - drawn["test"]) / 2
    values = {
        "name": drawn["name"],
        "rounds": drawn["rounds"],
        "seed": drawn["seed"],
        "data": {
            "dataset": "brain-mri",
            "path": "/pictures",
            "classes": drawn["classes"],
            "prompts": drawn["prompts"],
            "split": [rest, rest, drawn["test"]] if rest > 0 else [0.8, 0.1, 0.1],
        },
        "sites": {"alpha": drawn["alpha"]},
        "reference": {"site": drawn["site"]},
        "backbone": {"weights": drawn["weights"]},
        "training": {"lr": drawn["lr"], "eps": drawn["eps"]},
        "facmic": {"reference_through_adapter": drawn["through"]},
    }
    study = parse_study(values, where=Path("/study.toml"))
    again = parse_study(tomllib.loads(dump_study(study)), where=Path("/elsewhere/study.toml"))
    assert again == study
    assert again.digest() == study.digest()


def drawn_from(field: Any) -> st.SearchStrategy[Any]:
    """Any allowed value of a key, from its type and its bounds."""
    annotation, bounds = field.annotation, {}
    for limit in field.metadata:
        bounds |= {name: getattr(limit, name) for name in ("ge", "gt", "le", "lt") if hasattr(limit, name)}
    if get_origin(annotation) is Literal:
        return st.sampled_from(get_args(annotation))
    if annotation is bool:
        return st.booleans()
    low, high = bounds.get("ge", bounds.get("gt")), bounds.get("le", bounds.get("lt"))
    if annotation is int:
        return st.integers(low, high)
    assert annotation is float, annotation
    return st.floats(
        low, high, exclude_min="gt" in bounds, exclude_max="lt" in bounds, allow_nan=False, allow_infinity=False
    )


NEW_TABLES = (*METHOD_TABLES, "server", "personalisation", "calibration", "compare")


def table_of(name: str) -> st.SearchStrategy[dict[str, Any]]:
    fields = Study.model_fields[name].annotation.model_fields  # type: ignore[union-attr]
    return st.fixed_dictionaries({}, optional={key: drawn_from(field) for key, field in fields.items()})


@settings(max_examples=150, deadline=None)
@given(
    method=st.sampled_from(get_args(MethodName)),
    tables=st.fixed_dictionaries({name: table_of(name) for name in NEW_TABLES}),
    shift=st.floats(0.0, 1.0),
    most=st.integers(0, 10_000_000),
    proximal=st.floats(0.0, 1000.0),
    transductive=st.booleans(),
    known=st.booleans(),
)
def test_a_study_with_any_options_of_any_method_is_read_back_equal(method: str, tables: Any, **drawn: Any) -> None:
    values = {
        "name": "toy",
        "method": method,
        "data": {"dataset": "brain-mri", "path": "/pictures", "max_train_images": drawn["most"]},
        "sites": {"feature_shift": drawn["shift"], "left_out": "site-2"},
        "reference": {"transductive": drawn["transductive"], "labels_known": drawn["known"] and method == "facmic"},
        "training": {"proximal": drawn["proximal"] if method != "fedprox" else 0.0},
        **tables,
    }
    try:
        study = parse_study(values, where=Path("/study.toml"))
    except StudyFileError:  # options that contradict one another are test_config's
        assume(False)
    again = parse_study(tomllib.loads(dump_study(study)), where=Path("/elsewhere/study.toml"))
    assert again == study
    assert again.digest() == study.digest()
    for name, table in tables.items():
        assert getattr(again, name).model_dump(include=set(table)) == table

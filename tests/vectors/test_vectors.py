"""The product against known answers that a second implementation made; see generate.py and slow_reference.py."""

from __future__ import annotations

import ast
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from wardround.privacy.ledger import batches, key_entries
from wardround.privacy.messages import BY_TAG
from wardround.privacy.secure_aggregation import primitives
from wardround.privacy.secure_aggregation.roster import LABEL_ROSTER

HERE = Path(__file__).parent
SECOND = ("slow_reference", "topics", "cases_secrets", "cases_numbers", "cases_wire", "cases_ledger", "generate")


def beside(name: str) -> ModuleType:
    """A module of this folder, which is no package; those that import it find it by its name."""
    path = HERE / f"{name}.py"
    if getattr(sys.modules.get(name), "__file__", None) != str(path):
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


for part in ("operations", "operations_secrets", "operations_numbers", "operations_wire", "operations_ledger"):
    beside(part)
loader = beside("loader")
FILES = {path.name: loader.read(path.read_bytes()) for path in sorted(HERE.glob("*.json"))}
CASES = [pytest.param(case, id=f"{file.topic}-{case.name}") for file in FILES.values() for case in file.cases]


@pytest.mark.parametrize("case", CASES)
def test_the_product_answers_as_known(case) -> None:
    assert loader.answer(case) == (case.output if case.expect == "accept" else case.refusal)


@pytest.mark.parametrize("name", FILES)
def test_about_half_of_each_file_is_rejected(name: str) -> None:
    expects = [case.expect for case in FILES[name].cases]
    assert 0.4 <= expects.count("reject") / len(expects) <= 0.6


def test_the_files_are_what_the_second_implementation_makes() -> None:
    for name in SECOND:
        beside(name)  # each imports the ones before
    made = beside("generate").files()
    assert set(made) == set(FILES)
    for name, text in made.items():
        assert text == (HERE / name).read_text(), f"run tests/vectors/generate.py: {name} is not what it makes"


def test_the_files_stay_small() -> None:
    assert sum(path.stat().st_size for path in HERE.glob("*.json")) < 400_000


@pytest.mark.parametrize("name", SECOND)
def test_the_second_implementation_takes_nothing_from_the_product(name: str) -> None:
    allowed = {
        "__future__",
        "base64",
        "cryptography",
        "fractions",
        "hashlib",
        "hmac",
        "json",
        "math",
        "pathlib",
        *SECOND,
    }
    found = set()
    for node in ast.walk(ast.parse((HERE / f"{name}.py").read_bytes())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    assert found <= allowed


def test_every_kind_of_input_occurs() -> None:
    used = {type(case.input) for file in FILES.values() for case in file.cases}
    assert used == set(loader.kinds())


def test_every_label_has_a_known_answer() -> None:
    labels = {value for name, value in vars(primitives).items() if name.startswith("LABEL_")} | {LABEL_ROSTER}
    second = "".join((HERE / f"{name}.py").read_text() for name in SECOND)
    assert [label for label in labels if f'"{label.decode().removeprefix("wardround/v1/")}"' not in second] == []
    labels = {batches.LABEL_RECEIPT, batches.LABEL_BATCH, key_entries.LABEL_KEY}
    assert [label for label in labels if f'b"{label.decode()}"' not in second] == []


def test_every_message_type_is_encoded_decoded_cut_and_lengthened() -> None:
    cases = {case.name: case for case in FILES["messages.json"].cases}
    for tag in BY_TAG:
        assert cases[tag].output["tag"] == cases[f"{tag}-encoded"].input.name == tag
        assert cases[f"{tag}-truncated"].expect == cases[f"{tag}-trailing"].expect == "reject"


# --- the loader itself ---------------------------------------------------------------------------------------------

FIRST = {
    "topic": "primitives",
    "source": "a test",
    "cases": [
        {
            "name": "one",
            "comment": "a case",
            "expect": "accept",
            "input": {"operation": "hkdf", "secret": "00", "info": ""},
            "output": {"key": "00"},
        },
        {
            "name": "two",
            "comment": "another",
            "expect": "reject",
            "input": {"operation": "vector", "roster": "r", "session": None, "site": "a", "vector": ""},
            "refusal": "mismatch",
        },
    ],
}
SESSION = {"study": "00", "round": 0, "purpose": "update", "sequence": 0, "attempt": 0}
FIRST["cases"][1]["input"] |= {"session": SESSION, "checksum": "", "signature": ""}  # type: ignore[index]


def edited(*place: str | int, **changes: object) -> bytes:
    """The file above with entries set at a place, or taken away where the value is None."""
    copy = json.loads(json.dumps(FIRST))
    at = copy
    for step in place:
        at = at[step]
    for key, value in changes.items():
        if value is None:
            del at[key]
        else:
            at[key] = value
    return json.dumps(copy).encode()


def test_a_file_in_form_is_read() -> None:
    assert [case.name for case in loader.read(edited()).cases] == ["one", "two"]


@pytest.mark.parametrize(
    "place",
    [
        (),
        ("cases", 0),
        ("cases", 0, "input"),
        ("cases", 0, "output"),
        ("cases", 1),
        ("cases", 1, "input"),
        ("cases", 1, "input", "session"),
    ],
    ids=str,
)
def test_an_unknown_key_is_refused_wherever_it_stands(place: tuple[str | int, ...]) -> None:
    with pytest.raises(loader.VectorFileError, match=r"unknown field|output's keys"):
        loader.read(edited(*place, note="x"))


@pytest.mark.parametrize(
    ("place", "changes"),
    [
        ((), {"source": None}),
        (("cases", 0), {"comment": None}),
        (("cases", 0), {"comment": ""}),
        (("cases", 0), {"expect": "maybe"}),
        (("cases", 0), {"expect": "reject"}),
        (("cases", 0), {"refusal": "mismatch"}),
        (("cases", 0), {"output": None}),
        (("cases", 0), {"output": {}}),
        (("cases", 0), {"name": "two"}),
        (("cases", 0, "input"), {"operation": "guess"}),
        (("cases", 0, "input"), {"secret": None}),
        (("cases", 0, "input"), {"secret": 7}),
        (("cases", 1), {"refusal": None}),
        (("cases", 1), {"output": {}}),
    ],
    ids=str,
)
def test_a_file_out_of_form_is_refused(place: tuple[str | int, ...], changes: dict[str, object]) -> None:
    with pytest.raises(loader.VectorFileError):
        loader.read(edited(*place, **changes))


def test_a_wrong_known_answer_would_be_noticed() -> None:
    case = loader.read(edited()).cases[0]
    assert loader.answer(case) != case.output

"""The shape of the repository: where modules may lie, what they may import, and what they may not contain."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("evaluation", "medical_datasets", "platform", "privacy")
MODULES = sorted(
    path
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*.py")
    if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
)

# Who may import whom inside platform: a module imports its own layer or a lower one. Place a new module here.
LAYERS: tuple[tuple[str, frozenset[str]], ...] = (
    (
        "ground",
        frozenset(
            {
                "errors",
                "watching",
                "config",
                "evaluation_section",
                "data_checks",
                "data_sections",
                "faults_section",
                "method_sections",
                "privacy_section",
                "section",
                "site_names",
                "study_checks",
                "study_file",
                "run_folder",
            }
        ),
    ),
    (
        "backbone",
        frozenset(
            {
                "embedded",
                "preprocessing",
                "hub_cache",
                "text_towers",
                "clip_configs",
                "backbone_weights",
                "backbone",
                "feature_cache",
                "feature_shard",
                "features",
                "image_index",
                "bench_encode",
            }
        ),
    ),
    (
        "adapters",
        frozenset({"adapters", "update", "server", "calibration", "adapter_file", "checkpoint", "round_store"}),
    ),
    ("methods", frozenset({"lmmd", "domain", "methods"})),
    (
        "training",
        frozenset(
            {
                "training",
                "trainer",
                "class_means",
                "cohorts",
                "study_cohort",
                "study_split",
                "encoded",
                "study_data",
                "held_out",
                "site_calibration",
                "private_plan",
                "private_alignment",
                "private_training",
                "private_site",
                "group_names",
                "withdrawn",
            }
        ),
    ),
    (
        "coordinator and site",
        frozenset(
            {
                "accusations",
                "enrolment",
                "held_out_memory",
                "lost_state",
                "means_memory",
                "one_off_sums",
                "released",
                "state_files",
                "site_machine",
                "round_outcome",
                "coordinator",
                "faults",
                "consortium",
                "coordinator_side",
                "cosigning",
                "line",
                "opening",
                "own_data",
                "progress",
                "site_side",
                "terms",
            }
        ),
    ),
    ("engines", frozenset({"engines"})),
    (
        "studies",
        frozenset(
            {
                "assessment",
                "audit",
                "baselines",
                "bench_backbone",
                "bench_dp",
                "bench_flower",
                "bench_round",
                "bench_secure_aggregation",
                "cell",
                "compare",
                "coordinator_report",
                "demo_study",
                "doctor",
                "dossier",
                "attention_maps",
                "case_pictures",
                "cases_file",
                "case_data",
                "case_review",
                "data_check",
                "data_check_page",
                "federation",
                "figures_loop",
                "forgetting",
                "held_home",
                "ledger_timer",
                "marks",
                "means_loop",
                "model_card",
                "noise_plan",
                "policy_check",
                "predicting",
                "privacy_audit",
                "privacy_figures",
                "purging",
                "report_inputs",
                "results",
                "round_loop",
                "signing",
                "statements",
                "study_parts",
                "simulation",
            }
        ),
    ),
    ("service", frozenset({"enrolling", "service"})),
    ("cli", frozenset({"cli"})),
)
LEVEL = {name: level for level, (_, names) in enumerate(LAYERS) for name in names}
# The rules below are about what is written by hand, so names are listed and not found by looking.
TORCH_LOAD_RULE = "torch.load without weights_only=True unpickles"


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes(), filename=str(path))


def identity(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(path: Path) -> Iterator[tuple[int, str, int]]:
    """(line, absolute dotted name of the target below ``wardround``, level) of each import; level 0 is absolute."""
    package = ("wardround", *path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, 0
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0:
                yield node.lineno, node.module or "", 0
                continue
            base = package[: len(package) - node.level + 1]
            stem = ".".join((*base, node.module)) if node.module else ".".join(base)
            if node.module and not (ROOT.joinpath(*stem.split(".")[1:])).is_dir():
                yield node.lineno, stem, node.level
                continue
            for alias in node.names:  # names of modules out of a package
                yield node.lineno, f"{stem}.{alias.name}", node.level


def test_there_are_modules_to_look_at() -> None:
    assert len(MODULES) > 40
    assert {path.relative_to(ROOT).parts[0] for path in MODULES} == set(FOLDERS)


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_four_folders_have_no_init(folder: str) -> None:
    # platform/__init__.py would shadow the standard library's platform for everything that runs in the root.
    assert not (ROOT / folder / "__init__.py").exists()


def test_no_test_folder_is_a_package() -> None:
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def test_every_sub_package_is_listed_and_every_listed_one_is_there() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {"wardround"} | {".".join(("wardround", *path.parent.relative_to(ROOT).parts)) for path in MODULES}
    assert sorted(listed) == sorted(found)
    assert len(listed) == len(set(listed))


def test_package_data_that_is_listed_belongs_to_listed_packages() -> None:
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert set(tools["package-data"]) <= set(tools["packages"])


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_module_is_named_like_one_of_the_standard_library(folder: str) -> None:
    names = {path.stem if path.is_file() else path.name for path in (ROOT / folder).iterdir()}
    assert names & sys.stdlib_module_names == set()


@pytest.mark.parametrize("path", MODULES, ids=identity)
def test_only_relative_imports_inside(path: Path) -> None:
    absolute = [(line, name) for line, name, level in imports(path) if level == 0 and name.split(".")[0] == "wardround"]
    top = [
        (line, name)
        for line, name, level in imports(path)
        if level == 0 and name.split(".")[0] in {"privacy", "medical_datasets", "evaluation"}
    ]
    assert absolute + top == []


@pytest.mark.parametrize("path", MODULES, ids=identity)
def test_the_other_folders_import_nothing_of_ours_outside_themselves(path: Path) -> None:
    own = path.relative_to(ROOT).parts[0]
    if own == "platform":
        return
    # The version is the package's, and reports name it.
    foreign = [
        (line, name)
        for line, name, level in imports(path)
        if level and name != "wardround.__version__" and name.split(".")[1] != own
    ]
    assert foreign == []


def place_of(path: Path) -> str:
    """The key of LAYERS for a module of platform: its top name, without its ending."""
    return path.relative_to(ROOT / "platform").parts[0].removesuffix(".py")


PLATFORM = [path for path in MODULES if path.relative_to(ROOT).parts[0] == "platform"]


@pytest.mark.parametrize("path", PLATFORM, ids=identity)
def test_platform_imports_never_go_back_up(path: Path) -> None:
    place = place_of(path)
    assert place in LEVEL, f"platform/{place} is in no layer: place it in LAYERS of {Path(__file__).name}"
    upwards = []
    for line, name, level in imports(path):
        parts = name.split(".")
        if level and parts[:2] == ["wardround", "platform"]:
            target = parts[2]
            assert target in LEVEL, f"{identity(path)}:{line} imports {name}, which is in no layer"
            if LEVEL[target] > LEVEL[place]:
                upwards.append(f"line {line}: {place} ({LAYERS[LEVEL[place]][0]}) imports {target}")
    assert upwards == []


def test_layers_name_only_modules_that_exist() -> None:
    assert set(LEVEL) - {place_of(path) for path in PLATFORM} == set()
    assert sum(len(names) for _, names in LAYERS) == len(LEVEL)


@pytest.mark.parametrize("path", MODULES, ids=identity)
def test_a_module_stays_readable(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


@pytest.mark.parametrize("path", MODULES, ids=identity)
def test_nothing_unpickles_or_evaluates(path: Path) -> None:
    faults = [
        f"line {line}: {name}"
        for line, name, level in imports(path)
        if not level and name.split(".")[0] in FORBIDDEN_MODULES
    ]
    for node in ast.walk(tree_of(path)):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        keywords = {word.arg: word.value for word in node.keywords}
        if called in {"eval", "exec", "compile", "__import__"}:
            faults.append(f"line {node.lineno}: {called}")
        if called == "torch.load":
            only = keywords.get("weights_only")
            if not (isinstance(only, ast.Constant) and only.value is True):
                faults.append(f"line {node.lineno}: {TORCH_LOAD_RULE}")
        allow = keywords.get("allow_pickle")
        if allow is not None and not (isinstance(allow, ast.Constant) and allow.value is False):
            faults.append(f"line {node.lineno}: allow_pickle")
    assert faults == []


@pytest.mark.parametrize("path", [path for path in MODULES if "privacy" in path.parts], ids=identity)
def test_privacy_draws_no_weak_randomness(path: Path) -> None:
    faults = [name for _, name, level in imports(path) if not level and name.split(".")[0] == "random"]
    faults += [name for _, name, level in imports(path) if not level and name.startswith("numpy.random")]
    faults += [
        ast.unparse(node)
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in {"np.random", "numpy.random"}
    ]
    assert faults == []


GATE = ROOT / "privacy" / "egress.py"


def door_faults(tree: ast.AST) -> list[str]:
    """Where code names the token, makes or copies a parcel, or gets at one by a side way."""
    faults = []
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Name | ast.Attribute | ast.alias):
            name = {ast.Name: "id", ast.Attribute: "attr", ast.alias: "name"}[type(node)]
            if getattr(node, name) == "_TOKEN":
                faults.append(f"line {line}: the gate's token")
            if getattr(node, name) == "__setattr__" and not isinstance(node, ast.alias):
                continue
        if isinstance(node, ast.Constant) and node.value in {"_TOKEN", "Sealed"}:
            faults.append(f"line {line}: the door's names as text")
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called.split(".")[-1] == "Sealed":
                faults.append(f"line {line}: makes a parcel")
            if called.endswith("__new__") and any("Sealed" in ast.unparse(argument) for argument in node.args):
                faults.append(f"line {line}: makes a parcel without its constructor")
            if called in {"getattr", "vars", "setattr"} and any("egress" in ast.unparse(a) for a in node.args):
                faults.append(f"line {line}: reaches into the gate")
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base).endswith("Sealed") for base in node.bases):
            faults.append(f"line {line}: subclasses a parcel")
    return faults


@pytest.mark.parametrize("path", [path for path in MODULES if path != GATE], ids=identity)
def test_the_gate_is_the_only_door(path: Path) -> None:
    assert door_faults(tree_of(path)) == []


@pytest.mark.parametrize(
    "code",
    [
        "from ..privacy.egress import _TOKEN",
        "egress._TOKEN",
        "Sealed(token, wire=b'')",
        "egress.Sealed(token)",
        "object.__new__(Sealed)",
        "class Mine(Sealed): ...",
        "getattr(egress, name)",
        "vars(module)['_TOKEN']",
    ],
)
def test_the_search_for_other_doors_finds_them(code: str) -> None:
    assert door_faults(ast.parse(code))


def test_only_the_gate_makes_parcels_and_only_in_release() -> None:
    makers = [
        function.name
        for function in ast.walk(tree_of(GATE))
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Sealed"
    ]
    assert makers == ["_release"]


ENGINES = sorted((ROOT / "platform" / "engines").glob("*.py"))
PROTOCOLS = {"__init__.py", "courier.py"}  # they carry nothing themselves


@pytest.mark.parametrize("path", [path for path in ENGINES if path.name not in PROTOCOLS], ids=identity)
def test_engines_check_that_what_they_carry_came_from_the_gate(path: Path) -> None:
    checks = [
        node
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Compare)
        and ast.unparse(node) in {"type(parcel) is not Sealed", "type(parcel) is Sealed"}
    ]
    assert checks

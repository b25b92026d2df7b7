"""Every ablation is a set of valid, different studies for each method that has it, and refused for the others."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from wardround.platform.compare.ablations import (
    ABLATIONS,
    ADAPTERS,
    BASED,
    EVERY,
    FEDERATED,
    TRAINED,
    Times,
    ablation_named,
    changes_of,
    check_ablation,
)
from wardround.platform.compare.grid import METHODS, Request, plan_grid
from wardround.platform.compare.source_code import PACKAGE
from wardround.platform.config import Study
from wardround.platform.errors import StudyFileError
from wardround.platform.methods.table import method_of
from wardround.platform.study_file import parse_study

FILE = Path("/study.toml")


def study_of(**changes: Any) -> Study:
    values = {"name": "small", "data": {"dataset": "brain-mri", "path": "nowhere"}, **changes}
    return parse_study(values, where=FILE)


@pytest.mark.parametrize("name", sorted(ABLATIONS))
def test_every_variant_is_another_valid_study_for_every_method_that_has_it(name: str) -> None:
    study, ablation = study_of(), ABLATIONS[name]
    assert len(ablation.variants) > 1
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9.-]*", variant.label) for variant in ablation.variants)
    cells = plan_grid(Request(study, FILE, ablation.methods, name))
    assert len(cells) == len(ablation.methods) * len(ablation.variants)
    for method in ablation.methods:
        own = [cell for cell in cells if cell.key.method == method]
        assert len({cell.study.digest() for cell in own}) == len(ablation.variants)
        assert len({cell.key.identifier for cell in own}) == len(ablation.variants)
        for cell, variant in zip(own, ablation.variants, strict=True):
            for key, value in changes_of(study, ablation, variant, method).items():
                section: Any = cell.study
                for part in key.split("."):
                    section = getattr(section, part)
                assert section == value
                assert not isinstance(value, Times)


def test_every_ablation_is_in_the_documentation() -> None:
    text = (PACKAGE / "docs" / "methods.md").read_text(encoding="utf-8")
    section = text.split("## Options of the papers' ablations")[1].split("\n## ")[0]
    assert re.findall(r"^\| `([a-z][a-z-]*)` \|", section, flags=re.M) == list(ABLATIONS)


def test_groups_of_methods_are_what_they_are_called() -> None:
    exchange = {name: method_of(study_of(method=name)).exchange for name in METHODS}
    assert set(EVERY) == set(METHODS)
    assert {name for name, how in exchange.items() if how == "federated"} == set(FEDERATED)
    assert {name for name, how in exchange.items() if how != "nothing"} == set(TRAINED)
    assert {name for name, how in exchange.items() if how in ("alone", "pooled")} == set(BASED)
    assert set(ADAPTERS) < set(FEDERATED)


def test_an_option_that_a_method_lacks_is_refused_with_those_that_have_it() -> None:
    with pytest.raises(StudyFileError) as caught:
        plan_grid(Request(study_of(), FILE, ("facmic", "fedclip"), "depth"))
    assert "depth of the adapter" in caught.value.what
    assert "fedclip" in caught.value.what
    assert "facmic, faa-clip" in caught.value.remedy
    with pytest.raises(StudyFileError, match="where the domain classifier is"):
        check_ablation(study_of(), "domain-classifier", ["facmic"])
    for name in sorted(ABLATIONS):
        for method in sorted(set(METHODS) - set(ABLATIONS[name].methods)):
            with pytest.raises(StudyFileError, match=method):
                check_ablation(study_of(), name, [method])


def test_a_baseline_has_the_options_of_the_method_whose_adapter_it_trains() -> None:
    check_ablation(study_of(), "depth", ["local-only", "pooled"])
    with pytest.raises(StudyFileError, match="local-only, which trains fedclip's adapter"):
        check_ablation(study_of(baseline={"method": "fedclip"}), "depth", ["local-only"])
    deep = plan_grid(Request(study_of(baseline={"method": "faa-clip"}), FILE, ("local-only",), "depth"))[1].study
    assert (deep.faa_clip.depth, deep.facmic.depth) == (8, 5)


def test_fedprox_has_a_proximal_weight_of_its_own() -> None:
    cells = plan_grid(Request(study_of(), FILE, ("fedprox", "facmic"), "proximal"))
    assert [c.study.fedprox.mu for c in cells if c.key.method == "fedprox"] == [0.0, 0.01, 0.1, 1.0]
    assert [c.study.training.proximal for c in cells if c.key.method == "fedprox"] == [0.0] * 4
    assert [c.study.training.proximal for c in cells if c.key.method == "facmic"] == [0.0, 0.01, 0.1, 1.0]


@pytest.mark.parametrize(
    "changes",
    [
        {"data": {"dataset": "brain-mri", "source": "phantoms"}},
        {"sites": {"partition": "column", "unseen": "north"}},
    ],
)
def test_label_skew_needs_sites_that_are_dealt_out(changes: dict[str, Any]) -> None:
    with pytest.raises(StudyFileError, match="come with its images"):
        check_ablation(study_of(**changes), "alpha", ["facmic"])


def test_rounds_are_multiples_of_the_studys_own() -> None:
    def rounds(count: int, *methods: str) -> list[int]:
        return [cell.rounds for cell in plan_grid(Request(study_of(rounds=count), FILE, methods, "rounds"))]

    assert rounds(20, "facmic") == [20, 10, 40]
    assert rounds(7, "local-only") == [7, 3, 14]
    with pytest.raises(StudyFileError, match="are the same study"):
        rounds(1, "facmic")
    with pytest.raises(StudyFileError, match="lora has no such option"):
        rounds(20, "lora")


def test_step_size_is_that_of_the_methods_own_table() -> None:
    cells = plan_grid(Request(study_of(fedclip={"lr": 0.003}), FILE, ("fedclip", "local-only", "lora"), "lr"))
    assert [cell.method.lr for cell in cells] == [v for v in (0.0001, 0.0005, 0.002) for _ in range(3)]
    assert {cell.study.training.lr for cell in cells} == {5e-4}


def test_logit_adjustment_is_not_for_the_in_batch_loss() -> None:
    with pytest.raises(StudyFileError, match=r"logit-adjustment 0\.5.*in-batch"):
        plan_grid(Request(study_of(facmic={"loss": "in-batch"}), FILE, ("facmic",), "logit-adjustment"))


def test_an_option_that_the_study_has_switched_off_already_is_named() -> None:
    off = study_of(facmic={"adaptation_weight": 0.0})
    with pytest.raises(StudyFileError, match=r"adaptation on.*adaptation off.*are the same study"):
        plan_grid(Request(off, FILE, ("facmic",), "adaptation"))


def test_a_wrong_name_gets_the_nearest() -> None:
    with pytest.raises(StudyFileError, match="did you mean 'depth'"):
        ablation_named("dept")
    with pytest.raises(StudyFileError) as caught:
        ablation_named("zzz")
    assert "did you mean" not in caught.value.what
    assert "feature-shift" in caught.value.remedy

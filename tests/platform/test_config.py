"""The study: defaults, ranges, and what its hash does and does not depend on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from wardround.platform.config import Study
from wardround.platform.errors import StudyFileError
from wardround.platform.study_file import parse_study

# Another allowed value for every key that a study has; a new key must be added here.
OTHER: dict[str, Any] = {
    "name": "other",
    "rounds": 21,
    "seed": 1,
    "device": "cpu",
    "data.dataset": "ham10000",
    "data.source": "phantoms",
    "data.path": "elsewhere",
    "data.classes": ("glioma", "notumor"),
    "data.split": (0.6, 0.2, 0.2),
    "data.images_per_site": 300,
    "sites.partition": "column",
    "sites.count": 4,
    "sites.alpha": 0.1,
    "sites.unseen": "away",
    "reference.source": "site",
    "reference.fraction": 0.2,
    "reference.site": "public",
    "backbone.name": "ViT-B-32",
    "backbone.weights": "openai",
    "backbone.allow_random": True,
    "backbone.fingerprint": "ab" * 32,
    "training.local_epochs": 2,
    "training.batch_size": 16,
    "training.lr": 5e-5,
    "training.beta1": 0.8,
    "training.beta2": 0.99,
    "training.eps": 1e-8,
    "training.weight_decay": 0.0,
    "training.optimiser_state": "reset",
    "facmic.adaptation_weight": 0.5,
    "facmic.reference_through_adapter": False,
    "secure_aggregation.threshold": 3,
    "secure_aggregation.minimum_cohort": 4,
    "secure_aggregation.weighting": "uniform",
    "secure_aggregation.w_max": 2.0,
    "secure_aggregation.clip": 0.5,
    "secure_aggregation.fraction_bits": 16,
    "secure_aggregation.bits": 16,
    "secure_aggregation.colluding": 1,
    "evaluation.abstain_below": 0.7,
    "retries": 5,
    "round_timeout": 30.0,
    "faults.drop": ({"site": "site-1", "round": 2, "stage": "mask"},),
    "faults.slow": ({"site": "site-1", "round": 2, "stage": "mask", "seconds": 9.0},),
    "faults.lying_coordinator": ({"round": 2, "lie": "small-cohort", "attempts": 2},),
    "faults.dishonest_share": ({"site": "site-1", "round": 2, "kind": "dealt"},),
}
OWN = {"data.path", "device", "retries", "round_timeout"}  # not what sites agree on; and all of [faults]
ONE_VALUE = {"method", "selection"}  # keys that allow a single value so far
OUTSIDE: dict[str, tuple[Any, ...]] = {
    "name": ("", "Has Capitals", "a/b", "-a", "x" * 64),
    "rounds": (0, -1, 10_001, 1.5, "20", True),
    "seed": (-1, 2**31),
    "device": ("gpu",),
    "data.split": ((0.8, 0.1, 0.2), (1.0, 0.0, 0.0), (0.9, 0.1), (0.5, 0.25, float("nan"))),
    "data.images_per_site": (23,),
    "sites.count": (2, 101),
    "sites.alpha": (0.0, float("inf")),
    "sites.unseen": ("..", "A", "site-2"),
    "reference.fraction": (0.0, 0.51),
    "reference.source": ("none", "public"),
    "training.local_epochs": (0,),
    "training.batch_size": (1, 4097),
    "training.lr": (0.0, -1e-3, 1.1, float("nan"), "1e-4", True),
    "training.beta1": (1.0, -0.1),
    "training.beta2": (1.0,),
    "training.eps": (0.0,),
    "training.weight_decay": (-0.1,),
    "facmic.adaptation_weight": (-1.0, 101.0),
    "facmic.reference_through_adapter": ("yes", 1),
    "secure_aggregation.threshold": (-1,),
    "secure_aggregation.minimum_cohort": (2,),
    "secure_aggregation.w_max": (0.5, 17.0),
    "secure_aggregation.clip": (-0.1, 65.0),
    "secure_aggregation.bits": (7, 25, 31, 33),
    "secure_aggregation.colluding": (-1, 999),
    "retries": (-1, 101, True),
    "round_timeout": (0.0, -1.0, float("inf")),
    "faults.drop": (
        ({"site": "a", "round": 0, "stage": "mask"},),
        ({"site": "a", "round": 99, "stage": "mask"},),
        ({"site": "a", "round": 1, "stage": "end"},),
        ({"site": "a", "round": 1},),
        ({"site": "a", "round": 1, "stage": "mask", "why": "x"},),
        "site-1",
    ),
    "faults.slow": (({"site": "a", "round": 1, "stage": "mask", "seconds": 0.0},),),
    "faults.lying_coordinator": (({"round": 1, "lie": "none"},),),
    "faults.dishonest_share": (({"site": "a", "round": 1, "kind": "none"},),),
    "secure_aggregation.fraction_bits": (7, 25),
    "evaluation.abstain_below": (1.0, -0.1),
}


def study(**changes: Any) -> Study:
    """A study with the keys it needs, and dotted keys changed."""
    values: dict[str, Any] = {"name": "toy", "data": {"dataset": "brain-mri", "path": "pictures"}}
    for key, value in changes.items():
        table, _, inner = key.rpartition(".")
        (values.setdefault(table, {}) if table else values)[inner] = value
    return parse_study(values, where=Path("/folder/study.toml"))


def keys(model: type[BaseModel], prefix: str = "") -> set[str]:
    found: set[str] = set()
    for name, field in model.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            found |= keys(annotation, f"{name}.")
        else:
            found.add(prefix + name)
    return found


def test_every_key_has_a_description_and_another_value_in_this_test() -> None:
    assert keys(Study) == OTHER.keys() | ONE_VALUE
    for name, field in Study.model_fields.items():
        annotation = field.annotation
        inner = annotation.model_fields if isinstance(annotation, type) and issubclass(annotation, BaseModel) else {}
        assert all(each.description for each in inner.values()), name


def test_every_default_is_itself_allowed() -> None:
    defaults = study().model_dump()
    assert Study.model_validate(defaults) == study()


def test_defaults_are_those_of_the_paper_or_of_the_design() -> None:
    plain = study()
    assert plain.training.beta1 == 0.9
    assert plain.training.beta2 == 0.98
    assert plain.training.eps == 1e-6
    assert plain.training.weight_decay == 0.02
    assert plain.training.batch_size == 32
    assert plain.data.split == (0.8, 0.1, 0.1)
    assert plain.facmic.adaptation_weight == 1.0
    assert plain.facmic.reference_through_adapter
    assert plain.secure_aggregation.minimum_cohort == 3


@pytest.mark.parametrize("key", sorted(OTHER))
def test_the_hash_changes_with_every_key_but_path_and_device(key: str) -> None:
    together = {"reference.site": "public"} if key == "reference.source" else {}
    changed = study(**{key: OTHER[key], **together})
    unchanged = study(**together)
    assert (changed.digest() == unchanged.digest()) == (key in OWN or key.startswith("faults."))
    assert changed != unchanged


def test_the_hash_is_64_hexadecimal_digits_and_the_same_for_a_default_written_out() -> None:
    assert study().digest() == study(rounds=20, **{"training.lr": 5e-4}).digest()
    assert len(bytes.fromhex(study().digest())) == 32


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in OUTSIDE.items() for value in values])
def test_what_is_out_of_range_or_of_another_type_is_refused_and_named(key: str, value: Any) -> None:
    with pytest.raises(StudyFileError) as caught:
        study(**{key: value})
    assert key in caught.value.what
    assert caught.value.where == "/folder/study.toml"
    assert caught.value.remedy


def test_a_study_does_not_change() -> None:
    frozen = study()
    with pytest.raises(ValueError, match="frozen"):
        frozen.rounds = 5  # type: ignore[misc]


def test_a_folder_study_needs_a_path_and_phantoms_do_not() -> None:
    with pytest.raises(StudyFileError, match=r"data\.path: .* needs the folder's path"):
        study(**{"data.path": ""})
    assert study(**{"data.path": "", "data.source": "phantoms"}).data.path == ""


def test_adaptation_needs_a_reference_set() -> None:
    with pytest.raises(StudyFileError, match="adaptation needs a reference set"):
        study(**{"reference.source": "none"})
    without = study(**{"reference.source": "none", "facmic.adaptation_weight": 0.0})
    assert without.reference.source == "none"


def test_the_unseen_site_may_bear_a_dealt_name_only_where_sites_come_with_the_data() -> None:
    assert study(**{"sites.unseen": "site-4"}).sites.unseen == "site-4"  # three sites are dealt
    assert study(**{"sites.unseen": "site-1", "sites.partition": "column"}).sites.unseen == "site-1"


def test_a_reference_site_needs_a_name() -> None:
    with pytest.raises(StudyFileError, match=r"reference\.site: .* needs the site's name"):
        study(**{"reference.source": "site"})

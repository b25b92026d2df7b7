"""The study: defaults, ranges, and what its hash does and does not depend on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from wardround.platform.config import METHOD_TABLES, MethodName, Study
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
    "data.prompts": {"glioma": ("a glioma",)},
    "data.labels": "other.csv",
    "data.slices": 3,
    "data.burned_in": True,
    "data.sources": ({"dataset": "ham10000", "path": "a"}, {"dataset": "isic", "path": "b"}),
    "data.split_rule": "balanced",
    "data.split_file": "split.json",
    "data.images_per_site": 300,
    "data.max_train_images": 50,
    "sites.partition": "column",
    "sites.count": 4,
    "sites.alpha": 0.1,
    "sites.unseen": "away",
    "sites.column": "hospital",
    "sites.left_out": "site-2",
    "sites.feature_shift": 0.5,
    "reference.source": "site",
    "reference.fraction": 0.2,
    "reference.site": "public",
    "reference.transductive": True,
    "reference.labels_known": True,
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
    "training.proximal": 0.1,
    "training.logit_adjustment": 1.0,
    "fedclip.lr": 1e-4,
    "fedclip.loss": "in-batch",
    "fedclip.text_adapter": True,
    "facmic.lr": 1e-4,
    "facmic.loss": "in-batch",
    "facmic.text_adapter": True,
    "facmic.depth": 8,
    "facmic.normalisation": "layer",
    "facmic.adaptation_weight": 0.5,
    "facmic.reference_through_adapter": False,
    "facmic.rescale_adaptation": False,
    "faa_clip.lr": 1e-4,
    "faa_clip.loss": "in-batch",
    "faa_clip.text_adapter": True,
    "faa_clip.depth": 8,
    "faa_clip.normalisation": "batch-local",
    "faa_clip.adaptation_weight": 1.0,
    "faa_clip.reference_through_adapter": False,
    "faa_clip.rescale_adaptation": False,
    "faa_clip.domain_classifier": "shared",
    "fedavg.lr": 1e-4,
    "fedprox.lr": 1e-4,
    "fedprox.mu": 1.0,
    "moon.lr": 1e-4,
    "moon.mu": 5.0,
    "moon.temperature": 1.0,
    "prompt_fl.lr": 1e-4,
    "prompt_fl.context": 4,
    "prompt_fl.init": "text",
    "lora.lr": 1e-4,
    "lora.rank": 8,
    "lora.alpha": 16.0,
    "baseline.method": "fedclip",
    "server.optimiser": "fedavgm",
    "server.lr": 0.5,
    "server.beta1": 0.8,
    "server.beta2": 0.999,
    "server.tau": 1e-2,
    "personalisation.fine_tune_epochs": 2,
    "calibration.method": "federated-head",
    "calibration.steps": 9,
    "privacy.epsilon": 4.0,
    "privacy.delta": 1e-6,
    "privacy.unit": "record",
    "privacy.records_per_unit": 2,
    "privacy.clip": 0.5,
    "privacy.directions": 0,
    "privacy.alignment": "per-record",
    "privacy.class_noise": 5.0,
    "privacy.fourier_features": 64,
    "privacy.fourier_every": 2,
    "secure_aggregation.threshold": 3,
    "secure_aggregation.minimum_cohort": 4,
    "secure_aggregation.weighting": "uniform",
    "secure_aggregation.w_max": 2.0,
    "secure_aggregation.clip": 0.5,
    "secure_aggregation.fraction_bits": 16,
    "secure_aggregation.bits": 16,
    "secure_aggregation.colluding": 1,
    "calibration.site": "isotonic",
    "evaluation.abstain_below": 0.7,
    "evaluation.abstain_risk": 0.1,
    "evaluation.coverage": 0.8,
    "evaluation.thresholds": (0.2,),
    "evaluation.federated": False,
    "evaluation.subgroups": ("sex: female, male",),
    "compare.pixel_rounds": 2,
    "compare.pixel_images": 100,
    "compare.pixel_seeds": 2,
    "compare.pixel_leave_one_out": True,
    "retries": 5,
    "round_timeout": 30.0,
    "faults.drop": ({"site": "site-1", "round": 2, "stage": "mask"},),
    "faults.slow": ({"site": "site-1", "round": 2, "stage": "mask", "seconds": 9.0},),
    "faults.lying_coordinator": ({"round": 2, "lie": "small-cohort", "attempts": 2},),
    "faults.dishonest_share": ({"site": "site-1", "round": 2, "kind": "dealt"},),
    "method": "fedclip",
}
OWN = {
    "data.path",
    "data.split_file",
    "device",
    "retries",
    "round_timeout",
    "evaluation.federated",
}  # not what sites agree on; and [faults] and [compare]
ONE_VALUE = {"selection"}  # keys that allow a single value so far
TABLES = {name.split(".")[0] for name in OTHER if name.split(".")[0] in METHOD_TABLES}
OUTSIDE: dict[str, tuple[Any, ...]] = {
    "name": ("", "Has Capitals", "a/b", "-a", "x" * 64),
    "rounds": (0, -1, 10_001, 1.5, "20", True),
    "seed": (-1, 2**31),
    "device": ("gpu",),
    "data.split": ((0.8, 0.1, 0.2), (1.0, 0.0, 0.0), (0.9, 0.1), (0.5, 0.25, float("nan"))),
    "data.images_per_site": (23,),
    "data.slices": (0, 1001),
    "data.split_rule": ("random",),
    "data.prompts": ({"glioma": ()}, {"glioma": (" ",)}),
    "data.sources": (({"dataset": "isic", "path": "b", "sites": "x"},), ({"dataset": "isic"},)),
    "data.max_train_images": (-1, 2.5),
    "method": ("fedsgd", "FACMIC", "faa_clip"),
    "sites.count": (2, 101),
    "sites.alpha": (0.0, float("inf")),
    "sites.unseen": ("..", "A", "site-2"),
    "sites.feature_shift": (-0.1, 1.1),
    "reference.fraction": (0.0, 0.51),
    "reference.source": ("none", "public"),
    "reference.transductive": ("yes", 1),
    "training.local_epochs": (0,),
    "training.batch_size": (1, 4097),
    "training.lr": (0.0, -1e-3, 1.1, float("nan"), "1e-4", True),
    "training.beta1": (1.0, -0.1),
    "training.beta2": (1.0,),
    "training.eps": (0.0,),
    "training.weight_decay": (-0.1,),
    "training.proximal": (-0.1, 1001.0),
    "training.logit_adjustment": (-0.1,),
    "fedclip.lr": (-1e-3, 1.1),
    "fedclip.loss": ("contrastive",),
    "facmic.adaptation_weight": (-1.0, 101.0),
    "facmic.reference_through_adapter": ("yes", 1),
    "facmic.depth": (4, 6, 5.5, "5"),
    "facmic.normalisation": ("group", "batch_local"),
    "faa_clip.adaptation_weight": (-1.0, 101.0),
    "faa_clip.domain_classifier": ("none",),
    "fedprox.mu": (-0.1,),
    "moon.temperature": (0.0,),
    "prompt_fl.context": (0, 65),
    "prompt_fl.init": ("words",),
    "lora.rank": (0,),
    "lora.alpha": (0.0,),
    "baseline.method": ("moon", "zero-shot"),
    "server.optimiser": ("adam", "fedyogi"),
    "server.lr": (0.0,),
    "server.beta1": (1.0,),
    "server.beta2": (1.0,),
    "server.tau": (0.0,),
    "personalisation.fine_tune_epochs": (-1,),
    "calibration.method": ("before",),
    "calibration.steps": (0, 101),
    "privacy.epsilon": (-1.0, 1001.0),
    "privacy.delta": (0.0, 0.1),
    "privacy.unit": ("image",),
    "privacy.records_per_unit": (0, 65),
    "privacy.clip": (0.0,),
    "privacy.directions": (-1,),
    "privacy.alignment": ("both",),
    "privacy.class_noise": (0.0,),
    "privacy.fourier_features": (7,),
    "privacy.fourier_every": (0,),
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
    "evaluation.abstain_risk": (1.0, -0.1),
    "evaluation.coverage": (0.0, 1.0),
    "evaluation.thresholds": ((0.0,), (1.0,), (0.5, 0.1), (0.5, 0.5)),
    "evaluation.subgroups": (
        ("sex",),
        ("sex: female",),
        ("sex: a, a",),
        (": a, b",),
        ("sex: a, b", "sex: c, d"),
        ("sex: a,",),
    ),
    "compare.pixel_rounds": (0,),
    "compare.pixel_images": (-1,),
    "compare.pixel_seeds": (0,),
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


def method_with(table: str) -> str:
    """A method whose options stand in ``table``."""
    return "pooled" if table == "baseline" else table.replace("_", "-")


@pytest.mark.parametrize("key", sorted(OTHER))
def test_the_hash_changes_with_every_key_but_path_and_device(key: str) -> None:
    together: dict[str, Any] = {"reference.site": "public"} if key == "reference.source" else {}
    table = key.split(".")[0]
    if key == "data.sources":
        together = {"data.source": "joined", "data.path": "", "data.sources": ({"dataset": "isic", "path": "c"},)}
    if key in ("data.labels", "data.slices", "data.burned_in"):
        together = {"data.dataset": "nifti-folder" if key == "data.slices" else "dicom-folder"}
    if key == "sites.column":
        together = {"sites.partition": "column"}
    if table == "privacy":
        together = {"facmic.normalisation": "layer"} | ({"privacy.epsilon": 2.0} if key != "privacy.epsilon" else {})
    if "fourier" in key:
        together["privacy.alignment"] = "per-record"
    if table in TABLES:
        together["method"] = method_with(table)
    changed = study(**{**together, key: OTHER[key]})
    unchanged = study(**together)
    assert (changed.digest() == unchanged.digest()) == (key in OWN or table in ("faults", "compare"))
    assert changed != unchanged


@pytest.mark.parametrize("key", sorted(k for k in OTHER if k.startswith("privacy.") and k != "privacy.epsilon"))
def test_options_of_differential_privacy_do_not_change_the_hash_where_it_is_off(key: str) -> None:
    assert study(**{key: OTHER[key]}).digest() == study().digest()


@pytest.mark.parametrize("key", sorted(key for key in OTHER if key.split(".")[0] in TABLES))
def test_options_of_another_method_do_not_change_the_hash(key: str) -> None:
    table = key.split(".")[0]
    for other in ("zero-shot", *(method_with(name) for name in sorted(TABLES - {table, "baseline"}))):
        assert study(method=other, **{key: OTHER[key]}).digest() == study(method=other).digest()


def test_the_hash_of_a_baseline_changes_with_the_options_of_what_it_trains() -> None:
    for method in ("local-only", "pooled"):
        plain = study(method=method)
        assert study(method=method, **{"facmic.depth": 8}).digest() != plain.digest()
        assert study(method=method, **{"faa_clip.depth": 8}).digest() == plain.digest()
        other = study(method=method, **{"baseline.method": "faa-clip"})
        assert study(method=method, **{"baseline.method": "faa-clip", "faa_clip.depth": 8}).digest() != other.digest()
        assert study(method=method, **{"baseline.method": "faa-clip", "facmic.depth": 8}).digest() == other.digest()


def test_every_method_has_a_hash_of_its_own() -> None:
    digests = {name: study(method=name).digest() for name in get_args(MethodName)}
    assert len(set(digests.values())) == len(digests) == 11


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


@pytest.mark.parametrize("method", ["facmic", "faa-clip"])
def test_adaptation_without_a_reference_set_names_the_methods_own_table(method: str) -> None:
    table = method.replace("-", "_")
    with pytest.raises(StudyFileError, match=rf"set {table}\.adaptation_weight = 0"):
        study(method=method, **{"reference.source": "none"})
    assert study(method=method, **{"reference.source": "none", f"{table}.adaptation_weight": 0.0}).adapts is False


@pytest.mark.parametrize("method", ["zero-shot", "local-only", "pooled", "fedclip", "fedavg", "lora"])
def test_what_does_not_adapt_needs_no_reference_set(method: str) -> None:
    plain = study(method=method, **{"reference.source": "none"})
    assert not plain.adapts


def test_a_reference_set_of_the_unseen_site_must_be_called_transductive() -> None:
    with pytest.raises(StudyFileError, match=r"reference\.transductive: .* set transductive = true to say so"):
        study(**{"reference.source": "unseen"})
    assert study(**{"reference.source": "unseen", "reference.transductive": True}).reference.transductive
    with pytest.raises(StudyFileError, match=r"reference\.source: there is no unseen site"):
        study(**{"reference.source": "unseen", "reference.transductive": True, "sites.unseen": ""})


@pytest.mark.parametrize("source", ["none", "class-means"])
def test_labels_cannot_be_known_of_a_set_without_labels(source: str) -> None:
    with pytest.raises(StudyFileError, match=rf"labels_known: source = '{source}' has no labels to know"):
        study(**{"reference.source": source, "reference.labels_known": True, "facmic.adaptation_weight": 0.0})


@pytest.mark.parametrize(
    ("method", "table"),
    [("facmic", "facmic"), ("faa-clip", "faa_clip"), ("local-only", "facmic"), ("pooled", "facmic")],
)
def test_batch_norm_refuses_a_batch_of_one_and_layer_norm_does_not(method: str, table: str) -> None:
    for normalisation in ("batch", "batch-local"):
        with pytest.raises(StudyFileError, match=r"training\.batch_size: BatchNorm cannot") as caught:
            study(method=method, **{"training.batch_size": 1, f"{table}.normalisation": normalisation})
        assert f"{table}.normalisation = 'layer'" in caught.value.what
    layered = study(method=method, **{"training.batch_size": 1, f"{table}.normalisation": "layer"})
    assert layered.training.batch_size == 1


@pytest.mark.parametrize("method", ["fedclip", "zero-shot", "prompt-fl"])
def test_without_batch_norm_a_batch_of_one_is_a_batch(method: str) -> None:
    assert study(method=method, **{"training.batch_size": 1}).training.batch_size == 1


@pytest.mark.parametrize(("method", "table"), [("facmic", "facmic"), ("faa-clip", "faa_clip")])
@pytest.mark.parametrize("source", ["none", "class-means"])
def test_norms_that_stay_at_the_site_leave_the_federations_model_none(method: str, table: str, source: str) -> None:
    keys = {"reference.source": source, f"{table}.adaptation_weight": 0.0, f"{table}.normalisation": "batch-local"}
    with pytest.raises(StudyFileError, match=rf"{table}\.normalisation: with 'batch-local' no statistics leave"):
        study(method=method, **keys)
    with pytest.raises(StudyFileError, match="public reference set"):  # it predicts for `wardround predict` as well
        study(method=method, **keys, **{"sites.unseen": ""})
    assert study(method=method, **{**keys, "reference.source": "fraction"}).reference.source == "fraction"
    assert study(method="local-only", **keys, **{"baseline.method": method}).out == "unseen"


@pytest.mark.parametrize(
    ("method", "table"), [("fedclip", "fedclip"), ("facmic", "facmic"), ("pooled", "facmic"), ("faa-clip", "faa_clip")]
)
def test_the_in_batch_loss_has_no_class_logits_to_adjust(method: str, table: str) -> None:
    keys = {"training.logit_adjustment": 1.0, f"{table}.loss": "in-batch"}
    with pytest.raises(StudyFileError, match=r"training\.logit_adjustment: the in-batch loss") as caught:
        study(method=method, **keys)
    assert f"{table}.loss = 'class-prompt'" in caught.value.what


def test_the_site_that_is_left_out_takes_the_place_of_the_unseen_one() -> None:
    assert study().out == "unseen"
    assert study(**{"sites.left_out": "site-2"}).out == "site-2"
    with pytest.raises(StudyFileError, match=r"reference\.site: .* cannot be the same site"):
        study(**{"reference.source": "site", "reference.site": "site-2", "sites.left_out": "site-2"})


def test_the_unseen_site_may_bear_a_dealt_name_only_where_sites_come_with_the_data() -> None:
    assert study(**{"sites.unseen": "site-4"}).sites.unseen == "site-4"  # three sites are dealt
    assert study(**{"sites.unseen": "site-1", "sites.partition": "column"}).sites.unseen == "site-1"


def test_a_reference_site_needs_a_name() -> None:
    with pytest.raises(StudyFileError, match=r"reference\.site: .* needs the site's name"):
        study(**{"reference.source": "site"})

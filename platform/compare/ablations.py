"""The ablations that `compare` offers: each one's variants as changes of study keys, and the methods that have it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..config import Study
from ..errors import StudyFileError

BASED = ("local-only", "pooled")
"""Baselines that train another method's adapter with its options."""
ATTENTION = ("facmic", "faa-clip")
ADAPTERS = ("fedclip", *ATTENTION)
FEDERATED = ("fedavg", "fedprox", "moon", "prompt-fl", "lora", *ADAPTERS)
TRAINED = (*BASED, *FEDERATED)
EVERY = ("zero-shot", *TRAINED)
FEATURES = ("prompt-fl", *ADAPTERS)
"""Federated methods that train on features."""
TABLE = "{table}"
"""In a key: the table of the method's options."""


@dataclass(frozen=True, slots=True)
class Times:
    """In the place of a value: the study's own, so many times; at least 1."""

    factor: float


@dataclass(frozen=True, slots=True)
class Variant:
    """One setting of an ablation.

    Attributes:
        label: short, of a-z, 0-9, dot and dash; it stands in tables and in names of folders.
        changes: dotted study keys and their values; none: as the study has it.
    """

    label: str
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ablation:
    """Variants of one option.

    Attributes:
        option: what is varied, in words.
        methods: that have it.
        variants: at least two; later ones are tested against the first.
        elsewhere: by method, keys that this method has in the place of another.
        dealt: whether it only means something where sites are dealt out.
        unpaired: what is said where no variant could be tested against the first, because they differ in images.
    """

    option: str
    methods: tuple[str, ...]
    variants: tuple[Variant, ...]
    elsewhere: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    dealt: bool = False
    unpaired: str = ""


def _sweep(key: str, values: Sequence[Any]) -> tuple[Variant, ...]:
    """A variant for each value of one key, under the value's own name."""
    return tuple(Variant(f"{value:g}" if isinstance(value, float) else str(value), {key: value}) for value in values)


UNPAIRED = "Sites hold more images without a public set, so rows are not paired: they were tested on different images."

ABLATIONS: dict[str, Ablation] = {
    "adaptation": Ablation(
        "adaptation to the reference set",
        ATTENTION,
        (Variant("on"), Variant("off", {"{table}.adaptation_weight": 0.0})),
    ),
    "text-adapter": Ablation(
        "an adapter on the text side",
        (*BASED, *ADAPTERS),
        (Variant("off", {"{table}.text_adapter": False}), Variant("on", {"{table}.text_adapter": True})),
    ),
    "depth": Ablation("depth of the adapter", (*BASED, *ATTENTION), _sweep("{table}.depth", (5, 8))),
    "normalisation": Ablation(
        "normalisation of the adapter", ATTENTION, _sweep("{table}.normalisation", ("batch", "batch-local", "layer"))
    ),
    "domain-classifier": Ablation(
        "where the domain classifier is", ("faa-clip",), _sweep("{table}.domain_classifier", ("local", "shared"))
    ),
    "weighting": Ablation(
        "weighting of sites", FEDERATED, _sweep("secure_aggregation.weighting", ("weighted", "uniform"))
    ),
    "batch-size": Ablation("batch size", TRAINED, _sweep("training.batch_size", (4, 8, 16, 32, 64))),
    "rescale": Ablation(
        "rescaling of the adaptation loss in batches of 8",
        ATTENTION,
        (
            Variant("on", {"{table}.rescale_adaptation": True, "training.batch_size": 8}),
            Variant("off", {"{table}.rescale_adaptation": False, "training.batch_size": 8}),
        ),
    ),
    "loss": Ablation("contrastive loss", (*BASED, *ADAPTERS), _sweep("{table}.loss", ("class-prompt", "in-batch"))),
    "reference-path": Ablation(
        "the way of the reference features",
        ATTENTION,
        (
            Variant("adapted", {"{table}.reference_through_adapter": True}),
            Variant("frozen", {"{table}.reference_through_adapter": False}),
        ),
    ),
    # FAA-CLIP's adversarial loss looks at no labels of the reference set, so there is nothing to tell it.
    "oracle": Ablation(
        "known labels of the reference set",
        ("facmic",),
        (
            Variant("pseudo-labels", {"reference.labels_known": False}),
            Variant("labels-known", {"reference.labels_known": True}),
        ),
    ),
    "reference": Ablation(
        "the reference set",
        ATTENTION,
        (
            Variant("fraction", {"reference.source": "fraction"}),
            Variant("class-means", {"reference.source": "class-means"}),
            Variant("none", {"reference.source": "none", "{table}.adaptation_weight": 0.0}),
        ),
        unpaired=UNPAIRED,
    ),
    "transductive": Ablation(
        "adaptation to the unseen site's own images",
        ATTENTION,
        (Variant("public"), Variant("unseen", {"reference.source": "unseen", "reference.transductive": True})),
        unpaired=UNPAIRED,
    ),
    "fine-tuning": Ablation(
        "epochs of each site's own fine-tuning", FEDERATED, _sweep("personalisation.fine_tune_epochs", (0, 5))
    ),
    # FedAvgM runs 1 / (1 - beta1) = 10 times as far as its step. FedAdam moves a coordinate by about its step, and a
    # round of local Adam by some steps of 5e-4.
    "server": Ablation(
        "optimiser of the server",
        FEDERATED,
        (
            Variant("mean", {"server.optimiser": "mean", "server.lr": 1.0}),
            Variant("fedavgm", {"server.optimiser": "fedavgm", "server.lr": 0.3}),
            Variant("fedadam", {"server.optimiser": "fedadam", "server.lr": 0.003}),
        ),
    ),
    "proximal": Ablation(
        "weight of the proximal term",
        FEDERATED,
        _sweep("training.proximal", (0.0, 0.01, 0.1, 1.0)),
        elsewhere={"fedprox": {"training.proximal": "fedprox.mu"}},
    ),
    "local-epochs": Ablation("local epochs in a round", TRAINED, _sweep("training.local_epochs", (1, 2, 5))),
    # Studies refuse it where the loss is in-batch: that has no class logits.
    "logit-adjustment": Ablation(
        "weight of the site's class shares in the training logits",
        TRAINED,
        _sweep("training.logit_adjustment", (0.0, 0.5, 1.0)),
    ),
    "optimiser-state": Ablation(
        "Adam's moments between rounds", TRAINED, _sweep("training.optimiser_state", ("keep", "reset"))
    ),
    # Steps that suit adapters, prompts and factors; a whole CLIP takes 1e-5 and is spoilt by these.
    "lr": Ablation(
        "step size of the method", (*BASED, "lora", *FEATURES), _sweep("{table}.lr", (0.0001, 0.0005, 0.002))
    ),
    # Methods that train on pictures have as many rounds as [compare] grants, whatever the study says.
    "rounds": Ablation(
        "number of rounds",
        (*BASED, *FEATURES),
        (
            Variant("as-is"),
            Variant("half", {"rounds": Times(0.5)}),
            Variant("double", {"rounds": Times(2.0)}),
        ),
    ),
    "calibration": Ablation("calibration", ADAPTERS, _sweep("calibration.method", ("after", "federated-head"))),
    "alpha": Ablation(
        "label skew of the sites",
        EVERY,
        _sweep("sites.alpha", (0.1, 0.3, 0.6, 1.0, 100.0)),
        dealt=True,
        unpaired="Each value deals out other sites, so rows are not paired: they were tested on different images.",
    ),
    # The rest of [privacy] is the study's; with epsilon 0 it has no effect. LayerNorm in all: noise alone differs.
    "epsilon": Ablation(
        "differential privacy, with LayerNorm",
        ATTENTION,
        tuple(
            Variant(label, {"privacy.epsilon": epsilon, "{table}.normalisation": "layer"})
            for label, epsilon in (("off", 0.0), ("16", 16.0), ("8", 8.0), ("4", 4.0), ("2", 2.0), ("1", 1.0))
        ),
    ),
    "images": Ablation(
        "training images of a site",
        (*BASED, *FEATURES),
        (Variant("all"), *_sweep("data.max_train_images", (3000, 1000, 300, 100))),
    ),
    "feature-shift": Ablation("camera shift of the sites", EVERY, _sweep("sites.feature_shift", (0.0, 0.5, 1.0))),
}


def ablation_named(name: str) -> Ablation:
    """The ablation of a name.

    Raises:
        StudyFileError: there is none; the nearest is named.
    """
    if name not in ABLATIONS:
        raise unknown("ablation", name, list(ABLATIONS), "--ablation")
    return ABLATIONS[name]


def unknown(kind: str, name: str, known: Sequence[str], option: str) -> StudyFileError:
    """The error for a name that nothing has, with the nearest one that something has."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return StudyFileError(
        f"unknown {kind} '{name}'" + (f"; did you mean '{near[0]}'?" if near else ""),
        where=option,
        remedy=f"Known: {', '.join(known)}",
    )


def table_of(study: Study, method: str) -> str:
    """Name of the table with a method's options; for baselines, that of the method whose adapter they train."""
    return (study.baseline.method if method in BASED else method).replace("-", "_")


def check_ablation(study: Study, name: str, methods: Sequence[str]) -> None:
    """Refuse an ablation of what a method or the study does not have.

    Raises:
        StudyFileError: names the option, the method, and the methods that have it.
    """
    ablation = ablation_named(name)
    for method in methods:
        who, missing = method, method not in ablation.methods
        if not missing and method in BASED and any(TABLE in key for v in ablation.variants for key in v.changes):
            who = f"{method}, which trains {study.baseline.method}'s adapter"
            missing = study.baseline.method not in ablation.methods
        if missing:
            raise StudyFileError(
                f"the ablation '{name}' varies {ablation.option}, and {who} has no such option",
                where="--ablation",
                remedy=f"Give --methods of {', '.join(ablation.methods)} only",
            )
    if ablation.dealt and (study.data.source == "phantoms" or study.sites.partition == "column"):
        raise StudyFileError(
            f"the ablation '{name}' varies {ablation.option}, but this study's sites come with its images",
            where="--ablation",
            remedy="Use a folder of images and sites.partition = 'dirichlet'",
        )


def changes_of(study: Study, ablation: Ablation, variant: Variant, method: str) -> dict[str, Any]:
    """A variant's changes for one method: full dotted study keys and their values."""
    instead = ablation.elsewhere.get(method, {})
    table = table_of(study, method)
    return {
        instead.get(key, key).replace(TABLE, table): _resolved(study, key, value)
        for key, value in variant.changes.items()
    }


def _resolved(study: Study, key: str, value: Any) -> Any:
    """A variant's value; a multiple of the study's own becomes a whole number."""
    return max(1, int(getattr(study, key) * value.factor)) if isinstance(value, Times) else value

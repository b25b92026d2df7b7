"""What no single key of a study shows: keys that contradict one another, or that would have no effect.

An option without effect is refused rather than passed over: its study would have another hash, and its model card
would print what was not done.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .data_checks import data_problems

if TYPE_CHECKING:
    from .config import Study

HEADED = ("fedclip", "facmic", "faa_clip")
LARGEST_FEDADAM = 0.3
PRIVATE = ("fedclip", "facmic", "faa-clip", "prompt-fl")
NO_CLOSED_FORM = {
    **dict.fromkeys(
        ("fedavg", "fedprox", "moon"),
        "it trains the whole CLIP, whose layers see many rows of one image, and BatchNorm in some towers",
    ),
    "lora": "its factors lie inside the image tower, where a layer sees many rows of one image",
}


def problems(study: Study) -> Iterator[str]:
    """Each contradiction in a study as ``table.key: what is wrong; what to do``; none where it holds together."""
    yield from data_problems(study)
    yield from _sites(study)
    yield from _reference(study)
    yield from _normalisation(study)
    yield from _training(study)
    yield from _privacy(study)
    yield from _faults(study)


def _sites(study: Study) -> Iterator[str]:
    dealt = {f"site-{i + 1}" for i in range(study.sites.count)}
    if study.sites.partition == "dirichlet" and study.data.source != "phantoms" and study.sites.unseen in dealt:
        yield f"sites.unseen: '{study.sites.unseen}' is the name of a training site that is dealt out; choose another"


def _reference(study: Study) -> Iterator[str]:
    reference = study.reference
    if reference.source == "site" and reference.site == study.out:
        yield (
            "reference.site: the reference set and the site that takes no part cannot be the same site; for a "
            "transductive run set reference.source = 'unseen' and reference.transductive = true"
        )
    if reference.source == "unseen" and not study.out:
        yield "reference.source: there is no unseen site; name one with sites.unseen"
    if study.adapts and reference.source == "none":
        yield (
            "reference.source: adaptation needs a reference set; "
            f"set {study.table}.adaptation_weight = 0 to train without one"
        )
    if reference.labels_known and not (study.method == "facmic" and study.adapts):
        yield (
            f"reference.labels_known: '{study.method}' as set here looks at no label of the reference set; only "
            "facmic's adaptation does; leave the key out"
        )
    if reference.labels_known and reference.source == "unseen":
        yield (
            "reference.labels_known: with source = 'unseen' the unseen site would be trained on with its own test "
            "labels; take another reference set for an oracle"
        )


def _normalisation(study: Study) -> Iterator[str]:
    normalisation = getattr(_own(study), "normalisation", "")
    no_statistics = study.reference.source in ("none", "class-means")
    if normalisation == "batch-local" and study.table != "baseline" and no_statistics:
        yield (
            f"{study.table}.normalisation: with 'batch-local' no statistics leave a site, so the federation's own "
            "model takes those of a public reference set; set reference.source to 'fraction' or 'site'"
        )
    if normalisation.startswith("batch") and study.training.batch_size < 2:
        yield (
            "training.batch_size: BatchNorm cannot train on a batch of one; "
            f"use 2 or more, or {study.trained_table}.normalisation = 'layer'"
        )


def _training(study: Study) -> Iterator[str]:
    if getattr(_own(study), "loss", "") == "in-batch":
        if study.training.logit_adjustment > 0:
            yield (
                f"training.logit_adjustment: the in-batch loss has no class logits to adjust; "
                f"use {study.trained_table}.loss = 'class-prompt', or 0"
            )
        if study.training.batch_size < 2:
            yield (
                f"training.batch_size: the in-batch loss of one image is always 0; "
                f"use 2 or more, or {study.trained_table}.loss = 'class-prompt'"
            )
    if study.method == "fedprox" and study.training.proximal > 0:
        yield "training.proximal: fedprox has a proximal term of its own, fedprox.mu; leave the key out"
    if study.calibration.method == "federated-head" and study.trained_table not in (*HEADED, "zero_shot"):
        yield (f"calibration.method: '{study.method}' carries no temperature; only {', '.join(HEADED)} do; use 'after'")
    if study.server.optimiser == "fedadam" and study.server.lr > LARGEST_FEDADAM:
        yield (
            f"server.lr: with fedadam every weight moves by up to {study.server.lr:g} a round, whatever the "
            "sites learnt; about 0.003 suits adapters"
        )


def _privacy(study: Study) -> Iterator[str]:
    """What differential privacy does not allow, with the reason and what is legal instead."""
    if not study.private:
        return
    reason = NO_CLOSED_FORM.get(study.method)
    if reason:
        yield f"privacy.epsilon: '{study.method}' cannot be trained so: {reason}; use {', '.join(PRIVATE)}"
    table = study.table
    own = _own(study)
    if getattr(own, "normalisation", "layer") != "layer":
        yield (
            f"{table}.normalisation: BatchNorm makes the gradient of one image depend on the others of its batch, so "
            f"no clip bounds what one patient changes; set {table}.normalisation = 'layer'"
        )
    if getattr(own, "loss", "class-prompt") == "in-batch":
        yield (
            f"{table}.loss: the in-batch loss couples the images of a batch, and one of them moves the gradient by a "
            f"multiple of the clip; use {table}.loss = 'class-prompt'"
        )
    if getattr(own, "text_adapter", False):
        yield (
            f"{table}.text_adapter: the text side sees classes, not images, and its gradients cannot be clipped image "
            f"by image; set {table}.text_adapter = false"
        )
    if study.calibration.method == "federated-head":
        yield (
            "calibration.method: 'federated-head' sends a temperature in every round that is fitted without noise; "
            "use 'after'"
        )
    if study.training.logit_adjustment > 0:
        yield "training.logit_adjustment: a site's class shares are not noised; set it to 0"
    if study.reference.source == "class-means":
        yield (
            "reference.source: 'class-means' sums class features without noise, and there is nothing public to align "
            "to; use 'fraction' or 'site', and noisy class sums are released within the budget"
        )
    yield from _without_effect(study)


def _without_effect(study: Study) -> Iterator[str]:
    """Keys of ``[privacy]`` that are set although nothing looks at them."""
    changed = study.privacy.model_dump(exclude_defaults=True)
    if study.method == "prompt-fl" and "directions" in changed:
        yield "privacy.directions: prompt-fl's gradient is not taken layer by layer; leave the key out"
    for key in sorted({"alignment", "class_noise"} & changed.keys()):
        if not study.adapts:
            yield f"privacy.{key}: '{study.method}' as set here aligns to nothing; leave the key out"
    for key in sorted({"fourier_features", "fourier_every"} & changed.keys()):
        if not study.adapts or study.method != "facmic" or study.privacy.alignment != "per-record":
            yield f"privacy.{key}: only FACMIC with privacy.alignment = 'per-record' has it; leave the key out"


def _faults(study: Study) -> Iterator[str]:
    for kind in type(study.faults).model_fields:
        for fault in getattr(study.faults, kind):
            if fault.round > study.rounds:
                yield f"faults.{kind}: round {fault.round} is beyond the study's last, {study.rounds}"


def _own(study: Study) -> Any:
    """The table of what is trained; None for zero-shot."""
    return getattr(study, study.trained_table, None)

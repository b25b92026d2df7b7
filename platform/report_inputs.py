"""What a run's pages are made from: a finished study's results as report inputs, a site's and the study's."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from typing import Any

from .. import __version__
from ..evaluation.calibration.calibrator import Calibrator
from ..evaluation.figures.figure_set import FigureSet
from ..evaluation.report_model import (
    ClassName,
    DataFlow,
    Dossier,
    FlowRow,
    Link,
    Predictions,
    PrivacyFacts,
    Provenance,
    RoundRow,
    Score,
    SiteReport,
    SiteRow,
    TemperatureSource,
)
from ..evaluation.scores import pool, score
from ..evaluation.site_facts import MISSING, Collection, Gain, PartitionFacts, SubgroupColumn
from ..evaluation.site_figures import SiteFigures, score_of
from .assessment import Assessment
from .backbone import Backbone
from .results import Results
from .study_data import SiteData
from .training import derive_seed

_BY_APPEARANCE = ("similar:", "near_duplicate_group:")
"""How names of groups begin that exist because images look alike."""


def site_report_of(results: Results, site: SiteData) -> SiteReport:
    """Everything that one site's report is made from."""
    training = site.name in results.federated.sites
    names = _class_names(results)
    predictions: Callable[[Assessment], Predictions | None] = partial(_predictions, site)
    known = predictions(results.federated)
    if known is None:
        raise ValueError(f"no predictions for site {site.name}")
    return SiteReport(
        study=results.study.name,
        method=results.method.name,
        site=site.name,
        role="training" if training else "unseen",
        synthetic=results.data.cohort.synthetic,
        dataset=results.data.cohort.dataset.title,
        rounds=len(results.rounds),
        classes=names,
        flow=_flow(results, site),
        federated=known,
        # Away from home the local-only figure is a mean over the sites' models, which makes no single prediction.
        local_only=predictions(results.local_only) if training else None,
        zero_shot=predictions(results.zero_shot),
        privacy=_privacy(results, site.name),
        provenance=provenance_of(results.backbone, results.adapter_sha256),
        seed=_seed(results, site.name),
        marks=results.marks.of_site(site.name, trains=training),
        private=results.privacy.get(site.name),
        columns=_columns(results, site),
        thresholds=results.study.evaluation.thresholds,
        wanted_risk=results.study.evaluation.abstain_risk or None,
        abstain_below=results.study.evaluation.abstain_below,
        calibrator=_calibrator(results, site).to_dict(),
        partition=_partition(results, site),
        collection=_collection(results),
        not_summed=results.not_summed,
    )


def _calibrator(results: Results, site: SiteData) -> Calibrator:
    """The calibration that the federated model answers with at this site.

    A training site's own; elsewhere the federation's, from sums alone. A site that was given none answers with its
    temperature.
    """
    training = site.name in results.federated.sites
    prediction = results.federated.sites[site.name] if training else results.federated.unseen
    if prediction is not None and prediction.calibrator is not None:
        return prediction.calibrator
    if not training:
        return results.calibrator
    known = _predictions(site, results.federated)
    kinds = len(results.data.cohort.dataset.classes)
    settings = results.study.evaluation
    source: TemperatureSource = "none" if known is None else known.temperature_source
    if known is None or known.temperature is None:
        return Calibrator("none", source, kinds, None, abstain_below=settings.abstain_below, wanted="temperature")
    n = len(site.validation)
    return Calibrator("temperature", source, kinds, n, known.temperature, abstain_below=settings.abstain_below)


def _columns(results: Results, site: SiteData) -> tuple[SubgroupColumn, ...]:
    """Subgroup columns of the data set, for this site's test images; one that is empty here is there all the same."""
    records = results.data.cohort.records
    names = sorted({name for record in records for name in record.subgroups})
    here = [records[row].subgroups for row in site.test.rows.tolist()]
    columns = []
    for name in names:
        levels = tuple(sorted({values[name] for values in here if name in values}))
        codes = tuple(levels.index(values[name]) if name in values else MISSING for values in here)
        columns.append(SubgroupColumn(name, levels, codes))
    return tuple(columns)


def _partition(results: Results, site: SiteData) -> PartitionFacts:
    parts = [set(part.groups) for part in (site.train, site.validation, site.test)]
    sizes = Counter(group for part in (site.train, site.validation, site.test) for group in part.groups)
    looked = any(record.group.startswith(_BY_APPEARANCE) for record in results.data.cohort.records)
    alike = [size for group, size in sizes.items() if group.startswith(_BY_APPEARANCE) and size > 1]
    others = {
        group
        for other in (*results.data.sites, *((results.data.unseen,) if results.data.unseen else ()))
        if other.name != site.name
        for part in (other.train, other.validation, other.test)
        for group in part.groups
    }
    return PartitionFacts(
        level=_group_key(results),
        largest_group=max(sizes.values(), default=None),
        duplicate_groups=len(alike) if looked else None,
        duplicate_images=sum(alike) if looked else None,
        in_two_parts=sum(sum(group in part for part in parts) > 1 for group in sizes),
        at_other_sites=sum(group in others for group in sizes),
    )


def _collection(results: Results) -> Collection:
    """What the data set says of itself; neither dates nor eligibility are part of its description."""
    cohort = results.data.cohort
    if cohort.synthetic:
        return Collection(
            dates="None: the pictures were drawn by a computer.",
            eligibility="None: there are no patients.",
            reference_standard="Exact: each picture was drawn for its class.",
            source="Synthetic phantoms of this package",
        )
    return Collection(source=cohort.dataset.citation or None, licence=cohort.dataset.licence or None)


def _group_key(results: Results) -> str:
    return "patient" if results.data.cohort.synthetic else results.data.cohort.dataset.group_key


def _predictions(site: SiteData, assessment: Assessment) -> Predictions | None:
    training = site.name in assessment.sites
    prediction = assessment.sites[site.name] if training else assessment.unseen
    if prediction is None:
        return None
    source: TemperatureSource = "none"
    if assessment.calibrated:
        source = "model"
    elif prediction.temperature is not None:
        fitted = prediction.calibrator
        source = fitted.source if fitted is not None else "site" if training else "federated"
    return Predictions.from_arrays(
        prediction.logits, site.test.labels, site.test.groups, temperature=prediction.temperature, source=source
    )


def _flow(results: Results, site: SiteData) -> DataFlow:
    parts = (site.train, site.validation, site.test)
    rows = [
        FlowRow(label.name, *(int((part.labels == index).sum()) for part in parts))
        for index, label in enumerate(results.data.cohort.dataset.classes)
    ]
    train, validation, test = (len(set(part.groups)) for part in parts)
    return DataFlow(
        rows=tuple(rows),
        skipped=site.skipped,
        group_key=_group_key(results),
        train_groups=train,
        validation_groups=validation,
        test_groups=test,
    )


def _privacy(results: Results, site: str | None) -> PrivacyFacts:
    """Facts of one training site; of the whole study with None, where the ledger is the coordinator's."""
    spent = results.privacy if site is None else {k: v for k, v in results.privacy.items() if k == site}
    worst = max(spent.values(), key=lambda private: private.epsilon, default=None)
    facts = PrivacyFacts(
        secure_aggregation=True,
        epsilon=worst.epsilon if worst else None,
        delta=worst.delta if worst else None,
        unit=worst.unit if worst else None,
        threshold=results.threshold,
        participants=len(results.data.sites),
        bytes_sent=sum(sent.bytes_sent for sent in results.sent.values()),
        messages_sent=sum(sent.messages_sent for sent in results.sent.values()),
        ledger_entries=results.received.entries,
        ledger_head=results.received.head,
    )
    if site is None:
        return facts
    if site not in results.sent:  # it took no part, so it sent nothing and has no ledger
        return replace(facts, bytes_sent=0, messages_sent=None, ledger_entries=0, ledger_head="")
    sent = results.sent[site]
    return replace(
        facts,
        bytes_sent=sent.bytes_sent,
        messages_sent=sent.messages_sent,
        ledger_entries=sent.entries,
        ledger_head=sent.head,
    )


def provenance_of(backbone: Backbone, adapter_sha256: str) -> Provenance:
    """What made an adapter, and its hash."""
    python = ".".join(str(part) for part in sys.version_info[:3])
    packages = tuple((name, version(name)) for name in ("torch", "open_clip_torch", "numpy", "scikit-learn"))
    return Provenance(
        model_hash=adapter_sha256,
        backbone=backbone.name,
        backbone_fingerprint=backbone.fingerprint,
        versions=(("wardround", __version__), ("python", python), *packages),
    )


def _class_names(results: Results) -> tuple[ClassName, ...]:
    return tuple(ClassName(label.name, label.clinical_name) for label in results.data.cohort.dataset.classes)


def dossier_of(results: Results, figures: Mapping[str, SiteFigures]) -> Dossier:
    """Everything that the front page is made from; ``figures`` of every site's report, by site."""
    training, unseen = results.data.sites, results.data.unseen
    rows = [_row(results, site, figures[site.name], training=True) for site in training]
    if unseen is not None:
        rows.append(_row(results, unseen, figures[unseen.name], training=False))
    return Dossier(
        study=results.study.name,
        method=results.method.name,
        dataset=results.data.cohort.dataset.title,
        synthetic=results.data.cohort.synthetic,
        simulation=True,
        classes=_class_names(results),
        sites=tuple(rows),
        rounds=tuple(round_row(record, results.unreleased) for record in results.rounds),
        privacy=_privacy(results, None),
        provenance=provenance_of(results.backbone, results.adapter_sha256),
        links=(
            Link("Study", "study.toml", "every key of the study with its value"),
            Link("Rounds", "rounds.jsonl", "a line a try: participants, who dropped and why, seconds, bytes, loss"),
            Link("Summary", "summary.json", "every figure of this page, for scripts"),
            Link("Model card", "model/card.json", "method, backbone, classes, prompts, limits"),
            Link("Audit", "audit.html", "what was transmitted, with everything to check it in the browser"),
            Link("Annex for a DPIA", "dpia-annex.md", "a draft from the ledgers, for a data-protection officer"),
            Link("Coordinator's ledger", "coordinator/ledger.jsonl", "every message that it sent and received"),
        ),
        overall=_overall(results, results.federated),
        overall_local_only=_overall(results, results.local_only),
        overall_zero_shot=_overall(results, results.zero_shot),
        seconds=round(results.seconds, 3),
        marks=results.marks.of_study(),
        privacy_sites=tuple(results.privacy.values()),
        not_summed=results.not_summed,
    )


def _row(results: Results, site: SiteData, figures: SiteFigures, *, training: bool) -> SiteRow:
    local_only = _score(figures.others.get("local_only"))
    if not training and results.local_only.unseen is not None:
        # A mean over the sites' own models: it has no predictions of its own to draw an interval from.
        shown = results.local_only.unseen.figures
        local_only = Score(shown.n, shown.balanced_accuracy, ece=shown.ece, note="mean over the sites' models")
    return SiteRow(
        site=site.name,
        role="training" if training else "unseen",
        train_n=len(site.train),
        test_n=len(site.test),
        federated=score_of(figures.federated),
        local_only=local_only,
        zero_shot=_score(figures.others.get("zero_shot")),
        bytes_sent=results.sent[site.name].bytes_sent if training else 0,
        over_local_only=_gain(figures, "local_only"),
        over_zero_shot=_gain(figures, "zero_shot"),
        report_link=f"sites/{site.name}/report.html",
        ledger_link=f"sites/{site.name}/ledger.jsonl" if training else None,
    )


def _gain(figures: SiteFigures, other: str) -> Gain | None:
    found = figures.gains.get(other)
    return None if found is None else Gain(found.value, found.low, found.high)


def _score(figures: FigureSet | None) -> Score | None:
    return None if figures is None else score_of(figures)


def _overall(results: Results, assessment: Assessment) -> Score:
    """All training sites' test images together, from the logits that the assessment's own total is of."""
    parts = [
        Predictions.from_arrays(assessment.pooled[site.name], site.test.labels, site.test.groups)
        for site in results.data.sites
    ]
    return score(pool(parts, temperature=assessment.temperature), _class_names(results), seed=_seed(results, "all"))


def _seed(results: Results, site: str) -> int:
    """Of a page's bootstrap: the same on the site's page and on the front page."""
    return derive_seed(results.study.name, "report", site) % 2**31


def round_row(record: Mapping[str, Any], unreleased: Sequence[Mapping[str, Any]]) -> RoundRow:
    """One round with all its tries: seconds and bytes of all of them, and who dropped in each, where and why."""
    failed = [row for row in unreleased if row["round"] == record["round"]]
    tries = [*failed, record]
    remarks = [f"a try released nothing, {row['reason'].split(':')[0]}{_dropped(row, ' ({})')}" for row in failed]
    return RoundRow(
        round=record["round"],
        participants=len(record["participants"]),
        dropped=len({gone["site"] for row in tries for gone in row["dropped"]}),
        seconds=sum(row["seconds"]["total"] - row.get("waited", 0.0) for row in tries),
        bytes_up=sum(row["bytes_up"] for row in tries),
        bytes_down=sum(row["bytes_down"] for row in tries),
        train_loss=record["train_loss"],
        validation_balanced_accuracy=record["validation"]["balanced_accuracy"],
        remarks=tuple(text for text in (*remarks, _dropped(record, "{}")) if text),
    )


def _dropped(row: Mapping[str, Any], form: str) -> str:
    """Names, codes and stages of those who dropped; empty where nobody did."""
    gone = [f"{gone['site']}: {gone['reason']} at {gone['stage']}" for gone in row["dropped"]]
    return form.format(", ".join(gone)) if gone else ""

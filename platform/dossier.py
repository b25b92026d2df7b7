"""The pages of a run: a report per site, the front page, and rebuilding both from the files beside them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .. import __version__
from ..evaluation.audit_view import audit_page
from ..evaluation.report import index_page, site_report
from ..evaluation.report_json import dossier_from_json, site_report_from_json, to_json
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
from ..privacy.atomic import make_private, write_atomic
from .assessment import Assessment
from .audit.annex import annex
from .audit.page import audit_page_of, audit_run
from .errors import RunFolderError
from .results import Results, model_card, summary
from .run_folder import RunFolder
from .study_data import SiteData
from .study_file import load_study
from .training import derive_seed


def write_results(run: RunFolder, results: Results) -> None:
    """Write card, reports, front page and, last, summary.json: its presence says that the run is complete."""
    make_private(run.card.parent)
    _write_json(run.card, model_card(results))
    sites = (*results.data.sites, *((results.data.unseen,) if results.data.unseen else ()))
    for site in sites:
        make_private(run.site(site.name))
        write_atomic(run.site(site.name) / "report.json", to_json(_site_report(results, site)))
    write_atomic(run.root / "dossier.json", to_json(_dossier(results)))
    build_pages(run)
    _write_json(run.summary, summary(results))


def build_pages(run: RunFolder) -> list[Path]:
    """(Re)build every page from report.json and dossier.json; the same files give the same bytes.

    Raises:
        RunFolderError: the run is not complete, or one of the files is missing.
        EvaluationError: one of the files is damaged.
    """
    source = run.root / "dossier.json"
    reports = sorted(run.root.glob("sites/*/report.json"))
    if not source.is_file() or not reports:
        raise RunFolderError(
            "the run has no results to build pages from",
            where=str(run.root),
            remedy="Finish it first: wardround run STUDY.toml --out RUN --resume",
        )
    pages: list[tuple[Path, Callable[[], str]]] = [
        (path.with_suffix(".html"), partial(_site_page, path)) for path in reports
    ]
    pages.append((run.index, partial(_index, source)))
    pages += _audit_pages(run)
    for row in dossier_from_json(source.read_bytes()).sites:
        if run.site(row.site) / "report.json" not in reports:
            raise RunFolderError(
                f"the report of site '{row.site}' is missing",
                where=str(run.site(row.site) / "report.json"),
                remedy="Restore it from a backup, or run the study again",
            )
    built: list[tuple[Path, str]] = [(target, make()) for target, make in pages]
    for target, text in built:
        write_atomic(target, text.encode())
    return [target for target, _ in built]


def _audit_pages(run: RunFolder) -> list[tuple[Path, Callable[[], str]]]:
    """The auditor's page and the annex, from the ledgers as they lie in the dossier now."""
    study, found = load_study(run.study), audit_run(run)
    return [
        (run.audit, lambda: audit_page(audit_page_of(run, study, found))),
        (run.annex, lambda: annex(study, found)),
    ]


def _site_page(path: Path) -> str:
    return site_report(site_report_from_json(path.read_bytes()))


def _index(path: Path) -> str:
    return index_page(dossier_from_json(path.read_bytes()))


def _site_report(results: Results, site: SiteData) -> SiteReport:
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
        privacy=_privacy(results, site.name if training else None),
        provenance=_provenance(results),
        seed=_seed(results, site.name),
        marks=results.marks.of_site(site.name, trains=training),
        private=results.privacy.get(site.name),
    )


def _predictions(site: SiteData, assessment: Assessment) -> Predictions | None:
    training = site.name in assessment.sites
    prediction = assessment.sites[site.name] if training else assessment.unseen
    if prediction is None:
        return None
    source: TemperatureSource = "none"
    if assessment.calibrated:
        source = "model"
    elif prediction.temperature is not None:
        source = "site" if training else "federated"
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
        group_key="patient" if results.data.cohort.synthetic else results.data.cohort.dataset.group_key,
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
    sent = results.sent[site]
    return replace(
        facts,
        bytes_sent=sent.bytes_sent,
        messages_sent=sent.messages_sent,
        ledger_entries=sent.entries,
        ledger_head=sent.head,
    )


def _provenance(results: Results) -> Provenance:
    python = ".".join(str(part) for part in sys.version_info[:3])
    packages = tuple((name, version(name)) for name in ("torch", "open_clip_torch", "numpy", "scikit-learn"))
    return Provenance(
        model_hash=results.adapter_sha256,
        backbone=results.backbone.name,
        backbone_fingerprint=results.backbone.fingerprint,
        versions=(("wardround", __version__), ("python", python), *packages),
    )


def _class_names(results: Results) -> tuple[ClassName, ...]:
    return tuple(ClassName(label.name, label.clinical_name) for label in results.data.cohort.dataset.classes)


def _dossier(results: Results) -> Dossier:
    training, unseen = results.data.sites, results.data.unseen
    rows = [_row(results, site, True) for site in training]
    if unseen is not None:
        rows.append(_row(results, unseen, False))
    return Dossier(
        study=results.study.name,
        method=results.method.name,
        dataset=results.data.cohort.dataset.title,
        synthetic=results.data.cohort.synthetic,
        simulation=True,
        classes=_class_names(results),
        sites=tuple(rows),
        rounds=tuple(_round_row(record, results.unreleased) for record in results.rounds),
        privacy=_privacy(results, None),
        provenance=_provenance(results),
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
    )


def _row(results: Results, site: SiteData, training: bool) -> SiteRow:
    federated = _site_score(results, site, results.federated)
    if federated is None:
        raise ValueError(f"no predictions for site {site.name}")
    local_only = _site_score(results, site, results.local_only)
    if local_only is not None and not training:
        # A mean over the sites' own models: it has no predictions of its own to draw an interval from.
        mean = results.local_only.unseen
        if mean is not None:
            shown = mean.figures
            local_only = Score(shown.n, shown.balanced_accuracy, ece=shown.ece, note="mean over the sites' models")
    return SiteRow(
        site=site.name,
        role="training" if training else "unseen",
        train_n=len(site.train),
        test_n=len(site.test),
        federated=federated,
        local_only=local_only,
        zero_shot=_site_score(results, site, results.zero_shot),
        bytes_sent=results.sent[site.name].bytes_sent if training else 0,
        report_link=f"sites/{site.name}/report.html",
        ledger_link=f"sites/{site.name}/ledger.jsonl" if training else None,
    )


def _site_score(results: Results, site: SiteData, assessment: Assessment) -> Score | None:
    known = _predictions(site, assessment)
    return None if known is None else score(known, _class_names(results), seed=_seed(results, site.name))


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


def _write_json(path: Path, content: object) -> None:
    write_atomic(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def _round_row(record: Mapping[str, Any], unreleased: Sequence[Mapping[str, Any]]) -> RoundRow:
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

"""What a deployed coordinator writes at the end of a study: the model, and everything that others get to read.

It has seen sums and masked vectors alone. A figure of a single site, a validation figure or a training loss is in no
file here; what it does not know is null.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from ...evaluation.audit_view import audit_page
from ...evaluation.disclosure.deployed import SUMMARY, SiteFacts, deployed_files, files_without_figures
from ...evaluation.disclosure.published import Facts, Published
from ...evaluation.disclosure.publishing import publish
from ...evaluation.privacy_model import SitePrivacy
from ...evaluation.report_model import ClassName, PrivacyFacts
from ...medical_datasets.cohort import Dataset
from ...privacy.atomic import make_private, write_atomic
from ...privacy.differential_privacy.accountant import spent_on
from ...privacy.egress import COORDINATOR
from ...privacy.ledger.reading import read_good
from ...privacy.secure_aggregation.roster import Roster
from ..adapter_file import write_adapter
from ..adapters import State
from ..audit.page import audit_page_of, audit_run
from ..backbone import Backbone
from ..calibration import carries_temperature
from ..class_means import CLASS_MEANS, constants_of, omitted
from ..config import Study
from ..consortium import Consortium
from ..federation import transmissions
from ..figures_loop import FederatedFigures, erase_sums
from ..marks import study_marks
from ..methods.adapted_clip import TRAINING_ONLY
from ..methods.method import Method, SharedInputs
from ..model_card import CardFacts, federated_calibrator, model_card, why_not_calibrated, why_not_summed
from ..own_data import deployed_dataset
from ..private_plan import plan_of
from ..report_inputs import provenance_of
from ..results import Transmissions
from ..round_loop import Record
from ..run_folder import RunFolder
from ..statements import statements_of
from ..training import served_state

NORMS_AT_SITES = (
    "Norms of this adapter stay at the sites, and the coordinator has no reference images whose norms could stand in: "
    "predict with a site's own model."
)


def write_coordinator_results(
    run: RunFolder,
    study: Study,
    method: Method,
    backbone: Backbone,
    shared: SharedInputs,
    consortium: Consortium,
    records: Sequence[Record],
    unreleased: Sequence[Record],
    figures: FederatedFigures | None,
    seconds: float,
    previous: Published | None = None,
) -> None:
    """Write model, card, report, front page, rounds, the auditor's page and, last, summary.json; then erase the sums.

    The presence of summary.json says that the run is complete: then nothing but the erasing is done again. A stop at
    any moment before leaves what a second call needs, and it writes the same files. The list of rounds is replaced by
    its published twin, which knows no loss and is enough to resume from.

    Args:
        run: the coordinator's folder, locked. study, method, backbone: what was trained, how, on which encoder.
        shared: prompts, of `.own_data.shared_without_data`. consortium: after the last round, its ledger closed.
        records: lines of rounds.jsonl that released an adapter. unreleased: those of other tries.
        figures: sums over held-out images, exact; None where none were to be made. seconds: of the study.
        previous: what this coordinator published before, of images that may be the same ones.

    Raises:
        InvalidReportError: nothing can be subtracted from ``previous``; `.coordinator_report.check_earlier` says so
            before anything is trained.
        RunFolderError: the record of the sums is damaged. LedgerError: the ledger cannot be read.
    """
    if not run.summary.is_file():
        tries = tuple(_in_order(records, unreleased))
        ended = _Ended(study, method, backbone, shared, consortium, tries, figures)
        for name, data in _content(run, ended, seconds, previous).items():
            target = run.root / name
            make_private(target.parent)
            if name == SUMMARY:
                found = audit_run(run, whole=False)
                write_atomic(run.audit, audit_page(audit_page_of(run, study, found)).encode())
            write_atomic(target, data)
    erase_sums(run)


@dataclass(frozen=True, slots=True)
class _Ended:
    """A study after its last round, as its coordinator knows it."""

    study: Study
    method: Method
    backbone: Backbone
    shared: SharedInputs
    consortium: Consortium
    records: tuple[Record, ...]
    figures: FederatedFigures | None

    @property
    def dataset(self) -> Dataset:
        """Classes and prompts."""
        return deployed_dataset(self.study)

    @property
    def rounds(self) -> int:
        """How many released an adapter."""
        return sum(record.get("released", True) is not False for record in self.records)


def _content(run: RunFolder, ended: _Ended, seconds: float, previous: Published | None) -> Mapping[str, bytes]:
    """Write the model; every other file by its path, in the order in which they are to be written."""
    study, figures, dataset = ended.study, ended.figures, ended.dataset
    coordinator, roster = ended.consortium.coordinator, ended.consortium.roster.roster
    ledger = ended.consortium.ledgers[COORDINATOR].path
    arrived, sent = received_bytes(ledger, roster.names), transmissions(ledger)
    private = planned_privacy(study, roster) if study.private else {}
    make_private(run.adapter.parent)
    state, limits = _served(ended.method, coordinator.state, ended.shared)
    digest = write_adapter(run.adapter, state, coordinator.info)
    card = replace(_card(ended, digest), privacy=private, bound=bool(private), limits=limits)
    write_atomic(run.card, (json.dumps(model_card(card), indent=1, allow_nan=False) + "\n").encode())
    facts = Facts(
        study=study.name,
        method=ended.method.name,
        dataset=dataset.title,
        rounds=ended.rounds,
        classes=tuple(ClassName(label.name, label.clinical_name) for label in dataset.classes),
        privacy=_privacy_facts(private, roster, arrived, sent),
        provenance=provenance_of(ended.backbone, digest),
        synthetic=card.synthetic,
        ledger_root=sent.head,
        marks=card.marks.of_study(),
        thresholds=tuple(study.evaluation.thresholds),
        abstain_below=card.calibrator.abstain_below,
        wanted_risk=study.evaluation.abstain_risk or None,
    )
    counts_images = not study.private or study.privacy.unit == "record"
    around: dict[str, Any] = {
        "records": ended.records,
        "sites": [
            SiteFacts(site.name, site.samples if counts_images else None, bytes_sent=arrived[site.name][0])
            for site in roster.sites
        ],
        "statements": statements_of(run).get(COORDINATOR, ()),
        "bytes_down": sent.bytes_sent,
        "seconds": seconds,
    }
    if figures is not None and figures.summed is not None:
        return deployed_files(publish(figures.summed, facts, previous), **around)
    why = why_not_summed(study, figures) or "the sums over validation and test images did not come about"
    return files_without_figures(facts, why, **around)


def _card(ended: _Ended, digest: str) -> CardFacts:
    """The card of the adapter with this hash, without what differential privacy cost."""
    study, figures, coordinator = ended.study, ended.figures, ended.consortium.coordinator
    names = ended.dataset.class_names
    calibrated = carries_temperature(coordinator.state)
    temperature = figures.temperature if figures is not None and not calibrated else None
    sums_means = bool(constants_of(study, ended.shared))
    return CardFacts(
        study=study,
        method=ended.method,
        backbone=ended.backbone,
        dataset=ended.dataset,
        synthetic=study.data.source == "phantoms",
        rounds=ended.rounds,
        adapter_sha256=digest,
        calibrated=calibrated,
        calibrator=federated_calibrator(
            study, figures, classes=len(names), calibrated=calibrated, temperature=temperature
        ),
        calibration_note=why_not_calibrated(study, figures, calibrated=calibrated, temperature=temperature),
        # Only sites could see whether images that are tested on are among the references; what the study allows counts.
        marks=study_marks(study, ended.method, transductive=study.reference.transductive),
        reference_n=0 if study.reference.source in ("none", "class-means") else None,
        transductive=None if study.reference.transductive else False,
        omitted=omitted(coordinator.constants[CLASS_MEANS], names) if sums_means else None,
    )


def _served(method: Method, state: State, shared: SharedInputs) -> tuple[State, tuple[str, ...]]:
    """The tensors of the model file, and what its card must say of them."""
    at_sites = any(prefix not in TRAINING_ONLY for prefix in method.local)
    if at_sites and shared.reference.shape[0] == 0:
        return dict(state), (NORMS_AT_SITES,)
    return served_state(method, state, shared), ()


def received_bytes(ledger: Path, sites: Sequence[str]) -> dict[str, tuple[int, int]]:
    """By site, wire bytes and messages that reached the owner of a ledger.

    Raises:
        LedgerError: it cannot be read.
    """
    found = dict.fromkeys(sites, (0, 0))
    for entry in read_good(ledger):
        if entry.kind == "message" and entry.direction == "in" and entry.peer in found:
            size, count = found[entry.peer]
            found[entry.peer] = size + entry.wire_bytes, count + 1
    return found


def planned_privacy(study: Study, roster: Roster) -> dict[str, SitePrivacy]:
    """By site, the most that its own gate lets out over the whole study, by its public number of units.

    Raises:
        StudyFileError, AccountError: as :func:`.private_plan.plan_of`.
    """
    delta = study.privacy.delta
    known = cache(lambda units: plan_of(study, units))
    found = {}
    for site in roster.sites:
        plan = known(site.samples)
        cost = spent_on(plan.planned, delta)
        found[site.name] = SitePrivacy(
            site=site.name,
            unit=study.privacy.unit,
            units=site.samples,
            epsilon=cost.epsilon,
            limit=study.privacy.epsilon,
            rdp_epsilon=cost.rdp_epsilon,
            delta=delta,
            noise_multiplier=plan.noise_multiplier,
            sample_rate=plan.sample_rate,
            steps=plan.steps * plan.rounds,
            releases=(),
        )
    return found


def _privacy_facts(
    private: Mapping[str, SitePrivacy], roster: Roster, arrived: Mapping[str, tuple[int, int]], sent: Transmissions
) -> PrivacyFacts:
    worst = max(private.values(), key=lambda site: site.epsilon, default=None)
    return PrivacyFacts(
        secure_aggregation=True,
        threshold=roster.thresholds.t,
        participants=len(roster.names),
        epsilon=worst.epsilon if worst else None,
        delta=worst.delta if worst else None,
        unit=worst.unit if worst else None,
        bytes_sent=sum(size for size, _ in arrived.values()),
        messages_sent=sum(count for _, count in arrived.values()),
        ledger_entries=sent.entries,
        ledger_head=sent.head,
    )


def _in_order(records: Sequence[Record], unreleased: Sequence[Record]) -> Iterator[Record]:
    """All tries, those of a round that released nothing before the one that did."""
    for record in records:
        yield from (failed for failed in unreleased if failed["round"] == record["round"])
        yield record

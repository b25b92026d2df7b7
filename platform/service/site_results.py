"""A site's own report, made at home when a study has ended: exact, complete, and for the site alone.

Model, baselines, calibration and figures are computed from the site's own images, as a simulation computes them. What
other sites have is not known here, and not said.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...evaluation.privacy_model import SitePrivacy
from ...evaluation.report_json import to_json
from ...evaluation.report_model import PrivacyFacts, SiteReport
from ...privacy.atomic import make_private, write_atomic
from ...privacy.secure_aggregation.roster import PinnedRoster, Roster
from ..adapter_file import read_adapter, write_adapter
from ..assessment import Assessment
from ..backbone import Backbone
from ..class_means import CLASS_MEANS, omitted
from ..config import Study
from ..dossier import site_files
from ..errors import RunFolderError
from ..federation import Federated, copy_home, transmissions
from ..figures_loop import FederatedFigures
from ..held_out import EVALUATION, TEMPERATURE, known_temperature
from ..held_out_memory import known_settings
from ..methods.method import Method
from ..model_card import model_card, spent
from ..own_data import OwnData
from ..privacy_figures import site_privacy
from ..report_inputs import site_report_of
from ..results import Results, Transmissions, card_facts
from ..run_folder import RunFolder
from ..site_calibration import write_site_calibration
from ..site_machine import FINAL_FILE
from ..site_side import SiteSide
from ..study_file import dump_study
from ..study_parts import assess_study
from ..training import served_state
from ..watching import Silent, Watcher

ELSEWHERE = "the coordinator has them, from sums alone, in its own report, where small counts are suppressed"
NOT_TOLD = "this site took no part in the sums after the last round, so it does not know the federated temperature"


def write_site_results(
    study: Study,
    method: Method,
    backbone: Backbone,
    own: OwnData,
    side: SiteSide,
    roster: PinnedRoster,
    folder: Path,
    watch: Watcher | None = None,
) -> Path:
    """Write a site's report, its model, and copies of what an auditor asks for; returns the page.

    Called again it writes the same files. ``folder`` then works as a run folder for ``wardround predict FOLDER IMAGE``,
    and with ``--site NAME`` for the site's own calibration; summary.json is written last and says that all is there.

    Args:
        study, method, backbone: what was trained, how, on which encoder.
        own: the site's data. side: the site, whose study has ended. roster: pinned.
        folder: where the report goes; private. watch: told of the progress.

    Raises:
        RunFolderError: the study has not ended here, or was aborted.
        CheckpointError: the final adapter, the site's own model or what it remembers of the sums is damaged.
        LedgerError: the ledger cannot be read. AccountError: an epsilon cannot be computed.
    """
    (site,) = own.data.sites
    final, name, run = side.home.state(study.digest()) / FINAL_FILE, site.name, RunFolder(folder)
    if not final.is_file():
        raise RunFolderError(
            "the study has not ended at this site, so there is no model to report on",
            where=str(final),
            remedy="Wait for its end; a study that was aborted has none",
        )
    federated = _federated(study, own, side, roster.roster, backbone, final)
    make_private(folder)
    make_private(run.adapter.parent)
    results = Results(
        study=study,
        backbone=backbone,
        method=method,
        data=own.data,
        **assess_study(study, method, own.data, federated, watch or Silent()),
        rounds=(),
        sent=federated.sent,
        received=federated.received,
        threshold=federated.threshold,
        adapter_sha256=write_adapter(
            run.adapter, served_state(method, federated.state, own.data.shared), federated.info
        ),
        seconds=0.0,
        skipped=len(own.skipped),
        omitted=federated.omitted,
        privacy=federated.privacy,
        figures=federated.figures,
    )
    report = _at_home(site_report_of(results, site), study, roster.roster)
    write_atomic(folder / "study.toml", dump_study(study).encode())
    _write_json(run.card, model_card(replace(card_facts(results), rounds=study.rounds)))
    for owner, calibrator in results.federated.calibrators.items():
        write_site_calibration(run, owner, calibrator, study_hash=study.digest(), adapter_sha256=results.adapter_sha256)
    write_atomic(folder / "report.json", to_json(report))
    for target, content in site_files(folder / "report.json", (), None):
        write_atomic(target, content)
    copy_home(side.home, folder)
    _write_json(run.summary, _summary(results, name))
    return folder / "report.html"


def _federated(
    study: Study, own: OwnData, side: SiteSide, roster: Roster, backbone: Backbone, final: Path
) -> Federated:
    """What the study's rounds came to, as this site knows it."""
    name, digest = side.site.name, study.digest()
    sent, info = read_adapter(final, study=digest, backbone=backbone.fingerprint)
    state, constants = side.trainer.layout.split(sent)
    personal, own_ledger = side.trainer.personal_state(), transmissions(side.ledger.path, digest)
    classes = own.data.cohort.dataset.class_names
    privacy: dict[str, SitePrivacy] = {}
    if side.budget is not None:
        units = roster.sites[roster.index[name]].samples
        privacy[name] = site_privacy(side.budget.charges, name, study, units)
    return Federated(
        state=state,
        info=info,
        personal={} if personal is None else {name: personal},
        records=(),
        unreleased=(),
        sent={name: own_ledger},
        received=Transmissions(0, 0, 0, ""),  # the coordinator's ledger is not here
        threshold=roster.thresholds.t,
        parameters={block.name: block.size for block in roster.blocks("update")},
        earlier=0.0,
        omitted=omitted(constants[CLASS_MEANS], classes) if CLASS_MEANS in constants else (),
        privacy=privacy,
        figures=_figures(study, side, roster),
    )


def _figures(study: Study, side: SiteSide, roster: Roster) -> FederatedFigures | None:
    """What this site was told of the sums: the temperature that the evaluation was made at. None without such sums."""
    if EVALUATION not in roster.vectors:
        return None
    settings = known_settings(side.home.state(study.digest()), EVALUATION)
    reasons: dict[str, str] = {EVALUATION: ELSEWHERE, **({} if settings else {TEMPERATURE: NOT_TOLD})}
    temperature = known_temperature(settings, study.digest(), study.rounds) if settings else None
    return FederatedFigures(temperature, None, reasons)


def _at_home(report: SiteReport, study: Study, roster: Roster) -> SiteReport:
    """The report with what its own data alone do not say."""
    privacy: PrivacyFacts = replace(report.privacy, participants=len(roster.names))
    partition = None if report.partition is None else replace(report.partition, at_other_sites=None)
    return replace(report, rounds=study.rounds, privacy=privacy, partition=partition)


def _summary(results: Results, name: str) -> Mapping[str, Any]:
    """The site's figures for scripts, in the layout of a run's, without what is not this site's."""

    def figures_of(assessment: Assessment) -> dict[str, Any]:
        return assessment.sites[name].figures.as_dict()

    (site,) = results.data.sites
    return {
        "study": results.study.name,
        "method": results.method.name,
        "rounds": results.study.rounds,
        "simulation": False,
        "site": name,
        "secure_aggregation": True,
        **results.marks.flags(),
        "sites": {
            name: {
                **figures_of(results.federated),
                **spent(results.privacy.get(name)),
                "bytes_sent": results.sent[name].bytes_sent,
                "train_n": len(site.train),
                "test_n": len(site.test),
                "personal": name in results.federated.own,
            }
        },
        "baselines": {
            "zero_shot": {"sites": {name: figures_of(results.zero_shot)}},
            "local_only": {"sites": {name: figures_of(results.local_only)}},
        },
        "bytes_up": results.sent[name].bytes_sent,
    }


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_atomic(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())

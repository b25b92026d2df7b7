"""A whole study in one process: data, features, rounds under secure aggregation, baselines, figures, dossier.

Killed at any moment and called again with ``resume``, it ends with the same adapter, bit for bit.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..evaluation.metrics import figures
from ..medical_datasets.errors import DataError
from ..privacy.atomic import make_private, write_atomic
from ..privacy.egress import COORDINATOR
from ..privacy.errors import ParameterError, RosterError
from ..privacy.ledger import verify
from .adapter_file import write_adapter
from .assessment import adapted, assess_local_only, assess_shared, train_local_only, zero_shot
from .backbone import Backbone, load_backbone
from .cohorts import StudyPlan, deal, read_cohort
from .config import Study
from .consortium import Consortium, open_consortium, rehearse_roster, start_state
from .dossier import write_results
from .engines.local import Tap, carry
from .errors import MethodError, RoundError, RunFolderError, StudyFileError
from .features import default_cache
from .methods.method import Method
from .methods.table import method_of
from .results import Results, Transmissions
from .run_folder import RunFolder
from .study_data import StudyData, encode_study
from .update import State
from .watching import Silent, Watcher


def simulate(
    study: Study,
    out: Path,
    *,
    resume: bool = False,
    watcher: Watcher | None = None,
    cache: Path | None = None,
    tap: Tap | None = None,
) -> RunFolder:
    """Run (or continue) a study with all sites in this process.

    Args:
        study: what to run.
        out: the run folder; new, unless ``resume``.
        resume: continue the run in ``out``; a finished run is left as it is.
        watcher: told of the progress.
        cache: feature cache; None for WARDROUND_CACHE or its default.
        tap: sees every parcel's exact bytes.

    Returns:
        The run folder, complete.

    Raises:
        StudyFileError, DataError: before anything is written.
        RunFolderError: ``out`` is taken, cannot be written, or belongs to another study.
        BackboneError, CheckpointError, PrivacyError, RoundError: with everything done so far kept for ``resume``.
    """
    watch = watcher or Silent()
    began = time.monotonic()
    if resume:
        run = RunFolder.resume(out, study)
        if run.summary.is_file():
            watch.note("the run is complete; nothing to resume")
            return run
    else:
        RunFolder.check_free(out)
    watch.stage("backbone")
    backbone = _backbone(study)
    method = method_of(study)
    plan: StudyPlan | None = None
    if study.data.source == "folder":
        # Real data are read before the run folder is made: a mistake in the study leaves nothing behind.
        watch.stage("reading data")
        plan = deal(study, read_cohort(study, Path()))
    run = run if resume else RunFolder.create(out, study)
    with run.locked():
        with _nothing_half_made(None if resume else run):
            if plan is None:
                watch.stage("drawing phantoms")
                plan = deal(
                    study, read_cohort(study, run.phantoms, lambda done, total: watch.progress(done, total, "images"))
                )
            watch.stage("encoding images")
            data, skipped = encode_study(
                plan,
                backbone,
                cache or default_cache(),
                lambda done, total, rate: watch.progress(done, total, "images", rate),
                watch.note,
            )
            rehearse_roster(study, method, data)
        for skip in skipped:
            watch.note(f"left out: {skip.path}: {skip.reason}")
        with open_consortium(study, method, data, backbone.fingerprint, run) as consortium:
            roster, bounds = consortium.roster.roster, consortium.roster.roster.thresholds
            watch.note(
                f"threshold {bounds.t} of {bounds.n} sites; with up to {bounds.colluding} colluding, the coordinator "
                "learns the others' sum alone"
            )
            if roster.capped():
                watch.note(f"weight cut to w_max: {', '.join(roster.capped())}")
            watch.stage("rounds")
            earlier = sum(record["seconds"]["total"] for record in run.read_rounds())
            records = _rounds(study, method, data, consortium, run, watch, tap)
            carry(consortium.coordinator, consortium.sites, consortium.coordinator.finish(), tap)
            consortium.close_ledgers(study.digest())
            final, info = consortium.coordinator.state, consortium.coordinator.info
            transmissions = {name: _transmissions(ledger.path) for name, ledger in consortium.ledgers.items()}
            _copy_homes(consortium, run)
        watch.stage("baselines and figures")
        make_private(run.adapter.parent)
        results = Results(
            study=study,
            backbone=backbone,
            method=method,
            data=data,
            **_assess(study, method, data, final, watch),
            rounds=records,
            sent={site.name: transmissions[site.name] for site in data.sites},
            received=transmissions[COORDINATOR],
            threshold=bounds.t,
            adapter_sha256=write_adapter(run.adapter, final, info),
            seconds=time.monotonic() - began + earlier,
            skipped=len(skipped),
        )
        watch.stage("dossier")
        write_results(run, results)
        return run


@contextmanager
def _nothing_half_made(run: RunFolder | None) -> Iterator[None]:
    """A study that cannot be run takes its new run folder with it, so that the mended one can use the same --out."""
    try:
        yield
    except (StudyFileError, MethodError, DataError, ParameterError, RosterError):
        if run is not None:
            run.study.unlink()
            run.lock.unlink(missing_ok=True)
            if run.phantoms.exists():
                shutil.rmtree(run.phantoms)
            with suppress(OSError):  # what a killed start left there must not hide why this one stopped
                run.root.rmdir()
        raise


def _backbone(study: Study) -> Backbone:
    """The study's frozen CLIP; refused when the study pins another fingerprint."""
    wanted = study.backbone
    backbone = load_backbone(wanted.name, wanted.weights or None, device=study.device, allow_random=wanted.allow_random)
    if wanted.fingerprint and wanted.fingerprint != backbone.fingerprint:
        raise RunFolderError(
            f"the backbone's fingerprint is {backbone.fingerprint}, the study pins {wanted.fingerprint}",
            where="backbone.fingerprint",
            remedy="Use the weights that the study was written for, or change the pin in every site's study",
        )
    return backbone


def _rounds(
    study: Study,
    method: Method,
    data: StudyData,
    consortium: Consortium,
    run: RunFolder,
    watch: Watcher,
    tap: Tap | None,
) -> list[Mapping[str, Any]]:
    """Every round that is still to be done; returns the lines of rounds.jsonl of all of them."""
    coordinator = consortium.coordinator
    records: list[Mapping[str, Any]] = [r for r in run.read_rounds() if r["round"] <= coordinator.info.round]
    done = coordinator.info.round
    if [record["round"] for record in records] != list(range(1, done + 1)):
        raise RunFolderError(
            f"rounds.jsonl has {len(records)} of the {done} rounds that the checkpoint knows",
            where=str(run.rounds),
            remedy="Restore it from a backup, or start a new run",
        )
    if coordinator.info.round:
        watch.note(f"going on after round {coordinator.info.round} of {study.rounds}")
    while coordinator.info.round < study.rounds:
        carry(coordinator, consortium.sites, coordinator.begin(), tap)
        outcome = coordinator.outcome
        if outcome is None:
            raise RoundError(f"round {coordinator.info.round + 1} did not end", remedy="Continue with --resume")
        failures = [f"{name}: {site.failure}" for name, site in consortium.sites.items() if site.failure]
        for name, site in consortium.sites.items():
            if sum(site.clipped.values()):
                watch.note(f"{name}: {sum(site.clipped.values())} coordinates of the update were cut at the clip")
        if not outcome.released and failures:
            raise RoundError(
                f"round {coordinator.info.round + 1} released nothing: {outcome.reason}",
                where="; ".join(failures),
                remedy="Mend it, then continue with --resume; the adapter of the round before is kept",
            )
        validation = _validation(method, data, coordinator.next_state)
        for name, (stage, reason) in outcome.dropped.items():
            watch.note(f"round {coordinator.info.round + 1} went on without {name}: {reason} at stage {stage}")
        for failure in failures:
            watch.note(failure)
        records.append(outcome.record(coordinator.info.round + 1, validation))
        # The line first, the checkpoint after it: a line without its checkpoint is dropped on resume, so no round is
        # ever missing from the list.
        run.write_rounds(records)
        carry(coordinator, consortium.sites, coordinator.commit(), tap)
        watch.round_done(records[-1], study.rounds)
    return records


def _validation(method: Method, data: StudyData, state: State) -> dict[str, Any]:
    """Balanced accuracy of the new adapter on the sites' validation parts; a simulation may look, nobody sends it."""
    predict = adapted(method, state, data.shared)
    classes = data.cohort.dataset.class_names
    parts = {site.name: site.validation for site in data.sites}
    logits = {name: predict(part.features) for name, part in parts.items()}
    own = {name: figures(logits[name], part.labels, classes=classes).balanced_accuracy for name, part in parts.items()}
    together = figures(
        np.concatenate(list(logits.values())),
        np.concatenate([part.labels for part in parts.values()]),
        classes=classes,
    )
    return {"balanced_accuracy": together.balanced_accuracy, "sites": own}


def _assess(study: Study, method: Method, data: StudyData, final: State, watch: Watcher) -> dict[str, Any]:
    """The federated adapter beside the frozen CLIP and beside each site on its own."""
    classes = data.cohort.dataset.class_names
    start = start_state(study, method, data.shared.text.shape[1])
    models = {}
    for number, site in enumerate(data.sites):
        watch.progress(number, len(data.sites), "sites trained alone")
        state = train_local_only(
            method,
            start,
            site,
            data.shared,
            study.training,
            study=study.digest(),
            seed=study.seed,
            rounds=study.rounds,
        )
        models[site.name] = adapted(method, state, data.shared)
    return {
        "federated": assess_shared(adapted(method, final, data.shared), data, classes),
        "zero_shot": assess_shared(zero_shot(data.shared), data, classes),
        "local_only": assess_local_only(models, data, classes),
    }


def _transmissions(ledger: Path) -> Transmissions:
    """What a ledger says left its owner."""
    report = verify(ledger)
    entries = [json.loads(line) for line in ledger.read_bytes().splitlines()]
    sent = [entry for entry in entries if entry["direction"] == "out" and entry["outcome"] in ("sent", "retried")]
    return Transmissions(sum(entry["wire_bytes"] for entry in sent), len(sent), report.entries, report.head)


def _copy_homes(consortium: Consortium, run: RunFolder) -> None:
    """Copies for the dossier: what an auditor asks for, without keys and state."""
    for name, home in consortium.homes.items():
        folder = run.site(name)
        make_private(folder)
        for path in (home.ledger, home.policy):
            write_atomic(folder / path.name, path.read_bytes())

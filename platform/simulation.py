"""A whole study in one process: data, features, rounds under secure aggregation, baselines, figures, dossier.

Killed at any moment and called again with ``resume``, it ends with the same adapter, bit for bit.
"""

from __future__ import annotations

import difflib
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

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
from .errors import MethodError, RunFolderError, StudyFileError
from .faults import ScriptedNetwork, SimulatedClock
from .features import default_cache
from .methods.method import Method
from .methods.table import method_of
from .results import Results, Transmissions
from .round_loop import Line, run_rounds
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
            _check_faults(study, data)
        for skip in skipped:
            watch.note(f"left out: {skip.path}: {skip.reason}")
        clock = SimulatedClock()
        with open_consortium(study, method, data, backbone.fingerprint, run, clock) as consortium:
            roster, bounds = consortium.roster.roster, consortium.roster.roster.thresholds
            watch.note(
                f"threshold {bounds.t} of {bounds.n} sites; with up to {bounds.colluding} colluding, the coordinator "
                "learns the others' sum alone"
            )
            if roster.capped():
                watch.note(f"weight cut to w_max: {', '.join(roster.capped())}")
            watch.stage("rounds")
            earlier = sum(record["seconds"]["total"] - record.get("waited", 0.0) for record in run.read_rounds())
            network = ScriptedNetwork(study.faults, consortium.coordinator, clock) if study.faults else None
            records = run_rounds(study, method, data, consortium, run, watch, Line(clock, network, tap))
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
            unreleased=[record for record in run.read_rounds() if not record.get("released", True)],
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


def _check_faults(study: Study, data: StudyData) -> None:
    """Refuse a fault of a site that takes no part.

    Raises:
        StudyFileError: names the site and those there are.
    """
    names = [site.name for site in data.sites]
    for name in sorted(study.faults.sites - set(names)):
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        raise StudyFileError(
            f"a fault of '{name}', which is no training site" + (f"; did you mean '{near[0]}'?" if near else ""),
            where="faults",
            remedy=f"Training sites are {', '.join(names)}",
        )


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

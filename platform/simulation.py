"""A whole study in one process: data, features, rounds under secure aggregation, baselines, figures, dossier.

Killed at any moment and called again with ``resume``, it ends with the same adapter, bit for bit.
"""

from __future__ import annotations

import difflib
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..medical_datasets.errors import DataError
from ..medical_datasets.split_file import write_split
from ..privacy.atomic import make_private
from ..privacy.errors import AccountError, ParameterError, RosterError
from .adapter_file import write_adapter
from .cohorts import StudyPlan, deal, plan_split
from .config import Study
from .consortium import rehearse_roster
from .coordinator_report import check_earlier, earlier_report
from .dossier import write_results
from .engines.local import Tap
from .errors import MethodError, StudyFileError
from .features import default_cache
from .federation import federate
from .figures_loop import erase_sums
from .image_index import image_index
from .private_plan import check_units, rehearse_plans
from .results import Results
from .run_folder import RunFolder
from .study_cohort import read_cohort
from .study_data import StudyData, encode_study
from .study_parts import assess_study, federated_method, study_backbone
from .study_split import check_unchanged, kept_split
from .training import served_state
from .watching import Silent, Watcher, left_out
from .withdrawn import rows_of_site, withdrawn_records


def simulate(
    study: Study,
    out: Path,
    *,
    resume: bool = False,
    watcher: Watcher | None = None,
    cache: Path | None = None,
    tap: Tap | None = None,
    previous: Path | None = None,
) -> RunFolder:
    """Run (or continue) a study with all sites in this process.

    Args:
        study: what to run.
        out: the run folder; new, unless ``resume``.
        resume: continue the run in ``out``; a finished run is left as it is.
        watcher: told of the progress.
        cache: feature cache; None for WARDROUND_CACHE or its default.
        tap: sees every parcel's exact bytes.
        previous: the run whose coordinator's report was published before, of images that may be the same ones.

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
            with run.locked():
                erase_sums(run)  # a stop may have come between the report and this
            watch.note("the run is complete; nothing to resume")
            return run
    else:
        RunFolder.check_free(out)
    watch.stage("backbone")
    backbone = study_backbone(study)
    method = federated_method(study)
    published = earlier_report(previous) if previous is not None else None
    plan: StudyPlan | None = None
    features = cache or default_cache()
    kept = kept_split(run.split) if resume else None
    if study.data.source != "phantoms":
        # Real data are read before the run folder is made: a mistake in the study leaves nothing behind.
        watch.stage("reading data")
        with image_index(study, features, note=watch.note) as reader:
            plan = deal(study, read_cohort(study, Path(), reader=reader, note=watch.note), kept)
    run = run if resume else RunFolder.create(out, study)
    with run.locked():
        with _nothing_half_made(None if resume else run):
            if plan is None:
                watch.stage("drawing phantoms")
                drawn = read_cohort(study, run.phantoms, lambda done, total: watch.progress(done, total, "images"))
                plan = deal(study, drawn, kept)
            if kept is not None:
                check_unchanged(kept, plan.cohort, [(site.name, rows_of_site(site)) for site in plan.sites], run.split)
            elif not run.split.exists():
                write_split(plan_split(study, plan), run.split)
            watch.stage("encoding images")
            if published is not None and previous is not None:
                dataset = plan.cohort.dataset
                check_earlier(published, study, dataset.class_names, dataset.title, previous)
            withdrawn = withdrawn_records(run.homes, plan, study)
            for told in withdrawn.notes:
                watch.note(told)
            with image_index(study, features, run.homes, watch.note) as reader:
                data, skipped = encode_study(
                    study,
                    method,
                    plan,
                    backbone,
                    features,
                    lambda done, total, rate: watch.progress(done, total, "images", rate),
                    watch.note,
                    withdrawn,
                    reader,
                )
            if study.private:
                for known in check_units(study, data):
                    watch.note(known)
                rehearse_plans(study, data)
            rehearse_roster(study, method, data)
            _check_faults(study, data)
        for words in left_out([(skip.path, skip.reason) for skip in skipped], brief=watch.brief):
            watch.note(words)
        federated = federate(study, method, data, backbone.fingerprint, run, watch, tap)
        watch.stage("baselines and figures")
        make_private(run.adapter.parent)
        served = served_state(method, federated.state, data.shared)
        results = Results(
            study=study,
            backbone=backbone,
            method=method,
            data=data,
            **assess_study(study, method, data, federated, watch),
            rounds=federated.records,
            unreleased=federated.unreleased,
            omitted=federated.omitted,
            privacy=federated.privacy,
            sent=federated.sent,
            received=federated.received,
            threshold=federated.threshold,
            figures=federated.figures,
            adapter_sha256=write_adapter(run.adapter, served, federated.info),
            seconds=time.monotonic() - began + federated.earlier,
            skipped=len(skipped),
        )
        watch.stage("dossier")
        write_results(run, results, published)
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
    except (StudyFileError, MethodError, DataError, ParameterError, RosterError, AccountError):
        if run is not None:
            run.study.unlink()
            run.lock.unlink(missing_ok=True)
            run.split.unlink(missing_ok=True)
            if run.phantoms.exists():
                shutil.rmtree(run.phantoms)
            with suppress(OSError):  # what a killed start left there must not hide why this one stopped
                run.root.rmdir()
        raise

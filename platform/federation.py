"""The federated part of a simulation: homes, rounds under secure aggregation, and what each side has at the end."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..evaluation.privacy_model import SitePrivacy
from ..privacy.atomic import make_private, write_atomic
from ..privacy.egress import COORDINATOR
from ..privacy.home import SiteHome
from ..privacy.ledger.log import verify
from .adapter_file import AdapterInfo
from .adapters import State
from .assessment import Assessment, Calibrate, Fitted, assess_shared, trained
from .calibration import carries_temperature
from .class_means import CLASS_MEANS, omitted
from .config import Study
from .consortium import Consortium, open_consortium
from .engines.local import SimulatedLine, Tap
from .faults import ScriptedNetwork, SimulatedClock
from .figures_loop import FederatedFigures, sum_figures
from .means_loop import seconds_spent, sum_class_means
from .methods.method import Method
from .privacy_figures import site_privacy
from .results import Transmissions
from .round_loop import Record, run_rounds, tell_of_ledgers
from .run_folder import RunFolder
from .study_data import StudyData
from .watching import Watcher


@dataclass(frozen=True, slots=True)
class Federated:
    """What a study's rounds came to.

    Attributes:
        state: the final global tensors. info: what they belong to.
        personal: by site, all tensors of its own model; empty where sites use the global one.
        records: lines of rounds.jsonl that released an adapter, one a round.
        unreleased: lines of tries that released nothing.
        sent: per training site, by its own ledger. received: the coordinator's own ledger.
        threshold: t of the roster.
        parameters: numbers of one update, by block.
        earlier: seconds of rounds that were done before this process, in a resumed run.
        omitted: classes without a mean, where the study aligns to class means.
        privacy: by site, what its budget says of this study; empty without differential privacy.
        figures: sums over the sites' held-out images; None where none were to be made.
    """

    state: State
    info: AdapterInfo
    personal: Mapping[str, State]
    records: Sequence[Record]
    unreleased: Sequence[Record]
    sent: Mapping[str, Transmissions]
    received: Transmissions
    threshold: int
    parameters: Mapping[str, int]
    earlier: float
    omitted: tuple[str, ...] = ()
    privacy: Mapping[str, SitePrivacy] = field(default_factory=dict)
    figures: FederatedFigures | None = None


def federate(
    study: Study,
    method: Method,
    data: StudyData,
    backbone: str,
    run: RunFolder,
    watch: Watcher,
    tap: Tap | None = None,
) -> Federated:
    """Every round that is still to be done, from the newest checkpoint on; the caller holds the run's lock.

    Args:
        study, method, data: what is trained, how, and on what.
        backbone: fingerprint of the frozen CLIP.
        run: where homes and checkpoints lie.
        watch: told of the progress.
        tap: sees every parcel's exact bytes.

    Raises:
        CheckpointError, PrivacyError, RoundError: with everything done so far kept for the next call.
    """
    clock = SimulatedClock()
    with open_consortium(study, method, data, backbone, run, clock) as consortium:
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
        line, classes = SimulatedLine(clock, network, tap), data.cohort.dataset.class_names
        if consortium.coordinator.means_due:
            sum_class_means(study, classes, consortium, run, watch, line)
        else:
            earlier += seconds_spent(run)
        records = run_rounds(study, method, data, consortium, run, watch, line)
        figures = sum_figures(study, classes, consortium, run, watch, line)
        if study.private and study.evaluation.federated:
            watch.note("figures of all sites are not summed: nothing in such sums carries noise")
        SimulatedLine(clock, None, tap).carry(consortium, consortium.coordinator.finish())
        tell_of_ledgers(consortium, watch)
        consortium.close_ledgers(study.digest())
        ledgers = {name: transmissions(ledger.path) for name, ledger in consortium.ledgers.items()}
        own = {name: trainer.personal_state() for name, trainer in consortium.trainers.items()}
        _name_those_without(consortium, own, watch)
        _copy_homes(consortium, run)
        means = consortium.coordinator.constants.get(CLASS_MEANS)
        return Federated(
            state=consortium.coordinator.state,
            info=consortium.coordinator.info,
            personal={name: state for name, state in own.items() if state is not None},
            records=records,
            unreleased=[record for record in run.read_rounds() if not record.get("released", True)],
            sent={site.name: ledgers[site.name] for site in data.sites},
            received=ledgers[COORDINATOR],
            threshold=bounds.t,
            parameters={block.name: block.size for block in roster.blocks("update")},
            earlier=earlier,
            omitted=omitted(means, classes) if means is not None else (),
            privacy={name: _privacy_of(study, consortium, name) for name in consortium.budgets},
            figures=figures,
        )


def _privacy_of(study: Study, consortium: Consortium, site: str) -> SitePrivacy:
    roster = consortium.roster.roster
    units = roster.sites[roster.index[site]].samples
    return site_privacy(consortium.budgets[site].charges, site, study, units)


def _name_those_without(consortium: Consortium, own: Mapping[str, State | None], watch: Watcher) -> None:
    """Tell of every site that should have a model of its own and has none, and why, where that is known."""
    for name, trainer in consortium.trainers.items():
        if trainer.has_personal and own[name] is None:
            why = consortium.sites[name].failure
            watch.note(
                f"site '{name}' has no model of its own: the federation's answers for it" + (f" ({why})" if why else "")
            )


def assess_federated(
    method: Method, data: StudyData, federated: Federated, calibrate: Calibrate | None = None, *, looks: bool = False
) -> Assessment:
    """Figures of a federation's model, each site with its own variant where it has one.

    Args:
        method, data, federated: what was trained. calibrate: fits a site's own calibration.
        looks: a federated temperature is fitted on the sites' validation logits themselves, as a comparison does; else
            it is the one that they summed for, and None where nobody summed.
    """
    return assess_shared(
        trained(method, federated.state, data.shared),
        data,
        data.cohort.dataset.class_names,
        consumes=method.consumes,
        personal={name: trained(method, state, data.shared) for name, state in federated.personal.items()},
        calibrated=carries_temperature(federated.state),
        fitted=None if looks else Fitted(federated.figures.temperature if federated.figures is not None else None),
        calibrate=calibrate,
    )


def transmissions(ledger: Path, study: str | None = None) -> Transmissions:
    """What a ledger says left its owner.

    Args:
        ledger: the file. study: hash of the study that messages are counted of; None for all.
    """
    report = verify(ledger)
    entries = [json.loads(line) for line in ledger.read_bytes().splitlines()]
    if study is not None:
        entries = [entry for entry in entries if entry["study"] == study]
    sent = [entry for entry in entries if entry["direction"] == "out" and entry["outcome"] in ("sent", "retried")]
    return Transmissions(sum(entry["wire_bytes"] for entry in sent), len(sent), report.entries, report.head)


def _copy_homes(consortium: Consortium, run: RunFolder) -> None:
    """Copies for the dossier: what an auditor asks for, without keys and state."""
    for name, home in consortium.homes.items():
        copy_home(home, run.site(name))


def copy_home(home: SiteHome, folder: Path) -> None:
    """What an auditor asks a site for: ledger, its proofs, policy and budget; no key, no state."""
    make_private(folder)
    kept = [home.ledger, home.policy, home.budget]
    kept += [*home.folder.glob("checkpoints/*"), *home.folder.glob("rosters/*")]
    for path in kept:
        if path.is_file():
            target = folder / path.relative_to(home.folder)
            make_private(target.parent)
            write_atomic(target, path.read_bytes())

"""Everything that a deployed coordinator writes for others to read: what is not made here is not published.

A deployed coordinator has the published report, its own record of the rounds, and what sites and roster say in public.
It has no figure of a single site, no validation figure and no training loss that it may print: they are null. Files
that a simulation writes with exact figures (its own summary.json, index.html and rounds.jsonl) are not of this kind and
say ``"simulation": true``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidReportError
from ..page_parts import UNKNOWN, Cell, HeadlineFigure, Table, byte_size, plural, privacy_facts, provenance_facts
from ..sections.blocks import Big, Bullets, Door, Grid, Note, Section, Signed
from ..sections.blocks import Facts as Pairs
from ..statements import Statement
from . import page_figures
from .bands import SMALL
from .coordinator_view import PageView, coordinator_page, lede, rendered
from .form_check import checked
from .published import Facts, Published
from .twins import deployed_summary, to_csv, to_json

PAGE, DATA, TABLE = "coordinator/report.html", "coordinator/report.json", "coordinator/report.csv"
INDEX, SUMMARY, ROUNDS = "index.html", "summary.json", "rounds.jsonl"
FIGURES = (
    *("n", "accuracy", "balanced_accuracy", "macro_f1", "macro_auroc"),
    *("ece", "classwise_ece", "brier", "nll", "temperature"),
)
KEPT = (
    "round",
    "attempt",
    "released",
    "reason",
    "participants",
    "dropped",
    "seconds",
    "waited",
    "bytes_up",
    "bytes_down",
)
"""What of a round's record is about the protocol alone; everything else is null."""
ERASED = ("train_loss", "validation")


@dataclass(frozen=True, slots=True)
class SiteFacts:
    """What is public of a site.

    Attributes:
        name: in the roster. train_n: training images as the site itself made them public, or None; from 1 to 10 it is
            not printed. epsilon, delta: spent, or None where differential privacy was off.
        bytes_sent: in the whole study, or None.
    """

    name: str
    train_n: int | None = None
    epsilon: float | None = None
    delta: float | None = None
    bytes_sent: int | None = None


def deployed_files(
    published: Published,
    *,
    records: Sequence[Mapping[str, Any]],
    sites: Sequence[SiteFacts] = (),
    unseen: Sequence[str] = (),
    statements: Sequence[Statement] = (),
    bytes_down: int | None = None,
    seconds: float | None = None,
) -> Mapping[str, bytes]:
    """Every file that others get to read, by its path in the run folder; the same input gives the same bytes.

    Args:
        published: the report. records: of rounds.jsonl, a try each, in order; fields that are not about the protocol
            are dropped. sites: that trained, in the order of the roster. unseen: names of sites that did not.
        statements: signed about the coordinator's report. bytes_down: sent by the coordinator. seconds: of the study.

    Raises:
        InvalidReportError: the report holds what is never published, or is one of a simulation.
    """
    checked(published)
    _check_deployed(published.facts)
    study = _Study(published.facts, tuple(sites), tuple(unseen), tuple(map(_record, records)), bytes_down, seconds)
    return {
        PAGE: coordinator_page(published, statements).encode(),
        DATA: to_json(published),
        TABLE: to_csv(published).encode(),
        **_around(study, published, "", statements),
    }


def files_without_figures(
    facts: Facts,
    why: str,
    *,
    records: Sequence[Mapping[str, Any]],
    sites: Sequence[SiteFacts] = (),
    unseen: Sequence[str] = (),
    statements: Sequence[Statement] = (),
    bytes_down: int | None = None,
    seconds: float | None = None,
) -> Mapping[str, bytes]:
    """Every file that others get to read of a study without sums over held-out images; it has no report.

    Args:
        facts: public facts of the study. why: there are no figures; a sentence without a capital and a full stop.
        records, sites, unseen, statements, bytes_down, seconds: as for :func:`deployed_files`.

    Raises:
        InvalidReportError: the facts are of a simulation, or no reason is given.
    """
    _check_deployed(facts)
    if not why:
        raise InvalidReportError("figures are missing without a reason", where="why", remedy="Say why there are none")
    study = _Study(facts, tuple(sites), tuple(unseen), tuple(map(_record, records)), bytes_down, seconds)
    return _around(study, None, why, statements)


@dataclass(frozen=True, slots=True)
class _Study:
    """What stands around the figures."""

    facts: Facts
    sites: tuple[SiteFacts, ...]
    unseen: tuple[str, ...]
    records: tuple[Mapping[str, Any], ...]
    bytes_down: int | None
    seconds: float | None


def _check_deployed(facts: Facts) -> None:
    if facts.simulation:
        raise InvalidReportError(
            "the report is of a simulation", where="facts.simulation", remedy="Use what the simulation itself writes"
        )


def _around(
    study: _Study, published: Published | None, why: str, statements: Sequence[Statement]
) -> Mapping[str, bytes]:
    """Front page, rounds and summary, in the order in which they are written."""
    summary = _summary(study, published, why)
    return {
        INDEX: rendered(_index(study, published, why, statements)).encode(),
        ROUNDS: "".join(json.dumps(record, separators=(",", ":")) + "\n" for record in study.records).encode(),
        SUMMARY: (json.dumps(summary, indent=1, allow_nan=False) + "\n").encode(),
    }


def _record(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: record.get(name) for name in KEPT} | dict.fromkeys(ERASED)


def _summary(study: _Study, published: Published | None, why: str) -> dict[str, Any]:
    facts, nothing = study.facts, dict.fromkeys(FIGURES)
    found = {}
    for site in study.sites:
        found[site.name] = {
            **nothing,
            "epsilon": site.epsilon,
            "delta": site.delta,
            "bytes_sent": site.bytes_sent,
            "train_n": site.train_n if site.train_n is None or site.train_n > SMALL or site.train_n == 0 else None,
            "test_n": None,
        }
    names, unseen = [site.name for site in study.sites], dict.fromkeys(study.unseen, nothing)
    baseline = {"global": nothing, "sites": dict.fromkeys(names, nothing), "unseen": unseen}
    return {
        "study": facts.study,
        "method": facts.method,
        "rounds": facts.rounds,
        "simulation": False,
        "secure_aggregation": facts.privacy.secure_aggregation,
        "global": nothing if published is None else deployed_summary(published),
        "not_summed": why,
        "sites": found,
        "unseen": unseen,
        "baselines": {"zero_shot": baseline, "local_only": baseline},
        "bytes_up": facts.privacy.bytes_sent,
        "bytes_down": study.bytes_down,
        "seconds": None if study.seconds is None else round(study.seconds, 3),
    }


def _index(study: _Study, published: Published | None, why: str, statements: Sequence[Statement]) -> PageView:
    facts = study.facts
    count = len(study.sites) if published is None else published.sites
    if published is None:
        card = Big(HeadlineFigure("Balanced accuracy, all sites", UNKNOWN, why), ())
        reading: tuple[str, ...] = (f"There are no figures of all sites together: {why}.",)
    else:
        card, reading = page_figures.big(published), page_figures.reading(published)
    sections = [
        Section(
            "reports",
            "Reports",
            ("Every site has a complete report of its own, which stays there. Here is what may be said of all.",),
            (
                *(_report_doors() if published is not None else (Note(f"The coordinator has no report: {why}."),)),
                Door("The study in numbers: ", "summary.json", SUMMARY, "."),
            ),
        ),
        Section(
            "sites",
            "Sites",
            ("A site's own figures are not published here: ask the site for its report.",),
            (
                (Grid(_sites(study.sites), "Sites"),)
                if study.sites
                else (Note(f"{plural(count, 'site')} in the sums."),)
            ),
        ),
        Section(
            "rounds",
            "Rounds",
            ("Training loss and validation figures are exact figures of images, so they are not published.",),
            (
                Grid(_rounds(study.records), "Rounds") if study.records else Note("No round was completed."),
                Door("All tries: ", "rounds.jsonl", ROUNDS, "."),
            ),
        ),
        *([Section("statements", "Signed statements", (), (Signed(tuple(statements)),))] if statements else []),
        Section("privacy", "What left the sites", (), (Pairs(privacy_facts(facts.privacy, sends=True)),)),
        Section(
            "limits",
            "Intended use and limits",
            (),
            (
                Bullets(
                    (
                        "Research use, not for diagnosis: the model must not decide about a patient.",
                        "The figures are of all sites together: a site can lie far from them.",
                    )
                ),
            ),
        ),
        Section("made", "How this study was made", (), (Pairs(provenance_facts(facts.provenance)),)),
    ]
    return PageView(
        facts,
        f"{facts.study} · Wardround dossier",
        "Study dossier",
        f"{lede(facts)} · {plural(count, 'site')}",
        card.figure,
        card.side,
        reading,
        tuple(sections),
    )


def _report_doors() -> tuple[Door, ...]:
    return (
        Door("All sites together: ", "the coordinator's report", PAGE, ", from sums alone."),
        Door("Its figures: ", "as JSON", DATA, " for scripts."),
        Door("Its figures: ", "as CSV", TABLE, " for a spreadsheet."),
    )


def _sites(sites: Sequence[SiteFacts]) -> Table:
    return Table(
        "Sites that trained.",
        ("Site", "Bytes sent"),
        tuple((Cell(site.name), Cell(byte_size(site.bytes_sent))) for site in sites),
    )


def _rounds(records: Sequence[Mapping[str, Any]]) -> Table:
    rows = []
    for record in records:
        taken = record["seconds"]
        total = taken.get("total") if isinstance(taken, Mapping) else None
        rows.append(
            (
                Cell(str(record["round"]), "" if record["released"] in (True, None) else "nothing was released"),
                Cell(str(len(record["participants"] or ()))),
                Cell(", ".join(f"{each['site']} ({each['stage']})" for each in record["dropped"] or ()) or "nobody"),
                Cell("not known" if total is None else f"{total:.1f}"),
                Cell(byte_size(record["bytes_up"])),
                Cell(byte_size(record["bytes_down"])),
            )
        )
    columns = ("Round", "Sites", "Dropped", "Seconds", "Sent by sites", "Sent to sites")
    return Table("Every try at a round.", columns, tuple(rows), stacked=False)

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
from ..page_parts import Cell, Table, byte_size, plural, privacy_facts, provenance_facts
from ..sections.blocks import Bullets, Door, Facts, Grid, Note, Section, Signed
from ..statements import Statement
from . import page_figures
from .bands import SMALL
from .coordinator_view import PageView, coordinator_page, lede, rendered
from .form_check import checked
from .published import Published
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
    if published.facts.simulation:
        raise InvalidReportError(
            "the report is of a simulation", where="facts.simulation", remedy="Use what the simulation itself writes"
        )
    kept = [_record(record) for record in records]
    summary = _summary(published, sites, unseen, bytes_down, seconds)
    return {
        PAGE: coordinator_page(published, statements).encode(),
        DATA: to_json(published),
        TABLE: to_csv(published).encode(),
        SUMMARY: (json.dumps(summary, indent=1, allow_nan=False) + "\n").encode(),
        INDEX: rendered(_index(published, kept, sites, statements)).encode(),
        ROUNDS: "".join(json.dumps(record, separators=(",", ":")) + "\n" for record in kept).encode(),
    }


def _record(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: record.get(name) for name in KEPT} | dict.fromkeys(ERASED)


def _summary(
    published: Published,
    sites: Sequence[SiteFacts],
    unseen: Sequence[str],
    bytes_down: int | None,
    seconds: float | None,
) -> dict[str, Any]:
    facts, nothing = published.facts, dict.fromkeys(FIGURES)
    found = {}
    for site in sites:
        found[site.name] = {
            **nothing,
            "epsilon": site.epsilon,
            "delta": site.delta,
            "bytes_sent": site.bytes_sent,
            "train_n": site.train_n if site.train_n is None or site.train_n > SMALL or site.train_n == 0 else None,
            "test_n": None,
        }
    names = [site.name for site in sites]
    baseline = {"global": nothing, "sites": dict.fromkeys(names, nothing), "unseen": dict.fromkeys(unseen, nothing)}
    return {
        "study": facts.study,
        "method": facts.method,
        "rounds": facts.rounds,
        "simulation": False,
        "secure_aggregation": facts.privacy.secure_aggregation,
        "global": deployed_summary(published),
        "sites": found,
        "unseen": dict.fromkeys(unseen, nothing),
        "baselines": {"zero_shot": baseline, "local_only": baseline},
        "bytes_up": facts.privacy.bytes_sent,
        "bytes_down": bytes_down,
        "seconds": None if seconds is None else round(seconds, 3),
    }


def _index(
    published: Published,
    records: Sequence[Mapping[str, Any]],
    sites: Sequence[SiteFacts],
    statements: Sequence[Statement],
) -> PageView:
    facts, card = published.facts, page_figures.big(published)
    sections = [
        Section(
            "reports",
            "Reports",
            ("Every site has a complete report of its own, which stays there. Here is what may be said of all.",),
            (
                Door("All sites together: ", "the coordinator's report", PAGE, ", from sums alone."),
                Door("Its figures: ", "as JSON", DATA, " for scripts."),
                Door("Its figures: ", "as CSV", TABLE, " for a spreadsheet."),
                Door("The study in numbers: ", "summary.json", SUMMARY, "."),
            ),
        ),
        Section(
            "sites",
            "Sites",
            ("A site's own figures are not published here: ask the site for its report.",),
            ((Grid(_sites(sites), "Sites"),) if sites else (Note(f"{plural(published.sites, 'site')} in the sums."),)),
        ),
        Section(
            "rounds",
            "Rounds",
            ("Training loss and validation figures are exact figures of images, so they are not published.",),
            (
                Grid(_rounds(records), "Rounds") if records else Note("No round was completed."),
                Door("All tries: ", "rounds.jsonl", ROUNDS, "."),
            ),
        ),
        *([Section("statements", "Signed statements", (), (Signed(tuple(statements)),))] if statements else []),
        Section("privacy", "What left the sites", (), (Facts(privacy_facts(facts.privacy, sends=True)),)),
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
        Section("made", "How this study was made", (), (Facts(provenance_facts(facts.provenance)),)),
    ]
    return PageView(
        facts,
        f"{facts.study} · Wardround dossier",
        "Study dossier",
        f"{lede(facts)} · {plural(published.sites, 'site')}",
        card.figure,
        card.side,
        page_figures.reading(published),
        tuple(sections),
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

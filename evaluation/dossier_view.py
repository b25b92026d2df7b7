"""From a :class:`Dossier` to the words, tables and figures of the study's front page."""

from __future__ import annotations

from dataclasses import dataclass

from .figures_svg import Series, dot_plot, learning_curve
from .intervals import TOO_FEW
from .page_parts import (
    UNKNOWN,
    Cell,
    HeadlineFigure,
    Table,
    byte_size,
    duration,
    number,
    plural,
    privacy_facts,
    provenance_facts,
    span,
    upper,
)
from .privacy_view import PrivacyView, privacy_view, with_spent
from .report_model import Dossier, Score, SiteRow
from .sections.words import NO_SPREAD, between_words
from .statements import Statement


@dataclass(frozen=True, slots=True)
class ReportCard:
    """The way to one report: ``href`` opens it, None without one; ``links`` are (label, href) of what lies beside."""

    title: str
    sub: str
    href: str | None
    links: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class DossierView:
    """All that the template prints, in order."""

    dossier: Dossier
    facts: tuple[tuple[str, str], ...]
    headline: HeadlineFigure | None
    side: tuple[HeadlineFigure, ...]
    reading: str
    sites: Table
    calibration: Table
    dots: str
    curve: str
    rounds: Table
    privacy: tuple[tuple[str, str], ...]
    differential: PrivacyView | None
    provenance: tuple[tuple[str, str], ...]
    statements: tuple[Statement, ...] = ()
    cards: tuple[ReportCard, ...] = ()


def dossier_view(dossier: Dossier, statements: tuple[Statement, ...] = ()) -> DossierView:
    """Compute the front page."""
    training = [row for row in dossier.sites if row.role == "training"]
    unseen = [row for row in dossier.sites if row.role == "unseen"]
    names = [_name(row) for row in dossier.sites]
    series = tuple(
        _series(label, [getattr(row, key) for row in dossier.sites])
        for label, key in (("Federated", "federated"), ("Local only", "local_only"), ("Zero-shot", "zero_shot"))
        if any(getattr(row, key) is not None for row in dossier.sites)
    )
    curve = ""
    if any(row.validation_balanced_accuracy is not None for row in dossier.rounds):
        curve = learning_curve(
            "curve",
            "Balanced accuracy on validation images by round",
            [row.round for row in dossier.rounds],
            [row.validation_balanced_accuracy for row in dossier.rounds],
        )
    facts = with_spent(dossier.privacy, dossier.privacy_sites)
    return DossierView(
        dossier=dossier,
        facts=(
            ("Method", dossier.method),
            ("Images", dossier.dataset),
            ("Sites", plural(len(training), "training site") + (f", {len(unseen)} unseen" if unseen else "")),
            ("Rounds", str(len(dossier.rounds))),
            ("Secure aggregation", "on" if dossier.privacy.secure_aggregation else "OFF"),
            ("Differential privacy", "off" if facts.epsilon is None else f"epsilon {upper(facts.epsilon)}"),
            ("Bytes sent by sites", byte_size(dossier.privacy.bytes_sent)),
            ("Time", duration(dossier.seconds)),
        ),
        headline=_headline(dossier),
        side=_side(dossier, unseen),
        reading=_reading(dossier),
        sites=_sites(dossier),
        calibration=_calibration(dossier),
        dots=dot_plot("dots", "Balanced accuracy at every site with 95 % intervals", names, series) if names else "",
        curve=curve,
        rounds=Table(
            "Every round of the study.",
            (
                "Round",
                "Sites",
                "Dropped",
                "Seconds",
                "Sent by sites",
                "Sent to sites",
                "Training loss",
                "Balanced accuracy",
                *(["Remarks"] if any(row.remarks for row in dossier.rounds) else []),
            ),
            tuple(
                (
                    Cell(str(row.round)),
                    Cell(str(row.participants)),
                    Cell(str(row.dropped)),
                    Cell(f"{row.seconds:.1f}"),
                    Cell(byte_size(row.bytes_up)),
                    Cell(byte_size(row.bytes_down)),
                    Cell("not sent" if dossier.privacy_sites else number(row.train_loss, 3)),
                    Cell(number(row.validation_balanced_accuracy)),
                    *([Cell("; ".join(row.remarks))] if any(r.remarks for r in dossier.rounds) else []),
                )
                for row in dossier.rounds
            ),
            stacked=False,
        ),
        privacy=privacy_facts(facts, sends=True),
        differential=privacy_view(dossier.privacy_sites, dossier.audit),
        provenance=provenance_facts(dossier.provenance),
        statements=statements,
        cards=_cards(dossier),
    )


_COORDINATOR = "coordinator/report"
"""Path of the coordinator's report without its ending: page, JSON and CSV are always written together."""


def _cards(dossier: Dossier) -> tuple[ReportCard, ...]:
    """The coordinator's report first, or why there is none, then every site's."""
    cards = [_together(dossier)]
    for row in dossier.sites:
        if row.report_link is None:
            continue
        beside = [("Case review", row.cases_link)] if row.cases_link else []
        beside += [(f"Figures as {link.rsplit('.', 1)[-1].upper()}", link) for link in row.twin_links]
        beside += [("Ledger", row.ledger_link)] if row.ledger_link else []
        role = "training site" if row.role == "training" else "unseen: took no part in training"
        sub = f"{role} · {plural(row.test_n, 'test image')}"
        cards.append(ReportCard(row.site, sub, row.report_link, tuple(beside)))
    return tuple(cards)


def _together(dossier: Dossier) -> ReportCard:
    if any(link.href == f"{_COORDINATOR}.html" for link in dossier.links):
        twins = tuple((f"Figures as {kind.upper()}", f"{_COORDINATOR}.{kind}") for kind in ("json", "csv"))
        return ReportCard(
            "All sites together", "the coordinator's report, from sums alone", f"{_COORDINATOR}.html", twins
        )
    why = dossier.not_summed.rstrip(".") or "this run holds no report of the coordinator"
    return ReportCard("All sites together: not published", f"{why[:1].upper()}{why[1:]}.", None, ())


def _name(row: SiteRow) -> str:
    return row.site if row.role == "training" or "unseen" in row.site.lower() else f"{row.site} (unseen)"


def _series(label: str, scores: list[Score | None]) -> Series:
    return Series(
        label,
        tuple(score.balanced_accuracy if score else None for score in scores),
        tuple(score.low if score else None for score in scores),
        tuple(score.high if score else None for score in scores),
    )


def _reading(dossier: Dossier) -> str:
    pairs = [
        (row.federated.balanced_accuracy, row.zero_shot.balanced_accuracy)
        for row in dossier.sites
        if row.zero_shot is not None
    ]
    known = [(federated, zero) for federated, zero in pairs if federated is not None and zero is not None]
    if not known:
        return "No site has both a federated and a zero-shot figure to compare."
    better = sum(federated > zero for federated, zero in known)
    gains = [row.over_zero_shot for row in dossier.sites if row.over_zero_shot is not None]
    at = f"{better} of {plural(len(known), 'site')}"
    said = f"Federated training scores above the untrained model at {at} in balanced accuracy"
    if gains:
        sure = sum(gain.low is not None and gain.low > 0 for gain in gains)
        said += f", at {sure or 'none'} of them by more than chance explains"
    return (
        f"{said}. Sites differ in case mix and in which classes they hold: compare models within a site, not sites "
        "with one another."
    )


def _headline(dossier: Dossier) -> HeadlineFigure | None:
    if dossier.overall is None:
        return None
    cell = _score_cell(dossier.overall)
    between = between_words(dossier.overall.low, dossier.overall.high)
    sub = f"95 % interval {between}, all training sites" if between not in ("", NO_SPREAD) else cell.sub
    return HeadlineFigure("Balanced accuracy, federated", cell.main, sub)


def _side(dossier: Dossier, unseen: list[SiteRow]) -> tuple[HeadlineFigure, ...]:
    given = [
        ("Local only", dossier.overall_local_only),
        ("Zero-shot", dossier.overall_zero_shot),
        *((f"Federated, {_name(row)}", row.federated) for row in unseen[:1]),
    ]
    return tuple(
        HeadlineFigure(label, _score_cell(score).main, _score_cell(score).sub) for label, score in given if score
    )


def _score_cell(score: Score | None, *, strong: bool = False) -> Cell:
    if score is None:
        return Cell("not scored")
    if score.balanced_accuracy is None:
        return _unknown(score)
    return Cell(number(score.balanced_accuracy), between_words(score.low, score.high) or score.note, strong=strong)


def _unknown(score: Score) -> Cell:
    if score.note != TOO_FEW:
        return Cell(UNKNOWN, score.note)
    held = "" if score.n_groups is None else f" of {plural(score.n_groups, 'group')}"
    return Cell("too few", f"{plural(score.n, 'image')}{held}")


def _brier_cell(score: Score) -> Cell:
    if score.brier is None:
        return _unknown(score)
    return Cell(number(score.brier, 3), span(score.brier_low, score.brier_high, 3))


def _calibration(dossier: Dossier) -> Table:
    """Never an error without its bound by chance: few images raise it, and a reader would rank sites by it alone."""
    scores = [(row.site, row.federated) for row in dossier.sites]
    scores += [("All training sites", dossier.overall)] if dossier.overall is not None else []
    return Table(
        "Calibration of the federated model on the same images. Brier score: 0 to 2, lower is better. Few images raise "
        "a calibration error, so do not rank sites by it: compare each with what chance alone shows there.",
        ("Site", "Brier score", "Calibration error", "At one image a group", "Chance alone: up to"),
        tuple((Cell(name), _brier_cell(score), *_error_cells(score)) for name, score in scores),
    )


def _error_cells(score: Score) -> tuple[Cell, Cell, Cell]:
    if score.ece is None or score.ece_once is None or score.ece_bound is None:
        why = Cell(_unknown(score).main)
        return why, why, why
    beyond = "more than chance explains" if score.ece_once > score.ece_bound else ""
    groups = "" if score.n_groups is None else f"n = {score.n_groups:,}"
    return (
        Cell(number(score.ece, 3), f"n = {score.n:,}"),
        Cell(number(score.ece_once, 3), groups),
        Cell(number(score.ece_bound, 3), beyond),
    )


def _sites(dossier: Dossier) -> Table:
    rows = [_site_row(row) for row in dossier.sites]
    if dossier.overall is not None:
        training = [row for row in dossier.sites if row.role == "training"]
        rows.append(
            (
                Cell("All training sites", "test images pooled"),
                _score_cell(dossier.overall_zero_shot),
                _score_cell(dossier.overall_local_only),
                _score_cell(dossier.overall, strong=True),
                Cell(f"{sum(row.train_n for row in training):,} / {dossier.overall.n:,}"),
                Cell(byte_size(dossier.privacy.bytes_sent)),
                Cell("\N{EN DASH}"),
            )
        )
    return Table(
        "Balanced accuracy with 95 % intervals (groups resampled).",
        ("Site", "Zero-shot", "Local only", "Federated", "Images: train / test", "Bytes sent", "Ledger"),
        tuple(rows),
    )


def _site_row(row: SiteRow) -> tuple[Cell, ...]:
    role = "unseen: took no part in training" if row.role == "unseen" else ""
    return (
        Cell(row.site, role, href=row.report_link),
        _score_cell(row.zero_shot),
        _score_cell(row.local_only),
        _score_cell(row.federated, strong=True),
        Cell(f"{row.train_n:,} / {row.test_n:,}"),
        Cell(byte_size(row.bytes_sent)),
        Cell("open", href=row.ledger_link) if row.ledger_link else Cell("none"),
    )

"""Section 1: what the model is for, which model it is, and who has looked at the report."""

from __future__ import annotations

from collections.abc import Sequence

from ..page_parts import provenance_facts, sentence_list
from ..report_model import SiteReport
from ..statements import Statement
from .blocks import Block, Facts, Heading, Note, Section, Signed, SignLines


def intended_use(report: SiteReport, calibration: str, statements: Sequence[Statement]) -> Section:
    """``calibration``: the calibration that answers are given with, in words."""
    names = [label.clinical_name for label in report.classes]
    blocks: list[Block] = [
        Facts(
            (
                ("Intended use", "Research on models that several hospitals train together. Not a medical device."),
                ("Not for", "Diagnosis, triage or any decision about a patient."),
                (
                    "Intended reader",
                    "A clinician or a statistician of this site who judges whether to study it further.",
                ),
                ("Answer", f"A probability for each of {len(names)} classes: {sentence_list(names)}."),
                ("Calibration", calibration[:1].upper() + calibration[1:]),
                ("Study", f"{report.study}, method {report.method}, completed rounds: {report.rounds}"),
                *provenance_facts(report.provenance),
            )
        ),
        Heading("Review"),
    ]
    if statements:
        blocks.append(Signed(tuple(statements)))
    else:
        blocks.append(
            Note("Nobody has signed a statement about this report. The lines below are for a review on paper.")
        )
    blocks.append(SignLines(("Reviewed by", "Date")))
    return Section(
        "use",
        "Intended use, model and review",
        (
            (
                f"The model looks at one picture of the kind “{report.dataset}” and states how likely each class is. "
                "It must not decide about a patient, and it knows nothing but these classes: a picture of something "
                "else still gets one of them."
            ),
        ),
        tuple(blocks),
    )

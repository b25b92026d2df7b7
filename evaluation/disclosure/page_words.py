"""Sections of the coordinator's page that are words: use, what sums do not know, protection, limits."""

from __future__ import annotations

from collections.abc import Sequence

from ..page_parts import plural, privacy_facts, provenance_facts, sentence_list
from ..sections.blocks import Block, Bullets, Facts, Grid, Heading, Note, Section, Signed, SignLines
from ..sections.crosswalk import crosswalk
from ..statements import Statement
from .page_figures import names_of
from .page_use import watch
from .published import Published

RULES = (
    (
        "A count is printed as a band: 0, 1-10, 11-15, 16-20 and so on. No count from 1 to 10 is printed, and no exact "
        "count above."
    ),
    "A total or a rate is printed as the range that the bands give, and never from the exact counts.",
    "Scores that do not follow from bands (Brier score, AUROC) are rounded to 0.01 or 0.05.",
    (
        "Before a table is published, a solver looks for two sets of images that differ in each small count and give "
        "this very report, together with the report before it. A table for which it finds none is published more "
        "coarsely, or is withheld."
    ),
    (
        "A table is also published more coarsely, or withheld, at random, once in 32 times: that something is missing "
        "says nothing about counts."
    ),
    (
        "The rules protect from readers of this report. The coordinator holds the sums, and a site knows its own "
        "images and can take them away from the sums of few sites."
    ),
)


def intended_use(published: Published, statements: Sequence[Statement]) -> Section:
    """Section 1."""
    facts, names = published.facts, names_of(published)
    blocks: list[Block] = [
        Facts(
            (
                ("Intended use", "Research on models that several hospitals train together. Not a medical device."),
                ("Not for", "Diagnosis, triage or any decision about a patient."),
                (
                    "Intended reader",
                    "A reviewer of the study who asks how well one model works over all sites together.",
                ),
                ("Answer", f"A probability for each of {len(names)} classes: {sentence_list(names)}."),
                ("Study", f"{facts.study}, method {facts.method}, completed rounds: {facts.rounds}"),
                *provenance_facts(facts.provenance),
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
                "This report does not say how well the model works at a site; that is in the site's own report, which "
                "stays there. The model must not decide about a patient."
            ),
        ),
        tuple(blocks),
    )


def partition(published: Published) -> Section:
    """Section 3."""
    return Section(
        "partition",
        "Partition and duplicates",
        (
            (
                "Not known to the coordinator: it receives sums, which do not tell patients from images. How images of "
                "one patient or lesion were kept on one side of the split, and which duplicates were found, is said in "
                "section 3 of each site's own report."
            ),
        ),
        (Note(f"A patient who was seen at two of the {plural(published.sites, 'site')} counts at both."),),
    )


def shift(published: Published) -> Section:
    """Section 10."""
    return Section(
        "shift",
        "Site shift",
        (
            (
                "Not known from sums: they are of one model, and of all sites together. How the federated model "
                "compares with one trained at a site alone and with no training, and how it does at a site that took "
                "no part, is said in section 10 of the sites' own reports."
            ),
        ),
        (Note("Good figures over all sites can hide a site where the model fails. Ask each site for its own report."),),
    )


def failures(published: Published) -> Section:
    """Section 11."""
    return Section(
        "failures",
        "Failure cases",
        (
            (
                "Failure cases are looked at where the pictures are: in each site's own report and case review. No "
                "image, and nothing of a single one, is sent to the coordinator."
            ),
        ),
        (),
    )


def privacy(published: Published) -> Section:
    """Section 12."""
    facts = published.facts
    earlier = (
        f"Checked against the report whose JSON has the SHA-256 {published.earlier}."
        if published.earlier
        else "No earlier report was given, so none was taken into account: whoever has one may compare."
    )
    blocks: list[Block] = [
        Facts(
            (
                *privacy_facts(facts.privacy, sends=True),
                *((("Ledger root", facts.ledger_root),) if facts.ledger_root else ()),
                ("Earlier report", earlier),
            )
        ),
        Heading("Rules for what is printed"),
        Bullets(RULES),
    ]
    if published.withheld:
        blocks += [
            Heading("Not published"),
            Facts(tuple((missing.what, missing.why) for missing in published.withheld)),
        ]
    return Section(
        "privacy",
        "Privacy, and how small counts are protected",
        ("The figures are made from sums over all sites. No prediction and no picture left a site.",),
        tuple(blocks),
    )


def limits(published: Published) -> Section:
    """Section 13."""
    said = [
        "The figures are of all sites together: a site can lie far from them, and this report cannot show it.",
        (
            "A range says between what the figure of these very images lies. It holds no chance error of drawing them; "
            "with few images that comes on top."
        ),
        "Images of one patient resemble each other, and the sums do not tell how many patients there are.",
        "The labels of the sites are taken as truth.",
        "An image that shows none of the classes still gets probabilities over them.",
    ]
    if published.facts.synthetic:
        said.append("The pictures are synthetic phantoms: the page shows that the software works, and nothing else.")
    return Section(
        "limits",
        "Limits, monitoring and checklists",
        ("A good figure on this page is a reason to study the model further, not to use it.",),
        (
            Bullets(tuple(said)),
            Heading("What to watch"),
            Grid(watch(published), "Monitoring plan"),
            Heading("Checklist crosswalk"),
            Note(
                "Where a section says that the coordinator does not know, the sites' own reports have the same number."
            ),
            Grid(crosswalk(), "Checklist crosswalk"),
        ),
    )

"""Where the items of four reporting checklists are answered on the page, in our own words.

Item numbers are of TRIPOD+AI (Collins et al. 2024, BMJ 385:e078378), CLAIM 2024 (Tejani et al. 2024, Radiology:
Artificial Intelligence 6:e240300), STARD-AI (Sounderajah et al. 2025, Nature Medicine 31:3283) and the six parts of
MI-CLAIM (Norgeot et al. 2020, Nature Medicine 26:1320). The list helps whoever fills in a checklist; it is no claim
that an item is fulfilled.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..page_parts import Cell, Table


@dataclass(frozen=True, slots=True)
class Item:
    """One subject and the items that ask for it; ``section`` is its number on a site's report, None: not in it."""

    subject: str
    section: int | None
    tripod: str = ""
    claim: str = ""
    stard: str = ""
    mi_claim: str = ""


ITEMS = (
    Item("Purpose, users and role in care", 1, "3b", "3, 41", "3, 15d, 34", "1"),
    Item("Model, backbone, software and versions", 1, "22", "22, 23", "15a", "6"),
    Item("Source of the images, dates, setting", 2, "5a, 5b, 6a", "7", "9, 11", "1"),
    Item("Who was eligible", 2, "6b", "8", "7", "1"),
    Item("How many were found, left out and used", 2, "20a, 21", "35", "24", "1, 2"),
    Item("Missing data", 2, "11", "12", "20", "2"),
    Item("Reference standard", 2, "8a", "14", "16a", "1"),
    Item("How data were partitioned, and at what level", 3, "12a", "19, 20", "15b", "2"),
    Item("Measures of performance and their uncertainty", 4, "12e, 23a", "28, 29, 38", "18, 31", "4"),
    Item("Cross-tabulation and figures of each class", 5, "23a", "39", "30", "4"),
    Item("Calibration, and recalibration", 6, "12e, 12f, 24", "28", "18", "4"),
    Item("Clinical utility", 7, "12e", "28", "", "4"),
    Item("Thresholds, and answers that are withheld", 8, "15", "", "15c, 19", ""),
    Item("Figures of groups of patients, fairness", 9, "14, 23a", "36, 37", "21, 23", "4"),
    Item("Differences between sites, a site not trained on", 10, "12d, 16, 23b", "30, 33", "29", "4"),
    Item("Wrong answers looked at one by one", 11, "", "39", "23", "5"),
    Item("De-identification, and what was transmitted", 12, "", "11", "40b", ""),
    Item("Limits", 13, "26", "40", "33", ""),
    Item("What to watch and do next", 13, "27c", "41", "34", ""),
    Item("Ethics approval, registration, funding, interests", None, "17, 18a to 18d", "34, 44", "6, 36 to 39", ""),
)


def crosswalk() -> Table:
    """The table: subject, section of this report, and item numbers of the four checklists."""
    return Table(
        "Where items of the checklists are answered. A section that answers an item may say that something is not "
        "known.",
        ("Subject", "Section", "TRIPOD+AI", "CLAIM 2024", "STARD-AI", "MI-CLAIM, part"),
        tuple(
            (
                Cell(item.subject),
                Cell("none" if item.section is None else str(item.section)),
                *(Cell(numbers or "\N{EN DASH}") for numbers in (item.tripod, item.claim, item.stard, item.mi_claim)),
            )
            for item in ITEMS
        ),
        stacked=False,
        words=True,
    )

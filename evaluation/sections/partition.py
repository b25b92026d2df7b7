"""Section 3: what is kept on one side of the split, and which duplicates were found."""

from __future__ import annotations

from ..page_parts import plural, sentence_list
from ..report_model import SiteReport
from ..site_facts import PartitionFacts
from .blocks import Facts, Section, Warn

_UNKNOWN = "Not counted."


def partition(report: SiteReport) -> Section:
    """Facts of the split; what was not counted is said to be so."""
    flow, key = report.flow, report.flow.group_key
    facts = report.partition or PartitionFacts(level=key)
    counted = [
        f"{count:,} in {part}"
        for part, count in (
            ("training", flow.train_groups),
            ("validation", flow.validation_groups),
            ("test", flow.test_groups),
        )
        if count is not None
    ]
    several = plural(2, key).removeprefix("2 ")
    warnings = []
    if facts.in_two_parts:
        warnings.append(
            Warn(f"{plural(facts.in_two_parts, key)} of this site lie in more than one part: figures may flatter.")
        )
    if facts.at_other_sites:
        warnings.append(
            Warn(
                f"{plural(facts.at_other_sites, key)} of this site are at another site as well, whose images may have "
                "trained the model: figures on test images may flatter it."
            )
        )
    return Section(
        "partition",
        "Partition and duplicates",
        (
            (
                f"No {key} is on two sides of the split: the model was tested on {several} that it had never seen. "
                f"Intervals resample {several}, not images, because images of one {key} resemble each other."
            ),
        ),
        (
            *warnings,
            Facts(
                (
                    ("Level of the split", facts.level),
                    (f"{several[:1].upper()}{several[1:]}", f"{sentence_list(counted)}." if counted else _UNKNOWN),
                    ("Most images of one", _UNKNOWN if facts.largest_group is None else f"{facts.largest_group:,}"),
                    ("Duplicates", _duplicates(facts)),
                    (
                        "In more than one part",
                        _UNKNOWN
                        if facts.in_two_parts is None
                        else f"{facts.in_two_parts:,}, checked when the report was made",
                    ),
                    (
                        "At another site as well",
                        "Not known: no site sees another's images."
                        if facts.at_other_sites is None
                        else f"{facts.at_other_sites:,} of this site's {several}",
                    ),
                )
            ),
        ),
    )


def _duplicates(facts: PartitionFacts) -> str:
    if facts.duplicate_groups is None or facts.duplicate_images is None:
        return f"Not looked for: every image has a known {facts.level}, and that was used."
    if facts.duplicate_groups == 0:
        return "Looked for by appearance; none found among these images."
    return (
        f"{plural(facts.duplicate_images, 'image')} in {plural(facts.duplicate_groups, 'group')} that look alike; each "
        "group is on one side of the split."
    )

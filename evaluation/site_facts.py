"""Facts of a site's data that stand beside its predictions in ``report.json``; what was not recorded is None."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import InvalidReportError

MISSING = -1


@dataclass(frozen=True, slots=True)
class SubgroupColumn:
    """One subgroup column of the test images.

    Attributes:
        name: e.g. ``"sex"``. levels: its values, e.g. ``("female", "male")``.
        codes: index into ``levels`` per test image; -1 where nothing is recorded.
    """

    name: str
    levels: tuple[str, ...]
    codes: tuple[int, ...]

    def __post_init__(self) -> None:
        if any(not MISSING <= code < len(self.levels) for code in self.codes):
            raise InvalidReportError("a code lies outside the column's levels", where=f"columns.{self.name}")


@dataclass(frozen=True, slots=True)
class Gain:
    """Balanced accuracy of the federated model minus another's on the same images, paired, with its 95 % interval."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class PartitionFacts:
    """How images were kept apart, and what was found that belongs together.

    Attributes:
        level: what is never on two sides of a split, in words.
        largest_group: most images of one group at this site.
        duplicate_groups: groups that exist because images look alike; None where nobody looked, because groups were
            known. duplicate_images: images in them.
        in_two_parts: groups of this site in more than one of its parts; 0 unless the split is at fault.
        at_other_sites: groups of this site that another site holds as well; None where that is not known.
    """

    level: str
    largest_group: int | None = None
    duplicate_groups: int | None = None
    duplicate_images: int | None = None
    in_two_parts: int | None = None
    at_other_sites: int | None = None


@dataclass(frozen=True, slots=True)
class Collection:
    """Where the images come from; None where the data set does not record it.

    Attributes:
        dates: period in which they were taken. eligibility: whose images were taken, and whose were not.
        reference_standard: how the labels were made. source: where the data set is described. licence: its terms.
    """

    dates: str | None = None
    eligibility: str | None = None
    reference_standard: str | None = None
    source: str | None = None
    licence: str | None = None

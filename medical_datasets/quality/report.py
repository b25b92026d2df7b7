"""What a check of images says: findings with a severity, a stable code, and every image that they are about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

Severity = Literal["error", "warning", "info"]
SEVERITIES: Final[tuple[Severity, ...]] = ("error", "warning", "info")


@dataclass(frozen=True, slots=True)
class Entry:
    """One case of a finding.

    Attributes:
        images: names of the images it is about (path below the root, and part); several belong together. May be empty.
        note: what there is to know beside the names, e.g. why a file cannot be read; may be empty.
    """

    images: tuple[str, ...] = ()
    note: str = ""

    @property
    def line(self) -> str:
        """The case in one line: names joined by ``=``, then the note."""
        names = " = ".join(self.images)
        return f"{names}: {self.note}" if names and self.note else names or self.note


@dataclass(frozen=True, slots=True)
class Problem:
    """One kind of finding.

    Attributes:
        severity: ``error``: training is refused or misled; ``warning``: look at it; ``info``: known and handled.
        code: stable key for scripts.
        message: what was found and what to do.
        count: how many images, classes, columns or pairs.
        entries: all of them; they name files, so they stay with local people.
    """

    severity: Severity
    code: str
    message: str
    count: int
    entries: tuple[Entry, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """A line for each entry."""
        return tuple(entry.line for entry in self.entries)


@dataclass(frozen=True, slots=True)
class QualityReport:
    """The findings on one folder.

    Attributes:
        root: the folder.
        dataset: key of the data set it was checked as.
        images: images that were found, damaged ones among them.
        readable: those that could be decoded.
        counts: readable images by class name and then by split or site (``"all"`` where there is neither).
        groups: groups by the tables, else near-duplicate clusters.
        test_in_train: test images that are equal or similar to an image of another split, and test images in all;
            None without splits.
        problems: errors first, then warnings, then information; by code within each.
        name: of the source, where a study joins several; else empty.
        synthetic: phantoms.
    """

    root: Path
    dataset: str
    images: int
    readable: int
    counts: dict[str, dict[str, int]]
    groups: int
    test_in_train: tuple[int, int] | None
    problems: tuple[Problem, ...]
    name: str = ""
    synthetic: bool = False

    @property
    def exit_code(self) -> int:
        """1 if there is an error, else 0."""
        return int(any(problem.severity == "error" for problem in self.problems))

    def with_problems(self, more: Iterable[Problem]) -> QualityReport:
        """The report with further findings, in order."""
        return replace(self, problems=in_order((*self.problems, *more)))

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON types, every name in it."""
        leak = self.test_in_train
        return {
            **({"name": self.name} if self.name else {}),
            "root": str(self.root),
            "dataset": self.dataset,
            "images": self.images,
            "readable": self.readable,
            "counts": self.counts,
            "groups": self.groups,
            "test_in_train": None if leak is None else {"similar": leak[0], "test": leak[1]},
            "problems": [
                {
                    "severity": problem.severity,
                    "code": problem.code,
                    "message": problem.message,
                    "count": problem.count,
                    "names": list(problem.names),
                }
                for problem in self.problems
            ],
            "exit_code": self.exit_code,
        }


def in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Errors, warnings, information; by code within each."""
    return tuple(sorted(problems, key=lambda problem: (SEVERITIES.index(problem.severity), problem.code)))


def finding(severity: Severity, code: str, noun: str, rest: str, entries: Sequence[Entry]) -> Problem:
    """A finding that begins with the count of its entries: ``2 images`` of the noun ``image``, then the rest.

    Of ``file or row`` the plural is ``files or rows``.
    """
    many = noun if len(entries) == 1 else " or ".join(f"{word}s" for word in noun.split(" or "))
    counted = f"{len(entries):,} {many}"
    return Problem(severity, code, f"{counted} {rest}", len(entries), tuple(entries))


def images(names: Iterable[str]) -> list[Entry]:
    """An entry for each image."""
    return [Entry((name,)) for name in names]

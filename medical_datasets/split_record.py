"""A split written down without names: which group is on which side at which site.

Group names are patient identifiers, so marks stand in their place: HMAC-SHA256 under a random salt, cut to 128 bits.
The salt is part of the record, because whoever reuses the split must recognise its groups. So the record is
pseudonymous and not anonymous: who holds it can try names. It stays where the images are; for others there is its
SHA-256.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import math
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Final, Literal, get_args

import rfc8785

from .errors import SplitError

FORMAT: Final = "wardround-split-1"
SALT_BYTES: Final = 16
REFERENCE: Final = "reference"
SIDES: Final = ("train", "validation", "test")

Rule = Literal["stable", "balanced"]
Aliases = Mapping[str, Sequence[str]]
"""All names that a group has, by its name; a group that is not in it has that one."""
NO_ALIASES: Final[Aliases] = MappingProxyType({})
_MARK: Final = re.compile(r"[0-9a-f]{32}")
_MOST: Final = 2**53 - 1  # the largest integer that JSON carries between all programs


@dataclass(frozen=True, slots=True)
class SitePart:
    """The groups of one site as marks, each tuple rising and without repeats; no mark is on two sides."""

    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SplitRecord:
    """A split as it is written down.

    Attributes:
        dataset: key of the data set.
        classes: class names in label order.
        rule: how it was made: ``"stable"`` by :func:`..stable_splits.stable_split`, ``"balanced"`` by
            :func:`..splits.split_by_group`.
        ratios: shares of training, validation and test.
        seed: of the rule, from -(2^53 - 1) to 2^53 - 1.
        salt: 16 random bytes, 32 hexadecimal digits.
        sites: sides of each training site, by name. A group may be at two sites where the data came so.
        unseen: the site that takes no part, and its groups; or None.
        reference: groups of the public reference set; may be empty.
    """

    dataset: str
    classes: tuple[str, ...]
    rule: Rule
    ratios: tuple[float, float, float]
    seed: int
    salt: str
    sites: Mapping[str, SitePart]
    unseen: tuple[str, tuple[str, ...]] | None = None
    reference: tuple[str, ...] = ()
    _places: Mapping[str, tuple[tuple[str, str], ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check(self)
        places: dict[str, list[tuple[str, str]]] = {}
        for site, part in sorted(self.sites.items()):
            for side in SIDES:
                for mark in getattr(part, side):
                    places.setdefault(mark, []).append((site, side))
        for mark in self.unseen[1] if self.unseen else ():
            places.setdefault(mark, []).append((self.unseen[0] if self.unseen else "", "test"))
        for mark in self.reference:
            places.setdefault(mark, []).append(("", REFERENCE))
        object.__setattr__(self, "_places", {mark: tuple(found) for mark, found in places.items()})

    @classmethod
    def of(
        cls,
        *,
        dataset: str,
        classes: Sequence[str],
        rule: Rule,
        ratios: tuple[float, float, float],
        seed: int,
        sites: Mapping[str, tuple[Iterable[str], Iterable[str], Iterable[str]]],
        unseen: tuple[str, Iterable[str]] | None = None,
        reference: Iterable[str] = (),
        salt: bytes | None = None,
        aliases: Aliases = NO_ALIASES,
    ) -> SplitRecord:
        """The record of a split, group names turned into marks.

        Args:
            dataset, classes, rule, ratios, seed: see the attributes.
            sites: names of the groups in training, validation and test by site; repeats are one.
            unseen, reference: group names likewise.
            salt: 16 bytes; None draws them. Give the former salt to a split that extends a former one.
            aliases: all names of groups that have several (see :class:`..cohort.Cohort`): each gets a mark, so that the
                group is found again when one of its images is gone.

        Raises:
            SplitError: a group is on two sides of a site, a name is empty, or a value is out of range.
        """
        drawn = secrets.token_bytes(SALT_BYTES) if salt is None else salt

        def marks(groups: Iterable[str]) -> tuple[str, ...]:
            return tuple(sorted({mark_of(drawn, name) for group in groups for name in aliases.get(group, (group,))}))

        return cls(
            dataset=dataset,
            classes=tuple(classes),
            rule=rule,
            ratios=(float(ratios[0]), float(ratios[1]), float(ratios[2])),
            seed=seed,
            salt=drawn.hex(),
            sites={name: SitePart(*(marks(groups) for groups in sides)) for name, sides in sites.items()},
            unseen=None if unseen is None else (unseen[0], marks(unseen[1])),
            reference=marks(reference),
        )

    def to_bytes(self) -> bytes:
        """The file's content: canonical JSON."""
        plain = {each.name: getattr(self, each.name) for each in fields(self) if not each.name.startswith("_")}
        plain["format"] = FORMAT
        plain["sites"] = {name: {side: getattr(part, side) for side in SIDES} for name, part in self.sites.items()}
        plain["unseen"] = None if self.unseen is None else {self.unseen[0]: self.unseen[1]}
        # Against a slip or a bad disk, which would deal a group anew without a word; not against a forger.
        plain["checksum"] = hashlib.sha256(rfc8785.dumps(plain)).hexdigest()
        return rfc8785.dumps(plain)

    @property
    def sha256(self) -> str:
        """What the split is known by: the SHA-256 of its bytes, 64 hexadecimal digits."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def of_site(self, name: str) -> SplitRecord:
        """The part of one site under the same salt: what the site keeps, and whose SHA-256 stands in its ledger.

        Raises:
            SplitError: there is no such site.
        """
        if self.unseen is not None and name == self.unseen[0]:
            return replace(self, sites={}, reference=())
        return replace(self, sites={name: self._part(name)}, unseen=None, reference=())

    def places_of(self, group: str, aliases: Aliases = NO_ALIASES) -> tuple[tuple[str, str], ...]:
        """(site, side) of a group: ``train``, ``validation`` or ``test``; empty: the split does not know it.

        The unseen site's groups are on its side ``test``; the reference set's are at ``("", "reference")``. Several
        places: the data came with the group at several sites, or groups that were apart are one now.
        """
        salt = bytes.fromhex(self.salt)
        marks = (mark_of(salt, name) for name in aliases.get(group, (group,)))
        return tuple(dict.fromkeys(place for mark in marks for place in self._places.get(mark, ())))

    def known_sides(self, site: str, groups: Iterable[str], aliases: Aliases = NO_ALIASES) -> dict[str, int]:
        """Sides at one training site of those of ``groups`` that the split knows: what ``extend_split`` takes.

        Raises:
            SplitError: there is no such site, or a group joins images that were on different sides.
        """
        self._part(site)
        found: dict[str, int] = {}
        torn = 0
        for group in dict.fromkeys(groups):
            sides = {SIDES.index(side) for at, side in self.places_of(group, aliases) if at == site and side in SIDES}
            if sides:
                found[group] = min(sides)
            torn += len(sides) > 1
        if torn:
            raise SplitError(
                f"{torn} groups at {site!r} join images that are on different sides of the split",
                where=f"site {site!r}",
                remedy="images were added that look like several others, or share a patient with them: leave them out, "
                "or make a new split",
            )
        return found

    def _part(self, name: str) -> SitePart:
        if name not in self.sites:
            raise SplitError(
                f"the split has no training site {name!r}",
                where="sites",
                remedy=f"it has {', '.join(sorted(self.sites)) or 'none'}",
            )
        return self.sites[name]


def mark_of(salt: bytes, group: str) -> str:
    """What stands for a group in the file: 32 hexadecimal digits.

    Raises:
        SplitError: the name is empty.
    """
    if not group:
        raise SplitError("the group name is empty", where="groups", remedy="name the patient, lesion or group")
    # File names that are no UTF-8 reach group names as lone surrogates.
    return hmac.digest(salt, group.encode("utf-8", "surrogatepass"), "sha256")[:16].hex()


def _check(record: SplitRecord) -> None:
    _require(_named(record.dataset), f"{record.dataset!r} cannot be a data set's key", "dataset")
    _require(
        len(record.classes) == len(set(record.classes)) and all(_named(name) for name in record.classes),
        "a class has no name, or is there twice",
        "classes",
    )
    _require(record.rule in get_args(Rule), f"there is no rule {record.rule!r}", "rule")
    _require(
        len(record.ratios) == 3
        and all(math.isfinite(share) and share >= 0 for share in record.ratios)
        and abs(sum(record.ratios) - 1.0) <= 1e-6,
        f"ratios must be three numbers >= 0 with sum 1, not {record.ratios}",
        "ratios",
    )
    _require(abs(record.seed) <= _MOST, f"the seed {record.seed} is not within +-(2^53 - 1)", "seed")
    _require(_MARK.fullmatch(record.salt) is not None, f"the salt must be {2 * SALT_BYTES} digits 0-9, a-f", "salt")
    for name, part in record.sites.items():
        _require(_named(name), f"{name!r} cannot be a site's name", "sites")
        for side in SIDES:
            _check_marks(getattr(part, side), f"site {name!r}, {side}")
        count = sum(len(getattr(part, side)) for side in SIDES)
        _require(len({*part.train, *part.validation, *part.test}) == count, "a group is on two sides", f"site {name!r}")
    if record.unseen is not None:
        name, marks = record.unseen
        _require(_named(name) and name not in record.sites, f"{name!r} cannot be unseen", "unseen")
        _check_marks(marks, f"unseen site {name!r}")
    _check_marks(record.reference, REFERENCE)


def _check_marks(marks: tuple[str, ...], where: str) -> None:
    _require(all(_MARK.fullmatch(mark) for mark in marks), "a mark is not 32 digits 0-9, a-f", where)
    _require(all(first < second for first, second in itertools.pairwise(marks)), "marks are not rising", where)


def _require(holds: bool, what: str, where: str) -> None:
    if not holds:
        raise SplitError(what, where=where)


def _named(name: str) -> bool:
    return bool(name) and name.isprintable()

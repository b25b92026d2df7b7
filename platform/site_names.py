"""Sites as tables and folders write them, and the names that they get: a site's name becomes a folder and is signed."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Mapping

from ..privacy.egress import COORDINATOR
from .config import NAME

ALLOWED = "a-z, 0-9, dot, dash, underscore, at most 63 characters"
NARROW = re.compile(r"[\s._-]+")


class SiteNameError(ValueError):
    """A site cannot be called as it is written.

    Attributes:
        written: one spelling that is refused.
        what, remedy: as in every error of ours.
    """

    def __init__(self, written: str, what: str, remedy: str) -> None:
        self.written, self.what, self.remedy = written, what, remedy
        super().__init__(what)


def plain_site(written: str) -> str:
    """A site's name: lower case with ``_`` for spaces, ``"Client 3"`` -> ``"client_3"``.

    Raises:
        SiteNameError: it holds other characters than :data:`ALLOWED`, or is the coordinator's; one to use is proposed.
    """
    name = "_".join(written.lower().split())
    if NAME.fullmatch(name) and name != COORDINATOR:
        return name
    proposed = _proposed(written)
    raise SiteNameError(
        written,
        f"{written!r} cannot be a site's name" + (": it is the coordinator's" if name == COORDINATOR else ""),
        f"Write it with {ALLOWED}" + (f", as {proposed!r}" if proposed else ""),
    )


def plain_sites(written: Collection[str], fixed: Collection[str] = ()) -> Mapping[str, str]:
    """The name of every site by how it is written.

    Args:
        written: spellings in the data.
        fixed: names that the study itself gives, which are plain already; a spelling in the data may mean one of them.

    Raises:
        SiteNameError: as :func:`plain_site`; or two spellings differ in nothing but case, spaces, dots, dashes and
            underscores, so that nobody can say whether they are one site.
    """
    names = {each: plain_site(each) for each in sorted({*written, *fixed})}
    alike: defaultdict[str, list[str]] = defaultdict(list)
    for each, name in names.items():
        if each not in fixed or all(name != names[other] for other in names if other != each):
            alike[NARROW.sub("_", name).strip("_")].append(each)
    for spellings in alike.values():
        if len(spellings) > 1:
            raise SiteNameError(
                next((each for each in reversed(spellings) if each not in fixed), spellings[-1]),
                f"the sites {', '.join(repr(each) for each in spellings)} differ in their spelling only",
                "Write one site in one way, and different sites so that they can be told apart",
            )
    return names


def _proposed(written: str) -> str:
    """The nearest name that can be used; empty where no letter or digit is left."""
    ascii_only = unicodedata.normalize("NFKD", written).encode("ascii", "ignore").decode("ascii").lower()
    name = re.sub(r"[^a-z0-9]*_[^a-z0-9]*", "_", re.sub(r"[^a-z0-9._-]+", "_", ascii_only)).strip("._-")[:63]
    return f"{name}-site" if name == COORDINATOR else name

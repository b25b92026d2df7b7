"""Whose shares others could not use in a round: claims, by which the next attempts leave somebody out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..privacy.errors import ProtocolError, Refusal


@dataclass
class Accusations:
    """Claims of one round, over its attempts.

    Attributes:
        by: accuser -> the dealers whose shares it could not open or check.
    """

    by: dict[str, set[str]] = field(default_factory=dict)

    def note(self, accused: Mapping[str, set[str]]) -> None:
        """Take in one attempt's claims: dealer -> its accusers."""
        for dealer, accusers in accused.items():
            for accuser in accusers:
                self.by.setdefault(accuser, set()).add(dealer)

    def left_out(self) -> set[str]:
        """Sites that are not asked again in this round: accused ones, or a site that accuses several.

        A blame is a claim and no proof: whoever blames a second peer is the likelier cause.
        """
        false = {accuser for accuser, dealers in self.by.items() if len(dealers) > 1}
        accused = (dealers for accuser, dealers in self.by.items() if accuser not in false)
        return false.union(*accused)

    def fresh(self, accused: Mapping[str, set[str]]) -> set[str]:
        """Take in one attempt's claims; who is left out from now on, of those that these claims are about."""
        self.note(accused)
        involved = {*accused, *(who for by in accused.values() for who in by)}
        return self.left_out() & involved

    def clear(self) -> None:
        """The round is over."""
        self.by.clear()


def unopenable(sites: set[str]) -> ProtocolError:
    """What ends an attempt because of sites whose shares cannot be used."""
    return ProtocolError(
        f"{', '.join(sorted(sites))} is accused of a share that cannot be used; the next attempt is without it",
        code=Refusal.UNOPENABLE_SHARE,
        stage="mask",
        site=min(sites),
    )

"""What leaves a hospital in a study, message by message, before anything does; and how well a sum hides its part."""

from __future__ import annotations

from dataclasses import dataclass

from ...privacy.messages import RefusalNotice, tag_of
from ...privacy.secure_aggregation.roster import Roster
from ...privacy.secure_aggregation.session import Purpose
from ..terms import Terms

SUMS: dict[Purpose, str] = {
    "update": "the change of the model, masked; only the sum over sites can be read",
    "class-means": "sums of image features by class and how many images each class has, masked",
    "temperature": "how well the model's certainty fits this site's validation images, masked",
    "evaluation": "counts of right and wrong answers on this site's test images, masked",
}
"""What a masked vector of each purpose holds."""
_WORDS = {
    "advert": "fresh keys for one sum",
    "sealed-shares": "shares of secrets, each sealed for one other site",
    "agreement": "a signature over who is in the sum",
    "unmask-answer": "shares that unmask the sum of those who stayed",
    "receipt": "hashes of this site's ledger",
    "cosignature": "a signature over hashes of all ledgers",
    "refusal": "a code that says that this site does not go on",
}
_OF_A_SUM = ("advert", "sealed-shares", "agreement", "unmask-answer")
_OF_A_ROUND = ("receipt", "cosignature")


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One kind of message that leaves.

    Attributes:
        message: its type. holds: what is in it. largest: bytes, at most.
        each_round: how often in a round. whole: how often in the whole study, without repeated rounds.
    """

    message: str
    holds: str
    largest: int
    each_round: int
    whole: int

    @property
    def total(self) -> int:
        """Bytes of all of them, at most."""
        return self.largest * self.whole


def outgoing(terms: Terms) -> list[Outgoing]:
    """Everything that a site may send in a study, in order of size.

    Args:
        terms: of the study; nobody need have signed its roster yet.
    """
    roster, rounds, limits = terms.roster.roster, terms.study.rounds, terms.limits
    once = [purpose for purpose in roster.vectors if purpose != "update"]
    sums = rounds + len(once)
    head = limits.of("masked-vector") - limits.vector_bytes
    found = [Outgoing("masked-vector: update", SUMS["update"], roster.wire_size("update") + head, 1, rounds)]
    found += [
        Outgoing(f"masked-vector: {purpose}", SUMS[purpose], roster.wire_size(purpose) + head, 0, 1) for purpose in once
    ]
    found += [Outgoing(tag, _WORDS[tag], limits.of(tag), 1, sums) for tag in _OF_A_SUM]
    found += [Outgoing(tag, _WORDS[tag], limits.of(tag), 1, rounds + 1) for tag in _OF_A_ROUND]
    refusal = tag_of(RefusalNotice)
    found.append(Outgoing(f"{refusal} (instead)", _WORDS[refusal], limits.of(refusal), 0, 0))
    return sorted(found, key=lambda each: -each.total)


def largest_share(roster: Roster, site: str) -> float:
    """The largest part of a sum of updates that one site's weight can be, over all sets of sites that may be summed.

    Over one half, the sum is nearly this site's own update.
    """
    own = roster.weight_of(site)
    others = sorted(roster.weight_of(name) for name in roster.names if name != site)
    return own / (own + sum(others[: roster.thresholds.least - 1]))

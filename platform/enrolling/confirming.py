"""``wardround site roster confirm``, and what every start reads: the signed roster, and whose words a person compared.

The list of those is signed by this site's own identity and named in its ledger, so that nobody who can write into the
home makes a stranger's key count, or puts an older list back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ...privacy.atomic import canonical_json, write_atomic
from ...privacy.errors import ParameterError, RosterError
from ...privacy.identity import Identity, SigningContext, verifies
from ...privacy.ledger.enrol_entries import Step, steps_of
from ...privacy.ledger.log import Ledger
from ...privacy.ledger.reading import read_entries
from ...privacy.messages import sha256_hex
from ...privacy.secure_aggregation.roster import PinnedRoster, Roster
from .documents import Signed, SignedRoster, verify
from .errors import EnrolmentError
from .kinds import FORMAT, Hash, Signature, SiteName
from .noting import newest_step, note_step
from .releasing import release_file
from .site_folder import SiteFolder
from .words import CALL, same_words

LABEL_CONFIRMED = b"wardround/v1/enrolment/confirmed"
_BACKUP = "Restore the home from a backup, or confirm again: wardround site roster confirm SIGNED"
_LONGEST = 200  # characters of a person's name and institution


class _Pinned(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``pinned.json``: by site, who the person is whose words were heard; signed by this site's identity."""

    study_hash: Hash
    roster: Hash
    confirmed: dict[SiteName, str]
    signature: Signature
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class Confirmed:
    """How far a roster is confirmed.

    Attributes:
        roster: with every signature checked.
        persons: by site whose words were compared, who the person on the telephone was; this site's own is in it.
        others: sites that take part and do not count towards the sizes of sums.
    """

    roster: PinnedRoster
    persons: Mapping[str, str]
    others: tuple[str, ...]


def approved_roster(folder: SiteFolder, signed: Signed[SignedRoster], identity: Identity) -> Roster:
    """The roster that a signed one is about, if it is the very one that this site approved, signed by every site.

    Raises:
        EnrolmentError: it is another one, or not signed by the coordinator, or this site has not approved it.
        RosterError: a site's signature is missing or wrong.
    """
    where, text = signed.source, signed.document.roster.encode()
    if signed.document.study_hash != folder.digest:
        raise EnrolmentError("this roster is of another study", where=where, remedy="Give the right file")
    verify(signed, folder.coordinator_key())
    if not (folder.approval.exists() and folder.state_roster.exists()):
        raise EnrolmentError(
            "this site has not approved a roster of this study",
            where=str(folder.approval),
            remedy="Approve it first: wardround site approve",
        )
    try:
        roster = Roster.from_bytes(text)
    except (RosterError, ParameterError) as error:
        raise EnrolmentError(f"the roster cannot be used: {error.what}", where=where) from None
    approval = folder.read_approval(identity.public_key).document
    kept = folder.state_roster.read_bytes()
    if kept != text or approval.roster_sha256 != roster.digest.hex():
        raise EnrolmentError(
            "this is not the roster that this site approved",
            where=where,
            remedy="Do not take part under it. Ask the coordinator by telephone; a roster is fixed for a study",
        )
    if signed.document.signatures.get(folder.site) != approval.roster_signature:
        raise EnrolmentError("the signature of this site is not the one that it gave", where=where, remedy=CALL)
    return roster


def confirm(
    folder: SiteFolder,
    signed: Signed[SignedRoster],
    identity: Identity,
    ledger: Ledger,
    words: Mapping[str, str],
    persons: Mapping[str, str],
) -> Confirmed:
    """Check all signatures and each site's words, and keep who was confirmed. The caller holds the home.

    Args:
        folder: of the consortium. signed: the roster with all signatures. identity: the site's. ledger: open.
        words: by site, what a person heard on the telephone; sites that were confirmed before need none.
        persons: by site, who spoke and for which institution; stays here.

    Raises:
        EnrolmentError: another roster, wrong words, an unknown site, or too few; nothing was changed.
        RosterError: a signature is missing or wrong.
        LedgerError: the ledger cannot be written. OSError: as the file system reports it.
    """
    folder.check_not_left()
    roster = approved_roster(folder, signed, identity)
    roster.pin(_signatures(signed), confirmed=())  # the signatures, before anybody is asked or told anything
    check_heard(roster, folder.site, words, persons)
    known = {folder.site: "", **confirmed_before(folder, roster, identity)}
    for site in words:
        known[site] = " ".join(persons.get(site, known.get(site, "")).split())
    check_enough(roster, known)
    write_atomic(folder.signed_roster, signed.data)
    data = _pinned_bytes(folder, roster, known, identity)
    release_file(
        folder.pinned,
        data,
        lambda: note_step(ledger, "confirmation", folder.digest, document=sha256_hex(data), roster=roster.digest.hex()),
    )
    return _confirmed(roster, signed, known)


def check_heard(roster: Roster, own: str, words: Mapping[str, str], persons: Mapping[str, str]) -> None:
    """Refuse words that are not those of the keys in the roster.

    Raises:
        EnrolmentError: they differ, or are said of a site that is not among the others.
    """
    for site in sorted({*words, *persons}):
        if site not in roster.index or site == own:
            others = ", ".join(name for name in roster.names if name != own)
            raise EnrolmentError(
                f"'{site}' is no other site of this roster", where="--words", remedy=f"The others are {others}"
            )
    for site, person in persons.items():
        if not person.strip():
            raise EnrolmentError(
                f"who spoke for '{site}' is left empty",
                where="--person",
                remedy="Write who it was and for which institution, or leave the option out",
            )
        if len(person) > _LONGEST or not person.isprintable():
            raise EnrolmentError(f"the person at '{site}' is not written in one short line", where="--person")
    for site, heard in words.items():
        if not same_words(heard, bytes.fromhex(roster.sites[roster.index[site]].public_key)):
            raise EnrolmentError(
                f"these are not the words of the key that the roster has for '{site}'",
                where=f"site '{site}'",
                remedy=f"{CALL}. If they differ again, somebody else holds that key: do not take part",
            )


def check_enough(roster: Roster, confirmed: Mapping[str, str]) -> None:
    """Refuse a roster of which too much is hearsay.

    Raises:
        EnrolmentError: the confirmed sites are fewer than a sum needs, or the others more than may collude.
    """
    thresholds = roster.thresholds
    others = [name for name in roster.names if name not in confirmed]
    count = len(roster.names) - len(others)
    lacking = f"not compared yet: {', '.join(others)}"
    if count < thresholds.least:
        raise EnrolmentError(
            f"{count} sites are confirmed, this one among them, and a sum needs {thresholds.least}; {lacking}",
            where="roster",
            remedy=f"{CALL}. Then confirm all of them at once",
        )
    if len(others) > thresholds.colluding:
        raise EnrolmentError(
            f"{len(others)} sites are not confirmed, at most {thresholds.colluding} may be in false hands; {lacking}",
            where="roster",
            remedy=f"{CALL}. Then confirm all of them at once",
        )


def confirmed_before(folder: SiteFolder, roster: Roster, identity: Identity) -> dict[str, str]:
    """Who was confirmed before, by site; empty where nobody was.

    Raises:
        EnrolmentError: the list is damaged, of another roster, or not signed by this site.
    """
    return _read_pinned(folder, roster, identity)[0] if folder.pinned.exists() else {}


def load_pinned(folder: SiteFolder, identity: Identity) -> PinnedRoster:
    """The roster that a site takes part under; everything about it is checked again, at every start.

    The approval, the roster in the site's state, the signed roster and the list of the confirmed must be about one
    roster, and the ledger must name the approval and the list, in the bytes that lie here.

    Args:
        folder: of the consortium. identity: the site's.

    Raises:
        EnrolmentError: something is missing, damaged or contradicts the rest.
        RosterError: a site's signature is missing or wrong. LedgerError: the ledger cannot be read.
    """
    folder.check_not_left()
    if not folder.pinned.exists():
        raise EnrolmentError(
            "the roster is not confirmed yet",
            where=str(folder.pinned),
            remedy="With the coordinator's signed-roster.json: wardround site roster confirm SIGNED",
        )
    signed = folder.read_signed_roster()
    roster = approved_roster(folder, signed, identity)
    known, data = _read_pinned(folder, roster, identity)
    check_enough(roster, known)
    steps = steps_of(read_entries(folder.home / "ledger.jsonl"), folder.digest)
    named: tuple[tuple[Step, Path, bytes], ...] = (
        ("approval", folder.approval, folder.approval.read_bytes()),
        ("confirmation", folder.pinned, data),
    )
    for step, path, content in named:
        newest = newest_step(steps, step)
        facts = (newest.facts or {}) if newest is not None else {}
        if (facts.get("document"), facts.get("roster")) != (sha256_hex(content), roster.digest.hex()):
            raise EnrolmentError(
                f"the ledger does not name this {step}: it was replaced, or a command was interrupted",
                where=str(path),
                remedy=_BACKUP,
            )
    return _confirmed(roster, signed, known).roster


def _read_pinned(folder: SiteFolder, roster: Roster, identity: Identity) -> tuple[dict[str, str], bytes]:
    where = str(folder.pinned)
    try:
        data = folder.pinned.read_bytes()
        pinned = msgspec.json.decode(data, type=_Pinned)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise EnrolmentError("the list of confirmed sites is damaged", where=where, remedy=_BACKUP) from None
    own = pinned.study_hash == folder.digest and pinned.roster == roster.digest.hex() and pinned.format == FORMAT
    sound = own and folder.site in pinned.confirmed and set(pinned.confirmed) <= set(roster.names)
    key = Ed25519PublicKey.from_public_bytes(identity.public_key)
    content = _content(folder, roster, pinned.confirmed)
    context = SigningContext(roster.study, roster.digest)
    signature = bytes.fromhex(pinned.signature)
    if not sound or not verifies(key, signature, LABEL_CONFIRMED, context, folder.site, content):
        raise EnrolmentError(
            "the list of confirmed sites was not made by this site for this roster", where=where, remedy=_BACKUP
        )
    return pinned.confirmed, data


def _pinned_bytes(folder: SiteFolder, roster: Roster, confirmed: Mapping[str, str], identity: Identity) -> bytes:
    context = SigningContext(roster.study, roster.digest)
    signature = identity.sign(LABEL_CONFIRMED, context, folder.site, _content(folder, roster, confirmed))
    pinned = _Pinned(folder.digest, roster.digest.hex(), dict(confirmed), signature.hex())
    return canonical_json(msgspec.to_builtins(pinned)) + b"\n"


def _content(folder: SiteFolder, roster: Roster, confirmed: Mapping[str, str]) -> bytes:
    return canonical_json({"study": folder.digest, "roster": roster.digest.hex(), "confirmed": dict(confirmed)})


def _signatures(signed: Signed[SignedRoster]) -> dict[str, bytes]:
    return {site: bytes.fromhex(given) for site, given in signed.document.signatures.items()}


def _confirmed(roster: Roster, signed: Signed[SignedRoster], known: Mapping[str, str]) -> Confirmed:
    pinned = roster.pin(_signatures(signed), confirmed=set(known))
    return Confirmed(pinned, dict(known), tuple(name for name in roster.names if name not in known))

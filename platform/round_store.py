"""The coordinator's unfinished round on disk: what it needs to ask again, and to unmask, after a restart.

It is written before the survivor set leaves, and every signature and answer as it comes. Nothing in it is secret to the
coordinator: masked sum, adverts, hashes, and the shares that sites gave it for this one set.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from ..privacy.atomic import canonical_json, make_private, sweep, sync_folder, write_atomic
from ..privacy.errors import DecodeError, ProtocolError, RosterError
from ..privacy.messages import Agreement, Limits, UnmaskAnswer, decode, encode, tag_of
from ..privacy.secure_aggregation.coordinator import CoordinatorSession
from ..privacy.secure_aggregation.roster import PinnedRoster
from ..privacy.secure_aggregation.session import PURPOSES, Purpose
from .errors import CheckpointError

SESSION_FILE = "session.bin"
NAMED_FILE = "survivors.json"


@dataclass(frozen=True, slots=True)
class RoundStore:
    """Files of the unfinished round in ``folder``; made when the first one is written."""

    folder: Path

    def of(self, purpose: Purpose) -> RoundStore:
        """The store of a sum that belongs to no round, in a folder of its own: neither can be taken for the other."""
        return RoundStore(self.folder / purpose)

    def save_session(self, session: CoordinatorSession) -> None:
        """Keep the session; to be called before its survivor set leaves."""
        make_private(self.folder)
        self._clear_session()  # a stop in an earlier clearing may have left answers of another session
        data = session.snapshot()
        write_atomic(self.folder / SESSION_FILE, sha256(data).digest() + data)

    def save_reply(self, message: Agreement | UnmaskAnswer) -> None:
        """Keep one site's signature or answer."""
        write_atomic(self.folder / f"{tag_of(message)}.{message.site}.bin", encode(message))

    def load(self, roster: PinnedRoster, limits: Limits) -> CoordinatorSession | None:
        """The kept session with every signature and answer that had come, or None when none is kept.

        Raises:
            CheckpointError: a file is damaged or belongs to another roster.
        """
        path = self.folder / SESSION_FILE
        if not path.is_file():
            return None
        try:
            kept = path.read_bytes()
            if sha256(kept[32:]).digest() != kept[:32]:
                raise DecodeError("its checksum does not match")
            session = CoordinatorSession.resume(roster, kept[32:])
            for kind in (Agreement, UnmaskAnswer):
                for path in sorted(self.folder.glob(f"{tag_of(kind)}.*.bin")):
                    reply = decode(path.read_bytes(), (kind,), limits)
                    if isinstance(reply, Agreement | UnmaskAnswer) and reply.session == session.session:
                        if kind is UnmaskAnswer and session.stage == "agree":
                            session.close_agree()  # answers come only after enough signatures
                        session.feed(reply.site, reply)
        except (DecodeError, RosterError, ProtocolError) as error:
            raise CheckpointError(
                f"the unfinished round cannot be taken up: {error.what}",
                where=str(path),
                remedy="Restore it from a backup. If there is none, remove the folder: the round is then begun anew, "
                "and can end only with the sites that had signed",
            ) from None
        return session

    def abandon(self, number: int, survivors: tuple[str, ...]) -> None:
        """Give a session up, but remember for round ``number`` which survivor set sites may have signed."""
        make_private(self.folder)
        write_atomic(self.folder / NAMED_FILE, canonical_json({"round": number, "survivors": list(survivors)}))
        self._clear_session()

    def named(self, number: int) -> tuple[str, ...] | None:
        """The survivor set that sites may have signed in an abandoned session of round ``number``; None without one.

        Raises:
            CheckpointError: the file is damaged.
        """
        path = self.folder / NAMED_FILE
        if not path.is_file():
            return None
        try:
            content = json.loads(path.read_bytes())
            known, names = int(content["round"]), tuple(str(name) for name in content["survivors"])
        except (ValueError, KeyError, TypeError):
            raise CheckpointError(
                "the record of signed survivors is damaged", where=str(path), remedy="Restore it from a backup"
            ) from None
        return names if known == number else None

    def sweep(self) -> None:
        """Remove what a killed process left half-written; nobody else may be writing."""
        if self.folder.is_dir():
            sweep(self.folder)

    def clear(self) -> None:
        """The round is over and its adapter checkpointed: nothing of it is needed any more."""
        self._clear_session()
        self._unlink([self.folder / NAMED_FILE])

    def clear_all(self) -> None:
        """The study is over: of no sum is anything needed any more."""
        self.clear()
        for purpose in PURPOSES:
            self.of(purpose).clear()

    def _clear_session(self) -> None:
        """The session first: what is left over without it is never read."""
        self._unlink([self.folder / SESSION_FILE])
        self._unlink(sorted(self.folder.glob("*.bin")) if self.folder.is_dir() else [])

    def _unlink(self, paths: list[Path]) -> None:
        found = [path for path in paths if path.is_file()]
        for path in found:
            path.unlink()
        if found:
            sync_folder(self.folder)

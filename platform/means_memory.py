"""What a site must not forget of the class means of a study, apart from what it remembers of update rounds.

The sum is made once, before round 1, of one vector, over one cohort. What comes out of it is fixed for the study: a
site takes part in no round with other means than it received in its first one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from torch import Tensor

from ..privacy.atomic import canonical_json, write_atomic
from ..privacy.errors import ProtocolError, Refusal
from ..privacy.secure_aggregation.session import SessionId
from .adapter_file import checksum
from .class_means import CLASS_MEANS, check_means
from .errors import CheckpointError, MethodError
from .state_files import damaged, read_state

MEANS_FILE = "class-means.json"
ATTEMPT, ADAPTER, VECTOR, MEANS = "attempt", "adapter", "vector", "means"


@dataclass(frozen=True, slots=True)
class MeansMemory:
    """``class-means.json`` of one site in one study: written whole, and synced before what it is about leaves.

    Attributes:
        folder: the site's state folder for the study.
        member: whether the site is in the cohort of the sum.
    """

    folder: Path
    member: bool

    @property
    def path(self) -> Path:
        """The file; it is there from this site's first message of the study on."""
        return self.folder / MEANS_FILE

    def check_session(self, session: SessionId, adapter: str, last_round: int) -> None:
        """Refuse a start that is not the next attempt at the study's one sum of class means.

        Args:
            session: of the start; its purpose is this one.
            adapter: SHA-256 of the adapter's bytes, hexadecimal.
            last_round: the last update round that this site entered; 0 for none.

        Raises:
            ProtocolError: WRONG_SESSION, WRONG_COHORT or OTHER_ADAPTER.
        """
        before = self._read()
        if not self.member:
            _refuse("this site is not in the cohort of the class means", Refusal.WRONG_COHORT)
        if session.round != 1 or last_round > 0:
            _refuse("class means are summed before the first round only", Refusal.WRONG_SESSION)
        if session.attempt <= before.get(ATTEMPT, -1):
            _refuse(f"attempt {session.attempt} at the class means is not a new one", Refusal.WRONG_SESSION)
        if adapter != before.get(ADAPTER, adapter):
            _refuse("another adapter in another attempt at the class means", Refusal.OTHER_ADAPTER)

    def enter(self, session: SessionId, adapter: str) -> None:
        """Write down that this attempt is used up; before anything of it leaves."""
        self._write({**self._read(), ATTEMPT: session.attempt, ADAPTER: adapter})

    def same_vector(self, vector: str) -> None:
        """All attempts are about one vector, given by its hash: two sums would show what changed between them.

        Raises:
            MethodError: this site's class sums were others before.
        """
        known = self._read()
        if known.setdefault(VECTOR, vector) != vector:
            raise MethodError(
                "the class sums of this site's training images are not those of the first attempt",
                where=str(self.folder),
                remedy="Restore the images that the study was begun with, or start a new study",
            )
        self._write(known)

    def check_means(self, means: Tensor, *, summed: bool) -> str:
        """Refuse class means that came with an adapter, where they cannot be this study's.

        Args:
            means: (K, D) float32.
            summed: whether they come with a round; False in a start of the sum itself, where they must be all zero.

        Returns:
            Their hash, for :meth:`keep_means`.

        Raises:
            ProtocolError: OTHER_ADAPTER; or WRONG_SESSION where this site was never asked for its sums.
        """
        known, digest = self._read(), checksum({CLASS_MEANS: means})
        if not summed:
            if bool(means.any()):
                _refuse("class means before they were summed", Refusal.OTHER_ADAPTER)
            return digest
        if self.member and ATTEMPT not in known:
            _refuse("a round before the class means were summed", Refusal.WRONG_SESSION)
        try:
            check_means(means)
        except CheckpointError as error:
            _refuse(str(error), Refusal.OTHER_ADAPTER)
        if known.get(MEANS, digest) != digest:
            _refuse("other class means than in this site's first round", Refusal.OTHER_ADAPTER)
        return digest

    def keep_means(self, digest: str) -> None:
        """Remember the class means of this site's first update round, by their hash."""
        known = self._read()
        if MEANS not in known:
            self._write({**known, MEANS: digest})

    def _read(self) -> dict[str, Any]:
        known = read_state(self.path)
        kinds = {ATTEMPT: int, ADAPTER: str, VECTOR: str, MEANS: str}
        if any(key not in kinds or type(value) is not kinds[key] for key, value in known.items()):
            raise damaged(self.path)
        return known

    def _write(self, known: dict[str, Any]) -> None:
        write_atomic(self.path, canonical_json(known))


def _refuse(what: str, code: Refusal) -> NoReturn:
    raise ProtocolError(what, code=code, stage="start")

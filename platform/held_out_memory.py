"""What a site must not forget of the two sums over held-out images: one model, one temperature, one vector each.

A second vector, of another model or at another temperature, over the same cohort would let a coordinator subtract two
sums and see what changed; so would a cohort one site smaller, which the survivor memory refuses.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ..privacy.atomic import canonical_json, write_atomic
from ..privacy.errors import ProtocolError, Refusal
from ..privacy.secure_aggregation.session import Purpose, SessionId
from .errors import MethodError
from .held_out import EVALUATION, HELD_OUT, TEMPERATURE
from .state_files import damaged, read_state

HELD_OUT_FILE = "held-out.json"
ADAPTER, ATTEMPT, SETTINGS, VECTOR, VALIDATION = "adapter", "attempt", "settings", "vector", "validation"
_KINDS = {ATTEMPT: int, SETTINGS: str, VECTOR: str}


@dataclass(frozen=True, slots=True)
class HeldOutMemory:
    """``held-out.json`` of one site in one study: written whole, and synced before what it is about leaves.

    Attributes:
        folder: the site's state folder for the study.
        member: whether the site is in the cohort of these sums.
        rounds: rounds of the study. over: a file that is there once the study has ended here.
    """

    folder: Path
    member: bool
    rounds: int
    over: Path

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / HELD_OUT_FILE

    @property
    def begun(self) -> bool:
        """Whether a sum was ever entered; from then on no round is."""
        return self.path.is_file()

    @property
    def adapter(self) -> str:
        """SHA-256 of the model that the sums are about, hexadecimal; empty before the first."""
        return str(self._read().get(ADAPTER, ""))

    def check_session(self, session: SessionId, adapter: str, settings: str) -> None:
        """Refuse a start that is not the next attempt at one of the two sums.

        Args:
            session: of the start. adapter, settings: SHA-256 of their bytes, hexadecimal.

        Raises:
            ProtocolError: WRONG_SESSION, WRONG_COHORT or OTHER_ADAPTER.
        """
        known = self._read()
        before = known.get(session.purpose, {})
        if not self.member:
            _refuse("this site is not in the cohort of the evaluation", Refusal.WRONG_COHORT)
        if session.round != self.rounds:
            _refuse("figures are summed after the study's last round only", Refusal.WRONG_SESSION)
        if self.over.is_file():
            _refuse("figures after the end of the study", Refusal.WRONG_SESSION)
        if session.purpose == TEMPERATURE and EVALUATION in known:
            _refuse("a temperature after the evaluation", Refusal.WRONG_SESSION)
        if session.attempt <= before.get(ATTEMPT, -1):
            _refuse(f"attempt {session.attempt} at the {session.purpose} is not a new one", Refusal.WRONG_SESSION)
        if adapter != known.get(ADAPTER, adapter):
            _refuse("figures of a second model", Refusal.OTHER_ADAPTER)
        if settings != before.get(SETTINGS, settings):
            _refuse("other settings in another attempt", Refusal.OTHER_ADAPTER)

    def enter(self, session: SessionId, adapter: str, settings: str) -> None:
        """Write down that this attempt is used up; before anything of it leaves."""
        known = self._read()
        now = {**known.get(session.purpose, {}), ATTEMPT: session.attempt, SETTINGS: settings}
        self._write({**known, ADAPTER: adapter, session.purpose: now})

    def same_validation(self, digest: str) -> None:
        """Both sums are about one validation part, given by a hash: what left between them would be their difference.

        Raises:
            MethodError: it was another one in the first sum.
        """
        if self._read().get(VALIDATION, digest) != digest:
            raise self._changed("validation images")

    def same_vector(self, session: SessionId, vector: str, validation: str) -> None:
        """All attempts at a sum are about one vector, given by its hash; the hash of the validation part is kept too.

        Raises:
            MethodError: this site's figures were others before.
        """
        known = self._read()
        if known[session.purpose].setdefault(VECTOR, vector) != vector:
            raise self._changed(f"figures for the {session.purpose}")
        self._write({**known, VALIDATION: known.get(VALIDATION, validation)})

    def _changed(self, what: str) -> MethodError:
        return MethodError(
            f"this site's {what} are not those of the first attempt",
            where=str(self.folder),
            remedy="Restore the images that the study was begun with; otherwise it ends without these figures",
        )

    def _read(self) -> dict[str, Any]:
        known = read_state(self.path)
        if not known:
            return known
        sums = {key: value for key, value in known.items() if key not in (ADAPTER, VALIDATION)}
        sound = all(isinstance(known.get(key, ""), str) for key in (ADAPTER, VALIDATION))
        sound = sound and ADAPTER in known and set(sums) <= set(HELD_OUT)
        for value in sums.values():
            sound = sound and isinstance(value, dict) and {ATTEMPT, SETTINGS} <= set(value) <= set(_KINDS)
            sound = sound and all(type(value[key]) is _KINDS[key] for key in value)
        if not sound:
            raise damaged(self.path)
        return known

    def _write(self, known: dict[str, Any]) -> None:
        write_atomic(self.path, canonical_json(known))


def _refuse(what: str, code: Refusal) -> NoReturn:
    raise ProtocolError(what, code=code, stage="start")


def known_settings(folder: Path, purpose: Purpose) -> str:
    """SHA-256 of the settings that a site took part in a sum with, hexadecimal; empty where it took no part.

    Raises:
        CheckpointError: the file is damaged.
    """
    found = HeldOutMemory(folder, True, 0, folder)._read().get(purpose, {})
    return str(found.get(SETTINGS, ""))

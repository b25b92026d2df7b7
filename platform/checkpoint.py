"""The coordinator's checkpoints: each round's adapter, atomically, and the attempts that were made at the next one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..privacy.atomic import canonical_json, make_private, write_atomic
from ..privacy.secure_aggregation.session import Purpose
from .adapter_file import AdapterInfo, read_adapter, write_adapter
from .adapters import State
from .errors import CheckpointError

KEPT = 3  # newest checkpoints that are kept: one may be damaged, and the one before it must still be there
ATTEMPT_FILE = "attempt.json"
ROUND, SERVER = "round", "server"


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Checkpoints of one study in ``folder``; made when the first one is saved."""

    folder: Path

    def save(self, state: Mapping[str, Tensor], info: AdapterInfo, memory: Mapping[str, Tensor] | None = None) -> str:
        """Write the adapter after ``info.round`` rounds; returns its file's SHA-256 in hexadecimal.

        ``memory`` holds the server optimiser's moments. It is written first: an adapter without it is no checkpoint.
        """
        make_private(self.folder)
        if memory:
            write_adapter(self._memory_path(info.round), memory, info)
        digest = write_adapter(self._path(info.round), state, info)
        for path in self._all()[:-KEPT]:
            path.unlink()
            path.with_name(path.name.replace(ROUND, SERVER)).unlink(missing_ok=True)
        return digest

    def newest(self, *, study: str, backbone: str) -> tuple[State, AdapterInfo] | None:
        """The newest checkpoint, or None when there is none.

        Raises:
            CheckpointError: it is damaged, or belongs to another study or backbone. It is not passed over silently.
        """
        paths = self._all()
        return read_adapter(paths[-1], study=study, backbone=backbone) if paths else None

    def memory(self, info: AdapterInfo) -> State:
        """The server optimiser's moments after ``info.round`` rounds; only for a study whose optimiser has some.

        Raises:
            CheckpointError: they are missing, damaged or of another study.
        """
        return read_adapter(self._memory_path(info.round), study=info.study, backbone=info.backbone)[0]

    def next_attempt(self, number: int, purpose: Purpose = "update") -> int:
        """The attempt to make at a round, from 0; written down before it is returned, so no session id comes twice.

        Attempts are remembered for every round that a kept checkpoint can lead back to. Each purpose has a file and a
        count of its own.

        Raises:
            CheckpointError: the record of attempts is damaged.
        """
        path = self.folder / (ATTEMPT_FILE if purpose == "update" else f"{purpose}-{ATTEMPT_FILE}")
        made: dict[int, int] = {}
        if path.is_file():
            try:
                made = {int(key): int(last) for key, last in json.loads(path.read_bytes())["attempts"].items()}
            except (ValueError, KeyError, TypeError, AttributeError):
                raise CheckpointError(
                    "the record of attempts is damaged", where=str(path), remedy="Restore it from a backup"
                ) from None
        make_private(self.folder)
        made[number] = made.get(number, -1) + 1
        kept = {str(key): last for key, last in made.items() if key >= number - KEPT}
        write_atomic(path, canonical_json({"attempts": kept}))
        return made[number]

    def _path(self, number: int) -> Path:
        return self.folder / f"{ROUND}-{number:05d}.safetensors"

    def _memory_path(self, number: int) -> Path:
        return self.folder / f"{SERVER}-{number:05d}.safetensors"

    def _all(self) -> list[Path]:
        return sorted(self.folder.glob(f"{ROUND}-*.safetensors")) if self.folder.is_dir() else []

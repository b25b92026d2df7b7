"""A site's local training across rounds: stored updates, Adam's moments, and nothing that leaves.

Order within a round: the update is written and synced before anything of it is masked. A site that is killed and asked
again about the same global adapter answers with the stored update; so a resumed run equals the uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from ..privacy.atomic import make_private, write_atomic
from .adapter_file import checksum
from .config import TrainingSection
from .errors import CheckpointError
from .methods.method import Method, SharedInputs, TrainingPart
from .training import derive_seed, train_locally
from .update import BUFFERS, METRICS, UPDATE, Layout, State, Update

CHECKSUM_KEY = "checksum"  # a tensor like the others: metadata would be read by another call
KEPT_ROUNDS = 2  # the stored update of this round, and the moments of the one before it


@dataclass(frozen=True, slots=True)
class LocalTrainer:
    """Trains one site's part, round by round.

    Attributes:
        site: the site's name; enters the seed.
        study: the study's hash; enters the seed.
        seed: the study's seed.
        method: adapter and loss.
        settings: optimiser and batch size.
        part: the site's training features.
        shared: prompts, scale, reference.
        folder: the site's state folder for this study; it never leaves the site.
    """

    site: str
    study: str
    seed: int
    method: Method
    settings: TrainingSection
    part: TrainingPart
    shared: SharedInputs
    folder: Path

    def update(self, number: int, start: State, adapter_sha256: str) -> Update:
        """The site's update for round ``number`` from the global adapter ``start``; stored before it is returned.

        Asked again for the same round and adapter, it returns the stored one and does not train.

        Raises:
            MethodError: the part is too small, or the loss is not finite.
            CheckpointError: a stored update is damaged.
        """
        path = self._path(number)
        stored = self._read(path)
        if stored is None or bytes(stored["adapter_sha256"].numpy().tobytes()).hex() != adapter_sha256:
            stored = self._train(number, start, adapter_sha256)
            make_private(self.folder)
            digest = bytearray.fromhex(checksum(stored))
            write_atomic(path, save({**stored, CHECKSUM_KEY: torch.frombuffer(digest, dtype=torch.uint8)}))
            self._prune(number)
        return Update({name: stored[f"block.{name}"].numpy() for name in (UPDATE, BUFFERS, METRICS)})

    def _train(self, number: int, start: State, adapter_sha256: str) -> dict[str, torch.Tensor]:
        moments = self._moments(number - 1) if self.settings.optimiser_state == "keep" else None
        result = train_locally(
            self.method,
            start,
            self.part,
            self.shared,
            self.settings,
            seed=derive_seed(self.study, self.site, self.seed, number),
            moments=moments,
        )
        layout = Layout.of(self.method.new_adapter(self.shared.text.shape[1], seed=0))
        update = Update.between(layout, start, result.state, result.loss)
        stored = {f"block.{name}": torch.from_numpy(np.asarray(values)) for name, values in update.blocks.items()}
        stored["adapter_sha256"] = torch.frombuffer(bytearray.fromhex(adapter_sha256), dtype=torch.uint8)
        if self.settings.optimiser_state == "keep":
            stored |= {f"moment.{name}": tensor for name, tensor in result.moments.items()}
        return stored

    def _moments(self, number: int) -> Mapping[str, torch.Tensor] | None:
        """Adam's moments after round ``number``; None before the first round, or where the site sat that round out."""
        stored = self._read(self._path(number))
        if stored is None:
            return None
        prefix = "moment."
        return {name.removeprefix(prefix): value for name, value in stored.items() if name.startswith(prefix)}

    def _path(self, number: int) -> Path:
        return self.folder / f"update-{number:05d}.safetensors"

    def _read(self, path: Path) -> dict[str, torch.Tensor] | None:
        if not path.is_file():
            return None
        try:
            stored: dict[str, torch.Tensor] = load(path.read_bytes())
            stated = stored.pop(CHECKSUM_KEY).numpy().tobytes().hex()
            sound = stated == checksum(stored)
        except (SafetensorError, ValueError, KeyError, TypeError):
            sound = False
        if not sound:
            raise CheckpointError(
                "the stored update is damaged",
                where=str(path),
                remedy="Restore it from a backup. Without one, delete it: the site trains that round again, or goes on "
                "with fresh optimiser moments, and the adapter then differs from that of an undisturbed run",
            )
        return stored

    def _prune(self, number: int) -> None:
        """Delete updates older than those a resume can need: they are patient-derived data."""
        for path in self.folder.glob("update-*.safetensors"):
            if int(path.stem.removeprefix("update-")) <= number - KEPT_ROUNDS:
                path.unlink()

    def keeps(self, number: int) -> bool:
        """Whether what the next round needs of this one is there; always, where rounds start with fresh moments."""
        return self.settings.optimiser_state != "keep" or self._path(number).is_file()

    def forget(self) -> None:
        """Delete every stored update and moment: the study is over, and they derive from patients' images."""
        for path in self.folder.glob("update-*.safetensors"):
            path.unlink()

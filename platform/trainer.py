"""A site's local training across rounds: stored updates, Adam's moments, and nothing that leaves.

Order within a round: the update is written and synced before anything of it is masked. A site that is killed and asked
again about the same global adapter answers with the stored update; so a resumed run equals the uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from ..privacy.atomic import make_private, write_atomic
from .adapter_file import checksum
from .adapters import State, under
from .class_means import CLASS_MEANS, Sums, class_sums, with_proxies
from .config import Study
from .errors import CheckpointError, MethodError
from .methods.adapted_clip import TRAINING_ONLY
from .methods.method import Method, SharedInputs, TrainingPart
from .methods.private import Alignment
from .private_site import PrivateSite
from .training import Carried, LocalResult, derive_seed, train_locally
from .update import Layout, Update

PERSONAL_FILE = "personal.safetensors"
CHECKSUM_KEY = "checksum"  # a tensor like the others: metadata would be read by another call
MOMENT, LOCAL, PREVIOUS = "moment.", "local.", "previous."
UPDATE = "stored update"
TRAINED_AGAIN = (
    "Restore it from a backup. Without one, delete it: the site trains that round again, or goes on with fresh "
    "optimiser moments, and the adapter then differs from that of an undisturbed run"
)
NOT_MADE_AGAIN = "Restore it from a backup: what it was made from is deleted at the end of a study"
KEPT_ROUNDS = 2  # the stored update of this round, and the moments of the one before it


@dataclass(frozen=True, slots=True)
class LocalTrainer:
    """Trains one site's part, round by round.

    Attributes:
        site: the site's name; enters the seed, with the study's hash and seed.
        study: optimiser, batch size and seed.
        method: module and loss.
        layout: what of the module is sent.
        part: what the site trains on.
        held_out: its validation part, for a temperature in the adapter.
        shared: prompts, scale, reference.
        folder: the site's state folder for this study; it never leaves the site.
        private: how it trains under differential privacy; None without.
    """

    site: str
    study: Study
    method: Method
    layout: Layout
    part: TrainingPart
    held_out: TrainingPart
    shared: SharedInputs
    folder: Path
    private: PrivateSite | None = None

    def update(self, number: int, start: State, adapter_sha256: str) -> Update:
        """The site's update for round ``number`` from the global adapter ``start``; stored before it is returned.

        Constants that came with the adapter decide what it is aligned to. They are in the hash, and what is made of
        them is made again each time, so nothing of it has to be stored.

        Asked again for the same round and adapter, it returns the stored one and does not train.

        Raises:
            MethodError: the part is too small, or the loss is not finite.
            CheckpointError: a stored update is damaged.
            BudgetError: under differential privacy, the round would exceed the budget.
        """
        path = self._path(number)
        if self.private is not None:
            return self._private_update(self.private, number, start, adapter_sha256)
        stored = self._read(path)
        if stored is None or _adapter_of(stored) != adapter_sha256:
            stored = self._train(number, start, adapter_sha256)
            make_private(self.folder)
            write_atomic(path, _with_checksum(stored))
            self._prune(number)
        return self._update_of(stored)

    def _private_update(self, private: PrivateSite, number: int, start: State, adapter_sha256: str) -> Update:
        """The one update of a round that its charge paid for; another adapter in the same round gets none."""
        path, carried = self._path(number), self._carried(number - 1)
        alignment: Alignment | None = None
        if not private.budget.covers(self.study.digest(), round_key(number)):
            # Charged in its own right, and before the round that needs it.
            alignment = private.alignment(number, start, self.part, self.shared, carried)

        def make() -> bytes:
            seed = self._seed(number)
            result = private.train(start, self.part, self.shared, seed=seed, carried=carried, alignment=alignment)
            return _with_checksum(self._stored(start, result, adapter_sha256))

        private.once(path, round_key(number), private.plan.round, make)
        stored = self._read(path)
        if stored is None or _adapter_of(stored) != adapter_sha256:
            raise MethodError(
                f"round {number} was trained on another adapter, and its privacy is spent",
                where=str(path),
                remedy="The site sits this round out",
            )
        self._prune(number)
        return self._update_of(stored)

    def _update_of(self, stored: Mapping[str, torch.Tensor]) -> Update:
        return Update({name: stored[f"block.{name}"].numpy() for name in self.layout.sizes()})

    def _seed(self, number: int) -> int:
        return derive_seed(self.study.digest(), self.site, self.study.seed, number)

    def _train(self, number: int, start: State, adapter_sha256: str) -> dict[str, torch.Tensor]:
        state, constants = self.layout.split(start)
        result = train_locally(
            self.method,
            state,
            self.part,
            with_proxies(self.shared, self.part, constants),
            self.study.training,
            seed=self._seed(number),
            carried=self._carried(number - 1),
            held_out=self.held_out,
            head_steps=self.study.calibration.steps,
        )
        return self._stored(state, result, adapter_sha256)

    def _stored(self, state: State, result: LocalResult, adapter_sha256: str) -> dict[str, torch.Tensor]:
        """What of a round must be on disk before anything of it leaves."""
        update = Update.between(self.layout, state, result.state, result.loss)
        stored = {f"block.{name}": torch.from_numpy(np.asarray(values)) for name, values in update.blocks.items()}
        stored["adapter_sha256"] = torch.frombuffer(bytearray.fromhex(adapter_sha256), dtype=torch.uint8)
        if self._keeps_moments:
            stored |= {f"{MOMENT}{name}": tensor for name, tensor in result.moments.items()}
        own = {name: tensor for name, tensor in result.state.items() if under(name, self.method.local)}
        stored |= {f"{LOCAL}{name}": tensor for name, tensor in own.items()}
        if self.method.anchors:
            stored |= {f"{PREVIOUS}{name}": tensor for name, tensor in result.state.items()}
        return stored

    def class_sums(self) -> Sums:
        """What this site gives to the federation's class means: sums and counts of its training images, by class."""
        return class_sums(self.part, self.layout.constants[CLASS_MEANS][0])

    @property
    def _keeps_moments(self) -> bool:
        return self.study.training.optimiser_state == "keep"

    def _carried(self, number: int) -> Carried:
        """What the site carries out of round ``number``; local tensors out of the last round that it trained at all.

        Adam's moments are dropped where the site sat that round out: they belong to a model that has moved on.
        """
        last = self._read(self._path(number)) or {}
        newest = last or self._read(self._newest(number)) or {}
        moments = _with_prefix(last, MOMENT) if self._keeps_moments and last else None
        return Carried(moments, _with_prefix(newest, LOCAL), _with_prefix(newest, PREVIOUS) or None)

    def _newest(self, number: int) -> Path:
        """The newest stored update up to round ``number``; a path that does not exist where there is none."""
        paths = [path for path in sorted(self.folder.glob("update-*.safetensors")) if _round_of(path) <= number]
        return paths[-1] if paths else self._path(number)

    def personal(self, final: State) -> State:
        """The site's own model after the study, all tensors: the final one, its local parts, and its fine-tuning.

        It stays at the site. Without local parts and fine-tuning it is the final global one. Fine-tuning is for this
        site's own patients, so it aligns to nobody else: adaptation is off.
        """
        carried = self._carried(self.study.rounds)
        state, _ = self.layout.split(final)
        epochs = self.study.personalisation.fine_tune_epochs
        if epochs == 0:
            return {**state, **carried.local}
        return train_locally(
            self.method,
            state,
            self.part,
            replace(self.shared, reference=self.shared.reference[:0], reference_labels=None),
            self.study.training.model_copy(update={"local_epochs": epochs}),
            seed=derive_seed(self.study.digest(), self.site, self.study.seed, "fine-tuning"),
            carried=Carried(None, carried.local, carried.previous),
            held_out=self.held_out,
            head_steps=self.study.calibration.steps,
        ).state

    def _path(self, number: int) -> Path:
        return self.folder / f"update-{number:05d}.safetensors"

    def _read(self, path: Path, *, what: str = UPDATE, remedy: str = TRAINED_AGAIN) -> dict[str, torch.Tensor] | None:
        return _read_stored(path, what, remedy) if path.is_file() else None

    def _prune(self, number: int) -> None:
        """Delete updates older than those a resume can need: they are patient-derived data."""
        for path in self.folder.glob("update-*.safetensors"):
            if _round_of(path) <= number - KEPT_ROUNDS:
                path.unlink()

    def keeps(self, number: int) -> bool:
        """Whether what the next round needs of this one is there; always, where a round needs nothing of the last."""
        needs = self._keeps_moments or self.method.anchors or self.method.local
        return not needs or self._path(number).is_file()

    @property
    def carries(self) -> str:
        """What one round hands to the next at this site, in words."""
        parts = ["Adam's moments"] if self._keeps_moments else []
        parts += ["the tensors that stay at the site"] if self.method.local else []
        parts += ["the site's previous model"] if self.method.anchors else []
        return " and ".join(parts)

    @property
    def has_personal(self) -> bool:
        """Whether this site's own model differs from the global one."""
        prediction = [prefix for prefix in self.method.local if prefix not in TRAINING_ONLY]
        return bool(prediction) or self.study.personalisation.fine_tune_epochs > 0

    def keep_personal(self, final: State) -> None:
        """Make the site's own model from the study's final one and store it, unless that was done."""
        path = self.folder / PERSONAL_FILE
        if self.has_personal and not path.is_file():
            state = self.personal(final)
            write_atomic(path, _with_checksum(state))

    def personal_state(self) -> State | None:
        """The site's own model as stored; None where it is the global one.

        Raises:
            CheckpointError: it is damaged.
        """
        if not self.has_personal:
            return None
        return self._read(self.folder / PERSONAL_FILE, what="site's own model", remedy=NOT_MADE_AGAIN)

    def forget(self) -> None:
        """Delete stored updates, moments and noisy sums: the study is over, and they derive from patients' images."""
        for kind in ("update-*", "class-sums", "fourier-*"):
            for path in self.folder.glob(f"{kind}.safetensors"):
                path.unlink()


def outdated_updates(folder: Path, *, over: bool) -> list[Path]:
    """Stored updates that no round is about any more: all when the study is over, else all but the newest.

    The newest may be of a round that was entered and not released. It stays, so that a retry is about the same vector.

    Args:
        folder: a site's state folder of one study. over: whether that study is.
    """
    paths = sorted(folder.glob("update-*.safetensors"), key=_round_of)
    return paths if over else paths[:-1]


def without_moments(path: Path) -> bytes | None:
    """What a stored update is without Adam's moments; None where it has none. The next round then starts them anew.

    Raises:
        CheckpointError: the update is damaged.
    """
    stored = _read_stored(path, UPDATE, TRAINED_AGAIN)
    kept = {name: tensor for name, tensor in stored.items() if not name.startswith(MOMENT)}
    return _with_checksum(kept) if len(kept) < len(stored) else None


def round_key(number: int) -> str:
    """Key of a round's update in the site's budget."""
    return f"round-{number}"


def _read_stored(path: Path, what: str, remedy: str) -> dict[str, torch.Tensor]:
    try:
        stored: dict[str, torch.Tensor] = load(path.read_bytes())
        stated = stored.pop(CHECKSUM_KEY).numpy().tobytes().hex()
        sound = stated == checksum(stored)
    except (SafetensorError, ValueError, KeyError, TypeError):
        sound = False
    if not sound:
        raise CheckpointError(f"the {what} is damaged", where=str(path), remedy=remedy)
    return stored


def _with_checksum(stored: Mapping[str, torch.Tensor]) -> bytes:
    digest = bytearray.fromhex(checksum(stored))
    return save({**stored, CHECKSUM_KEY: torch.frombuffer(digest, dtype=torch.uint8)})


def _adapter_of(stored: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of the adapter that a stored update was trained from, hexadecimal."""
    return bytes(stored["adapter_sha256"].numpy().tobytes()).hex()


def _round_of(path: Path) -> int:
    return int(path.stem.removeprefix("update-"))


def _with_prefix(stored: Mapping[str, torch.Tensor], prefix: str) -> State:
    return {name.removeprefix(prefix): value for name, value in stored.items() if name.startswith(prefix)}

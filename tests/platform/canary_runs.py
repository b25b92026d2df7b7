"""Whole studies on canaries, with every parcel captured and everything secret written down beside it."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from wardround.platform import simulation, site_machine, study_parts, terms, trainer
from wardround.platform.adapter_file import AdapterInfo, dump_adapter
from wardround.platform.backbone import Backbone
from wardround.platform.config import Study
from wardround.platform.errors import RoundError
from wardround.platform.preprocessing import Preprocessing
from wardround.platform.run_folder import RunFolder
from wardround.platform.simulation import simulate
from wardround.platform.study_file import parse_study
from wardround.privacy import messages as m
from wardround.privacy.identity import Identity
from wardround.privacy.ledger.keys import LedgerKey
from wardround.privacy.ledger.rosters import read_rosters
from wardround.privacy.secure_aggregation import primitives, site
from wardround.privacy.secure_aggregation.packing import pack
from wardround.privacy.secure_aggregation.roster import Roster
from wardround.privacy.secure_aggregation.session import bind
from wardround.privacy.secure_aggregation.session_secrets import SessionSecrets

from .canaries import CLASSES, FEW, FLOATS, SIDE, WORDS, Detector, Planted, add_features, detector_of
from .canary_messages import COORDINATOR, Known

MANY = 200_000
"""Numbers from which on an array is looked for in few formats."""
STEP = 2.0**-19
"""Two steps of the fixed point that updates are sent in."""


@dataclass
class Secrets:
    """What was seen inside the sites while a study ran.

    Attributes:
        keys: secret keys, seeds and shares that nobody opened, by what they are.
        blocks: plaintext blocks of updates and class sums, by name.
        words: encoded vectors before they were masked, with the roster's purpose.
        states: of what sites trained or kept: name, adapter that it was trained from, own and received tensor.
        public: public keys, commitments and bindings of sessions, and the parties' keys.
        data: the features and pictures of every site.
    """

    keys: dict[bytes, str] = field(default_factory=dict)
    opened: set[bytes] = field(default_factory=set)
    blocks: list[tuple[str, NDArray[Any]]] = field(default_factory=list)
    words: list[tuple[str, NDArray[np.uint32]]] = field(default_factory=list)
    states: list[tuple[str, str, NDArray[Any], NDArray[Any] | None]] = field(default_factory=list)
    public: set[bytes] = field(default_factory=set)
    data: Any = None
    start: bytes = b""
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass
class Run:
    """One study that was run on canaries.

    Attributes:
        study, folder: what and where.
        parcels: (sender, receiver, exact bytes), in the order in which they travelled.
        secrets: what must not be in them.
        planted: the pictures.
        error: what the study ended with; None where it came to its end.
        clock: seconds since 1970 between which it ran.
    """

    study: Study
    folder: RunFolder
    parcels: list[tuple[str, str, bytes]]
    secrets: Secrets
    planted: Planted
    backbone: str
    error: Exception | None
    clock: tuple[float, float]

    @functools.cached_property
    def roster(self) -> Roster:
        """The study's."""
        (roster,) = read_rosters(self.folder.coordinator)[0].values()
        return roster

    @functools.cached_property
    def messages(self) -> list[tuple[str, str, Any]]:
        """All parcels, decoded."""
        return [
            (a, b, m.decode(w, m.TO_COORDINATOR if b == COORDINATOR else m.TO_SITE, self.limits))
            for a, b, w in self.parcels
        ]

    @functools.cached_property
    def different(self) -> dict[bytes, tuple[str, str]]:
        """Each byte string that travelled, once, with who sent it first to whom."""
        found: dict[bytes, tuple[str, str]] = {}
        for sender, receiver, wire in self.parcels:
            found.setdefault(wire, (sender, receiver))
        return found

    @property
    def tags(self) -> set[str]:
        """Types of messages that occurred."""
        return {m.tag_of(message) for _, _, message in self.messages}

    @property
    def limits(self) -> m.Limits:
        """As the parties have them."""
        roster = self.roster
        largest = max(roster.wire_size(purpose) for purpose in roster.vectors)
        tensors = 4 * sum(int(np.prod(shape)) for shape in self.secrets.shapes.values())
        return m.Limits(len(roster.sites), largest, tensors + 65_536)

    def ledger(self, party: str) -> Path:
        """Of a site or the coordinator."""
        home = self.folder.coordinator if party == COORDINATOR else self.folder.homes / party
        return home / "ledger.jsonl"

    @functools.cached_property
    def known(self) -> Known:
        """What may stand in the messages."""
        released: dict[int, set[bytes]] = {}
        for _, _, message in self.messages:
            if isinstance(message, m.RoundEnd) and message.status == "released":
                done = message.session.round if message.session.purpose == "update" else 0
                released.setdefault(done, set()).add(message.adapter_sha256)
        digests = frozenset(primitives.hashlib.sha256(wire).digest() for wire in self.different)
        longest = max(self.ledger(party).read_bytes().count(b"\n") for party in (COORDINATOR, *self.roster.names))
        bindings = {
            bind(message.adapter, message.settings).digest
            for _, _, message in self.messages
            if isinstance(message, m.RoundStart)
        }
        return Known(
            roster=self.roster,
            method=self.study.method,
            backbone=self.backbone,
            rounds=self.study.rounds,
            shapes=self.secrets.shapes,
            start=self.secrets.start,
            tries=self.study.retries + 1,
            limits=self.limits,
            clock=self.clock,
            digests=digests,
            entries=longest,
            keys=frozenset(self.secrets.public | bindings),
            lies=any(fault.lie == "substituted-key" for fault in self.study.faults.lying_coordinator),
            released=released,
        )

    def updates(self) -> Detector:
        """A detector of this study's plaintext updates, as numbers and as words."""
        detector = Detector()
        for name, values in self.secrets.blocks:
            _add_array(detector, f"plaintext block {name}", values, FLOATS)
        for purpose, words in self.secrets.words:
            _add_array(detector, f"encoded words of {purpose}", words, WORDS)
            self._add_packed(detector, purpose, words)
        return detector

    def _add_packed(self, detector: Detector, purpose: str, words: NDArray[np.uint32]) -> None:
        start = 0
        for block in self.roster.blocks(purpose):  # type: ignore[arg-type]
            ring = block.ring(len(self.roster.sites))
            if ring < 32:
                packed = pack(words[start : start + block.size], ring)
                whole = np.frombuffer(packed, dtype="<u4")
                detector.add_values(f"packed words of {purpose}", whole, {"uint32": WORDS["uint32"]})
            start += block.size

    @functools.cached_property
    def everything(self) -> Detector:
        """A detector of whatever must not leave a site: canaries, keys, features, pictures, updates, own models."""
        detector = Detector()
        detector.take(detector_of(self.planted))
        for secret, what in self.secrets.keys.items():
            if secret not in self.secrets.opened:
                detector.add_secret(what, secret)
        for place in sorted(self.folder.root.rglob("passphrase")):
            detector.add_secret("a passphrase", bytes.fromhex(place.read_text()))
        for name in ("identity.pem", "ledger-key.bin"):
            for place in sorted(self.folder.root.rglob(name)):
                for line in place.read_bytes().split(b"\n")[1:-2] if name.endswith("pem") else [place.read_bytes()]:
                    detector.add(f"bytes of {name}", line[:32])
        for own in self.secrets.data.sites:
            for part in (own.train, own.validation, own.test):
                add_features(detector, f"features of {own.name}", part.features)
                _add_labels(detector, own.name, part.labels)
                for picture in [] if part.pictures is None else part.pictures:
                    flat = picture.ravel()
                    detector.add_values(f"a picture of {own.name}", flat, {"uint8": lambda values: values})
                    detector.add_values(f"a picture of {own.name}", flat / np.float32(255), FEW)
        detector.take(self.updates())
        alike: dict[tuple[str, str], list[NDArray[Any]]] = {}
        for name, adapter, own_tensor, _ in self.secrets.states:
            alike.setdefault((name, adapter), []).append(own_tensor)
        for name, adapter, own_tensor, received in self.secrets.states:
            # Where all sites go the same way (Adam's step at its bound), the mean that all get is each one's own.
            together = np.stack(alike[name, adapter])
            moved = 0.0 if received is None else float(np.abs(own_tensor - received).max(initial=0.0))
            agreed = np.ptp(together, axis=0) <= max(STEP, moved / 4)
            common = np.where(agreed, own_tensor, own_tensor + 1).astype(own_tensor.dtype)
            public = [common] if received is None else [received, common]
            _add_array(detector, name, own_tensor, FEW, public)
        return detector


def _add_array(
    detector: Detector,
    what: str,
    values: NDArray[Any],
    formats: Mapping[str, Callable[[NDArray[Any]], NDArray[Any]]],
    public: Sequence[NDArray[Any]] = (),
) -> None:
    large = values.size > MANY
    few = {name: formats[name] for name in formats if name in ("float32", "float16", "uint32")} if large else formats
    detector.add_values(what, values, few, public=public, every=1 if values.size < 8 * MANY else 16)


def _add_labels(detector: Detector, owner: str, labels: NDArray[np.int64]) -> None:
    """The place at which they change; a run of one class says nothing."""
    for change in np.flatnonzero(np.diff(labels)) + 1:
        for kind, around in (("<i8", 2), ("<i4", 4), ("<i2", 4), ("i1", 4)):
            part = labels[change - around : change + around] if change >= around else labels[:0]
            if len(part) == 2 * around:
                detector.add(f"labels of {owner}", part.astype(kind).tobytes())


# --- looking into the sites -----------------------------------------------------------------------------------------


@contextmanager
def watched(secrets: Secrets) -> Iterator[pytest.MonkeyPatch]:
    """Write down what sites do in secret; nothing that they do is changed."""
    with pytest.MonkeyPatch.context() as patch:
        _watch_keys(patch, secrets)
        _watch_shares(patch, secrets)
        _watch_training(patch, secrets)
        yield patch


def _watch_keys(patch: pytest.MonkeyPatch, secrets: Secrets) -> None:
    identity, ledger_key, session = Identity.__init__, LedgerKey.__init__, SessionSecrets.__init__
    derive, exchange, commitment = primitives.derive, primitives.exchange, primitives.commitment

    def new_identity(self: Identity, private: Any) -> None:
        identity(self, private)
        secrets.keys[private.private_bytes_raw()] = "the seed of an identity"
        secrets.public.add(self.public_key)

    def new_ledger_key(self: LedgerKey, seed: bytes, owner: Identity) -> None:
        ledger_key(self, seed, owner)
        secrets.keys[seed] = "the seed of a ledger key"
        secrets.public.add(self.public_key)

    def new_session(self: SessionSecrets, random: Any) -> None:
        session(self, random)
        secrets.keys[self.b] = "the seed of a self mask"
        for name, key in (("channel", self.channel), ("mask", self.mask)):
            secrets.keys[key.private_bytes_raw()] = f"a private {name} key"
            secrets.public.add(key.public_key().public_bytes_raw())

    def derived(secret: bytes, info: bytes) -> bytes:
        key = derive(secret, info)
        secrets.keys[key] = "a derived key"
        return key

    def exchanged(private: Any, public: bytes) -> bytes:
        shared = exchange(private, public)
        secrets.keys[shared] = "an X25519 secret"
        return shared

    def committed(*arguments: Any) -> bytes:
        found = commitment(*arguments)
        secrets.public.add(found)
        return found

    patch.setattr(Identity, "__init__", new_identity)
    patch.setattr(LedgerKey, "__init__", new_ledger_key)
    patch.setattr(SessionSecrets, "__init__", new_session)
    patch.setattr(primitives, "derive", derived)
    patch.setattr(primitives, "exchange", exchanged)
    patch.setattr(primitives, "commitment", committed)


def _watch_shares(patch: pytest.MonkeyPatch, secrets: Secrets) -> None:
    """Shares are secret, but for the one kind of each that a survivor set opens."""
    mask, agree = site.SiteSession.mask, site.SiteSession.agree

    def masking(self: Any, message: Any, encoded: Any) -> Any:
        reply = mask(self, message, encoded)
        if self._secrets is not None:
            secrets.keys |= {share: "a share" for pair in self._secrets.held.values() for share in pair}
        return reply

    def agreeing(self: Any, message: Any) -> Any:
        reply = agree(self, message)
        secrets.opened |= {opened.share for opened in self._opened}
        return reply

    patch.setattr(site.SiteSession, "mask", masking)
    patch.setattr(site.SiteSession, "agree", agreeing)


def _watch_training(patch: pytest.MonkeyPatch, secrets: Secrets) -> None:
    encode, stored, forget = site_machine.encode, trainer.LocalTrainer._stored, trainer.LocalTrainer.forget
    federate, encode_study = simulation.federate, simulation.encode_study

    def encoding(blocks: Any, layout: Any, weight: float, rounding: Any = None) -> Any:
        made = encode(blocks, layout, weight, rounding)
        secrets.blocks += [(name, np.array(values)) for name, values in blocks.items()]
        purpose = "class-means" if "class_sums" in blocks else "update"
        secrets.words.append((purpose, made.words.copy()))
        return made

    def storing(self: Any, start: Any, result: Any, adapter: str) -> Any:
        for name, tensor in result.state.items():
            received = start[name].numpy() if name in start else None
            secrets.states.append((f"own {name}", adapter, tensor.detach().numpy().copy(), received))
        for name, tensor in result.moments.items():
            secrets.states.append((f"moments {name}", adapter, tensor.detach().numpy().copy(), None))
        return stored(self, start, result, adapter)

    def forgetting(self: Any) -> None:
        for kind in ("class-sums", "fourier-*"):
            for path in self.folder.glob(f"{kind}.safetensors"):
                for name, tensor in load_file(path).items():
                    if tensor.is_floating_point():
                        secrets.states.append((f"{path.stem} {name}", "", tensor.numpy().copy(), None))
        forget(self)

    def federating(study: Any, method: Any, data: Any, backbone: str, *rest: Any) -> Any:
        start = terms.start_state(study, method, data.shared)
        layout = terms.study_layout(study, method, data.shared)
        whole = {**start, **layout.blank()}
        secrets.shapes = {name: tuple(tensor.shape) for name, tensor in whole.items()}
        secrets.start = dump_adapter(whole, AdapterInfo(study.digest(), method.name, 0, backbone))
        return federate(study, method, data, backbone, *rest)

    def encoding_study(*arguments: Any) -> Any:
        data, skipped = encode_study(*arguments)
        secrets.data = data
        return data, skipped

    patch.setattr(site_machine, "encode", encoding)
    patch.setattr(trainer.LocalTrainer, "_stored", storing)
    patch.setattr(trainer.LocalTrainer, "forget", forgetting)
    patch.setattr(simulation, "federate", federating)
    patch.setattr(simulation, "encode_study", encoding_study)


def without_masks(patch: pytest.MonkeyPatch) -> None:
    """Sites send what they encoded as it is. There is no such switch in the product."""
    open_handed = SimpleNamespace(**{**vars(primitives), "apply_masks": lambda total, add, subtract: None})
    patch.setattr(site, "p", open_handed)


def quickly(patch: pytest.MonkeyPatch) -> None:
    """Without baselines, figures and dossier, of which nothing travels."""
    nothing = {"federated": None, "zero_shot": None, "local_only": None}
    patch.setattr(simulation, "assess_study", lambda *arguments: nothing)
    patch.setattr(simulation, "write_results", lambda run, results, previous=None: run.summary.write_text("{}"))


# --- a small encoder ------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1)
def small_backbone() -> Backbone:
    """A whole CLIP as small as one can be, with random weights; its words are numbers made of letters."""
    length, words = 24, 40
    config = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": SIDE, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16},
        "text_cfg": {"context_length": length, "vocab_size": words, "width": 24, "heads": 2, "layers": 1},
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = open_clip.CLIP(**config)  # type: ignore[arg-type]

    def tokenize(texts: list[str]) -> torch.Tensor:
        rows = torch.zeros((len(texts), length), dtype=torch.int64)
        for row, text in zip(rows, texts, strict=True):
            inner = [1 + sum(word.encode()) % (words - 3) for word in text.split()][: length - 2]
            row[: len(inner) + 2] = torch.tensor([words - 2, *inner, words - 1])
        return rows

    return Backbone(
        model,
        tokenize,
        name="small",
        weights="random",
        config=config,
        preprocessing=Preprocessing(SIDE, SIDE, (0.5,) * 3, (0.25,) * 3),
        device=torch.device("cpu"),
    )


# --- running --------------------------------------------------------------------------------------------------------


def study_of(planted: Planted, **changes: Any) -> Study:
    """A quick study of the planted pictures, one site a folder."""
    values: dict[str, Any] = {
        "name": "canaries",
        "method": "facmic",
        "rounds": 2,
        "retries": 1,
        "data": {
            "dataset": "brain-mri",
            "path": str(planted.root),
            "classes": list(CLASSES),
            "split": [0.6, 0.2, 0.2],
        },
        "sites": {"partition": "column", "unseen": ""},
        "training": {"lr": 1e-3, "batch_size": 4, "local_epochs": 2},
    }
    for key, value in changes.items():
        values[key] = {**values[key], **value} if isinstance(value, dict) and key in values else value
    return parse_study(values, where=planted.root.parent / "study.toml")


class StopError(Exception):
    """Ends a run at a parcel, as a power cut would."""


def run_on(
    planted: Planted,
    folder: Path,
    cache: Path,
    *,
    masked: bool = True,
    small: bool = True,
    stop_at: int = 0,
    change: Callable[[pytest.MonkeyPatch], None] | None = None,
    **changes: Any,
) -> Run:
    """Run a study and write down all that it sends, and all that it must not.

    Args:
        planted, folder, cache: pictures, the run's folder, the feature cache.
        masked: whether sites mask what they send.
        small: the small encoder, instead of the embedded one.
        stop_at: end the run at that parcel and resume it; 0: do not.
        change: something else to change while it runs.
        changes: keys of the study.
    """
    study, secrets, parcels, error = study_of(planted, **changes), Secrets(), [], None
    backbones: list[str] = []
    began = time.time()

    def tap(sender: str, receiver: str, wire: bytes) -> None:
        parcels.append((sender, receiver, wire))
        if len(parcels) == stop_at:
            raise StopError

    with watched(secrets) as patch:
        quickly(patch)
        if small:
            patch.setattr(study_parts, "load_backbone", lambda *arguments, **options: small_backbone())
        if not masked:
            without_masks(patch)
        if change is not None:
            change(patch)
        find = simulation.study_backbone
        patch.setattr(simulation, "study_backbone", lambda wanted: backbones.append(find(wanted)) or backbones[-1])
        try:
            try:
                simulate(study, folder, cache=cache, tap=tap)
            except StopError:
                simulate(study, folder, resume=True, cache=cache, tap=tap)
        except RoundError as stopped:
            error = stopped
    fingerprint = backbones[0].fingerprint  # type: ignore[attr-defined]
    return Run(study, RunFolder(folder), parcels, secrets, planted, fingerprint, error, (began, time.time()))

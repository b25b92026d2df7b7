"""Adapters as safetensors: deterministic bytes, a checksum, and the study and backbone they belong to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import rfc8785
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ..privacy.atomic import write_atomic
from .adapters import State
from .errors import CheckpointError

# One metadata key: safetensors writes several in no fixed order, and a run must repeat bit for bit.
METADATA_KEY = "wardround"


@dataclass(frozen=True, slots=True)
class AdapterInfo:
    """What an adapter file says of itself.

    Attributes:
        study: the study's hash.
        method: key of the method.
        round: number of completed rounds; 0 for start values.
        backbone: fingerprint of the frozen CLIP it was trained on.
    """

    study: str
    method: str
    round: int
    backbone: str


def dump_adapter(state: Mapping[str, Tensor], info: AdapterInfo) -> bytes:
    """Equal states and infos give equal bytes; a SHA-256 over tensors and info stands in the header."""
    tensors = {name: tensor.contiguous() for name, tensor in sorted(state.items())}
    header = {**asdict(info), "sha256": checksum(tensors, rfc8785.dumps(asdict(info)))}
    return save(tensors, metadata={METADATA_KEY: rfc8785.dumps(header).decode()})


def parse_adapter(data: bytes, *, where: str) -> tuple[State, AdapterInfo]:
    """Read what :func:`dump_adapter` wrote.

    Raises:
        CheckpointError: damaged, truncated, or not an adapter of ours.
    """
    remedy = (
        "Restore it from a backup, or start a new run; deleting it goes back one round, "
        "which sites accept only where the next round had not begun"
    )
    try:
        tensors: State = load(data)
        length = int.from_bytes(data[:8], "little")
        text = data[8 : 8 + length]
        header = json.loads(json.loads(text)["__metadata__"][METADATA_KEY])
        stated = header.pop("sha256")
        info = AdapterInfo(**header)
        computed = checksum(tensors, rfc8785.dumps(header))  # refuses what numpy has no type for, such as bfloat16
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, OverflowError) as error:
        raise CheckpointError(f"not a readable adapter ({type(error).__name__})", where=where, remedy=remedy) from None
    # The header is padded with spaces; any other white space there would be a changed byte that nothing else notices.
    if stated != computed or not text.rstrip(b" ").endswith(b"}"):
        raise CheckpointError("the adapter's checksum does not match its content", where=where, remedy=remedy)
    return tensors, info


def write_adapter(path: Path, state: Mapping[str, Tensor], info: AdapterInfo) -> str:
    """Write an adapter atomically; returns the SHA-256 of the file in hexadecimal."""
    data = dump_adapter(state, info)
    write_atomic(path, data)
    return hashlib.sha256(data).hexdigest()


def read_adapter(path: Path, *, study: str | None = None, backbone: str | None = None) -> tuple[State, AdapterInfo]:
    """Read an adapter, and refuse one of another study or backbone.

    Raises:
        CheckpointError: missing, damaged, or of another study or backbone.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"the adapter cannot be read ({type(error).__name__})", where=str(path), remedy="Check path and rights"
        ) from None
    state, info = parse_adapter(data, where=str(path))
    if study is not None and info.study != study:
        raise CheckpointError(
            "the adapter belongs to another study",
            where=str(path),
            remedy="Resume with the study file the run was started with, or choose another --out",
        )
    if backbone is not None and info.backbone != backbone:
        raise CheckpointError(
            f"the adapter was trained on a backbone with fingerprint {info.backbone[:16]}…, not {backbone[:16]}…",
            where=str(path),
            remedy="Use the backbone and weights that model/card.json names",
        )
    return state, info


def checksum(tensors: Mapping[str, Tensor], info: bytes = b"") -> str:
    """SHA-256 over names, types, shapes and values of ``tensors``, and over ``info``; hexadecimal."""
    digest = hashlib.sha256(len(info).to_bytes(8, "big") + info)
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()

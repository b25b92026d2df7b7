"""A split as a file: to be kept, named by its SHA-256, and used again.

The bytes are the canonical JSON (RFC 8785) of a :class:`..split_record.SplitRecord` with a checksum, and no others are
read, so that one split has one SHA-256, and a damaged file is refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from .errors import SplitError
from .split_record import FORMAT, REFERENCE, SIDES, Rule, SitePart, SplitRecord, mark_of

__all__ = [
    "FORMAT",
    "REFERENCE",
    "SIDES",
    "Rule",
    "SitePart",
    "SplitRecord",
    "mark_of",
    "parse",
    "read_split",
    "write_split",
]

_MAKE_ANEW: Final = "restore the file from a copy, or make a new split"


class _Form(msgspec.Struct, frozen=True):
    """Read first, so that a file of a later version is named as that."""

    format: str


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    dataset: str
    classes: tuple[str, ...]
    rule: Rule
    ratios: tuple[float, float, float]
    seed: int
    salt: str
    sites: dict[str, _Part]
    unseen: dict[str, tuple[str, ...]] | None
    reference: tuple[str, ...]
    checksum: str


def parse(data: bytes, where: str, *, dataset: str | None = None, classes: Sequence[str] | None = None) -> SplitRecord:
    """Read a split file's bytes.

    Args:
        data: the bytes.
        where: the file, for messages.
        dataset, classes: what the split must be of; None accepts any.

    Raises:
        SplitError: the bytes are damaged, not canonical, of another version, of other data or other classes.
    """
    try:
        form = msgspec.json.decode(data, type=_Form).format
        if form != FORMAT:
            raise SplitError(
                f"the split file has the format {form[:40]!r}, not {FORMAT!r}",
                where=where,
                remedy="read it with the version of Wardround that wrote it, or make a new split",
            )
        file = msgspec.json.decode(data, type=_File)
        if file.unseen is not None and len(file.unseen) != 1:
            raise SplitError(f"{len(file.unseen)} unseen sites, which must be one or null")
        record = SplitRecord(
            dataset=file.dataset,
            classes=file.classes,
            rule=file.rule,
            ratios=file.ratios,
            seed=file.seed,
            salt=file.salt,
            sites={name: SitePart(part.train, part.validation, part.test) for name, part in file.sites.items()},
            unseen=None if file.unseen is None else next(iter(file.unseen.items())),
            reference=file.reference,
        )
    except SplitError as refused:
        raise SplitError(
            refused.what,
            where=f"{where}, {refused.where}" if refused.where else where,
            remedy=refused.remedy or _MAKE_ANEW,
        ) from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as damaged:
        raise SplitError(f"this is no split file ({damaged})", where=where, remedy=_MAKE_ANEW) from damaged
    if record.to_bytes() != data:
        raise SplitError(
            "the split file was changed after it was written",
            where=where,
            remedy=_MAKE_ANEW,
        )
    _check_data(record, where, dataset, classes)
    return record


def read_split(path: Path, *, dataset: str | None = None, classes: Sequence[str] | None = None) -> SplitRecord:
    """Read a split file; raises as :func:`parse`, and SplitError when the file cannot be read."""
    try:
        data = path.read_bytes()
    except OSError as problem:
        raise SplitError(
            f"the split file cannot be read ({problem.strerror or problem})", where=str(path), remedy=_MAKE_ANEW
        ) from problem
    return parse(data, str(path), dataset=dataset, classes=classes)


def write_split(record: SplitRecord, path: Path) -> str:
    """Write a split file whole or not at all, mode 0600; an older file is replaced only by a whole new one.

    Returns:
        The SHA-256 of the file.

    Raises:
        OSError: as the file system reports it; nothing is left behind.
    """
    data = record.to_bytes()
    # In the same folder: a rename across file systems is not atomic.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return hashlib.sha256(data).hexdigest()


def _check_data(record: SplitRecord, where: str, dataset: str | None, classes: Sequence[str] | None) -> None:
    if dataset is not None and record.dataset != dataset:
        raise SplitError(
            f"the split is of the data set {record.dataset!r}, the study uses {dataset!r}",
            where=where,
            remedy="give the split file of this study, or make a new split",
        )
    if classes is not None and record.classes != tuple(classes):
        raise SplitError(
            f"the split is of the classes {', '.join(record.classes)}; the study has {', '.join(classes)}",
            where=where,
            remedy="use the classes of the split, in its order, or make a new split",
        )

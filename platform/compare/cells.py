"""Finished cells on disk: written whole, read strictly, and never taken for another study's."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ... import __version__
from ...evaluation.errors import EvaluationError
from ...medical_datasets.errors import DataError
from ...privacy.atomic import make_private, sync_folder, write_json
from ...privacy.errors import PrivacyError
from ..audit.sources import CHECKPOINTS, LEDGER, ROSTERS
from ..config import METHOD_TABLES, Study
from ..errors import PlatformError, RunFolderError
from ..run_folder import RunFolder
from .grid import PlannedCell

SCHEMA = 1
RUN_AGAIN = "Restore it from a backup, or delete the cell's folder: the same command then runs the cell again"
INTERNAL = "An error inside Wardround, or no memory."
SHOWN = "What was wrong is on the terminal only: give the same command again to see it"
_MACHINE = {"device", "retries", "round_timeout", "compare"}  # as in Study.canonical: they change no figure


class Answer(msgspec.Struct, frozen=True):
    """A test part's answers: label, group and share of right models, by image.

    A group is a number in digits (:func:`..cell.group_numbers`); cells of earlier versions have its name, which
    :meth:`CellStore.numbered` takes out.
    """

    labels: tuple[int, ...]
    groups: tuple[str, ...]
    correct: tuple[float, ...]


class Answers(msgspec.Struct, frozen=True):
    """Of participating sites, and of the one that takes no part."""

    sites: dict[str, Answer]
    unseen: dict[str, Answer]


class CurvePoint(msgspec.Struct, frozen=True):
    """One round."""

    round: int
    train_loss: float | None
    balanced_accuracy: float | None


class Traffic(msgspec.Struct, frozen=True):
    """As :class:`..cell.Traffic`."""

    bytes_up: int
    bytes_down: int
    up_per_site_round: float
    parameters: dict[str, int]


class CellResult(msgspec.Struct, frozen=True):
    """What :func:`..cell.run_cell` returned."""

    method: str
    options: dict[str, str | float | bool]
    exchange: str
    consumes: str
    rounds: int
    transductive: bool
    sites: dict[str, dict[str, float | None]]
    unseen: dict[str, dict[str, float | None]]
    answers: Answers
    curve: tuple[CurvePoint, ...]
    traffic: Traffic
    seconds: float


class CellRecord(msgspec.Struct, frozen=True):
    """``cell.json``.

    Attributes:
        schema: version of this layout. wardround: version that ran the cell.
        study: the study's hash. values: the study itself.
        backbone: fingerprint. cohort: hash of the list of images, and of the split file where there is one.
        result: what came out.
        code: SHA-256 of the source that ran it; empty in records of versions that did not say.
    """

    schema: int
    wardround: str
    study: str
    values: dict[str, Any]
    backbone: str
    cohort: str
    result: CellResult
    code: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a cell has no result.

    Attributes:
        what, where, remedy: for the terminal: they may name files, rows and sites.
        kind: class of the error; empty where there was none.
        rule: what that class means, in words that are the same each time; with ``kind`` all that is written down.
    """

    what: str
    where: str
    remedy: str
    kind: str = ""
    rule: str = ""

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """A failure by an error; one that is none of ours is an internal error."""
        kind = type(error)
        if isinstance(error, PlatformError | PrivacyError | DataError | EvaluationError):
            # The first line of a class's docstring says what the class means, and nothing of this error.
            rule = (kind.__doc__ or "The cell failed.").partition("\n")[0]
            return cls(error.what, error.where, error.remedy, kind.__name__, rule)
        what = f"internal error: {kind.__name__}: {error}"
        return cls(what, "", "Run it again with --debug before the command and report it", kind.__name__, INTERNAL)

    @property
    def kept(self) -> Failure:
        """What may be written down of it: in ``failed.json``, on the page and in its data."""
        return Failure(f"{self.kind}: {self.rule}" if self.kind else SHOWN, "", SHOWN, self.kind, self.rule)


@dataclass(frozen=True, slots=True)
class CellStore:
    """The cells of one comparison.

    Attributes:
        root: the comparison's folder.
        backbone: fingerprint that every cell must have.
        cohort: by cell identifier, the hash of its list of images, and of the split file where there is one.
        code: SHA-256 of the source that cells are run with; empty: not known.
    """

    root: Path
    backbone: str
    cohort: Mapping[str, str]
    code: str = ""

    def folder(self, cell: PlannedCell) -> Path:
        """Where a cell lies."""
        return self.root / "cells" / cell.key.identifier

    def record(self, cell: PlannedCell) -> Path:
        """Its finished record."""
        return self.folder(cell) / "cell.json"

    def run(self, cell: PlannedCell) -> RunFolder:
        """The run folder of a federated cell."""
        return RunFolder(self.folder(cell) / "run")

    def read(self, cell: PlannedCell) -> CellRecord | None:
        """A finished cell; None where it is not finished.

        Raises:
            RunFolderError: it is damaged, or of another study, backbone, list of images or layout; half-run likewise.
        """
        path = self.record(cell)
        if not path.is_file():
            if self.run(cell).study.is_file():
                RunFolder.resume(self.run(cell).root, cell.study)
            return None
        try:
            record = msgspec.json.decode(path.read_bytes(), type=CellRecord)
        except msgspec.MsgspecError as error:
            raise RunFolderError(f"a cell's record is damaged ({error})", where=str(path), remedy=RUN_AGAIN) from None
        other = self._other(cell, record)
        if other:
            raise RunFolderError(
                f"the cell {cell.key.words} was made with {other}",
                where=str(path),
                remedy="Choose another --out, or delete the cell's folder to run it again",
            )
        return record

    def _other(self, cell: PlannedCell, record: CellRecord) -> str:
        """What a finished cell was made with that this comparison does not have; empty: nothing."""
        if record.schema != SCHEMA:
            return f"layout {record.schema}, and this version of Wardround reads {SCHEMA}"
        now = cell.study.model_dump(mode="json")
        if record.study != cell.study.digest() or record.values.get("faults") != now["faults"]:
            changed = sorted(_changed(record.values, now, cell.study))
            return "another study" + (f"; different: {', '.join(changed)}" if changed else "")
        if record.backbone != self.backbone:
            return f"another backbone, {record.backbone}; this one is {self.backbone}"
        if record.cohort != self.cohort[cell.key.identifier]:
            return "another list of images, or another split file"
        return ""

    def write(self, cell: PlannedCell, result: Mapping[str, Any]) -> CellRecord:
        """Keep a finished cell, whole or not at all, and reduce its run to what an auditor asks for."""
        folder = self.folder(cell)
        make_private(folder)
        write_json(
            self.record(cell),
            {
                "schema": SCHEMA,
                "wardround": __version__,
                "study": cell.study.digest(),
                "values": cell.study.model_dump(mode="json"),
                "backbone": self.backbone,
                "cohort": self.cohort[cell.key.identifier],
                "result": dict(result),
                "code": self.code,
            },
        )
        (folder / "failed.json").unlink(missing_ok=True)
        self.reduce(cell)
        record = self.read(cell)
        if record is None:
            raise RunFolderError("a cell's record is gone", where=str(self.record(cell)), remedy=RUN_AGAIN)
        return record

    def reduce(self, cell: PlannedCell) -> None:
        """Delete keys and state of a finished cell's run; study, rounds, ledgers and what proves them stay."""
        run = self.run(cell)
        for path in (run.homes, run.coordinator / "checkpoint"):
            if path.exists():
                shutil.rmtree(path)
        for path in sorted(run.root.rglob("*"), reverse=True):
            if path.is_dir():
                if not any(path.iterdir()):
                    path.rmdir()
            elif path not in (run.study, run.rounds) and not _is_evidence(path):
                path.unlink()
        if run.root.exists():
            sync_folder(run.root)

    def fail(self, cell: PlannedCell, error: Exception) -> Failure:
        """Keep that a cell failed, and with which class of error; the next command tries it again."""
        failure = Failure.of(error)
        make_private(self.folder(cell))
        kept = {"kind": failure.kind, "rule": failure.rule, "remedy": failure.kept.remedy}
        write_json(self.folder(cell) / "failed.json", kept)
        return failure

    def numbered(self, cell: PlannedCell, record: CellRecord, numbers: Mapping[str, str]) -> CellRecord:
        """A record with numbers where it had names of groups, also on disk; names that nobody knows stay apart."""

        def without(answers: Mapping[str, Answer]) -> dict[str, Answer]:
            return {
                site: msgspec.structs.replace(
                    answer, groups=tuple(known.setdefault(n, str(len(known))) for n in answer.groups)
                )
                for site, answer in answers.items()
            }

        known = dict(numbers)
        answers = Answers(without(record.result.answers.sites), without(record.result.answers.unseen))
        record = msgspec.structs.replace(record, result=msgspec.structs.replace(record.result, answers=answers))
        write_json(self.record(cell), msgspec.to_builtins(record))
        return record


def _changed(left: Mapping[str, Any], right: Mapping[str, Any], study: Study) -> set[str]:
    """Dotted keys at which two studies differ in a way that can change a figure of this cell."""
    own = {study.table, study.baseline.method.replace("-", "_")}
    ignored = _MACHINE | {table for table in METHOD_TABLES if table not in own}
    changed = {name for name in left.keys() | right.keys() if left.get(name) != right.get(name)} - ignored
    keys: set[str] = set()
    for name in changed:
        a, b = left.get(name), right.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            keys |= {f"{name}.{key}" for key in a.keys() | b.keys() if a.get(key) != b.get(key)}
        else:
            keys.add(name)
    return keys - {"data.path", "data.split_file", "backbone.weights"}


def named(record: CellRecord) -> bool:
    """Whether a record has names of groups, as earlier versions wrote them, where numbers stand now."""
    answers = record.result.answers
    parts = (*answers.sites.values(), *answers.unseen.values())
    return any(not group.isdecimal() for part in parts for group in part.groups)


def _is_evidence(path: Path) -> bool:
    return path.name.startswith(LEDGER) or path.parent.name in (CHECKPOINTS, ROSTERS)

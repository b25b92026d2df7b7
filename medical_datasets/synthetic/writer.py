"""Phantom studies on disk: drawn into a temporary folder, renamed into place, and read back when they are there."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import hashlib
import io
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from types import MappingProxyType

from PIL import Image

from ..cohort import Cohort, Record
from ..errors import DataError
from .population import PhantomStudy, PlannedImage, planned_images, render_planned

PLAN = "plan.json"
TABLE = "phantoms.csv"
COLUMNS = ("path", "label", "patient", "site", "age", "sex", "age_band")
Progress = Callable[[int, int], None]
_CHUNK = 40
_ABANDONED = 2.0  # seconds; a younger folder's process may not have locked it yet
_WORTH_WORKERS = 300  # starting processes costs about a second


def materialise(
    study: PhantomStudy, folder: Path, progress: Progress | None = None, *, workers: int | None = None
) -> Cohort:
    """Write a study's pictures, its table and its plan, or read back what is already there.

    Args:
        study: what to draw.
        folder: the study's own folder; made if it is missing. Nothing is left there when drawing fails.
        progress: called as ``progress(done, total)``.
        workers: processes that draw; None chooses by the number of pictures and processors, 0 draws in this one.
            The files do not depend on it.

    Returns:
        The cohort, synthetic, with sites, patients as groups, and subgroups "age_band" and "sex".

    Raises:
        DataError: the folder holds another study, a damaged one, or other files; or it cannot be written.
    """
    planned = planned_images(study)
    _sweep(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        cohort = _read_back(study, planned, folder)
        if progress is not None:
            progress(len(planned), len(planned))
        return cohort
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise DataError(
            f"the folder for the phantoms cannot be made ({error.strerror})",
            where=str(folder),
            remedy="choose a writable folder",
        ) from error
    lock = os.open(temporary, os.O_RDONLY)  # the kernel gives it back when the process dies, however it dies
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        temporary.chmod(0o755)
        digests = _draw(study, planned, temporary, progress, workers)
        _write(temporary / TABLE, _table(planned, study))
        document = {"hash": study.plan_hash(), "images": len(planned), "digest": _digest(digests), "plan": study.plan()}
        _write(temporary / PLAN, (json.dumps(document, indent=1, sort_keys=True) + "\n").encode("utf-8"))
        _sync_folder(temporary)
        with contextlib.suppress(FileNotFoundError, OSError):
            folder.rmdir()  # an empty folder may stand in the way of the rename; a full one stays and is refused below
        try:
            temporary.rename(folder)
        except OSError:
            if not (folder / PLAN).is_file():
                raise
            return _read_back(study, planned, folder)  # another process was faster
        _sync_folder(folder.parent)
    except OSError as error:
        raise DataError(
            f"the phantoms cannot be written ({error.strerror})",
            where=str(folder),
            remedy="free some space or choose another folder",
        ) from error
    finally:
        os.close(lock)
        shutil.rmtree(temporary, ignore_errors=True)
    return _cohort(study, planned, folder)


def _sweep(folder: Path) -> None:
    """Remove what killed processes left half-drawn; a process at work holds a lock on its folder."""
    for left in folder.parent.glob(f".{folder.name}.????????"):
        with contextlib.suppress(OSError):
            if not left.is_symlink() and time.time() - left.stat().st_mtime > _ABANDONED:
                handle = os.open(left, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(left, ignore_errors=True)
                finally:
                    os.close(handle)


def draw_files(study: PhantomStudy, images: Iterable[PlannedImage], root: Path) -> list[tuple[str, str]]:
    """Draw some pictures into ``root``; pairs of relative path and SHA-256 (hex). Runs in worker processes too."""
    out = []
    for image in images:
        picture = render_planned(study, image)
        stream = io.BytesIO()
        grey = study.kind == "brain"
        Image.fromarray(picture[:, :, 0] if grey else picture).save(stream, format="PNG", compress_level=1)
        content = stream.getvalue()
        path = root / image.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        out.append((image.path, hashlib.sha256(content).hexdigest()))
    return out


def _draw(
    study: PhantomStudy, planned: tuple[PlannedImage, ...], root: Path, progress: Progress | None, workers: int | None
) -> list[tuple[str, str]]:
    total = len(planned)
    if workers is None:
        workers = min(2, os.cpu_count() or 1) if total >= _WORTH_WORKERS else 0
    chunks = [planned[start : start + _CHUNK] for start in range(0, total, _CHUNK)]
    digests: list[tuple[str, str]] = []
    for part in _results(study, chunks, root, workers):
        digests.extend(part)
        if progress is not None:
            progress(len(digests), total)
    return digests


def _results(
    study: PhantomStudy, chunks: list[tuple[PlannedImage, ...]], root: Path, workers: int
) -> Iterator[list[tuple[str, str]]]:
    if workers < 2:
        for chunk in chunks:
            yield draw_files(study, chunk, root)
        return
    # Spawned, not forked: the caller may hold threads and locks of other libraries.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures: list[Future[list[tuple[str, str]]]] = [pool.submit(draw_files, study, chunk, root) for chunk in chunks]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _table(planned: Iterable[PlannedImage], study: PhantomStudy) -> bytes:
    names = study.dataset.class_names
    stream = io.StringIO()
    lines = csv.writer(stream, lineterminator="\n")
    lines.writerow(COLUMNS)
    for image in planned:
        lines.writerow(
            (image.path, names[image.label], image.patient, image.site, image.age, image.sex, image.age_band)
        )
    return stream.getvalue().encode("utf-8")


def _digest(pairs: Iterable[tuple[str, str]]) -> str:
    """One hash over all files: SHA-256 of "path hash" lines in path order."""
    text = "".join(f"{path} {digest}\n" for path, digest in sorted(pairs))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _read_back(study: PhantomStudy, planned: tuple[PlannedImage, ...], folder: Path) -> Cohort:
    remove = "remove the folder, or choose another one"
    try:
        document = json.loads((folder / PLAN).read_text(encoding="utf-8"))
        found, digest = document["hash"], document["digest"]
    except FileNotFoundError as error:
        raise DataError(f"the folder is not empty and holds no {PLAN}", where=str(folder), remedy=remove) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{PLAN} is damaged", where=str(folder / PLAN), remedy=remove) from error
    if found != study.plan_hash():
        raise DataError("the folder holds the phantoms of another study", where=str(folder / PLAN), remedy=remove)
    pairs = []
    for image in planned:
        try:
            content = (folder / image.path).read_bytes()
        except OSError as error:
            raise DataError(
                "a phantom is missing or unreadable", where=str(folder / image.path), remedy=remove
            ) from error
        pairs.append((image.path, hashlib.sha256(content).hexdigest()))
    if _digest(pairs) != digest:
        raise DataError("the phantoms were changed after they were drawn", where=str(folder), remedy=remove)
    try:
        table = (folder / TABLE).read_bytes()
    except OSError as error:
        raise DataError(f"{TABLE} is missing or unreadable", where=str(folder / TABLE), remedy=remove) from error
    if table != _table(planned, study):
        raise DataError(f"{TABLE} was changed after it was written", where=str(folder / TABLE), remedy=remove)
    return _cohort(study, planned, folder)


def _cohort(study: PhantomStudy, planned: tuple[PlannedImage, ...], folder: Path) -> Cohort:
    records = tuple(
        Record(
            path=folder / image.path,
            label=image.label,
            group=image.patient,
            site=image.site,
            subgroups=MappingProxyType({"age_band": image.age_band, "sex": image.sex}),
        )
        for image in planned
    )
    return Cohort(dataset=study.dataset, root=folder, records=records, synthetic=True)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

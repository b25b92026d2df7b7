"""What was learnt of image files, kept until a file changes: header verdict and content hash, never pixels.

An :class:`Index` answers the questions of a :class:`..reading.Reader` without opening a file that has not changed. A
file counts as unchanged when its size, both its times to the nanosecond and its inode are the same; one that changed
within two seconds before it was looked at could change again without a trace, so nothing is kept of it (the "racy"
files of git's index). Only what a file said of itself is kept, never that it could not be read.

The index holds no names, paths or pixels, but whoever has a picture could find its hash there. It counts as patient
data, as features do: its folder is 0700, and rows go by content (:func:`forget_contents`) or as files
(:func:`..index_file.index_files`).
"""

from __future__ import annotations

import hashlib
import os
import struct
import threading
import time
from collections.abc import Callable, Collection
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from . import pixels
from .cohort import ImageRef, Picture
from .errors import DataError
from .index_file import DATABASE, FAULTS, Counts, IndexFile, Row, discard, index_files, is_damage

RACY_NS: Final = 2_000_000_000  # the coarsest clock of a file system in use, FAT's
BATCH: Final = 1024  # rows that are kept in memory before they are written together
_LIBRARIES: Final = ("pillow", "numpy", "pydicom", "nibabel", "h5py")

Answer = TypeVar("Answer")


class Place(NamedTuple):
    """Where a picture's row is, how its file looks, and whether what it says now may be kept."""

    key: bytes
    guard: bytes
    settled: bool


class Index:
    """A reader that remembers. May be asked from several threads; any number of processes may have one open.

    Whatever happens to the index's own files, answers are those of the files asked about: without a usable index,
    every answer is read anew. What happened is in ``notes``.

    Attributes:
        notes: for the user, in words: why the index is not used, or was made anew.
    """

    def __init__(
        self,
        folder: Path,
        *,
        withheld: Callable[[str], bool] | None = None,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self.notes: list[str] = []
        self._folder, self._withheld, self._now = folder, withheld, now
        self._lock = threading.Lock()
        self._fresh: dict[bytes, Row] = {}
        self._file: IndexFile | None = None
        self._full = False  # whether writing failed; what is there can be read all the same
        try:
            self._file = IndexFile(folder, rules())
        except FAULTS as error:
            self._failed(error)

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        withheld: Callable[[str], bool] | None = None,
        now: Callable[[], int] = time.time_ns,
    ) -> Self:
        """Open the index of a folder, or begin one. Use it in a ``with`` statement, or call :meth:`close`.

        Args:
            folder: for the index alone; made, 0700, where it is missing.
            withheld: says of a content hash that nothing may be kept of it, as of a patient who withdrew.
            now: nanoseconds since 1970, by the clock of the file system that the images are on.
        """
        return cls(folder, withheld=withheld, now=now)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def check_header(self, image: Picture, /) -> None:
        """:func:`.pixels.check_header`, asked of a file once as long as it does not change."""
        ref = _ref(image)
        place = self._place(ref)
        known = self._known(place)
        if known is not None and known.header:
            return
        pixels.check_header(ref)
        self._learn(ref, place, known, header=True)

    def content_hash(self, image: Picture, /) -> str:
        """:func:`.pixels.content_hash`, computed of a file once as long as it does not change."""
        ref = _ref(image)
        place = self._place(ref)
        known = self._known(place)
        if known is not None and known.content:
            return known.content.hex()
        content = pixels.content_hash(ref)
        self._learn(ref, place, known, content=bytes.fromhex(content))
        return content

    def read_grey_thumbnail(self, image: Picture, /) -> NDArray[np.float32]:
        """:func:`.pixels.read_grey_thumbnail` at 32 pixels, read anew each time: pixels are not kept."""
        return pixels.read_grey_thumbnail(image)

    def contents(self) -> set[str]:
        """Content hashes, hexadecimal, of which the index keeps something.

        Raises:
            DataError: the index cannot be read.
        """
        nothing: set[bytes] = set()
        return {content.hex() for content in self._strictly(lambda file: file.contents(), nothing)}

    def forget(self, contents: Collection[str]) -> int:
        """Remove, and overwrite, whatever is kept of pictures by their content, and rows without a known content.

        Returns:
            Rows that were removed for their content.

        Raises:
            DataError: it cannot be done now; what is kept may still be there.
        """
        gone = {bytes.fromhex(content) for content in contents}
        return self._strictly(lambda file: file.remove(gone), 0) if gone else 0

    def counts(self) -> Counts:
        """How much the index keeps; zeros without a usable one.

        Raises:
            DataError: the index cannot be read.
        """
        return self._strictly(lambda file: file.counts(), Counts(0, 0, 0))

    def flush(self) -> None:
        """Write what was learnt and is not written yet."""
        with self._lock:
            self._write()

    def close(self) -> None:
        """Write what was learnt and close the files; afterwards every answer is read anew."""
        with self._lock:
            self._write()
            if self._file is not None:
                self._file.close()
                self._file = None

    def _place(self, ref: ImageRef) -> Place | None:
        """None where nothing is or will be kept: no usable index, or a file that cannot be looked at."""
        file = self._file
        if file is None:
            return None
        path = os.path.abspath(ref.path)
        now = self._now()
        try:
            state = os.stat(path)
        except (OSError, ValueError):
            return None
        guard = struct.pack(">QqqQ", state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)
        settled = max(state.st_mtime_ns, state.st_ctime_ns) + RACY_NS <= now
        return Place(file.key(path, ref.part), guard, settled)

    def _known(self, place: Place | None) -> Row | None:
        if place is None:
            return None
        with self._lock:
            row = self._fresh.get(place.key)
            if row is None and self._file is not None:
                try:
                    row = self._file.get(place.key)
                except FAULTS as error:
                    self._failed(error)
        return row if row is not None and row.guard == place.guard else None

    def _learn(
        self,
        ref: ImageRef,
        place: Place | None,
        known: Row | None,
        *,
        header: bool = False,
        content: bytes = b"",
    ) -> None:
        """Keep what was read, if the file is still the one that was looked at before it was read."""
        if place is None or not place.settled or self._full or self._place(ref) != place:
            return
        old = known or Row(place.guard)
        row = Row(place.guard, header or old.header, content or old.content)
        if row.content and self._withheld is not None and self._withheld(row.content.hex()):
            return
        with self._lock:
            self._fresh[place.key] = row
            if len(self._fresh) >= BATCH:
                self._write()

    def _write(self) -> None:
        """Under the lock."""
        if self._file is not None and self._fresh and not self._full:
            try:
                self._file.put(self._fresh)
            except FAULTS as error:
                self._failed(error, reading=False)
        self._fresh.clear()

    def _strictly(self, ask: Callable[[IndexFile], Answer], nothing: Answer) -> Answer:
        """What the file answers; ``nothing`` where there is no file, or where it was damaged and is gone."""
        with self._lock:
            self._write()
            problem: object = "it is not open"
            try:
                if self._file is not None:
                    return ask(self._file)
                if not index_files(self._folder):
                    return nothing
            except FAULTS as error:
                if is_damage(error):
                    self._failed(error)
                    return nothing
                problem = error
        raise DataError(
            f"the image index cannot be read or changed ({problem})",
            where=str(self._folder),
            remedy="end other work that uses it and try again, or remove the folder: it is made anew when needed",
        )

    def _failed(self, error: Exception, *, reading: bool = True) -> None:
        """Go on without what failed; begin anew where the files are damaged."""
        if not reading and not is_damage(error):
            self._full = True
            self.notes.append(f"the image index cannot be written ({error}): what is new is read again next time")
            return
        inode = None
        if self._file is not None:
            inode = self._file.inode
            self._file.close()
            self._file = None
        if is_damage(error):
            try:
                discard(self._folder, inode)
                self._file = IndexFile(self._folder, rules())
            except FAULTS as again:
                error = again
            else:
                self.notes.append("the image index was damaged: it was removed and is made anew")
                return
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        self.notes.append(f"the image index cannot be used ({reason}): every file is read anew")


def indexed_contents(folder: Path) -> set[str]:
    """Content hashes, hexadecimal, of which the index in a folder keeps something; none where there is no index.

    Raises:
        DataError: the index cannot be read.
    """
    if not (folder / DATABASE).is_file():
        return set()
    with Index.open(folder) as index:
        return index.contents()


def forget_contents(folder: Path, contents: Collection[str]) -> int:
    """:meth:`Index.forget` for the index in a folder; nothing happens where there is none.

    Raises:
        DataError: it cannot be done now; what is kept may still be there.
    """
    if not contents or not (folder / DATABASE).is_file():
        return 0
    with Index.open(folder) as index:
        return index.forget(contents)


@lru_cache(maxsize=1)
def rules() -> bytes:
    """SHA-256 over the readers' own source and the libraries that decode for them: what an answer depends on.

    Source and not a version number, so that nobody can change a reader and forget to say so.
    """
    here = Path(__file__).resolve().parent
    total = hashlib.sha256()
    for file in [here / "pixels.py", *sorted((here / "readers").glob("*.py"))]:
        total.update(f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    for library in _LIBRARIES:
        total.update(f"{library} {_version(library)}\n".encode())
    return total.digest()


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "none"


def _ref(image: Picture) -> ImageRef:
    return image if isinstance(image, ImageRef) else ImageRef(image)

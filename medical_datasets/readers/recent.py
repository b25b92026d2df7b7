"""What the readers of large files remember: the last values made, within a bound of bytes."""

from __future__ import annotations

import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from ..errors import UnreadableImageError

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

FileState = tuple[str, int, int, int]
"""Path, size in bytes, time of the last change in nanoseconds, inode: another state is another file."""


def file_state(path: Path) -> FileState:
    """The state of a regular file that is not empty.

    Raises:
        UnreadableImageError: it is missing, may not be looked at, is empty, or is no regular file.
    """
    try:
        found = path.stat()
    except OSError as problem:
        raise UnreadableImageError(
            f"the file cannot be read ({problem.strerror or problem})",
            where=str(path),
            remedy="check that it exists and that this user may read it",
        ) from problem
    if not stat.S_ISREG(found.st_mode):  # opening a pipe would wait for ever
        raise UnreadableImageError("this is not a regular file", where=str(path), remedy="give the file itself")
    if found.st_size == 0:
        raise UnreadableImageError(
            "the file is empty (0 bytes)", where=str(path), remedy="copy it again from its source"
        )
    return str(path), found.st_size, found.st_mtime_ns, found.st_ino


@dataclass
class _Slot(Generic[Value]):
    making: threading.Lock = field(default_factory=threading.Lock)
    value: Value | None = None
    size: int = 0


class Recent(Generic[Key, Value]):
    """Values by key, the least recently used forgotten first; safe for threads.

    One thread makes a value while the others that ask for it wait; values of different keys are made side by side.
    The last value is kept even if it alone is over the bound.

    Args:
        max_bytes: bound of what is remembered, by the sizes that ``make`` states.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._slots: OrderedDict[Key, _Slot[Value]] = OrderedDict()

    def get(self, key: Key, make: Callable[[], tuple[Value, int]]) -> Value:
        """The value of a key; ``make`` gives it with its size in bytes, and what it raises is not remembered."""
        with self._lock:
            slot = self._slots.setdefault(key, _Slot())
            self._slots.move_to_end(key)
        with slot.making:
            if slot.value is None:
                try:
                    slot.value, slot.size = make()
                except BaseException:
                    with self._lock:
                        if self._slots.get(key) is slot:
                            del self._slots[key]
                    raise
                self._forget(slot)
            return slot.value

    def _forget(self, newest: _Slot[Value]) -> None:
        with self._lock:
            total = sum(slot.size for slot in self._slots.values())
            for key in list(self._slots):
                if total <= self._max_bytes:
                    return
                slot = self._slots[key]
                if slot is not newest and slot.size:
                    total -= slot.size
                    del self._slots[key]


class InUse(Generic[Key]):
    """Keeps the values that threads work on at the same time within a bound of bytes; the others wait.

    A value that several threads work on counts once. One that is over the bound is worked on alone. A thread that
    waits must hold none.

    Args:
        max_bytes: the bound.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._changed = threading.Condition()
        self._held: dict[Key, tuple[int, int]] = {}  # bytes and threads

    @contextmanager
    def holding(self, key: Key, size: int) -> Iterator[None]:
        """While this lasts, the value of a key takes ``size`` bytes."""
        with self._changed:
            self._changed.wait_for(lambda: key in self._held or self._fits(size))
            self._held[key] = (size, self._held.get(key, (0, 0))[1] + 1)
        try:
            yield
        finally:
            with self._changed:
                users = self._held.pop(key)[1] - 1
                if users:
                    self._held[key] = (size, users)
                self._changed.notify_all()

    def _fits(self, size: int) -> bool:
        return not self._held or sum(held for held, _ in self._held.values()) + size <= self._max_bytes

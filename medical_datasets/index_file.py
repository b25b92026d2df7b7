"""The file in which an :class:`..index.Index` keeps its rows: SQLite beside a secret, for one user, with no name in it.

A row is found by a keyed hash of the image's path and is sealed with the same secret, so the file tells nobody what
the images are called, and a row that is not as it was written is as good as none. Rows that are removed are
overwritten (``secure_delete``), in the write-ahead log too.
"""

from __future__ import annotations

import contextlib
import errno
import hmac
import os
import secrets
import sqlite3
import stat
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DATABASE: Final = "images.sqlite"
SECRET: Final = "secret"  # noqa: S105 - the name of a file
BUSY_SECONDS: Final = 20.0
_SECRET_BYTES: Final = 32
_FORMAT: Final = b"wardround-image-index-2"
_COMPANIONS: Final = ("", "-wal", "-shm", "-journal")
_PRAGMAS: Final = (
    "trusted_schema = OFF",
    "secure_delete = ON",
    "temp_store = MEMORY",
    "journal_mode = WAL",
    "synchronous = NORMAL",
)
_MADE_SQL: Final = "CREATE TABLE made (format BLOB NOT NULL)"
_IMAGES_SQL: Final = (
    "CREATE TABLE images (key BLOB PRIMARY KEY, guard BLOB NOT NULL, header INTEGER NOT NULL,"
    " content BLOB NOT NULL, seal BLOB NOT NULL)"
)
_SCHEMA: Final = {(b"table", b"made"), (b"table", b"images"), (b"index", b"sqlite_autoindex_images_1")}
# A plain error is one of these too: the statements are fixed, so one that has no table or column met a damaged schema.
_DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})
FAULTS: Final = (OSError, sqlite3.Error, UnicodeDecodeError)
"""What the methods of an :class:`IndexFile` raise; the last where SQLite's message quotes damaged bytes."""


@dataclass(frozen=True, slots=True)
class Row:
    """What is known of one picture as long as its file is the same.

    Attributes:
        guard: how the file was told: size, times and inode.
        header: whether its header was found to be that of a picture.
        content: what the picture is known by, 32 bytes; empty: not known.
    """

    guard: bytes
    header: bool = False
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows in all, rows with a content hash; and the bytes of all files of the index."""

    images: int
    contents: int
    size: int


class IndexFile:
    """Rows on disk. Not for several threads at a time; any number of processes may have one open.

    Args:
        folder: made (0700), and the cache folder that it is in, where they are missing. One that is a link, that
            belongs to another user or that others may write to is refused.
        rules: version of whatever decides what a row says; rows by other rules, or in another format, are removed and
            overwritten.

    Attributes:
        inode: of the database, to tell it from one that another process has put in its place.

    Raises:
        OSError, sqlite3.Error, UnicodeDecodeError: it cannot be used; :func:`is_damage` says whether it is damaged.
    """

    def __init__(self, folder: Path, rules: bytes) -> None:
        for level in (folder.parent, folder):  # above a folder it makes, mkdir does not keep to the mode
            level.mkdir(mode=0o700, parents=True, exist_ok=True)
        _refuse_foreign(folder)
        self._folder = folder
        self._rules = rules
        self._secret = _secret_of(folder)
        path = folder / DATABASE
        # SQLite would make it readable for others; its companions take the mode of the database. SQLite follows links,
        # so none may be there when it opens them: nobody else can put one into this folder.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            self.inode = os.fstat(descriptor).st_ino
        finally:
            os.close(descriptor)
        self._connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        self._connection.text_factory = bytes  # there is no text in a sound one
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        run = self._connection.execute
        for pragma in _PRAGMAS:
            run(f"PRAGMA {pragma}")
        made = hmac.digest(self._secret, _FORMAT + self._rules, "sha256")
        with self._transaction():
            # Before the first statement that a trigger could follow, or that a view could stand in for.
            there = {(kind, name): sql for kind, name, sql in run("SELECT type, name, sql FROM sqlite_master")}
            if there.keys() - _SCHEMA or there.get((b"table", b"made"), _MADE_SQL.encode()) != _MADE_SQL.encode():
                raise _damaged("the database of the index holds what is not the index's")
            if not there:
                run(_MADE_SQL)
            before = run("SELECT format FROM made").fetchall()
            if before == [(made,)] and there.get((b"table", b"images")) != _IMAGES_SQL.encode():
                raise _damaged("the table of the index is not as it was made")
            if before != [(made,)]:
                run("DROP TABLE IF EXISTS images")  # emptied, it would still have the columns of its format
                run(_IMAGES_SQL)
                run("DELETE FROM made")
                run("INSERT INTO made VALUES (?)", (made,))
        if before not in ([], [(made,)]):
            # In this order: pages that VACUUM cuts off must be overwritten by then. While another process reads, the
            # first is left to whoever closes the database last.
            for tidy in ("PRAGMA wal_checkpoint(TRUNCATE)", "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
                run(tidy).fetchall()

    def key(self, path: str, part: str) -> bytes:
        """Where the row of a picture is, 16 bytes; without the secret nobody can tell of which path."""
        message = b"\0".join((self._rules, os.fsencode(path), part.encode("utf-8", "surrogatepass")))
        return hmac.digest(self._secret, message, "sha256")[:16]

    def get(self, key: bytes) -> Row | None:
        """The row of a key; None where there is none, or none that is as it was written."""
        found = self._connection.execute(
            "SELECT guard, header, content, seal FROM images WHERE key = ?", (key,)
        ).fetchone()
        if found is None:
            return None
        try:
            guard, header, content, seal = found
            row = Row(bytes(guard), header == 1, bytes(content))
            sound = hmac.compare_digest(self._seal(key, row), seal)
        except (TypeError, ValueError):
            return None
        return row if sound else None

    def put(self, rows: Mapping[bytes, Row]) -> None:
        """Write rows, all or none. Whoever writes a key last is right: rows only say what a file says."""
        with self._transaction():
            self._connection.executemany(
                "INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?, ?)",
                ((key, row.guard, int(row.header), row.content, self._seal(key, row)) for key, row in rows.items()),
            )

    def contents(self) -> set[bytes]:
        """Every content hash that a row has."""
        return {row[0] for row in self._connection.execute("SELECT DISTINCT content FROM images")} - {b""}

    def remove(self, contents: Collection[bytes]) -> int:
        """Remove and overwrite the rows of these contents, and those whose content is not known.

        Returns:
            Rows of these contents.

        Raises:
            sqlite3.Error: also when they cannot be overwritten because another process reads them.
        """
        run = self._connection.execute
        run("CREATE TEMP TABLE IF NOT EXISTS gone (content BLOB PRIMARY KEY)")
        run("DELETE FROM temp.gone")
        self._connection.executemany("INSERT OR IGNORE INTO temp.gone VALUES (?)", ((each,) for each in contents))
        with self._transaction():
            removed = run("DELETE FROM images WHERE content IN (SELECT content FROM temp.gone)").rowcount
            run("DELETE FROM images WHERE content = x''")
        (busy, _, _) = run("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise sqlite3.OperationalError("another process is reading rows that were removed")
        return removed

    def counts(self) -> Counts:
        """How much there is."""
        images, contents = self._connection.execute(
            "SELECT count(*), coalesce(sum(content <> x''), 0) FROM images"
        ).fetchone()
        return Counts(images, contents, sum(path.stat().st_size for path in index_files(self._folder)))

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(*FAULTS):  # a full disk has rolled it back already; the first error counts
                self._connection.execute("ROLLBACK")
            raise

    def _seal(self, key: bytes, row: Row) -> bytes:
        """16 bytes over a row; the lengths come first, so that no two rows give the same message."""
        lengths = b"".join(len(part).to_bytes(4, "big") for part in (row.guard, row.content))
        message = b"".join((bytes((row.header,)), lengths, key, row.guard, row.content))
        return hmac.digest(self._secret, message, "sha256")[:16]


def is_damage(error: BaseException) -> bool:
    """Whether an error says that the database is no longer what was written, and not that it cannot be reached."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK)
    return isinstance(error, UnicodeDecodeError) or (code & 0xFF) in _DAMAGE


def index_files(folder: Path) -> list[Path]:
    """The files of an index that are there; nothing else in its folder."""
    names = [*(DATABASE + companion for companion in _COMPANIONS), SECRET]
    try:
        half_made = [path.name for path in folder.iterdir() if path.name.startswith(f".{SECRET}.")]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(path for path in (folder / name for name in (*names, *half_made)) if path.is_file())


def discard(folder: Path, inode: int | None = None) -> None:
    """Remove a damaged index whole, secret and all: nobody can tell whose rows it has, so none may stay.

    Args:
        folder: where it is.
        inode: of the database that was found to be damaged; one that was put in its place stays. None: whichever.
    """
    path = folder / DATABASE
    if inode is not None and path.exists() and path.stat().st_ino != inode:
        return
    for file in index_files(folder):
        file.unlink(missing_ok=True)


def _refuse_foreign(folder: Path) -> None:
    """Refuse a folder in which somebody else could have put something, or a link where a file of the index belongs.

    Raises:
        OSError: in words that name no path.
    """
    state = os.lstat(folder)
    for refused, why in (
        (stat.S_ISLNK(state.st_mode), "its folder is a link to another"),
        (state.st_uid != os.geteuid(), "its folder belongs to another user"),
        (state.st_mode & (stat.S_IWGRP | stat.S_IWOTH), "other users may write to its folder"),
    ):
        if refused:
            raise PermissionError(errno.EPERM, why)
    for name in (*(DATABASE + companion for companion in _COMPANIONS), SECRET):
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG(os.lstat(folder / name).st_mode):
                raise PermissionError(errno.EPERM, f"{name} in its folder is a link, or no file")


def _damaged(what: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(what)
    error.sqlite_errorcode = sqlite3.SQLITE_NOTADB
    return error


def _secret_of(folder: Path) -> bytes:
    """The secret beside the database; made where there is none. Of two processes that make one, both get the first."""
    path = folder / SECRET
    with contextlib.suppress(FileNotFoundError):
        return _read_secret(path)
    handle, name = tempfile.mkstemp(dir=folder, prefix=f".{SECRET}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(secrets.token_bytes(_SECRET_BYTES))
            stream.flush()
            os.fsync(stream.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(name, path)  # unlike a rename, never in place of another process' secret
    finally:
        Path(name).unlink(missing_ok=True)
    return _read_secret(path)


def _read_secret(path: Path) -> bytes:
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as stream:
        secret = stream.read(_SECRET_BYTES + 1)
    if len(secret) != _SECRET_BYTES:
        raise _damaged("the secret of the index is damaged")
    return secret

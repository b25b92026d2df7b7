"""Logs for machines: a line of JSON per event, and nothing in it but what is on the lists here.

An event has a constant name and a few fields. A field's value is a number, or one of a closed set of words: the study's
own sites, stages, message types, codes of refusals. What is on no list is dropped, whoever hands it in, so that no
exception's text, file name or group name can get into a log, nor anything that somebody else wrote into a message.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import TracebackType
from typing import Any, Final, get_args

from ... import __version__
from ...privacy.atomic import make_private
from ...privacy.egress import COORDINATOR
from ...privacy.errors import Refusal
from ...privacy.messages import BY_TAG, STAGE
from .board import Standing, State
from .private_words import ADMINISTRATIVE

LOG_FILE = "events.jsonl"
FILE_BYTES, FILES = 5_000_000, 5
EVENTS: Final = frozenset(
    {
        "process-started",
        "process-ended",
        "state",
        "work",
        "stage",
        "message",
        "party",
        "round-done",
        "note",
        "error",
        "status-not-written",
        "status-written-again",
        "budget",
    }
)
ERRORS: Final = ADMINISTRATIVE | {"OSError", "MemoryError", "DataError", "other"}
ENDINGS: Final = frozenset({"released", "nothing"})
_LARGEST = 2**53
_EXTRA = "wardround"
_HASH = re.compile(r"[0-9a-f]{64}")
_Check = Callable[[Any], bool]


def _number(value: Any) -> bool:
    return type(value) in (int, float) and -_LARGEST < value < _LARGEST  # neither truth values, NaN nor infinity


def _whole(value: Any) -> bool:
    return type(value) is int and abs(value) < _LARGEST


def _one_of(words: Iterable[str]) -> _Check:
    known = frozenset(words)
    return lambda value: type(value) is str and value in known


FIELDS: Final[Mapping[str, _Check]] = {
    "round": _whole,
    "rounds": _whole,
    "bytes": _whole,
    "sites": _whole,
    "dropped": _whole,
    "errno": _whole,
    "seconds": _number,
    "epsilon": _number,
    "left": _number,
    "stage": _one_of({*STAGE.values(), "finish", "figures", "class-means"}),
    "type": _one_of(BY_TAG),
    "direction": _one_of({"in", "out"}),
    "code": _one_of({*(str(code) for code in Refusal), "timeout", "silent"}),
    "standing": _one_of(get_args(Standing)),
    "state": _one_of(get_args(State)),
    "ending": _one_of(ENDINGS),
    "error": _one_of(ERRORS),
}
"""What an event may say, beside the party that it is about."""


class EventFilter(logging.Filter):
    """Lets events through and nothing else; takes out of them whatever is on no list.

    Args:
        parties: names that may be written.
    """

    def __init__(self, parties: Iterable[str]) -> None:
        super().__init__()
        self._checks = {**FIELDS, "party": _one_of({*parties, COORDINATOR})}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is an event; it is reduced to what may be written."""
        if type(record.msg) is not str or record.msg not in EVENTS:
            return False
        given = record.__dict__.get(_EXTRA)
        fields = given if isinstance(given, dict) else {}
        record.__dict__[_EXTRA] = {
            name: fields[name] for name, check in self._checks.items() if name in fields and check(fields[name])
        }
        record.args, record.exc_info, record.exc_text, record.stack_info = None, None, None, None
        return True


class _Lines(logging.Formatter):
    """A line of JSON: time, level, event, what all lines have alike, and the event's own fields."""

    def __init__(self, alike: Mapping[str, str]) -> None:
        super().__init__()
        self._alike = dict(alike)

    def format(self, record: logging.LogRecord) -> str:
        moment = self.formatTime(record, "%Y-%m-%dT%H:%M:%S")
        line = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.msg,
            **self._alike,
            **record.__dict__[_EXTRA],
        }
        return json.dumps(line, separators=(",", ":"), allow_nan=False)


class _PrivateFile(RotatingFileHandler):
    """Files of mode 0600 whatever the process' umask is, never behind a link; a full disk stops nobody."""

    def __init__(self, path: Path) -> None:
        self.lost = 0
        super().__init__(path, maxBytes=FILE_BYTES, backupCount=FILES - 1, encoding="utf-8", delay=True)

    def _open(self) -> Any:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self.baseFilename, flags, 0o600)
        os.fchmod(descriptor, 0o600)
        return open(descriptor, self.mode, encoding=self.encoding)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (the standard library's name)
        """Count the line that is lost: the standard library would print a traceback."""
        self.lost += 1


class EventLog:
    """The log of one process.

    Args:
        folder: where the files lie; made where there is none.
        side: ``site`` or ``coordinator``. owner: the site's name. digest: the study's SHA-256.
        parties: names of the study's sites, the only names that a line may have.
    """

    def __init__(self, folder: Path, *, side: str, owner: str, digest: str, parties: Iterable[str]) -> None:
        if not _HASH.fullmatch(digest):
            raise ValueError("the study's hash is no SHA-256")
        self.path = folder / LOG_FILE
        make_private(folder)
        alike = {"side": side, "owner": owner, "study": digest, "software": f"wardround {__version__}"}
        formatter = _Lines(alike)
        formatter.converter = time.gmtime
        self._handler = _PrivateFile(self.path)
        self._handler.setFormatter(formatter)
        self._handler.addFilter(EventFilter(parties))
        # A logger of its own, in no hierarchy: nobody else's records come in, and ours go nowhere else.
        self._logger = logging.Logger("wardround.events", logging.INFO)
        self._logger.addHandler(self._handler)

    @property
    def lost(self) -> int:
        """Lines that could not be written."""
        return self._handler.lost

    @property
    def handler(self) -> logging.Handler:
        """Writes what passes the filter; any logger may be given it."""
        return self._handler

    def event(self, name: str, **fields: object) -> None:
        """Write one event.

        Args:
            name: one of `EVENTS`; anything else is dropped. fields: those of `FIELDS`, and ``party``.
        """
        self._logger.info(name, extra={_EXTRA: fields})

    def error(self, error: BaseException) -> None:
        """Write that an error happened: its kind and the system's number, none of its words."""
        kind = type(error).__name__
        if kind not in ERRORS:
            kind = next((base.__name__ for base in type(error).__mro__ if base.__name__ in ERRORS), "other")
        code = getattr(error, "code", None)
        fields = {"error": kind, "code": str(code) if isinstance(code, Refusal) else None}
        self._logger.error("error", extra={_EXTRA: {**fields, "errno": getattr(error, "errno", None)}})

    def status_trouble(self, error: OSError | None) -> None:
        """For `StatusBoard`'s ``trouble``: the status could not be written, or, where None, can be again."""
        if error is None:
            self.event("status-written-again")
        else:
            self.event("status-not-written", errno=error.errno)

    def close(self) -> None:
        """Close the file."""
        self._logger.removeHandler(self._handler)
        self._handler.close()

    def __enter__(self) -> EventLog:
        self.event("process-started")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(value, Exception):
            self.error(value)
        self.event("process-ended")
        self.close()

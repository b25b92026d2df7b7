"""``status.json``: what a running process says of itself to the people at its own machine, and how it is read.

It holds names of sites, numbers and words of this program; nothing of an image, a patient or a path.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, get_args

import msgspec

from ..errors import PlatformError
from .board import Standing, State
from .running import Life, Process, look

FORMAT = 1
LARGEST = 256 * 1024
STATUS_FILE = "status.json"
FINAL: frozenset[State] = frozenset({"stopped", "complete", "aborted", "failed", "paused"})
"""States in which a process has ended, or is about to."""
Direction = Literal["in", "out"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
Count = Annotated[int, msgspec.Meta(ge=0)]
Text = Annotated[str, msgspec.Meta(max_length=400, pattern=r"\A[^\x00-\x1f\x7f-\x9f]*\Z")]
"""Shown on terminals: without the characters that steer one."""
Time = Annotated[str, msgspec.Meta(pattern=r"\A(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)?\Z")]


class StatusError(PlatformError):
    """A status file that is damaged, or not there."""


class Party(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Another party of the study.

    Attributes:
        name: a site's, or ``coordinator``.
        standing: whether it is there; ``unknown`` before anything was heard.
        seen: when it was last heard, UTC; empty before.
    """

    name: Text
    standing: Standing | Literal["unknown"] = "unknown"
    seen: Time = ""


class Traffic(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Messages of one direction since the process began.

    Attributes:
        bytes: of all of them. messages: how many, by type. last: when the last one passed, UTC; empty before.
    """

    bytes: Count = 0
    messages: dict[Text, Count] = {}
    last: Time = ""


class Spent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A site's privacy budget.

    Attributes:
        epsilon: spent so far. left: until the limit; None where there is no limit. delta: at which both are meant.
    """

    epsilon: float
    left: float | None = None
    delta: float | None = None


class Status(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a process says of itself.

    Attributes:
        process: which one. software: its version. side, owner: whose it is.
        study, digest: name and hash of the study. rounds: how many it has.
        state: what the process is doing. since: from when on, UTC. began: when the process did.
        round: under way, from 1; 0 before the first. stage: of the protocol, or empty.
        work: what is done beside the protocol, such as encoding. done, total: units of it; 0 where not counted.
        parties: all others. incoming, outgoing: messages. refusals: of this side. privacy: None without a budget.
        error: the last one in words; empty without.
        written: when this was written down, UTC.
    """

    format: int = FORMAT
    process: Process
    software: Text
    side: Literal["site", "coordinator"]
    owner: Text
    study: Text
    digest: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
    rounds: Count
    state: State = "starting"
    since: Time
    began: Time
    round: Count = 0
    stage: Text = ""
    work: Text = ""
    done: Count = 0
    total: Count = 0
    parties: tuple[Party, ...] = ()
    incoming: Traffic = Traffic()
    outgoing: Traffic = Traffic()
    refusals: Count = 0
    privacy: Spent | None = None
    error: Text = ""
    written: Time

    @property
    def ended(self) -> bool:
        """Whether the process has said that it ends."""
        return self.state in FINAL


class Seen(msgspec.Struct, frozen=True):
    """A status, and whether what it says can still be so.

    Attributes:
        status: as it was written. life: of the process that wrote it.
    """

    status: Status
    life: Life

    @property
    def died(self) -> bool:
        """Whether the process is gone and has not said so: it was killed, or the machine lost its power."""
        return self.life is Life.GONE and not self.status.ended

    @property
    def running(self) -> bool:
        """Whether the process is known to run."""
        return self.life is Life.RUNS


def now() -> str:
    """The time as such files have it: UTC, seconds."""
    return stamp(datetime.now(UTC))


def stamp(moment: datetime) -> str:
    """A time as such files have it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds_since(time: str, *, at: datetime | None = None) -> float | None:
    """Seconds from a time of a status to now; None for the empty time."""
    if not time:
        return None
    then = datetime.strptime(time, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    return max(0.0, ((at or datetime.now(UTC)) - then).total_seconds())


def read_status(path: Path) -> Seen | None:
    """Read what a process said of itself, and see whether that process still runs.

    Args:
        path: of ``status.json``.

    Returns:
        None where no process has written one yet.

    Raises:
        StatusError: the file is damaged, too large, of another version, or cannot be read.
    """
    again = "Nothing of the study depends on it. Remove it; the process writes a new one"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as stream:
            data = stream.read(LARGEST + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StatusError(
            f"the status cannot be read: {error.strerror}",
            where=str(path),
            remedy="Run this command as the user that the process runs as",
        ) from None
    if len(data) > LARGEST:
        raise StatusError("the status is larger than any is", where=str(path), remedy=again)
    try:
        status = msgspec.json.decode(data, type=Status)
        for text in (status.written, status.since, status.began, status.incoming.last, status.outgoing.last):
            seconds_since(text)
        for party in status.parties:
            seconds_since(party.seen)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        found = re.search(rb'"format":(\d{1,6})', data)
        if found and int(found[1]) != FORMAT:
            raise StatusError(
                f"the status is of format {int(found[1])}; this program reads {FORMAT}",
                where=str(path),
                remedy="Use the version of Wardround that the process runs with",
            ) from None
        raise StatusError("the status is damaged", where=str(path), remedy=again) from None
    return Seen(status, look(status.process))

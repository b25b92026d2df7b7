"""Reads what `sitecustomize` beside this file recorded: which kinds of message FLARE sent, how large, and to whom."""

import base64
import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_STREAM = "sm__STREAM"
_TYPES = {1: "data", 2: "fragment", 3: "ack", 4: "hello", 5: "ready", 6: "ping", 7: "pong"}


@dataclass(frozen=True)
class Frame:
    """One frame as it entered TLS: ``kind`` is (channel, topic), or FLARE's own frame type where it has neither."""

    sender: str
    peer: str
    kind: tuple[str, str]
    headers: dict
    payload: bytes

    @property
    def text(self) -> bytes:
        """Headers and payload: all that the other side could read."""
        return json.dumps(self.headers).encode() + self.payload


def arm(folder: Path) -> Path:
    """Put the hook into ``folder``; what to give `processes.start_server` and `start_client` as ``python_path``."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copy(Path(__file__).with_name("sitecustomize.py"), folder)
    return folder


def frames(folder: Path) -> Iterator[Frame]:
    """Every frame that was recorded below an armed folder."""
    for path in sorted((folder / "captured").glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            headers = record["headers"]
            yield Frame(
                record["me"],
                record["peer"],
                kind_of(record["type"], headers),
                headers,
                base64.b64decode(record["payload"]),
            )


def kind_of(number: int, headers: dict) -> tuple[str, str]:
    """Channel and topic; of a streamed chunk, those of what is streamed."""
    channel, topic = headers.get("cn__channel"), headers.get("cn__topic", "")
    if channel is None:
        return ("", _TYPES.get(number, str(number)))
    if channel == _STREAM:
        if "sm__em" in headers:
            return (channel, "error")
        inner = headers.get("sm__ch")
        return (channel, str(topic)) if inner is None else (str(inner), str(headers.get("sm__tp", "")))
    return (str(channel), str(topic))


def kinds(found: Iterable[Frame]) -> dict[tuple[str, str], tuple[int, int]]:
    """Number and largest payload of each kind."""
    table: dict[tuple[str, str], tuple[int, int]] = {}
    for frame in found:
        count, size = table.get(frame.kind, (0, 0))
        table[frame.kind] = (count + 1, max(size, len(frame.payload)))
    return table

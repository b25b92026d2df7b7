"""gdcm in processes of its own: damaged JPEG Lossless can make its C++ code end the process it runs in.

A process is started when the first such frame is met, one more for each thread that decodes at the same time, and
they are used again; one that ended is replaced. Frames go in by its standard input and values come back by its
standard output, each as a line of JSON and then bytes; nothing is written to disk. One that does not answer within
``DEADLINE`` is ended; it also ends by itself then, should its parent have been killed.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from .dicom_file import RefusedError, quiet

DEADLINE: Final = 60.0
"""Seconds for one frame; the largest that is read takes about 2."""

_Process = subprocess.Popen[bytes]
_ALL: Final[dict[int, set[_Process]]] = {}
"""Every process, by the process that started it."""
_IDLE: Final[dict[int, list[_Process]]] = {}
"""Processes that wait, by the process that may use them: a fork must not write into its parent's pipes."""


def decode(data: bytes, options: dict[str, Any]) -> tuple[NDArray[Any], str]:
    """The values of one compressed frame as gdcm decodes them, and their photometric interpretation.

    Args:
        data: the frame.
        options: as :meth:`pydicom.pixels.decoders.base.Decoder.as_array` takes them, all of them JSON values.

    Raises:
        RefusedError: gdcm cannot decode it, or ended over it, or took longer than ``DEADLINE``, or cannot be started.
    """
    process = _idle() or _start()
    watch = _Watch(process)
    answer: dict[str, Any] | None = None
    values = b""
    try:
        if process.stdin is not None and process.stdout is not None:
            # A broken pipe or an answer cut short says that gdcm ended.
            with contextlib.suppress(BrokenPipeError, ValueError):
                _send(process.stdin, {"options": options}, data)
                answer, values = _receive(process.stdout)
        late = watch.ended()
    except BaseException:  # a person's Ctrl-C: what the process says next belongs to no question
        watch.ended()
        _end(process)
        raise
    if answer is None or late:
        _end(process)
    if answer is None:
        if late:
            raise RefusedError(
                f"the compressed frame is damaged: its decoder did not answer within {DEADLINE:g} seconds",
                "copy the file again",
            )
        raise RefusedError("the compressed frame is damaged: its decoder gave up", "copy the file again")
    if not late:
        _IDLE.setdefault(os.getpid(), []).append(process)
    if "error" in answer:
        raise RefusedError(f"the compressed frame is damaged ({answer['error']})", "copy the file again")
    array = np.frombuffer(values, dtype=answer["dtype"]).reshape(answer["shape"])
    return array, str(answer["space"])


class _Watch:
    """Kills a process that has not answered by the deadline; that ends the pipes which the caller waits at."""

    def __init__(self, process: _Process) -> None:
        self._process = process
        self._lock = threading.Lock()
        self._over = self._killed = False
        self._timer = threading.Timer(DEADLINE, self._kill)
        self._timer.daemon = True
        self._timer.start()

    def _kill(self) -> None:
        with self._lock:
            if not self._over:
                self._killed = True
                self._process.kill()

    def ended(self) -> bool:
        """Stop watching; whether the process was killed."""
        self._timer.cancel()
        with self._lock:
            self._over = True
            return self._killed


def _idle() -> _Process | None:
    """A process that waits; those that ended meanwhile are cleared away."""
    idle = _IDLE.setdefault(os.getpid(), [])
    while idle:
        try:
            process = idle.pop()
        except IndexError:  # another thread was faster
            break
        if process.poll() is None:
            return process
        _end(process)
    return None


def _start() -> _Process:
    command = [sys.executable, "-m", __name__]
    # Nothing of a file is in the command; what gdcm and libjpeg print of damaged data is of use to nobody.
    try:
        process = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except OSError as problem:
        raise RefusedError(
            f"a process for the decoder gdcm cannot be started ({problem.strerror})", "check this machine's limits"
        ) from None
    _ALL.setdefault(os.getpid(), set()).add(process)
    return process


def _end(process: _Process) -> None:
    _ALL.get(os.getpid(), set()).discard(process)
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):  # bytes that the process no longer takes
                pipe.close()
    process.wait()


@atexit.register
def _end_all() -> None:
    _IDLE.pop(os.getpid(), None)
    for process in tuple(_ALL.get(os.getpid(), ())):
        _end(process)


def _send(pipe: IO[bytes], head: dict[str, Any], data: bytes) -> None:
    pipe.write(json.dumps({**head, "length": len(data)}).encode() + b"\n" + data)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> tuple[dict[str, Any], bytes]:
    """One message; ValueError where the pipe ends within or before it."""
    head: dict[str, Any] = json.loads(pipe.readline())
    data = pipe.read(head["length"])
    if len(data) < head["length"]:
        raise ValueError("the message is cut short")
    return head, data


def _serve() -> None:
    """Decode frames from standard input until it ends."""
    quiet()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's affair, which may go on
    # gdcm may print to standard output; the answers keep the real one to themselves.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests = os.fdopen(os.dup(0), "rb")
    while requests.peek(1):
        head, data = _receive(requests)
        _alarm(2 * int(DEADLINE))
        options = head["options"]
        try:
            syntax = UID(options.pop("transfer_syntax_uid"))
            array, properties = get_decoder(syntax).as_array(
                encapsulate([data]),
                index=0,
                raw=True,
                decoding_plugin="gdcm",
                transfer_syntax_uid=syntax,  # type: ignore[arg-type]
                **options,
            )
        # Whatever it is, the caller is told its kind and goes on.
        except Exception as problem:
            _alarm(0)
            _send(answers, {"error": type(problem).__name__}, b"")
            continue
        _alarm(0)
        answer = {
            "shape": array.shape,
            "dtype": array.dtype.str,
            "space": str(properties["photometric_interpretation"]),
        }
        _send(answers, answer, array.tobytes())


def _alarm(seconds: int) -> None:
    """End this process in so many seconds, even inside gdcm; 0: do not. Not every system has it."""
    if hasattr(signal, "alarm"):
        signal.alarm(seconds)


if __name__ == "__main__":
    _serve()

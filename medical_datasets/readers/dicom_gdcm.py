"""gdcm in processes of its own: damaged JPEG Lossless can make its C++ code end the process it runs in.

A process is started when the first such frame is met, one more for each thread that decodes at the same time, and
they are used again; one that ended is replaced. Frames go in by its standard input and values come back by its
standard output, each as a line of JSON and then bytes; nothing is written to disk.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import sys
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from .dicom_file import RefusedError, quiet

_Process = subprocess.Popen[bytes]
_IDLE: Final[dict[int, list[_Process]]] = {}
"""Processes that wait, by the process that may use them: a fork must not write into its parent's pipes."""


def decode(data: bytes, options: dict[str, Any]) -> tuple[NDArray[Any], str]:
    """The values of one compressed frame as gdcm decodes them, and their photometric interpretation.

    Args:
        data: the frame.
        options: as :meth:`pydicom.pixels.decoders.base.Decoder.as_array` takes them, all of them JSON values.

    Raises:
        RefusedError: gdcm cannot decode it, or ended over it, or cannot be started.
    """
    idle = _IDLE.setdefault(os.getpid(), [])
    try:
        process = idle.pop()
    except IndexError:
        process = _start()
    answer: dict[str, Any] | None = None
    values = b""
    if process.stdin is not None and process.stdout is not None:
        # A broken pipe or an answer cut short says that gdcm ended.
        with contextlib.suppress(BrokenPipeError, ValueError):
            _send(process.stdin, {"options": options}, data)
            answer, values = _receive(process.stdout)
    if answer is None:
        _end(process)
        raise RefusedError("the compressed frame is damaged: its decoder gave up", "copy the file again")
    idle.append(process)
    if "error" in answer:
        raise RefusedError(f"the compressed frame is damaged ({answer['error']})", "copy the file again")
    array = np.frombuffer(values, dtype=answer["dtype"]).reshape(answer["shape"])
    return array, str(answer["space"])


def _start() -> _Process:
    command = [sys.executable, "-m", __name__]
    # Nothing of a file is in the command; what gdcm and libjpeg print of damaged data is of use to nobody.
    try:
        return subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except OSError as problem:
        raise RefusedError(
            f"a process for the decoder gdcm cannot be started ({problem.strerror})", "check this machine's limits"
        ) from None


def _end(process: _Process) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):  # bytes that the process no longer takes
                pipe.close()
    process.wait()


@atexit.register
def _end_all() -> None:
    for process in _IDLE.pop(os.getpid(), []):
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
    # gdcm may print to standard output; the answers keep the real one to themselves.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests = os.fdopen(os.dup(0), "rb")
    while requests.peek(1):
        head, data = _receive(requests)
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
            _send(answers, {"error": type(problem).__name__}, b"")
            continue
        answer = {
            "shape": array.shape,
            "dtype": array.dtype.str,
            "space": str(properties["photometric_interpretation"]),
        }
        _send(answers, answer, array.tobytes())


if __name__ == "__main__":
    _serve()

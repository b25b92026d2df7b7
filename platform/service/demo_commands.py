"""Wardround's own command line as processes of their own, each of them ended when the demo ends, however it ends."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from ..errors import PlatformError

AT_ONCE = 2
"""Short commands that run beside one another."""
COMMAND_SECONDS = 300.0
STOP_SECONDS = 20.0
LOOK = 0.05
_SHOWN = 12
_PROGRAM = (sys.executable, "-m", "wardround.platform.cli.app")
_FOREIGN = ("WARDROUND_", "RUNTIME_DIRECTORY", "CREDENTIALS_DIRECTORY", "XDG_RUNTIME_DIR")


class DemoError(PlatformError):
    """A step of the demo did not do what it should."""


class Running:
    """A command that runs.

    Attributes:
        name: of its log. words: how a person would type it. log: what it prints.
        process: leads a session of its own, so that Ctrl-C reaches it by way of the demo only.
    """

    def __init__(self, name: str, words: Sequence[str], log: Path, environment: dict[str, str], folder: Path) -> None:
        self.name, self.words, self.log = name, " ".join(["wardround", *map(shlex.quote, words)]), log
        with log.open("ab") as stream:
            stream.write(f"$ {self.words}\n".encode())
            self._from = stream.tell()
            self.process = subprocess.Popen(  # noqa: S603
                [*_PROGRAM, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if name.startswith("step-") else stream,
                stderr=stream,
                cwd=folder,
                env=environment,
                start_new_session=True,
            )

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    def last_words(self) -> str:
        """The end of what it printed."""
        with self.log.open("rb") as stream:
            stream.seek(self._from)
            lines = stream.read().decode(errors="replace").splitlines()
        return "\n".join(line.strip() for line in lines[-_SHOWN:] if line.strip())

    def failed(self, how: str) -> DemoError:
        """What is raised when it does not end as it should."""
        return DemoError(
            f"{self.words}\n{how}; its last words:\n{self.last_words() or '(none)'}",
            where=str(self.log),
            remedy="See that file, and the others beside it",
        )

    def signal(self, number: int) -> None:
        """Send it a signal, where it still runs."""
        if self.alive:
            self.process.send_signal(number)

    def stop(self) -> None:
        """Ask it to end; it is no longer held by a SIGSTOP either."""
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once."""
        self.signal(signal.SIGKILL)
        self.process.wait()


class Commands:
    """Runs commands, and ends whatever is left of them when the block ends.

    Args:
        folder: where they run. logs: a file for each name. environment: added to what they all have.
    """

    def __init__(self, folder: Path, logs: Path, environment: dict[str, str]) -> None:
        self._folder, self._logs = folder, logs
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        self._environment = kept | environment | {"COLUMNS": "120"}
        self._lock, self._closed = threading.Lock(), False
        self._live: list[Running] = []
        self._children: dict[int, int] = {}

    def __enter__(self) -> Commands:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self, name: str, *words: str | Path, **environment: str | Path) -> Running:
        """Start a command; its log is named for ``name``, and goes on where an earlier one of the name ended."""
        with self._lock:
            if self._closed:
                raise DemoError("the demo is ending")
            extra = {key: str(value) for key, value in environment.items()}
            log = self._logs / f"{name.removeprefix('step-')}.log"
            running = Running(name, [str(word) for word in words], log, self._environment | extra, self._folder)
            self._live.append(running)
            return running

    def run(self, name: str, *words: str | Path, **environment: str | Path) -> str:
        """Run a command to its end; what it printed on standard output.

        Raises:
            DemoError: it failed, or took too long.
        """
        running = self.start(f"step-{name}", *words, **environment)
        try:
            printed, _ = running.process.communicate(timeout=COMMAND_SECONDS)
        except subprocess.TimeoutExpired:
            running.kill()
            raise running.failed(f"did not end in {COMMAND_SECONDS:.0f} seconds") from None
        with running.log.open("ab") as stream:
            stream.write(printed)
        if self._closed:
            raise DemoError("the demo is ending")
        if running.process.returncode:
            raise running.failed(f"ended with exit code {running.process.returncode}")
        with self._lock:
            self._live.remove(running)
        return bytes(printed).decode()

    def together(self, jobs: Sequence[Callable[[], object]]) -> None:
        """Do all jobs, a few at a time; the first that fails ends the rest."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            done = [pool.submit(job) for job in jobs]
            try:
                while not all(each.done() for each in done):
                    time.sleep(LOOK)
                    if any(each.done() and each.exception() for each in done):
                        break
            except BaseException:
                self.close()
                raise
            failed = next((each.exception() for each in done if each.done() and each.exception()), None)
            if failed is not None:
                self.close()
                raise failed

    def wait(self, what: str, look: Callable[[], bool], seconds: float, watched: Collection[Running]) -> None:
        """Wait until ``look`` says so.

        Args:
            what: is waited for, in words. look: asked again and again. seconds: at most.
            watched: commands that must not end with a failure meanwhile.

        Raises:
            DemoError: it took too long, or one of the commands failed.
        """
        until = time.monotonic() + seconds
        while not look():
            for each in watched:
                if not each.alive and each.process.returncode:
                    raise each.failed(f"ended with exit code {each.process.returncode}")
            if time.monotonic() > until:
                raise DemoError(
                    f"this did not happen within {seconds:.0f} seconds: {what}",
                    where=str(self._logs),
                    remedy="See the logs there; a machine with two quiet cores is fast enough",
                )
            time.sleep(LOOK)

    def kill(self, running: Running) -> int:
        """Kill a command as a power cut would; how many processes it had started, all of which must go with it.

        Raises:
            DemoError: one of them lives on.
        """
        children = descendants(running.process.pid)
        self._children |= children
        running.kill()
        self.wait(f"what {running.name} had started ends with it", lambda: not living(children), STOP_SECONDS, ())
        return len(children)

    def close(self) -> None:
        """End everything that was started: asked first, then killed, and what these had started as well."""
        with _undisturbed():
            self._close()

    def _close(self) -> None:
        with self._lock:
            self._closed = True
            live = [each for each in self._live if each.alive]
        for each in live:
            self._children |= descendants(each.process.pid)
            each.stop()
        until = time.monotonic() + STOP_SECONDS
        while time.monotonic() < until and any(each.alive for each in live):
            time.sleep(LOOK)
        for each in live:
            self._children |= descendants(each.process.pid)
            each.kill()
        _await_end(self._children)
        for process in living(self._children):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        _await_end(self._children)


def descendants(process: int) -> dict[int, int]:
    """Process ids of everything that a process started, and what that started; each with its time of start."""
    parents = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and (found := _stat(int(entry.name))) is not None:
            parents[int(entry.name)] = found
    below, before = {process}, 0
    while len(below) != before:
        before = len(below)
        below |= {each for each, (parent, _) in parents.items() if parent in below}
    return {each: parents[each][1] for each in below - {process}}


def living(processes: dict[int, int]) -> list[int]:
    """Those of them that still run; a process id that was given to somebody else since does not count."""
    return [each for each, began in processes.items() if (found := _stat(each)) is not None and found[1] == began]


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Whoever presses Ctrl-C again, or asks again, must not keep the demo from ending what it started."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _await_end(processes: dict[int, int]) -> None:
    until = time.monotonic() + STOP_SECONDS / 2
    while living(processes) and time.monotonic() < until:
        time.sleep(LOOK)


def _stat(process: int) -> tuple[int, int] | None:
    """Parent and time of start in clock ticks; None when it is gone, or dead and not yet collected."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else (int(fields[1]), int(fields[19]))


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens at just now."""
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in held:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in held]


def answers(port: int) -> bool:
    """Whether something on loopback takes connections at this port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
        return True
    return False

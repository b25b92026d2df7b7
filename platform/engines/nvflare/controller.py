"""What the coordinator's FLARE job process runs: a relay between the coordinator process and the sites' executors.

It lives as long as the coordinator process holds the other end of its socket; a job without a coordinator ends by
itself, and is not there to be mistaken for the next one.
"""

from __future__ import annotations

import os
import threading
import time
from functools import partial
from pathlib import Path

from nvflare.apis.client import Client
from nvflare.apis.fl_context import FLContext
from nvflare.apis.impl.controller import Controller
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal

from .cells import Wire, site_cell
from .dispatcher import TICK_SECONDS, Dispatcher
from .frames import FROM_COURIER, Deliver, Frame, Joined, RelayError, Stop
from .relay import Link, connect

SOCKET_VARIABLE = "WARDROUND_COURIER"
"""Environment variable with the path of the coordinator process's socket, set by whoever starts FLARE's server."""

STOP_SECONDS = 2.0


class RelayController(Controller):  # type: ignore[misc]
    """The only workflow of a Wardround job. It has no arguments."""

    def __init__(self) -> None:
        super().__init__()
        self._cells: dict[str, str] = {}

    def start_controller(self, fl_ctx: FLContext) -> None:
        """Nothing yet: the sites' processes start at the same time as this one."""

    def stop_controller(self, fl_ctx: FLContext) -> None:
        """Nothing left to end."""

    def process_result_of_unknown_task(
        self, client: Client, task_name: str, client_task_id: str, result: Shareable, fl_ctx: FLContext
    ) -> None:
        """No tasks are made, so that none can have a result."""

    def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        """Relay until the coordinator process says stop, goes, or FLARE aborts the job."""
        path = os.environ.get(SOCKET_VARIABLE, "")
        if not path:
            self.system_panic(
                f"{SOCKET_VARIABLE} is not set: start this server with `wardround coordinator start`", fl_ctx
            )
            return
        job = str(fl_ctx.get_job_id())
        engine = fl_ctx.get_engine()
        wire = Wire(engine.get_cell())
        names = [client.name for client in engine.get_clients()]
        self._cells = {  # two clients of one name: neither is believed
            client.name: site_cell(client.get_fqcn(), job)
            for client in engine.get_clients()
            if names.count(client.name) == 1
        }
        try:
            link = connect(Path(path), FROM_COURIER)
            link.send(Joined(job))
        except RelayError as error:
            self.system_panic(error.what, fl_ctx)
            return
        dispatcher = Dispatcher(
            frozenset(self._cells), lambda site, payload: wire.ask(self._cells[site], payload), partial(_report, link)
        )

        def incoming(origin: str, name: str, payload: bytes) -> bytes | None:
            try:
                return dispatcher.take(name, payload) if self._cells.get(name) == origin else None
            except RelayError:
                return None

        wire.answer(incoming)
        dispatcher.start()
        try:
            self._relay(link, dispatcher, abort_signal)
        finally:
            dispatcher.stop()
            self._end(wire, dispatcher.farewell())
            link.close()

    @staticmethod
    def _relay(link: Link, dispatcher: Dispatcher, abort_signal: Signal) -> None:
        ticked = time.monotonic()
        while not abort_signal.triggered:
            try:
                frame = link.receive(TICK_SECONDS)
            except RelayError:
                return
            if isinstance(frame, Stop):
                return
            if isinstance(frame, Deliver):
                dispatcher.deliver(frame)
            if time.monotonic() - ticked >= TICK_SECONDS:
                dispatcher.tick()
                ticked = time.monotonic()

    def _end(self, wire: Wire, farewell: dict[str, bytes]) -> None:
        """Tell every executor to let go of its site, so that the next job finds it free."""
        threads = [
            threading.Thread(target=wire.ask, args=(self._cells[name], payload, STOP_SECONDS), daemon=True)
            for name, payload in farewell.items()
        ]
        for thread in threads:
            thread.start()
        until = time.monotonic() + STOP_SECONDS
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))


def _report(link: Link, frame: Frame) -> None:
    """Tell the coordinator process; when it is gone, whoever reads the link sees the same and ends the job."""
    try:
        link.send(frame)
    except RelayError:
        link.close()

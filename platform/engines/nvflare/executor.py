"""What a hospital's FLARE job process runs: a relay that hands bytes to the site process and returns its answers.

It takes nothing from the job: where the site process listens is said by the site's own environment, and it speaks to
this job's own server alone. FLARE's logs get no content and no exception from here.
"""

from __future__ import annotations

import os
from pathlib import Path

from nvflare.apis.event_type import EventType
from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal

from .cells import Wire, server_cell
from .forwarder import Forwarder
from .frames import RelayError

SOCKET_VARIABLE = "WARDROUND_RELAY"
"""Environment variable with the path of the site process's socket, set by whoever starts FLARE's client."""


class RelayExecutor(Executor):  # type: ignore[misc]
    """The only component of a Wardround job at a site. It has no arguments."""

    def __init__(self) -> None:
        super().__init__()
        self._forwarder: Forwarder | None = None

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Start with the job, stop with it."""
        if event_type == EventType.START_RUN:
            self._start(fl_ctx)
        elif event_type in (EventType.ABOUT_TO_END_RUN, EventType.END_RUN) and self._forwarder is not None:
            self._forwarder.stop()

    def _start(self, fl_ctx: FLContext) -> None:
        path = os.environ.get(SOCKET_VARIABLE, "")
        if not path:
            self.log_error(fl_ctx, f"{SOCKET_VARIABLE} is not set: start this client with `wardround site start`")
            return
        wire = Wire(fl_ctx.get_engine().get_cell())
        server = server_cell(fl_ctx.get_job_id())
        forwarder = Forwarder(Path(path), lambda payload: wire.ask(server, payload))

        def incoming(origin: str, name: str, payload: bytes) -> bytes | None:
            try:
                return forwarder.take(payload) if origin == server else None
            except RelayError:
                return None

        self._forwarder = forwarder
        wire.answer(incoming)
        forwarder.start()

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """No task is ever meant for a site; parcels come on a channel of their own (`cells`)."""
        return make_reply(ReturnCode.TASK_UNSUPPORTED)

"""Wardround's own channel between FLARE's cells: raw bytes pushed the moment they are there, instead of polled tasks.

FLARE authenticates the machines: its server checks, for every message that passes it, that the token was made out to
the name beside it. It does not always tie the origin of a message to that token, so a controller compares both, and
what follows carries a key (`frames.Receipt`). Payloads are bytes, which FLARE's serialiser never looks into.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nvflare.fuel.f3.cellnet.core_cell import make_reply
from nvflare.fuel.f3.cellnet.defs import MessageHeaderKey, ReturnCode
from nvflare.fuel.f3.cellnet.fqcn import FQCN
from nvflare.fuel.f3.message import Message
from nvflare.private.defs import CellMessageHeaderKeys

from .frames import Codec, Receipt, RelayError

CHANNEL = "wardround"
TOPIC = "frame"
REPLY_SECONDS = 10.0
"""How long a receipt may take; it waits for nothing but the way there and back."""

Handler = Callable[[str, str, bytes], bytes | None]
"""Gets (cell that says it sent it, name that its token was made out to, payload); its reply, or None to refuse."""


def server_cell(job: str) -> str:
    """Name of the cell of a job's process at the server."""
    return str(FQCN.join([FQCN.ROOT_SERVER, job]))


def site_cell(client: str, job: str) -> str:
    """Name of the cell of a job's process at a client."""
    return str(FQCN.join([client, job]))


class Wire:
    """Sends and answers frames on the channel, as one cell of FLARE's network.

    Args:
        cell: FLARE's own, of this process.
    """

    def __init__(self, cell: Any) -> None:
        self._cell = cell
        self._receipts = Codec((Receipt,))

    def answer(self, handler: Handler) -> None:
        """Have ``handler`` answer what arrives."""

        def incoming(request: Message) -> Message:
            payload = request.payload
            origin = request.get_header(MessageHeaderKey.ORIGIN)
            name = request.get_header(CellMessageHeaderKeys.CLIENT_NAME)
            if not isinstance(payload, bytes | bytearray | memoryview) or not isinstance(origin, str):
                return make_reply(ReturnCode.INVALID_REQUEST)
            reply = handler(origin, str(name), bytes(payload))
            return make_reply(ReturnCode.INVALID_REQUEST) if reply is None else make_reply(ReturnCode.OK, "", reply)

        self._cell.register_request_cb(channel=CHANNEL, topic=TOPIC, cb=incoming)

    def ask(self, target: str, payload: bytes, timeout: float = REPLY_SECONDS) -> Receipt | None:
        """Send a frame and wait for its receipt.

        Returns:
            The receipt; None where there was none in time, or at once where FLARE cannot reach the cell.
        """
        request = Message(payload=payload)
        try:
            reply = self._cell.send_request(
                channel=CHANNEL, topic=TOPIC, target=target, request=request, timeout=timeout, optional=True
            )
        except Exception:  # FLARE says in no one way that its network is down or closing
            return None
        if reply.get_header(MessageHeaderKey.RETURN_CODE) != ReturnCode.OK:
            return None
        try:
            receipt = self._receipts.decode(reply.payload)
        except (RelayError, TypeError):
            return None
        return receipt if isinstance(receipt, Receipt) else None

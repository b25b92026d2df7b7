"""Prometheus metrics of a running process, at 127.0.0.1 only; optional, with ``wardround[deploy]``.

What is shown is what ``status.json`` has: numbers, and labels out of closed sets.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, get_args

from ..errors import PlatformError
from .board import State
from .status import DIRECTIONS, Status, seconds_since
from .status_board import STAGES, StatusBoard

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

ADDRESS = "127.0.0.1"


class MetricsError(PlatformError):
    """Metrics that cannot be served."""


class MetricsServer:
    """Metrics being served, until `close`. Made by `serve_metrics`.

    Attributes:
        port: at which they are.
    """

    def __init__(self, server: Any, thread: Any) -> None:
        self._server, self._thread = server, thread
        self.port = int(server.server_port)

    def close(self) -> None:
        """Stop serving; calling it twice does no harm."""
        if self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join(timeout=5.0)
            self._thread = None

    def __enter__(self) -> MetricsServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Collector:
    """Makes the metrics from the board at each scrape."""

    def __init__(self, board: StatusBoard) -> None:
        self._board = board

    def describe(self) -> list[Metric]:
        """None: names are not looked for in advance."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All metrics, as they are now."""
        status = self._board.snapshot()
        yield from _progress(status)
        yield from _traffic(status)
        yield from _privacy(status)


def serve_metrics(port: int, board: StatusBoard) -> MetricsServer:
    """Serve the metrics of a board at ``http://127.0.0.1:PORT/metrics``.

    Args:
        port: 0 takes a free one. board: whose numbers are shown.

    Raises:
        MetricsError: prometheus_client is not installed, or the port is taken or not allowed.
    """
    try:
        from prometheus_client import CollectorRegistry, start_http_server
    except ImportError:
        raise MetricsError(
            "metrics need the package prometheus_client, which is not installed",
            remedy="pip install 'wardround[deploy]', or start without --metrics-port",
        ) from None
    # A registry of its own: the default one also tells of the process, Python and the platform.
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(board))
    try:
        server, thread = start_http_server(port, addr=ADDRESS, registry=registry)
    except (OSError, OverflowError) as error:
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        raise MetricsError(
            f"port {port} is taken by another process" if taken else f"port {port} cannot be listened at: {error}",
            where=f"{ADDRESS}:{port}",
            remedy="Give another port: --metrics-port PORT, or end what listens there (see: ss -ltnp)",
        ) from None
    return MetricsServer(server, thread)


def _progress(status: Status) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    yield GaugeMetricFamily("wardround_round", "Round under way, from 1; 0 before the first.", value=status.round)
    yield GaugeMetricFamily("wardround_rounds", "Rounds of the study.", value=status.rounds)
    stage = GaugeMetricFamily("wardround_stage_info", "1 for the stage of the protocol.", labels=["stage"])
    for name in sorted(STAGES):
        stage.add_metric([name], float(name == status.stage))
    yield stage
    state = GaugeMetricFamily("wardround_state_info", "1 for what the process is doing.", labels=["state"])
    for name in get_args(State):
        state.add_metric([name], float(name == status.state))
    yield state
    present = sum(party.standing == "present" for party in status.parties)
    yield GaugeMetricFamily("wardround_sites_present", "Other parties of the study that are there.", value=present)


def _traffic(status: Status) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    sides = dict(zip(DIRECTIONS, (status.incoming, status.outgoing), strict=True))
    sizes = CounterMetricFamily("wardround_bytes", "Bytes of messages since the start.", labels=["direction"])
    counts = CounterMetricFamily("wardround_messages", "Messages since the start.", labels=["type", "direction"])
    for direction, traffic in sides.items():
        sizes.add_metric([direction], traffic.bytes)
        for kind, count in sorted(traffic.messages.items()):
            counts.add_metric([kind, direction], count)
    yield sizes
    yield counts
    last = max(status.incoming.last, status.outgoing.last)
    ago = seconds_since(last)
    if ago is not None:
        yield GaugeMetricFamily("wardround_last_message_seconds", "Seconds since the last message.", value=ago)
    yield CounterMetricFamily("wardround_refusals", "Refusals of this side since the start.", value=status.refusals)


def _privacy(status: Status) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    if status.privacy is None:
        return
    yield GaugeMetricFamily("wardround_epsilon_spent", "Epsilon that was spent.", value=status.privacy.epsilon)
    if status.privacy.left is not None:
        yield GaugeMetricFamily("wardround_epsilon_left", "Epsilon until the limit.", value=status.privacy.left)

"""Metrics: what a scraper gets, from where, and that nothing else is told."""

from __future__ import annotations

import socket
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from wardround.platform.service.metrics import MetricsError, serve_metrics
from wardround.platform.service.status_board import StatusBoard

pytest.importorskip("prometheus_client")


@pytest.fixture
def board(tmp_path: Path) -> Iterator[StatusBoard]:
    with StatusBoard(
        tmp_path / "status.json", "site", "brain", "ab" * 32, 5, owner="amber", parties=["coordinator"]
    ) as opened:
        yield opened


def scrape(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    rows = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in rows}


def test_a_scrape(board: StatusBoard) -> None:
    with serve_metrics(0, board) as server:
        before = scrape(server.port)
        assert "wardround_last_message_seconds" not in before
        assert "wardround_epsilon_spent" not in before
        board.state("running")
        board.at(3, "masked-vector")
        board.message("round-start", 1000, "in", "coordinator")
        board.message("masked-vector", 4000, "out", "coordinator")
        board.message("/data/meier.dcm", 5, "out", "coordinator")
        board.refused()
        board.privacy(1.25, 0.75, 1e-5)
        found = scrape(server.port)
    assert (found["wardround_round"], found["wardround_rounds"]) == (3, 5)
    assert found['wardround_stage_info{stage="mask"}'] == 1
    assert sum(value for name, value in found.items() if name.startswith("wardround_stage_info")) == 1
    assert found['wardround_state_info{state="running"}'] == 1
    assert found['wardround_bytes_total{direction="in"}'] == 1000
    assert found['wardround_bytes_total{direction="out"}'] == 4005
    assert found['wardround_messages_total{direction="out",type="masked-vector"}'] == 1
    assert found['wardround_messages_total{direction="out",type="other"}'] == 1
    assert (found["wardround_epsilon_spent"], found["wardround_epsilon_left"]) == (1.25, 0.75)
    assert found["wardround_sites_present"] == 1
    assert found["wardround_refusals_total"] == 1
    assert 0 <= found["wardround_last_message_seconds"] < 30
    # No process, Python or platform collector; no name, path or hash of anything.
    assert all(name.startswith("wardround_") for name in found)
    assert not any(word in name for name in found for word in ("amber", "meier", "brain", "abab", "/"))


def test_only_this_machine_is_answered(board: StatusBoard) -> None:
    with serve_metrics(0, board) as server, socket.socket() as other:
        other.bind(("127.0.0.2", server.port))  # taken, if it listened at every address


def test_a_port_that_is_taken(board: StatusBoard) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        with pytest.raises(MetricsError) as refused:
            serve_metrics(listener.getsockname()[1], board)
    assert "taken" in refused.value.what
    assert "--metrics-port PORT" in refused.value.remedy


def test_after_its_end_the_port_is_free(board: StatusBoard, tmp_path: Path) -> None:
    server = serve_metrics(0, board)
    server.close()
    server.close()
    with serve_metrics(server.port, board) as again:
        assert scrape(again.port)["wardround_rounds"] == 5


def test_without_the_package(board: StatusBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(MetricsError) as refused:
        serve_metrics(0, board)
    assert "wardround[deploy]" in refused.value.remedy
    assert "--metrics-port" in refused.value.remedy

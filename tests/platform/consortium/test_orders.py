"""What people order while a study is under way: to pause it, to end it, to leave it."""

from __future__ import annotations

import json

import pytest
from wardround.privacy.egress import COORDINATOR

from .conftest import THREE, Enrolled
from .harness import RealConsortium, study_text


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_stopped_by_signal_and_gone_on_with(three: RealConsortium, same_as_three: bytes) -> None:
    coordinator, sites = three.start_coordinator(hook="await:nobody:2"), three.start_sites()
    coordinator.says("round 1/3")
    left = three.command("amber", "site", "leave", "--yes")
    assert left.returncode == 1
    assert "do:    " in left.stderr
    assert "Traceback" not in left.stderr
    shown = json.loads(three.command("birch", "site", "status", "--json").stdout)
    assert "running" in json.dumps(shown)
    coordinator.process.terminate()
    sites["cedar"].process.terminate()
    assert coordinator.ended() == 0
    assert "Stopped; nothing is lost" in coordinator.said
    assert sites["cedar"].ended() == 0
    assert "Stopped; nothing is lost" in sites["cedar"].said
    sites["cedar"] = three.start_site("cedar")
    three.complete(three.start_coordinator("--resume"), sites)
    assert three.adapter == same_as_three
    assert three.participants == [list(THREE)] * 3


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_study_that_is_ended_under_way(opened: Enrolled) -> None:
    three = opened("three-aborted", study_text(rounds=50), THREE)
    coordinator, sites = three.start_coordinator(), three.start_sites()
    coordinator.says("round 2/50")
    three.cli(None, "coordinator", "abort", three.folder, "--yes")
    assert coordinator.ended() == 0
    assert "was ended before its end" in coordinator.said
    assert three.status(COORDINATOR)["state"] == "aborted"
    for site, each in sites.items():
        assert each.ended() == 0, each.said
        assert "there is no final model" in each.said
        assert three.status(site)["state"] == "aborted"
        assert not (three.site(site).state / "adapter.safetensors").exists()
    assert not three.run.adapter.exists()
    three.check_ledgers()
    again = three.start_coordinator("--resume")
    assert again.ended() == 1
    assert "this study was ended by its coordinator" in again.said
    late = three.start_site("amber")
    assert late.ended() == 0, late.said
    assert "The coordinator ended the study" in late.said
    three.cli("birch", "site", "leave", "--yes")

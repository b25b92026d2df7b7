"""What a hospital or a coordinator is told that cannot start, or whose kit, key, policy or budget does not fit."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import socket
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner
from wardround.platform.cli.app import app
from wardround.platform.engines.nvflare import authority
from wardround.platform.engines.nvflare.authority import Authority
from wardround.platform.enrolling.coordinator_folder import ConsortiumFolder
from wardround.privacy.egress import COORDINATOR

from .conftest import THREE, Enrolled
from .harness import RealConsortium, Running, private_text, study_text, until


def explains(ended: Running, *words: str) -> None:
    """Exit code 1, and an error in words: what, where, what to do."""
    assert ended.ended() == 1, ended.said
    for word in ("error: ", "do:    ", *words):
        assert word in ended.said, ended.said
    assert "Traceback" not in ended.said
    assert "internal error" not in ended.said


def doctor(consortium: RealConsortium, who: str) -> dict[str, tuple[bool, str, str]]:
    """What ``doctor --kit`` finds: by check, whether it is sound, what was found, and the remedy."""
    place = consortium.folder if who == COORDINATOR else consortium.site(who).root
    site = None if who == COORDINATOR else who
    result = CliRunner().invoke(app, ["doctor", "--kit", str(place), "--json"], env=consortium.environment(site))
    rows = json.loads(result.stdout)
    assert result.exit_code == (not all(row["sound"] for row in rows))
    return {row["name"]: (row["sound"], row["found"], row["remedy"]) for row in rows}


def refused(consortium: RealConsortium, site: str, *words: object) -> str:
    """What a command in this process says that must fail."""
    result = CliRunner().invoke(app, [str(word) for word in words], env=consortium.environment(site))
    assert result.exit_code != 0, result.output
    assert result.exception is not None
    return f"{result.output} {result.exception}"


def change_policy(consortium: RealConsortium, site: str) -> None:
    """A person at the site allows another study only."""
    path = consortium.home(site) / "policy.toml"
    text = path.read_text()
    assert consortium.digest in text
    path.write_text(text.replace(consortium.digest, "ab" * 32))


@pytest.mark.slow
def test_a_wrong_passphrase_a_policy_a_port_and_a_coordinator_that_is_not_there(three: RealConsortium) -> None:
    other = three.root / "other.pass"
    other.touch(mode=0o600)
    other.write_text("another passphrase of some length\n")
    change_policy(three, "birch")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", three.port))
        taken.listen(1)
        amber = three.start_site("amber", WARDROUND_PASSPHRASE_FILE=str(other))
        birch = three.start_site("birch")
        coordinator = three.start_coordinator()
        explains(amber, "passphrase")
        explains(birch, "policy does not let it take part", "it refuses the study", "site policy edit")
        explains(coordinator, f"port {three.port} is taken by another process", "ss -ltnp")
        sound, found, remedy = doctor(three, COORDINATOR)["port"]
        assert not sound
        assert f"{three.port} is taken by another process" in found
        assert "ss -ltnp" in remedy
    sound, found, _ = doctor(three, "birch")["policy"]
    assert not sound
    assert "it refuses the study" in found
    sound, found, remedy = doctor(three, "cedar")["coordinator"]
    assert not sound
    assert "refuses connections: no server listens there" in found
    assert "Ask the coordinator whether it runs" in remedy
    cedar = three.start_site("cedar")
    until(lambda: three.status("cedar").get("state") == "waiting", cedar.said)
    time.sleep(2.0)
    assert cedar.alive
    assert three.status("cedar")["parties"][-1]["standing"] != "present"
    cedar.process.terminate()
    assert cedar.ended() == 0
    assert "Stopped; nothing is lost" in cedar.said
    assert three.status("cedar")["state"] == "stopped"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_expired_certificate(three: RealConsortium, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was valid when it was installed; a new kit mends it."""
    ends = dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(seconds=45)
    with monkeypatch.context() as patch:
        patch.setattr(authority, "_now", lambda: ends - dt.timedelta(days=398))
        three.cli(None, "consortium", "provision", three.folder, "--renew", "amber")
    three.install("amber")
    time.sleep(max(0.0, (ends - dt.datetime.now(dt.UTC)).total_seconds()) + 1.5)
    sound, found, remedy = doctor(three, "amber")["certificate"]
    assert not sound
    assert "it expired on" in found
    assert "site join" in remedy
    explains(three.start_site("amber"), "expired", "site join")
    assert "expired" in refused(three, "amber", "site", "join", ConsortiumFolder.load(three.folder).kit("amber"))
    three.cli(None, "consortium", "provision", three.folder, "--renew", "amber")
    three.install("amber")
    assert doctor(three, "amber")["certificate"][0]


def test_kits_of_another_consortium_site_and_authority(three: RealConsortium, tmp_path: Path) -> None:
    """Another site's kit, one whose study this site has not joined, and one whose authority was made anew since."""
    kits = ConsortiumFolder.load(three.folder)
    assert "birch" in refused(three, "amber", "site", "join", kits.kit("birch"))
    stranger = RealConsortium(tmp_path / "stranger", THREE, three.cache)
    stranger.new(study_text("another"))
    theirs = stranger.folder / "strange.kit.json"
    shutil.copyfile(kits.kit("amber"), theirs)
    assert "no site has its home here" in refused(stranger, "amber", "site", "join", theirs)
    stranger.join("amber")
    assert "joined" in refused(stranger, "amber", "site", "join", theirs)
    anew = Authority.create(tmp_path / "anew", "wardround-anew")
    kit = three.site("amber").flare
    (kit / "startup" / "rootCA.pem").write_bytes(anew.pem)
    sound, found, remedy = doctor(three, "amber")["FLARE's files"]
    assert not sound
    assert "of another consortium, or from before its authority was renewed" in found
    assert "join with a new kit" in remedy
    explains(three.start_site("amber"), "another consortium", "join with a new kit")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_budget_that_earlier_studies_used_up(opened: Enrolled) -> None:
    """The policy's limit over all studies holds before a site signs, and before it starts."""
    private = opened("private", private_text(), THREE)
    path = private.home("amber") / "policy.toml"
    text = path.read_text()
    path.write_text(text.replace("[budget]", "[budget]\nmaximum_epsilon = 2.0\nmaximum_delta = 0.01", 1))
    said = refused(private, "amber", "site", "approve", private.digest[:16], "--yes")
    assert "would exceed the privacy budget of this site" in said

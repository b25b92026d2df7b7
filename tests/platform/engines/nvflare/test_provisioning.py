"""Kits: what the coordinator makes, what a site takes from it, and what the site finds wrong with one later."""

from __future__ import annotations

import datetime as dt
import json
import os
import stat
from pathlib import Path

import pytest
from wardround.platform.engines.nvflare.authority import Authority
from wardround.platform.engines.nvflare.certificates import CertificateError, new_request, request_fingerprint
from wardround.platform.engines.nvflare.hardening import CONTROLLER, EXECUTOR, GUARD, LAUNCHER, ROLES
from wardround.platform.engines.nvflare.kits import KitError, check_kit, install, read_facts, render
from wardround.platform.engines.nvflare.provisioning import Machine, Provisioned, provision, renew

MACHINE = Machine("flare.example.org", 8002, 8003)
KIT = {"kit.json", "startup/client.crt", "startup/rootCA.pem"}
YEARS = dt.timedelta(days=800)


@pytest.fixture(scope="module")
def requests() -> dict[str, tuple[bytes, bytes]]:
    return {site: new_request(site) for site in ("alpha", "beta", "gamma")}


@pytest.fixture
def made(tmp_path: Path, requests: dict[str, tuple[bytes, bytes]]) -> Provisioned:
    return provision(tmp_path / "c", "demo", MACHINE, {site: requests[site][1] for site in ("alpha", "beta")})


@pytest.fixture
def kit(tmp_path: Path, made: Provisioned, requests: dict[str, tuple[bytes, bytes]]) -> Path:
    install(made.sites["alpha"], requests["alpha"][0], tmp_path / "kit", authority=made.authority)
    return tmp_path / "kit"


def test_no_private_key_of_a_site_is_at_the_coordinator(
    made: Provisioned, tmp_path: Path, requests: dict[str, tuple[bytes, bytes]]
) -> None:
    everything = b"".join(path.read_bytes() for path in (tmp_path / "c").rglob("*") if path.is_file())
    for site, (key, _) in requests.items():
        assert key.splitlines()[3] not in everything, site
    assert all(set(files) == KIT for files in made.sites.values())
    assert not any(b"PRIVATE" in content for files in made.sites.values() for content in files.values())


def test_everything_at_the_coordinator_is_its_users_alone(made: Provisioned, tmp_path: Path) -> None:
    for path in (tmp_path / "c").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_sites_that_come_later_leave_the_others_as_they_are(
    made: Provisioned, tmp_path: Path, requests: dict[str, tuple[bytes, bytes]]
) -> None:
    csrs = {site: csr for site, (_, csr) in requests.items()}
    before = {path: path.read_bytes() for path in (tmp_path / "c").rglob("*") if path.is_file()}
    again = provision(tmp_path / "c", "demo", MACHINE, csrs)
    assert again.authority == made.authority
    assert {site: again.sites[site] for site in made.sites} == made.sites
    assert {path: path.read_bytes() for path in before} == before
    other = new_request("alpha")[1]
    changed = provision(tmp_path / "c", "demo", MACHINE, {"alpha": other})
    assert changed.sites["alpha"] != made.sites["alpha"]
    assert request_fingerprint(other) != request_fingerprint(csrs["alpha"])


def test_another_address_makes_another_server_certificate(made: Provisioned, tmp_path: Path) -> None:
    before = (made.server / "startup" / "server.crt").read_bytes()
    provision(tmp_path / "c", "demo", Machine("other.example.org", 8002, 8003), {})
    after = (made.server / "startup" / "server.crt").read_bytes()
    assert before != after
    renew(tmp_path / "c", MACHINE)
    assert (made.server / "startup" / "server.crt").read_bytes() != after


@pytest.mark.parametrize(
    ("project", "machine", "site"),
    [
        ("De Mo", MACHINE, "delta"),
        ("demo", Machine("host/path", 8002, 8003), "delta"),
        ("demo", Machine("a\nb", 8002, 8003), "delta"),
        ("demo", Machine("host", 0, 8003), "delta"),
        ("demo", Machine("host", 8002, 70000), "delta"),
        ("demo", MACHINE, "a.b"),
        ("demo", Machine("delta", 8002, 8003), "delta"),
    ],
)
def test_names_that_do_not_do_are_refused_before_anything_is_written(
    project: str, machine: Machine, site: str, tmp_path: Path
) -> None:
    with pytest.raises(CertificateError):
        provision(tmp_path / "c", project, machine, {site: b""})
    assert not (tmp_path / "c").exists()


def test_a_kit_grants_nothing(kit: Path) -> None:
    assert check_kit(kit) == []
    settings = {path.name: json.loads(path.read_bytes()) for path in (kit / "local").iterdir()}
    permissions = settings["authorization.json"]["permissions"]
    assert set(permissions) == set(ROLES)
    assert {right for role in ROLES for right, who in permissions[role].items() if who != "none"} == {"submit_job"}
    assert all(permissions[role]["byoc"] == "none" for role in ROLES)
    resources = settings["resources.json"]
    assert resources["class_allow_list"] == [EXECUTOR]
    assert resources["class_list_enforcement_mode"] == "enforce"
    assert resources["allow_log_streaming"] is False
    assert {GUARD, LAUNCHER} <= {component["path"] for component in resources["components"]}
    client = json.loads((kit / "startup" / "fed_client.json").read_bytes())
    assert client["require_signed_jobs"] is True
    assert (client["client"]["connection_security"], client["client"]["site_config"]) == ("mtls", {})
    assert settings["comm_config.json"]["internal"]["resources"]["connection_security"] == "mtls"


def test_the_classes_that_the_kits_name_exist() -> None:
    pytest.importorskip("nvflare")
    import importlib

    for path in (EXECUTOR, CONTROLLER, GUARD, LAUNCHER):
        module, name = path.rsplit(".", 1)
        assert hasattr(importlib.import_module(module), name)


def test_the_server_keeps_its_jobs_in_its_own_kit(made: Provisioned) -> None:
    resources = (made.server / "local" / "resources.json").read_text()
    assert "tmp/nvflare" not in resources
    assert f"{made.server}/jobs" in resources
    assert f"{made.server}/snapshots" in resources
    permissions = json.loads((made.server / "local" / "authorization.json").read_bytes())["permissions"]
    assert permissions["project_admin"]["byoc"] == permissions["project_admin"]["shell_commands"] == "none"
    assert all(set(permissions[role].values()) == {"none"} for role in ROLES[1:])


def test_a_kit_with_anything_else_in_it_is_refused(
    made: Provisioned, requests: dict[str, tuple[bytes, bytes]], tmp_path: Path
) -> None:
    key, files = requests["alpha"][0], made.sites["alpha"]
    for name in ("startup/start.sh", "local/custom/evil.py", "../evil", "/etc/evil", "local/authorization.json"):
        with pytest.raises(KitError, match="does not belong"):
            install({**files, name: b"{}"}, key, tmp_path / "kit")
    with pytest.raises(KitError, match="larger"):
        install({**files, "startup/client.crt": b"x" * 10**6}, key, tmp_path / "kit")
    with pytest.raises(KitError, match="lacks"):
        install({"kit.json": files["kit.json"]}, key, tmp_path / "kit")
    for content in (
        b"",
        b"[]",
        b'{"site":"alpha"}',
        files["kit.json"][:-1],
        files["kit.json"].replace(b"1", b"true", 1),
    ):
        with pytest.raises(KitError, match="description"):
            install({**files, "kit.json": content}, key, tmp_path / "kit")
    assert not (tmp_path / "kit").exists()


def test_a_kit_of_somebody_else_is_refused(
    made: Provisioned, requests: dict[str, tuple[bytes, bytes]], tmp_path: Path
) -> None:
    files, key = made.sites["alpha"], requests["alpha"][0]
    other = Authority.create(tmp_path / "other", "demo")
    with pytest.raises(KitError, match="not for the key"):
        install(files, requests["beta"][0], tmp_path / "kit")
    with pytest.raises(KitError, match="certificate is for 'beta'"):
        install({**files, "startup/client.crt": made.sites["beta"]["startup/client.crt"]}, key, tmp_path / "kit")
    with pytest.raises(KitError, match="not signed by the authority"):
        install({**files, "startup/rootCA.pem": other.pem}, key, tmp_path / "kit")
    with pytest.raises(KitError, match="fingerprint was confirmed"):
        install(files, key, tmp_path / "kit", authority="0" * 64)
    old = Authority.load(tmp_path / "c" / "authority").sign_site(
        requests["alpha"][1], "alpha", days=1, now=dt.datetime.now(dt.UTC) - dt.timedelta(days=9)
    )
    with pytest.raises(KitError, match="has expired on"):
        install({**files, "startup/client.crt": old}, key, tmp_path / "kit")
    assert not (tmp_path / "kit").exists()


def test_a_kit_is_not_written_through_a_link(
    made: Provisioned, requests: dict[str, tuple[bytes, bytes]], tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "kit").mkdir()
    (tmp_path / "kit" / "startup").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KitError, match="link"):
        install(made.sites["alpha"], requests["alpha"][0], tmp_path / "kit")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_what_was_weakened_is_found_and_written_anew(kit: Path) -> None:
    resources = kit / "local" / "resources.json"
    resources.write_text(resources.read_text().replace("enforce", "warn"))
    (kit / "local" / "extra__resources.json").write_text("{}")
    (kit / "local" / "custom").mkdir()
    os.chmod(kit / "startup" / "client.key", 0o644)
    found = check_kit(kit)
    assert {Path(problem.where).name for problem in found} == {
        "resources.json",
        "extra__resources.json",
        "custom",
        "client.key",
    }
    assert all(problem.fatal and problem.remedy for problem in found)
    render(kit)
    assert "warn" not in resources.read_text()
    assert read_facts(kit).machine == MACHINE


def test_expired_early_foreign_and_mixed_kits_are_told_apart(
    kit: Path, made: Provisioned, requests: dict[str, tuple[bytes, bytes]]
) -> None:
    now = dt.datetime.now(dt.UTC)

    def words(**named: object) -> str:
        return " ".join(f"{problem.what}. {problem.remedy}" for problem in check_kit(kit, **named))  # type: ignore[arg-type]

    assert words(authority=made.authority) == ""
    assert "has expired" in words(now=now + YEARS)
    early = words(now=now - YEARS)
    assert "valid only from" in early
    assert "clock" in early
    soon = check_kit(kit, now=now + dt.timedelta(days=390))
    assert [problem.fatal for problem in soon] == [False]
    assert "authority was renewed" in words(authority="0" * 64)
    (kit / "startup" / "client.key").write_bytes(requests["beta"][0])
    assert "not the certificate's" in words()
    (kit / "startup" / "client.crt").unlink()
    assert "join" in words()
    assert check_kit(kit.parent / "nowhere")[0].fatal

"""A consortium of three hospitals, enrolled once with real keys, documents and kits; each test gets copies of it.

The hospitals' commands are other tests' subject: here their files are made by the same parts that the commands use.
"""

from __future__ import annotations

import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from wardround.platform.demo_study import demo_study_values
from wardround.platform.engines.nvflare.certificates import new_request
from wardround.platform.engines.nvflare.hardening import Machine
from wardround.platform.engines.nvflare.kits import CERTIFICATE, FACTS, ROOT, install
from wardround.platform.engines.nvflare.provisioning import description
from wardround.platform.enrolling.coordinator_folder import ConsortiumFolder
from wardround.platform.enrolling.documents import project_of, sign_document
from wardround.platform.enrolling.founding import found
from wardround.platform.enrolling.gathering import add_file
from wardround.platform.enrolling.kinds import Approval, Request
from wardround.platform.enrolling.portable import OwnPlaces, received
from wardround.platform.enrolling.provisioned import provision
from wardround.platform.enrolling.site_folder import SiteFolder
from wardround.platform.study_file import dump_study, parse_study
from wardround.privacy.atomic import make_private, write_atomic
from wardround.privacy.identity import Identity
from wardround.privacy.policy_file import default_policy_toml
from wardround.privacy.secure_aggregation.roster import Roster

SAMPLES = 40
SECRET = b"a passphrase of a test, long enough"


def free_port() -> int:
    """A port of loopback that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@dataclass(frozen=True)
class Enrolled:
    """A consortium, enrolled and not started.

    Attributes:
        coordinator: its folder. homes: of the hospitals, by name. digest: of the study.
        site: the hospital that tests look at. port: of the coordinator.
    """

    coordinator: Path
    homes: dict[str, Path]
    digest: str
    site: str
    port: int

    @property
    def home(self) -> Path:
        """The home that tests look at."""
        return self.homes[self.site]

    @property
    def folder(self) -> SiteFolder:
        """Its folder of the consortium."""
        return SiteFolder(self.home, self.digest)


def _enrol(base: Path) -> Enrolled:
    values = demo_study_values("brain", method="facmic", sites=3, rounds=2, seed=0)
    values["data"]["images_per_site"] = 40
    study_file = base / "study.toml"
    study = parse_study(values, where=study_file)
    study_file.write_text(dump_study(study))
    now, root, port = int(time.time()) - 60, base / "coordinator", free_port()
    founded = found(study_file, root, Machine("localhost", port, free_port()), lambda: SECRET, now=now)
    folder, invitation = founded.folder, founded.invitation
    identity = folder.read_identity(SECRET)
    homes, keys, identities = {}, {}, {}
    for number, name in enumerate(founded.members):
        home = base / f"machine-{number}" / "sites" / name
        make_private(home)
        identities[name] = Identity.create(home / "identity.pem", SECRET)
        keys[name], csr = new_request(name)
        request = sign_document(
            Request(
                invitation.document.study_hash,
                invitation.sha256,
                name,
                identities[name].public_key.hex(),
                SAMPLES,
                csr.decode(),
                founded.study.backbone.fingerprint,
            ),
            identities[name],
        )
        own = SiteFolder(home, invitation.document.study_hash)
        make_private(own.root)
        make_private(own.state)
        write_atomic(own.invitation, invitation.data)
        places = OwnPlaces(device="cpu")
        received_study = received(invitation.document.study, own.digest, places, where="invitation.json")
        write_atomic(own.study_file, dump_study(received_study).encode())
        write_atomic(own.request, request.data)
        write_atomic(own.tls_key, keys[name])
        homes[name] = home
        with folder.held():
            add_file(folder, own.request, lambda _, who=name: identities[who].fingerprint)
    with folder.held():
        provision(folder, lambda: identity, now=now)
    for name, home in homes.items():
        own = SiteFolder(home, invitation.document.study_hash)
        write_atomic(own.kit, folder.kit(name).read_bytes())
        kit = own.read_kit().document
        files = {
            FACTS: description(project_of(own.digest), name, folder.record.machine),
            CERTIFICATE: kit.certificate.encode(),
            ROOT: kit.authority.encode(),
        }
        install(files, keys[name], own.flare)
        roster = Roster.from_bytes(kit.roster.encode())
        signature = roster.sign(identities[name], name)
        approval = Approval(own.digest, name, roster.digest.hex(), signature.hex())
        write_atomic(own.state_roster, roster.to_bytes())
        write_atomic(own.approval, sign_document(approval, identities[name]).data)
        with folder.held():
            add_file(folder, own.approval, lambda _: None)
    with folder.held():
        provision(folder, lambda: identity, now=now)
    _confirm(homes, folder)
    return Enrolled(root, homes, invitation.document.study_hash, founded.members[0], port)


def _confirm(homes: dict[str, Path], folder: ConsortiumFolder) -> None:
    from wardround.privacy.identity import fingerprint_hex
    from wardround.privacy.messages import Limits

    roster = folder.read_roster()
    assert roster is not None
    for home in homes.values():
        own = SiteFolder(home, folder.record.study_hash)
        write_atomic(own.signed_roster, folder.signed_roster.read_bytes())
        write_atomic(own.pinned, b"{}\n")
        policy = default_policy_toml(
            "site",
            studies=[folder.record.study_hash],
            methods=[folder.study().method],
            limits=Limits(len(roster.names), max(roster.wire_size(each) for each in roster.vectors), 10**7),
            minimum_cohort=roster.thresholds.m,
            purposes=list(roster.vectors),
            coordinators=[fingerprint_hex(bytes.fromhex(folder.record.coordinator))],
        )
        write_atomic(home / "policy.toml", policy.encode())


@pytest.fixture(scope="session")
def _enrolled_once(tmp_path_factory: pytest.TempPathFactory) -> Enrolled:
    return _enrol(tmp_path_factory.mktemp("enrolled"))


@pytest.fixture
def enrolled(_enrolled_once: Enrolled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Enrolled:
    """A copy of the consortium, to be spoiled."""
    base = _enrolled_once.coordinator.parent
    copy = tmp_path / "enrolled"
    shutil.copytree(base, copy, symlinks=True)
    monkeypatch.setenv("WARDROUND_CACHE", str(tmp_path / "cache"))
    homes = {name: copy / home.relative_to(base) for name, home in _enrolled_once.homes.items()}
    return Enrolled(copy / "coordinator", homes, _enrolled_once.digest, _enrolled_once.site, _enrolled_once.port)


@pytest.fixture(autouse=True)
def short_runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder for sockets, away from this machine's own."""
    with tempfile.TemporaryDirectory(prefix="wr-") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
        yield Path(folder)


@pytest.fixture
def a_free_port() -> Callable[[], int]:
    """``a_free_port()``: a port of loopback that nobody listens at."""
    return free_port

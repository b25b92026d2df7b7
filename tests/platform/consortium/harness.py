"""A consortium that is enrolled by the real commands, and whose coordinator and hospitals are real processes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from typer.testing import CliRunner
from wardround.platform.audit.reconciliation import reconcile_sources, unsound, verify_each
from wardround.platform.audit.sources import Source
from wardround.platform.audit.verification import audit
from wardround.platform.cli.app import app
from wardround.platform.enrolling.coordinator_folder import ConsortiumFolder
from wardround.platform.enrolling.site_folder import SiteFolder
from wardround.platform.run_folder import RunFolder
from wardround.platform.service.runtime import runtime_folder
from wardround.privacy.egress import COORDINATOR

DRIVER = Path(__file__).with_name("driver.py")
PATIENCE = 150.0
"""Seconds that anything is waited for; far more than it takes, because other work may run on the machine."""
WORDS = re.compile(r"(?:[a-z]{5}-){7}[a-z]{5}")
KILLED = -signal.SIGKILL
STUDY = """
name = "{name}"
method = "{method}"
rounds = {rounds}
round_timeout = {timeout}
[data]
dataset = "brain-mri"
source = "phantoms"
images_per_site = {images}
[sites]
count = {sites}
[reference]
source = "{reference}"
[evaluation]
federated = {figures}
[training]
batch_size = {batch}
{more}
"""


def study_text(
    name: str = "faults",
    *,
    rounds: int = 3,
    timeout: float = 60.0,
    sites: int = 3,
    images: int = 24,
    batch: int = 8,
    figures: bool = False,
    method: str = "facmic",
    reference: str = "class-means",
    more: str = "",
) -> str:
    """A study that takes a second or two."""
    return STUDY.format(
        name=name,
        rounds=rounds,
        timeout=timeout,
        sites=sites,
        images=images,
        batch=batch,
        figures=str(figures).lower(),
        method=method,
        reference=reference,
        more=more,
    )


def private_text(name: str = "private") -> str:
    """A study under differential privacy."""
    return study_text(
        name, images=48, method="fedclip", reference="none", more="[privacy]\nepsilon = 8.0\ndelta = 0.01"
    )


def free_ports(number: int) -> list[int]:
    """Ports of loopback that nobody listens at."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def until(true: Callable[[], Any], what: Callable[[], str] | str, seconds: float = PATIENCE) -> None:
    """Wait until something is so.

    Raises:
        AssertionError: it is not, after ``seconds``.
    """
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise AssertionError(what if isinstance(what, str) else what())
        time.sleep(0.1)


@dataclass
class Running:
    """A process of ours, and what it said."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def said(self) -> str:
        """All that it wrote to its terminal."""
        return self.log.read_text(errors="replace")

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """End it and what belongs to its group as a power cut would; FLARE's processes end with it, by themselves."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)

    def ended(self, seconds: float = PATIENCE) -> int:
        """Its exit code, waited for."""
        until(lambda: not self.alive, lambda: f"still runs: {self.said}", seconds)
        return int(self.process.returncode)

    def says(self, words: str, seconds: float = PATIENCE) -> None:
        """Wait until it has said something."""
        until(lambda: words in self.said or not self.alive, lambda: f"never said {words!r}: {self.said}", seconds)
        assert words in self.said, self.said


@dataclass
class RealConsortium:
    """Where everything lies, and what runs.

    Attributes:
        root: folder of ``C``, the consortium's, and of one WARDROUND_HOME for each site.
        sites: names. cache: of features, shared by all, for they draw the same phantoms.
        words: of all parties.
        folder_name: of the consortium's folder. running: all processes that were started.
    """

    root: Path
    sites: tuple[str, ...]
    cache: Path
    words: dict[str, str] = field(default_factory=dict)
    folder_name: str = "C"
    running: list[Running] = field(default_factory=list)

    # --- enrolment -------------------------------------------------------------------------------------------------

    @classmethod
    def found(
        cls, root: Path, text: str, sites: tuple[str, ...], cache: Path, *, folder: str = "C", confirm: bool = True
    ) -> RealConsortium:
        """Everything up to the start of the processes, as people do it."""
        made = cls(root, sites, cache, folder_name=folder)
        made.new(text)
        for site in sites:
            made.join(site)
        made.cli(None, "consortium", "provision", folder)
        for site in sites:
            made.install(site)
            made.approve(site)
        made.cli(None, "consortium", "provision", folder)
        for site in sites if confirm else ():
            made.confirm(site)
        return made

    def new(self, text: str) -> None:
        """A consortium without hospitals."""
        self.root.mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o700)
        (self.root / f"{self.folder_name}.toml").write_text(text)
        port, admin = free_ports(2)
        address = ("--address", f"localhost:{port}", "--admin-port", str(admin))
        shown = self.cli(
            None, "consortium", "new", f"{self.folder_name}.toml", "--out", self.folder_name, *address, "--json"
        )
        self.words[COORDINATOR] = json.loads(shown)["words"]

    def join(self, site: str) -> None:
        """A hospital asks to take part, and the coordinator takes its request in."""
        invitation = self.folder / "invitation.json"
        own = self.words[COORDINATOR]
        shown = self.cli(site, "site", "join", invitation, "--site", site, "--words", own, "--yes")
        self.words[site] = next(found for found in WORDS.findall(shown) if found != own)
        request = self.site(site).request
        self.cli(None, "consortium", "add-site", request, "--consortium", self.folder, "--words", self.words[site])

    def install(self, site: str) -> None:
        """A hospital installs its kit."""
        self.cli(site, "site", "join", ConsortiumFolder.load(self.folder).kit(site))

    def approve(self, site: str) -> None:
        """A hospital approves the study, and the coordinator takes its approval in."""
        self.cli(site, "site", "approve", self.digest[:16], "--yes")
        self.cli(None, "consortium", "add-site", self.site(site).approval, "--consortium", self.folder)

    def confirm(self, site: str) -> None:
        """A hospital compares the words of all others."""
        heard = [part for other in self.sites if other != site for part in ("--words", f"{other}={self.words[other]}")]
        self.cli(site, "site", "roster", "confirm", self.folder / "signed-roster.json", *heard)

    def copied(self, to: Path) -> RealConsortium:
        """The same at another place, with nothing running."""
        shutil.copytree(self.root, to)
        for path in to.glob("*/flare/server/local/*.json"):  # FLARE's server keeps its jobs at a path that is absolute
            path.write_text(path.read_text().replace(str(self.root), str(to)))
        return replace(self, root=to, running=[])

    # --- places ----------------------------------------------------------------------------------------------------

    @property
    def folder(self) -> Path:
        """The consortium's."""
        return self.root / self.folder_name

    @property
    def run(self) -> RunFolder:
        return RunFolder(self.folder / "run")

    @property
    def digest(self) -> str:
        """SHA-256 of the study."""
        return str(ConsortiumFolder.load(self.folder).record.study_hash)

    @property
    def port(self) -> int:
        """Where the hospitals find the coordinator."""
        return int(ConsortiumFolder.load(self.folder).record.port)

    def home(self, site: str) -> Path:
        """A site's home."""
        return self.root / site / "sites" / site

    def site(self, site: str) -> SiteFolder:
        """What a site has of this consortium."""
        return SiteFolder(self.home(site), self.digest)

    def status(self, who: str) -> dict[str, Any]:
        """What a process says of itself; empty before it said anything."""
        path = (self.folder if who == COORDINATOR else self.site(who).root) / "status.json"
        return dict(json.loads(path.read_bytes())) if path.is_file() else {}

    @property
    def rounds(self) -> list[dict[str, Any]]:
        """Lines of rounds.jsonl."""
        return list(self.run.read_rounds())

    @property
    def participants(self) -> list[list[str]]:
        """Who was in each round that released something."""
        return [list(line["participants"]) for line in self.rounds if line["released"]]

    # --- commands and processes ------------------------------------------------------------------------------------

    def environment(self, site: str | None) -> dict[str, str]:
        """Of a command of one site, or of the coordinator."""
        found = {"WARDROUND_CACHE": str(self.cache), "WARDROUND_PASSPHRASE_FILE": str(self.passphrase(site))}
        return found | {"COLUMNS": "200", **({} if site is None else {"WARDROUND_HOME": str(self.root / site)})}

    def passphrase(self, site: str | None) -> Path:
        """The file of a party's passphrase, made where there is none."""
        path = self.root / f"{site or COORDINATOR}.pass"
        if not path.is_file():
            path.touch(mode=0o600)
            path.write_text(os.urandom(16).hex() + "\n")
        return path

    def cli(self, site: str | None, *words: object) -> str:
        """A command in this process, which must succeed; what it wrote to standard output."""
        with contextlib.chdir(self.root):
            result = CliRunner().invoke(app, [str(word) for word in words], env=self.environment(site))
        assert result.exit_code == 0, f"{words}: {result.output}{result.exception!r}"
        return str(result.stdout)

    def command(self, site: str | None, *words: object, **variables: str) -> subprocess.CompletedProcess[str]:
        """A command in a process of its own, waited for."""
        return subprocess.run(
            [sys.executable, "-m", "wardround.platform.cli.app", *map(str, words)],
            cwd=self.root,
            env={**os.environ, **self.environment(site), **variables},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def start(self, who: str, *words: object, hook: str = "", **variables: str) -> Running:
        """Start a process that runs on."""
        site = None if who == COORDINATOR else who
        begin = [str(DRIVER), hook] if hook else ["-m", "wardround.platform.cli.app"]
        log = self.root / f"{who}.{len(self.running)}.out"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, *begin, *map(str, words)],
                cwd=self.root,
                env={**os.environ, **self.environment(site), **variables},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.running.append(Running(process, log))
        return self.running[-1]

    def start_site(self, site: str, *, hook: str = "", **variables: str) -> Running:
        """``wardround site start``."""
        return self.start(site, "site", "start", self.digest[:16], hook=hook, **variables)

    def start_sites(self, **hooks: str) -> dict[str, Running]:
        """All of them."""
        return {site: self.start_site(site, hook=hooks.get(site, "")) for site in self.sites}

    def start_coordinator(self, *options: str, hook: str = "") -> Running:
        """``wardround coordinator start``; the study is submitted."""
        return self.start(COORDINATOR, "coordinator", "start", self.folder_name, "--submit", *options, hook=hook)

    def close(self) -> None:
        """End everything, and see that nothing is left of it."""
        for each in self.running:
            each.kill()
        until(lambda: not self.leftovers(), lambda: f"processes are left: {self.leftovers()}", 30.0)
        for owner in [self.folder, *(self.site(site).root for site in self.sites if self.home(site).is_dir())]:
            shutil.rmtree(runtime_folder(owner), ignore_errors=True)

    def leftovers(self) -> list[str]:
        """Command lines of processes of this consortium, FLARE's included, that still run."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
                if os.fsencode(str(self.root) + "/") in line:
                    found.append(line.replace(b"\0", b" ").decode(errors="replace"))
        return found

    def everything_said(self) -> str:
        """Of all processes, for a failure's text."""
        return "\n".join(f"--- {each.log.name}: {each.process.poll()}\n{each.said[-2500:]}" for each in self.running)

    # --- how it ends -----------------------------------------------------------------------------------------------

    def complete(self, coordinator: Running, sites: Mapping[str, Running]) -> None:
        """Wait until all have ended well, and check what must hold after every complete study."""
        try:
            assert coordinator.ended() == 0, coordinator.said
            for site, each in sites.items():
                assert each.ended() == 0, f"{site}: {each.said}"
        except AssertionError:
            sys.stderr.write(self.everything_said())
            raise
        assert self.status(COORDINATOR)["state"] == "complete"
        self.check_ledgers()
        assert [line["round"] for line in self.rounds if line["released"]] == list(
            range(1, self.status(COORDINATOR)["rounds"] + 1)
        )
        assert all(len(names) >= 3 for names in self.participants)
        assert self.run.index.is_file()
        assert self.run.summary.is_file()
        assert len({self.final(site) for site in self.sites}) == 1
        for site in self.sites:
            assert (self.site(site).report / "report.html").is_file()
            assert self.status(site)["state"] == "complete"

    def check_ledgers(self) -> None:
        """Every ledger holds by itself, beside the others, and against the coordinator's, both ways."""
        sources = [Source(site, self.home(site) / "ledger.jsonl", self.home(site)) for site in self.sites]
        own = self.run.coordinator
        sources.append(Source(COORDINATOR, own / "ledger.jsonl", own))
        verified = verify_each(sources)
        assert unsound(verified) == []
        found = audit(sources, {name: self.words[name] for name in (*self.sites, COORDINATOR)})
        assert found.ok, (found.between, [each.problems for each in found.ledgers])
        rows = reconcile_sources(sources, verified)
        assert len(rows) == 2 * len(self.sites)
        assert all(row.ok and not row.unreadable for row in rows), rows

    def final(self, site: str) -> bytes:
        """The final adapter as a site keeps it."""
        return (self.site(site).state / "adapter.safetensors").read_bytes()

    def in_process(self, out: Path, more: str = "") -> bytes:
        """The adapter of the same study in one process.

        Args:
            out: a folder that is not there. more: a script of faults, added to the study.
        """
        study = self.root / "in-process.toml"
        text = (self.folder / "study.toml").read_text()
        study.write_text((re.sub(r"(?m)^drop = \[\].*\n", "", text) + more) if more else text)
        self.cli(None, "run", study, "--out", out)
        return RunFolder(out).adapter.read_bytes()

    @property
    def adapter(self) -> bytes:
        """What the coordinator publishes."""
        return self.run.adapter.read_bytes()

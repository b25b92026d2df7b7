"""A consortium on this machine, from nothing: ``python -m wardround.platform.service.consortium_demo``.

A coordinator and four hospitals run as processes of their own and speak over mutual TLS on loopback. One hospital is
killed in the third round, the round goes on without it, and it is taken back. At the end ledgers are compared, and the
adapter with that of an in-process run of the same study, in which the same hospital falls silent at the same stages.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from ...privacy.atomic import make_private, write_atomic
from ...privacy.errors import PrivacyError
from ..config import Study
from ..errors import PlatformError
from ..faults_section import DropFault, FaultsSection
from ..run_folder import RunFolder
from ..study_file import dump_study, load_study
from .demo_commands import Commands, DemoError, Running, answers, free_ports
from .demo_view import Screen, compare_ledgers, show_hospitals, show_rounds
from .status import STATUS_FILE, read_status

INTERRUPTED = 130
KILL_ROUND = 3
START_SECONDS, STUDY_SECONDS, END_SECONDS = 120.0, 300.0, 120.0
HEARD = 6.0
"""Seconds after which the coordinator has surely heard of a client that has registered: it asks every second."""
STAGES = frozenset({"advertise", "share", "mask", "agree", "unmask"})
_REGISTERED = b"Successfully registered client:"
_WORDS = re.compile(r"^Own words: ((?:[a-z]{5}-){7}[a-z]{5})$", re.MULTILINE)
_PLAIN = re.compile(r"[\w./+@:,-]+", re.ASCII)
_REPOSITORY = Path(__file__).resolve().parents[2]


class Demo:
    """Everything of one demo.

    Args:
        out: a new folder. study: its file. screen: says what goes on. sockets: a short private folder.
    """

    def __init__(self, out: Path, study: Path, screen: Screen, sockets: Path) -> None:
        self.out, self.study, self.screen = out, study, screen
        self.consortium, self.logs, self.secrets = out / "coordinator", out / "logs", out / "passphrases"
        for folder in (out, self.logs, self.secrets):
            make_private(folder)
        environment = {"WARDROUND_CACHE": str(out / "cache"), "XDG_RUNTIME_DIR": str(sockets)}
        self.commands = Commands(out, self.logs, environment)
        self.sites: list[str] = []
        self.words: dict[str, str] = {}
        self.port = 0
        self.held = 0.0

    # --- who runs what -----------------------------------------------------------------------------------------------

    def _coordinator(self, *words: str | Path) -> str:
        return self.commands.run("coordinator", *words, WARDROUND_PASSPHRASE_FILE=self._secret("coordinator"))

    def _site(self, site: str, *words: str | Path) -> str:
        return self.commands.run(site, *words, **self._own(site))

    def _own(self, site: str) -> dict[str, Path]:
        return {"WARDROUND_HOME": self.out / "hospitals" / site, "WARDROUND_PASSPHRASE_FILE": self._secret(site)}

    def _start(self, site: str) -> Running:
        return self.commands.start(site, "site", "start", **self._own(site))

    def _secret(self, owner: str) -> Path:
        path = self.secrets / owner
        if not path.exists():
            write_atomic(path, os.urandom(16).hex().encode() + b"\n")
        return path

    def home(self, site: str) -> Path:
        """A hospital's home."""
        return self.out / "hospitals" / site / "sites" / site

    def part(self, site: str) -> Path:
        """What a hospital has of the consortium."""
        return next((self.home(site) / "consortia").iterdir())

    @property
    def run(self) -> RunFolder:
        """The study's folder at the coordinator."""
        return RunFolder(self.consortium / "run")

    # --- the steps ---------------------------------------------------------------------------------------------------

    def enrol(self) -> None:
        """From nothing to a roster that all have signed and confirmed."""
        screen, commands = self.screen, self.commands
        self.port, admin = free_ports(2)
        screen.step("the coordinator founds the consortium")
        place = ("--address", f"localhost:{self.port}", "--admin-port", str(admin))
        made = json.loads(
            self._coordinator("consortium", "new", self.study, "--out", self.consortium, *place, "--json")
        )
        self.sites = list(made["sites"])
        screen.step(f"{', '.join(self.sites)} make their keys, count their images and ask to take part")
        invited = (self.consortium / "invitation.json", "--words", made["words"], "--yes")

        def join(site: str) -> None:
            found = _WORDS.search(self._site(site, "site", "join", *invited, "--site", site))
            if found is None:
                raise DemoError(f"{site} was not told its own words", where=str(self.logs / f"{site}.log"))
            self.words[site] = found[1]

        commands.together([partial(join, site) for site in self.sites])
        screen.step("the coordinator compares words, draws the roster and makes a kit for each")
        requests = [self.part(site) / "request.json" for site in self.sites]
        add = ("consortium", "add-site", "--consortium", self.consortium)
        self._coordinator(*add, *requests, *self._heard(self.sites))
        self._coordinator("consortium", "provision", self.consortium)
        screen.step("each hospital checks its kit, sees what would leave, and approves")

        def approve(site: str) -> None:
            self._site(site, "site", "join", self.consortium / "kits" / f"{site}.kit.json")
            self._site(site, "site", "approve", "--yes")

        commands.together([partial(approve, site) for site in self.sites])
        self._coordinator(*add, *(self.part(site) / "approval.json" for site in self.sites))
        self._coordinator("consortium", "provision", self.consortium)
        screen.step("each hospital confirms the others' words")

        def confirm(site: str) -> None:
            others = self._heard([other for other in self.sites if other != site])
            self._site(site, "site", "roster", "confirm", self.consortium / "signed-roster.json", *others)

        commands.together([partial(confirm, site) for site in self.sites])

    def _heard(self, sites: Sequence[str]) -> list[str]:
        return [word for site in sites for word in ("--words", f"{site}={self.words[site]}")]

    def start(self) -> tuple[Running, dict[str, Running]]:
        """The coordinator and all hospitals; the first hospital checks itself before."""
        self.screen.step("coordinator and hospitals start; the first hospital checks itself before")
        words = ("coordinator", "start", self.consortium, "--submit", "--wait", str(int(STUDY_SECONDS)))
        secret = self._secret("coordinator")
        coordinator = self.commands.start("coordinator", *words, WARDROUND_PASSPHRASE_FILE=secret)
        first, *rest = self.sites
        hospitals = {site: self._start(site) for site in rest}
        self.commands.wait("the coordinator's server listens", lambda: answers(self.port), START_SECONDS, [coordinator])
        self._site(first, "doctor", "--kit", self.part(first))
        hospitals[first] = self._start(first)
        return coordinator, hospitals

    def finish(self, coordinator: Running, hospitals: Mapping[str, Running]) -> None:
        """Wait until the study is complete and every hospital has its report."""
        everybody = (coordinator, *hospitals.values())
        self.commands.wait("the study ends", lambda: not coordinator.alive, STUDY_SECONDS, everybody)
        told = "every hospital has its model and its report"
        self.commands.wait(told, lambda: not any(each.alive for each in everybody), END_SECONDS, everybody)
        for each in everybody:
            if each.process.returncode:
                raise each.failed(f"ended with exit code {each.process.returncode}")
        if not self.run.summary.is_file():
            raise coordinator.failed("ended before the study was complete")

    def train(self) -> None:
        """The rounds, with one hospital killed and taken back."""
        screen, commands = self.screen, self.commands
        coordinator, hospitals = self.start()
        everybody = (coordinator, *hospitals.values())
        victim, slow = self.sites[-1], self.sites[1]
        commands.wait(f"round {KILL_ROUND} begins", self._in_round, STUDY_SECONDS, everybody)
        # Rounds on phantoms are over sooner than a process starts, so another hospital is slow meanwhile.
        hospitals[slow].signal(signal.SIGSTOP)
        began = time.monotonic()
        number = commands.kill(hospitals[victim])
        screen.step(
            f"{victim} is killed in round {KILL_ROUND}, and {number} processes of FLARE with it; it starts again"
        )
        log = self.part(victim) / "flare" / "log.txt"
        before = log.read_bytes().count(_REGISTERED)
        hospitals[victim] = self._start(victim)
        watched = (coordinator, *hospitals.values())
        again = f"{victim} connects again"
        commands.wait(again, lambda: log.read_bytes().count(_REGISTERED) > before, START_SECONDS, watched)
        time.sleep(HEARD)
        hospitals[slow].signal(signal.SIGCONT)
        self.held = time.monotonic() - began
        screen.step(f"{slow}, held up until then, goes on; {victim} is taken back")
        self.finish(coordinator, hospitals)

    def _in_round(self) -> bool:
        seen = read_status(self.consortium / STATUS_FILE)
        at = (seen.status.round, seen.status.stage) if seen is not None else (0, "")
        return (at[0] >= KILL_ROUND and at[1] in STAGES) or at[0] > KILL_ROUND

    def replay(self) -> Path:
        """The same study in this process' own engine, with the same hospitals silent; returns its run folder."""
        path, folder = self.out / "in-process.toml", self.out / "in-process"
        study = load_study(self.consortium / "study.toml")
        write_atomic(path, dump_study(with_drops(study, self.run.read_rounds())).encode())
        self.commands.run("in-process", "run", path, "--out", folder)
        return folder

    def compare(self) -> bool:
        """Ledgers by two and two, adapters byte for byte; tables of it all. Whether everything is as it should be."""
        self.screen.step("ledgers are compared; the same study runs in one process, with the same hospital silent")
        with ThreadPoolExecutor(1) as pool:
            beside = pool.submit(self.replay)
            try:
                ledgers = compare_ledgers(self.run.coordinator, {site: self.home(site) for site in self.sites})
                self.commands.run("audit", "audit", "verify", self.run.coordinator, *map(self.home, self.sites))
                alone = beside.result()
            except BaseException:
                self.commands.close()
                raise
        records = released(self.run.read_rounds())
        show_hospitals(self.screen, records, ledgers, {site: self.part(site) / "report" for site in self.sites})
        show_rounds(self.screen, records)
        out = self.screen.say
        out(f"Round {KILL_ROUND} was held up for {self.held:.0f} s until {self.sites[-1]} was back.")
        there = [record["participants"] for record in released(RunFolder(alone).read_rounds())]
        same = there == [record["participants"] for record in records]
        equal = same and self.run.adapter.read_bytes() == RunFolder(alone).adapter.read_bytes()
        verdict = "equal, bit for bit" if equal else "DIFFERENT" if same else "DIFFERENT, and so are the rounds"
        out(f"Adapter over the network and adapter in one process: {verdict}", good=equal)
        back = taken_back(records, self.sites[-1])
        if not back:
            out(f"{self.sites[-1]} was not taken back", good=False)
        out(f"Dossier: {self.run.index}")
        sound = all(each.reconciled for each in ledgers.values())
        return equal and back and sound


def released(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Lines of rounds.jsonl that released an adapter."""
    return [record for record in records if record["released"]]


def with_drops(study: Study, records: Sequence[Mapping[str, Any]]) -> Study:
    """The study in which every site falls silent where it did in a run.

    Args:
        study: without faults. records: lines of rounds.jsonl; of tries that released nothing no adapter remains.
    """
    drops = [
        DropFault(round=record["round"], attempts=record["attempt"] + 1, site=gone["site"], stage=gone["stage"])
        for record in released(records)
        for gone in record["dropped"]
    ]
    return study.model_copy(update={"faults": FaultsSection(drop=tuple(drops))})


def taken_back(records: Sequence[Mapping[str, Any]], site: str) -> bool:
    """Whether a round went on without the site, and a later one with it."""
    without = [record["round"] for record in records if site not in record["participants"]]
    return bool(without) and any(
        record["round"] > min(without) and site in record["participants"] for record in records
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The whole demo; 0 where the adapters are equal, all ledgers fit, and the hospital was taken back."""
    parser = argparse.ArgumentParser(prog="consortium-demo", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--study", type=Path, default=_REPOSITORY / "docs" / "studies" / "consortium.toml")
    options = parser.parse_args(arguments)
    screen, began = Screen(), time.monotonic()
    out = Path(os.path.abspath(options.out))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if not _PLAIN.fullmatch(str(out)):
            raise DemoError("FLARE takes no path with blanks", where=str(out), remedy="Give another: OUT=/tmp/demo")
        if out.exists():
            raise DemoError("this is there already", where=str(out), remedy="Name a new folder: OUT=runs/another")
        with tempfile.TemporaryDirectory(prefix="wardround-demo-") as sockets, screen:
            demo = Demo(out, options.study.resolve(), screen, Path(sockets))
            with demo.commands:
                demo.enrol()
                demo.train()
                good = demo.compare()
        screen.say(f"{time.monotonic() - began:.0f} s in all")
        return 0 if good else 1
    except KeyboardInterrupt:
        screen.error("interrupted; everything that was started is ended", str(out), "Start anew with another OUT")
        return INTERRUPTED
    except (PlatformError, PrivacyError) as error:
        screen.error(error.what, error.where, error.remedy)
        return 1


if __name__ == "__main__":
    sys.exit(main())

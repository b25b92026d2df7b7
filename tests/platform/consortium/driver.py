"""A process of the real command line with something that happens to it at an exact place; started by the harness.

    python driver.py HOOKS ARGUMENTS…

HOOKS is ``;``-separated. The N-th time counts from 1, over the life of the process:

``in:TAG:N``           killed when the N-th message of this type has come, before anything is done about it;
``out:TAG:N``          killed when the N-th message of this type is in the ledger, before it is sent;
``before:GLOB:N``      killed before the N-th atomic write of a file name like this; ``after:GLOB:N``: after it;
``slow:ROUND:SECONDS`` this site's training of the round takes so much longer;
``full:TAG:N:BYTES``   from the N-th such message on no file may grow beyond so many bytes; ``ledger``: beyond its size;
``lie:LIE:ROUND``      this coordinator tells a lie in the round, in all its tries;
``await:SITE:ROUND``   this coordinator does not begin the round before the site, which is gone, is back.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from wardround.platform import coordinator, coordinator_side, faults, site_machine, trainer
from wardround.platform.cli.app import main
from wardround.platform.engines import deployed
from wardround.platform.faults_section import FaultsSection, LieFault
from wardround.platform.service.board import type_of
from wardround.privacy import egress
from wardround.privacy.messages import TO_COORDINATOR, TO_SITE, Limits

LARGE = Limits(100, 10**9, 10**9)
PATIENCE = 150.0
"""Seconds that ``await`` waits at most."""


def die() -> None:
    """No clean-up, no flush, no goodbye."""
    os.kill(os.getpid(), signal.SIGKILL)


def at_message(direction: str, tag: str, number: int, then: Callable[[], None]) -> None:
    """Do something at the N-th message of a type that comes in or goes out."""
    seen = 0

    def count(tags: list[str]) -> None:
        nonlocal seen
        for each in tags:
            seen += each == tag
            if each == tag and seen == number:
                then()

    if direction == "out":
        release = egress.Gate._release

        def released(self: Any, batch: Any, plain: Any, facts: Any) -> Any:
            sealed = release(self, batch, plain, facts)
            count(list({each.tag: None for each in sealed}))  # one message to all sites counts once
            return sealed

        egress.Gate._release = released  # type: ignore[method-assign]
        return
    at_site, at_coordinator = site_machine.Site.handle, coordinator.Coordinator.handle

    def site(self: Any, wire: bytes) -> Any:
        count([type_of(wire, TO_SITE, LARGE)])
        return at_site(self, wire)

    def coordinates(self: Any, sender: str, wire: bytes) -> Any:
        count([type_of(wire, TO_COORDINATOR, LARGE)])
        return at_coordinator(self, sender, wire)

    site_machine.Site.handle = site  # type: ignore[method-assign]
    coordinator.Coordinator.handle = coordinates  # type: ignore[method-assign]


def at_write(moment: str, glob: str, number: int) -> None:
    """Die around the N-th atomic write of a file."""
    replace, seen = os.replace, 0

    def watched(source: Any, target: Any) -> None:
        nonlocal seen
        hit = fnmatch(Path(target).name, glob)
        seen += hit
        if hit and seen == number and moment == "before":
            die()
        replace(source, target)
        if hit and seen == number:
            die()

    os.replace = watched  # type: ignore[assignment]


def slow(number: int, seconds: float) -> None:
    """Train one round slowly."""
    update = trainer.LocalTrainer.update

    def late(self: Any, round_number: int, *rest: Any) -> Any:
        if round_number == number:
            time.sleep(seconds)
        return update(self, round_number, *rest)

    trainer.LocalTrainer.update = late  # type: ignore[method-assign]


def full(size: str) -> None:
    """From now on writes beyond so many bytes fail, in this process and in those that it starts."""
    if size == "ledger":
        ledgers = Path(os.environ["WARDROUND_HOME"]).glob("sites/*/ledger.jsonl")
        size = str(max(path.stat().st_size for path in ledgers) + 100)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), int(size)))


def lie(kind: str, number: int) -> None:
    """Let the coordinator lie, as a simulation's does."""
    told = LieFault.model_validate({"round": number, "attempts": 1000, "lie": kind})
    script = FaultsSection(lying_coordinator=(told,))

    def lying(*parts: Any) -> Any:
        return faults.LyingCoordinator(*parts, script=script)

    coordinator_side.Coordinator = lying  # type: ignore[assignment, misc]
    egress.check = lambda *_: None  # a liar's own policy stops no lie


def await_site(site: str, number: int) -> None:
    """Begin a round only when a site that is gone is back."""
    between = deployed.DeployedLine.between_rounds

    def waited(self: Any, consortium: Any, **options: Any) -> None:
        until = time.monotonic() + PATIENCE
        while consortium.coordinator.info.round + 1 == number and time.monotonic() < until:
            if site in self.courier.knocking or self.stopping():
                break
            time.sleep(0.1)
        between(self, consortium, **options)

    deployed.DeployedLine.between_rounds = waited  # type: ignore[method-assign]


def arm(hook: str) -> None:
    """Prepare this process for what is to happen to it."""
    kind, *rest = hook.split(":")
    match kind:
        case "in" | "out":
            at_message(kind, rest[0], int(rest[1]), die)
        case "before" | "after":
            at_write(kind, rest[0], int(rest[1]))
        case "slow":
            slow(int(rest[0]), float(rest[1]))
        case "full":
            at_message("in", rest[0], int(rest[1]), lambda: full(rest[2]))
        case "lie":
            lie(rest[0], int(rest[1]))
        case "await":
            await_site(rest[0], int(rest[1]))
        case _:
            sys.exit(f"no such hook: {hook}")


if __name__ == "__main__":
    for each in sys.argv[1].split(";"):
        arm(each)
    sys.argv = ["wardround", *sys.argv[2:]]
    main()

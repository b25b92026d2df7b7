"""Runs the toy federation in real processes and kills them with SIGKILL; started by test_resume.py, not by pytest.

    python kill_driver.py FOLDER SPEC...

Torch is imported once; every run is a fork of this process. For each SPEC one child runs the study in FOLDER/<n> and
kills itself where the spec says, a second one resumes it, and a line of JSON on standard output says how it ended.

A spec is ``none``, ``tap:N`` (at the N-th parcel, after the gate and before delivery), ``before:NAME:N`` or
``after:NAME:N`` (around the N-th atomic write of a file name like NAME), ``fsync:N`` (before the N-th sync), each with
``+torn`` for a torn last line appended to every ledger before the resume, ``+again`` for a second kill at the same
place of the resumed run, and ``+whole`` for baselines and dossier too, which take most of a toy run's time.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from wardround.platform import simulation
from wardround.platform.cohorts import SitePlan, StudyPlan
from wardround.platform.consortium import open_consortium
from wardround.platform.engines.local import carry
from wardround.platform.run_folder import RunFolder
from wardround.privacy.atomic import write_json
from wardround.privacy.ledger.log import verify


def load_toy() -> Any:
    """The toy of conftest.py, outside pytest."""
    spec = importlib.util.spec_from_file_location("toy_of_tests", Path(__file__).with_name("conftest.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def plan_of(data: Any) -> StudyPlan:
    """The plan that a study's data came from."""
    sites = [
        SitePlan(each.name, each.train.rows, each.validation.rows, each.test.rows)
        for each in (*data.sites, *((data.unseen,) if data.unseen else ()))
    ]
    unseen = sites.pop() if data.unseen else None
    return StudyPlan(data.cohort, tuple(sites), unseen, torch.zeros(0, dtype=torch.int64).numpy())


def use_toy(toy: Any) -> None:
    """Let the simulation find the toy's features instead of images and a backbone."""
    data = toy.make_data()
    backbone = SimpleNamespace(name="toy", weights="none", fingerprint=toy.BACKBONE, embed_dim=toy.WIDTH)
    simulation.study_backbone = lambda study: backbone
    simulation.read_cohort = lambda *arguments, **options: data.cohort
    simulation.deal = lambda *arguments: plan_of(data)
    simulation.encode_study = lambda *arguments: (data, ())


def leave_out_baselines() -> None:
    """End a run after its rounds: the adapter is written, the summary holds no figures."""
    simulation.assess_study = lambda *arguments: {"federated": None, "zero_shot": None, "local_only": None}
    simulation.write_results = lambda run, results, _: write_json(run.summary, {"rounds": len(results.rounds)})


def die() -> None:
    """No clean-up, no flush, no goodbye."""
    os.kill(os.getpid(), signal.SIGKILL)


def arm(spec: str) -> Callable[[str, str, bytes], None] | None:
    """Prepare this process to die where ``spec`` says; returns a tap, if it is one that counts parcels."""
    kind, *rest = spec.split(":")
    counter = {"n": 0}
    if kind == "tap":

        def tap(sender: str, peer: str, wire: bytes) -> None:
            counter["n"] += 1
            if counter["n"] == int(rest[0]):
                die()

        return tap
    if kind == "fsync":
        sync = os.fsync

        def counted(descriptor: int) -> None:
            counter["n"] += 1
            if counter["n"] == int(rest[0]):
                die()
            sync(descriptor)

        os.fsync = counted
    if kind in ("before", "after"):
        replace = os.replace

        def watched(source: Any, target: Any) -> None:
            hit = fnmatch(Path(target).name, rest[0])
            counter["n"] += hit
            if hit and counter["n"] == int(rest[1]) and kind == "before":
                die()
            replace(source, target)
            if hit and counter["n"] == int(rest[1]):
                die()

        os.replace = watched  # type: ignore[assignment]
    return None


def in_child(work: Callable[[], None]) -> int:
    """Run ``work`` in a fork; returns the number of the signal that ended it, 0 when it ended well."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return os.WTERMSIG(status)
    return -os.WEXITSTATUS(status)


def result(run: RunFolder) -> dict[str, Any]:
    """How a run ended."""
    ledgers = [*run.homes.glob("*/ledger.jsonl"), run.coordinator / "ledger.jsonl"]
    reports = {path.parent.name: verify(path) for path in ledgers}
    return {
        "adapter": hashlib.sha256(run.adapter.read_bytes()).hexdigest(),
        "rounds": [record["round"] for record in run.read_rounds() if record["released"]],
        "unreleased": [record["round"] for record in run.read_rounds() if not record["released"]],
        "losses": [record["train_loss"] for record in run.read_rounds() if record["released"]],
        "ledgers": {name: report.problem for name, report in reports.items()},
        "torn": sorted(name for name, report in reports.items() if report.notes),
        "open": sorted(study for report in reports.values() for study in report.open_studies),
        "summary": json.loads(run.summary.read_bytes())["rounds"],
        "left": sorted(path.name for path in run.root.rglob(".*.tmp")),
    }


def main(folder: Path, specs: list[str]) -> None:
    """Run every spec; one line of JSON each."""
    toy = load_toy()
    study = toy.make_study(rounds=3)
    use_toy(toy)
    # On one thread, so that a fork finds no lock of a pool held; what torch imports late is imported once, here.
    torch.set_num_threads(1)
    warm = toy.make_toy(folder / "warm", rounds=1)
    with open_consortium(warm.study, warm.method, warm.data, toy.BACKBONE, warm.run) as consortium:
        carry(consortium.coordinator, consortium.sites, consortium.coordinator.begin())
    for number, spec in enumerate(specs):
        line = one(study, folder / str(number), spec)
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def one(study: Any, out: Path, spec: str) -> dict[str, Any]:
    """Run, kill and resume one study; how that went."""
    place, *flags = spec.split("+")
    whole = "whole" in flags
    signals = [in_child(lambda: _run(study, out, place, resume=False, whole=whole))]
    if "torn" in flags:
        for ledger in (*out.glob("homes/*/ledger.jsonl"), out / "coordinator" / "ledger.jsonl"):
            with ledger.open("ab") as stream:
                stream.write(b'{"clip":null,"codec":"msgpa')
    if "again" in flags:
        signals.append(in_child(lambda: _run(study, out, place, resume=True, whole=whole)))
    if signals[-1]:
        resume = (out / "study.toml").is_file()
        signals.append(in_child(lambda: _run(study, out, "none", resume=resume, whole=whole)))
    return {"spec": spec, "signals": signals, **result(RunFolder(out))}


def _run(study: Any, out: Path, spec: str, *, resume: bool, whole: bool) -> None:
    if not whole:
        leave_out_baselines()
    tap = arm(spec)
    simulation.simulate(study, out, resume=resume, tap=tap)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

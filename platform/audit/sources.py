"""Where ledgers and what proves them lie: in a run folder, in a site's home, or carried to one place."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...privacy.errors import LedgerError
from ...privacy.ledger.reading import read_entries

LEDGER, CHECKPOINTS, ROSTERS, POLICY, BUDGET = "ledger.jsonl", "checkpoints", "rosters", "policy.toml", "budget.json"


@dataclass(frozen=True, slots=True)
class Source:
    """One party's ledger and its proofs.

    Attributes:
        owner: the site's name, or ``coordinator``, as the ledger's first entry has it.
        ledger: the file.
        folder: where the rest lies, as far as there is any: ``checkpoints/``, ``rosters/``, ``policy.toml``,
            ``budget.json``.
    """

    owner: str
    ledger: Path
    folder: Path

    @property
    def checkpoints(self) -> Path:
        """Signed checkpoints and proofs of what was cosigned."""
        return self.folder / CHECKPOINTS

    @property
    def rosters(self) -> Path:
        """Rosters that this party signed, ``<hash of the roster>.json``."""
        return self.folder / ROSTERS

    @property
    def policy(self) -> Path:
        """The egress policy."""
        return self.folder / POLICY

    @property
    def budget(self) -> Path:
        """The privacy budget; a coordinator has none."""
        return self.folder / BUDGET


def find_sources(paths: Sequence[Path], *, every: bool = False) -> list[Source]:
    """The ledgers that paths name; sites in order of name, the coordinator last.

    Args:
        paths: run folders (with ``study.toml``), folders with a ``ledger.jsonl``, or ledger files. Of a run that is
            complete the copies in ``sites/`` are taken, else, or where a home has gone on since, the sites' homes. A
            folder without either, but with such folders in it, stands for all of them.
        every: whether to take what cannot be shown too, so that it is verified: of a home and a copy that differ both,
            and a ledger that is empty or begins with no entry, under the name of its folder.

    Raises:
        LedgerError: a path has no ledger, or, but for ``every``, one that is empty or begins with no entry.
    """
    found = [_source(ledger, every) for path in paths for ledger in _in_path(path, every)]
    return sorted(found, key=lambda source: (source.owner == "coordinator", source.owner))


def is_complete(path: Path) -> bool:
    """Whether a path is the folder of a run that is complete."""
    return (path / "study.toml").is_file() and (path / "summary.json").is_file()


def holds_all(path: Path) -> bool:
    """Whether all ledgers of a complete run should be here: not those of hospitals, which keep theirs at home."""
    if not is_complete(path):
        return False
    try:
        summary = json.loads((path / "summary.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return True  # a damaged file excuses nothing
    return not (isinstance(summary, dict) and summary.get("simulation") is False)


def label(source: Source, sources: Sequence[Source]) -> str:
    """A name for messages: the owner's, with the file where several have one owner."""
    several = Counter(each.owner for each in sources)[source.owner] > 1
    return f"{source.owner} ({source.ledger})" if several else source.owner


def _in_path(path: Path, every: bool) -> list[Path]:
    try:
        return _ledgers(path, every)
    except OSError as error:
        raise LedgerError(
            f"the path cannot be read: {error.strerror}", where=str(path), remedy="Give a folder with a ledger"
        ) from None


def _ledgers(path: Path, every: bool) -> list[Path]:
    if path.is_file():
        return [path]
    if (path / LEDGER).is_file():
        return [path / LEDGER]
    if (path / "study.toml").is_file():
        complete = is_complete(path)
        homes = {ledger.parent.name: ledger for ledger in path.glob(f"homes/*/{LEDGER}")}
        copies = {ledger.parent.name: ledger for ledger in path.glob(f"sites/*/{LEDGER}") if complete}
        # A home goes on after its run: what was forgotten or purged since is not in the copy.
        differ = {name for name in copies if name in homes and copies[name].read_bytes() != homes[name].read_bytes()}
        longer = {name for name in differ if _size(homes[name]) > _size(copies[name])}
        ledgers = [(homes | copies)[name] if name not in longer else homes[name] for name in sorted(homes | copies)]
        ledgers += [(copies if name in longer else homes)[name] for name in sorted(differ) if every]
        ledgers += [own for own in [path / "coordinator" / LEDGER] if own.is_file()]
    else:
        ledgers = sorted(path.glob(f"*/{LEDGER}"))
    if not ledgers:
        raise LedgerError(
            "there is no ledger here" if path.exists() else "there is no such file or folder",
            where=str(path),
            remedy=f"Give a run folder, a folder with a {LEDGER}, or a ledger file",
        )
    return ledgers


def _size(ledger: Path) -> int:
    return ledger.stat().st_size


def _source(ledger: Path, every: bool) -> Source:
    try:
        first = next(read_entries(ledger), None)
        if first is None:
            raise LedgerError("the ledger is empty", where=str(ledger), remedy="Nothing was written down yet")
    except LedgerError:
        if not every:
            raise
        return Source(ledger.absolute().parent.name, ledger, ledger.parent)
    return Source(first.owner, ledger, ledger.parent)

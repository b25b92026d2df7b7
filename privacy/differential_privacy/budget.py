"""A site's privacy budget: one over all its studies, charged before a release and never given back.

Order of a release: the charge is written to the budget's file and to the ledger, both synced; the release is computed
and its bytes are stored; their hash is sealed, again in both; only then may anything leave. So whatever is killed, and
wherever, what was spent is at least what was released.

File and ledger hold each other: every version of the file names its predecessor's hash and the end of the ledger just
before it, and the ledger names every version's hash. An edited, deleted, restored or foreign file is noticed, and so is
a ledger that was cut back to before the newest version; then nothing is released. What cannot be noticed here: both put
back to the same earlier moment, and entries after the newest version cut off the ledger. Both take somebody else's
memory, such as the coordinator's signature over the ledger's end.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ..atomic import write_atomic
from ..errors import BudgetError
from ..identity import Identity
from ..ledger.log import Ledger
from ..policy import Budget as BudgetRules
from . import accountant, budget_file
from .budget_binding import EVIDENCE, check_binding, entry_of, make_durable, statement_of
from .budget_file import VOID, Charge, Content, Place, Step
from .limits import check_site, check_study, check_unchanged, check_unit, common_delta, overlapping
from .releases import Release, Unit


class Budget:
    """The budget of one site, open. Made by `Budget.open`; one process at a time (the home's lock), any thread.

    Attributes:
        path: the budget's file; there is none before the first charge.
        site: whose budget it is.
    """

    def __init__(
        self,
        path: Path,
        site: str,
        identity: Identity,
        ledger: Ledger,
        rules: BudgetRules,
        content: Content | None,
        sha256: str,
    ) -> None:
        self.path = path
        self.site = site
        self._identity, self._ledger, self._rules = identity, ledger, rules
        self._content, self._sha256 = content, sha256
        self._charges = {(charge.study, charge.key): charge for charge in content.charges} if content else {}
        self._plans: dict[str, tuple[Release, ...]] = {}
        self._lock = threading.Lock()
        self._broken = False

    @classmethod
    def open(
        cls, path: Path, *, site: str, identity: Identity, ledger: Ledger, policy_budget: BudgetRules | None = None
    ) -> Budget:
        """Open or begin a site's budget.

        A file that is one version ahead of the ledger, with all else in order, is what a crash between the two leaves:
        its entry is written now.

        Args:
            path: ``budget.json`` in the site's home.
            site: name of the site; also the ledger's owner.
            identity: signs the file.
            ledger: the same site's, open.
            policy_budget: section ``[budget]`` of the site's policy; None bounds nothing but each study by itself.

        Raises:
            BudgetError: on every doubt: the file is damaged, edited, another site's, of an unknown version, missing
                though the ledger knows one, not the version that the ledger names, or names entries that the ledger
                does not have.
            LedgerError: the missing entry cannot be written.
        """
        data = budget_file.read_budget(path)
        content = None
        if data is not None:
            content = budget_file.load_budget(data, site=site, public_key=identity.public_key, where=str(path))
        digest = budget_file.digest_of(data)
        ahead = check_binding(content, digest, ledger, site=site, where=str(path))
        budget = cls(path, site, identity, ledger, policy_budget or BudgetRules(), content, digest)
        if ahead and content is not None:
            make_durable(path)
            ledger.append([entry_of(content, digest)])
        return budget

    # --- what was spent --------------------------------------------------------------------------------------------

    @property
    def unit(self) -> Unit | None:
        """What one epsilon of this budget protects; None before the first charge."""
        return self._content.unit if self._content else None

    @property
    def sequence(self) -> int:
        """Number of the newest version of the file; 0 before the first charge."""
        return self._content.sequence if self._content else 0

    @property
    def sha256(self) -> str:
        """Of the file as it is now, hexadecimal; zeros before the first charge."""
        return self._sha256

    @property
    def charges(self) -> tuple[Charge, ...]:
        """All charges, in order of time."""
        return tuple(self._charges.values())

    def charged(self, study: str, key: str) -> bool:
        """Whether this release was paid for."""
        return (study, key) in self._charges

    def sealed(self, study: str, key: str) -> str | None:
        """SHA-256 of the release's one result, hexadecimal; None until it is fixed."""
        charge = self._charges.get((study, key))
        return charge.sealed or None if charge else None

    def covers(self, study: str, key: str) -> bool:
        """Whether the release was paid for and has its one result, so that it may leave; not where it failed."""
        return self.sealed(study, key) not in (None, VOID)

    def study(self, study: str) -> tuple[Release, ...]:
        """What was charged for one study, in order of time."""
        return tuple(charge.release for charge in self._of(study))

    def _of(self, study: str) -> Iterator[Charge]:
        return (charge for charge in self._charges.values() if charge.study == study)

    def spent(self, delta: float, study: str | None = None) -> accountant.Spent:
        """What was spent at one delta, by one study or by all together.

        All together is the worst that can have happened to one patient: every study that was not declared disjoint,
        and those of one cohort; the cohort with the largest epsilon counts.

        Args:
            delta: in (0, 1); of all studies together, whatever each one's own is.
            study: hash of one study; None for all.
        """
        groups = overlapping(self.charges) if study is None else [list(self._of(study))]
        spent = [accountant.spent_on([charge.release for charge in group], delta) for group in groups]
        return max(spent, key=lambda each: each.epsilon)

    @property
    def common_delta(self) -> float | None:
        """The delta at which all studies together are looked at; see `limits.common_delta`."""
        return common_delta(self._rules, self.charges)

    def statement(self, study: str, key: str) -> dict[str, Any]:
        """What a ledger entry says about the differential privacy of a message.

        Returns:
            ``unit``; ``release``; ``delta``, ``epsilon`` (an upper bound, see `plan`) and ``rdp`` that the study has
            spent so far; ``limit``, its own epsilon; ``sequence`` and ``sha256`` of the budget's file.

        Raises:
            BudgetError: this release was not charged.
        """
        charge = self._charges.get((study, key))
        if charge is None or self._content is None:
            raise BudgetError(f"{key} of study {study[:12]} was not charged")
        return statement_of(self._content, self._sha256, charge, self._plans.get(study, ()))

    def plan(self, study: str, releases: Sequence[Release]) -> None:
        """Say what a study will release altogether, so that accounting a round takes no time; charges nothing.

        What ledger entries say of the study is then a bound that may lie 5 to 10 % above the figure before the last
        round; decisions are the same, and `spent` always gives the figure.

        Args:
            study: the study's SHA-256, hexadecimal.
            releases: all of it, what was charged already included.
        """
        self._plans[study] = tuple(releases)

    # --- spending --------------------------------------------------------------------------------------------------

    def charge(self, study: str, key: str, release: Release, *, unit: Unit, limit: tuple[float, float]) -> None:
        """Pay for a release, before anything of it is computed; on disk when this returns.

        A release that was charged before is not charged again: what was computed for it and not sealed never left.

        Args:
            study: the study's SHA-256, hexadecimal.
            key: names the release within the study: lower-case letters, digits and ``-``, at most 64.
            release: what will be released.
            unit: what one epsilon protects; the same for all charges of a budget.
            limit: the study's own epsilon and delta; the same for all its charges.

        Raises:
            BudgetError: the study's limit, or the site's over all studies, would be exceeded; another unit, limit,
                cohort or release than before; a malformed argument; the file was changed meanwhile, or cannot be
                written. Nothing was charged, or nothing more can be until the budget was opened anew.
            LedgerError: the ledger cannot be written.
            AccountError: epsilon cannot be computed.
        """
        cohort = self._rules.disjoint.get(study, "")
        new = budget_file.new_charge(study, key, release, unit=unit, limit=limit, cohort=cohort)
        with self._lock:
            self._check_ready()
            check_unit(self.unit, unit)
            check_unchanged(self.charges, new)
            if self.charged(study, key):
                return
            check_study(self.charges, new, self._plans.get(study, ()))
            check_site(self.charges, new, self._rules, self._plans.get(study, ()))
            self._write({**self._charges, (study, key): new}, unit, Step("charge", study, key))

    def seal(self, study: str, key: str, digest: str) -> None:
        """Fix the one result of a release, before it may leave; on disk when this returns.

        Args:
            study, key: as charged.
            digest: SHA-256 of the stored result, hexadecimal. The same again does nothing.

        Raises:
            BudgetError: nothing was charged, another result was sealed before, or as `charge`.
            LedgerError: the ledger cannot be written.
        """
        if not budget_file.is_hash(digest):
            raise BudgetError(f"{digest!r} is no SHA-256")
        with self._lock:
            self._check_ready()
            charge = self._charges.get((study, key))
            if charge is None or self.unit is None:
                raise BudgetError(f"{key} of study {study[:12]} was not charged, so it cannot leave")
            if charge.sealed == digest:
                return
            if charge.sealed:
                raise BudgetError(
                    f"another result of {key} of study {study[:12]} was sealed before",
                    remedy="Send the stored one. Two results of one release cost twice, and only one was charged.",
                )
            sealed = msgspec.structs.replace(charge, sealed=digest)
            self._write({**self._charges, (study, key): sealed}, self.unit, Step("seal", study, key))

    # --- writing ---------------------------------------------------------------------------------------------------

    def _check_ready(self) -> None:
        if self._broken:
            raise BudgetError(
                "the privacy budget failed earlier and takes nothing more", where=str(self.path), remedy="Start again."
            )
        if budget_file.digest_of(budget_file.read_budget(self.path)) != self._sha256:
            raise BudgetError(
                "the privacy budget was changed or removed while it was in use", where=str(self.path), remedy=EVIDENCE
            )

    def _write(self, charges: dict[tuple[str, str], Charge], unit: Unit, step: Step) -> None:
        """A new version: first the file, then its entry in the ledger, each synced."""
        self._broken = True  # until both are known to be on disk
        # The ledger's end is named in the file, so it must not get lost in a power cut that the file survives.
        entries, head = self._ledger.sync()
        content = Content(
            version=budget_file.VERSION,
            site=self.site,
            unit=unit,
            sequence=self.sequence + 1,
            previous=self._sha256,
            ledger=Place(entries, head),
            step=step,
            charges=tuple(charges.values()),
        )
        data = budget_file.dump_budget(content, self._identity)
        digest = budget_file.digest_of(data)
        # It accounts, which may fail, so it comes before the first write.
        entry = entry_of(content, digest, self._plans.get(step.study, ()))
        try:
            write_atomic(self.path, data)
        except OSError as error:
            raise BudgetError(
                f"the privacy budget cannot be written: {error.strerror}",
                where=str(self.path),
                remedy="Check the disk and start again; nothing has left, and the last good model is as it was.",
            ) from None
        self._ledger.append([entry])
        self._content, self._charges, self._sha256 = content, charges, digest
        self._broken = False

"""Before a start: can this machine's weights, images, policy and privacy budget carry the study?"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

from ...privacy.differential_privacy import accountant
from ...privacy.differential_privacy.budget_file import load_budget, read_budget
from ...privacy.differential_privacy.limits import common_delta, overlapping
from ...privacy.identity import fingerprint_hex
from ...privacy.policy import Policy
from ..config import Study
from ..doctor import Check
from ..enrolling.site_folder import SiteFolder
from ..features import default_cache
from ..image_index import image_index
from ..opening import POLICY_FILE
from ..own_data import own_data, own_plan
from ..policy_check import check_policy
from ..site_side import count_of
from ..study_parts import federated_method, study_backbone

LISTED = 100_000
"""Files after which a quick look at a folder stops."""


def policy_check(folder: Path, study: Study, coordinator: bytes | None) -> Check:
    """Whether this side's policy lets the study run.

    Args:
        folder: where the policy lies. study: to be run.
        coordinator: public key of the coordinator that a site would send to; None at the coordinator.
    """
    path = folder / POLICY_FILE
    if not path.is_file():
        if coordinator is None:
            return Check("policy", True, "none yet: one for this study is made at the start")
        return Check(
            "policy", False, "there is none, so nothing may leave", "Approve the study: wardround site approve"
        )
    policy = Policy.load(path)
    edit = "If the study shall run, change the policy: wardround site policy edit"
    refused = check_policy(policy, study).refusals
    if refused:
        rules = "; ".join(f"{rule}: {why}" for rule, why in refused)
        return Check("policy", False, f"it refuses the study: {rules}", edit)
    if coordinator is not None:
        key = fingerprint_hex(coordinator)
        allowed = policy.coordinator.allow
        if "*" not in allowed and key not in allowed:
            found = f"it refuses the study: coordinator.allow: the coordinator's key is {key}"
            return Check("policy", False, found, edit)
    return Check("policy", True, "it lets this study run")


def budget_check(folder: SiteFolder, study: Study) -> Check:
    """Whether enough of the privacy budget is left; exactly, the site's own process sees before each release.

    Args:
        folder: of the consortium. study: with differential privacy.
    """
    home = folder.home
    rules = Policy.load(home / POLICY_FILE).budget
    data = read_budget(home / "budget.json")
    if data is None:
        return Check("budget", True, f"nothing was spent; the study may spend epsilon {study.privacy.epsilon:g}")
    key = bytes.fromhex(folder.read_request().document.public_key)
    charges = load_budget(data, site=folder.site, public_key=key, where=str(home / "budget.json")).charges
    limit, delta = rules.maximum_epsilon, common_delta(rules, charges)
    if limit is None or delta is None:
        return Check("budget", True, f"{len(charges)} releases were charged; the policy sets no limit")
    own = [charge.release for charge in charges if charge.study == folder.digest]
    others = [charge for charge in charges if charge.study != folder.digest]
    cohort = rules.disjoint.get(folder.digest, "")
    groups = overlapping(others, cohort) if others else []
    before = max(
        (accountant.spent_on([each.release for each in group], delta).epsilon for group in groups), default=0.0
    )
    needed = study.privacy.epsilon
    words = f"epsilon {before:.3g} was spent by earlier studies, this one may take {needed:g}, the limit is {limit:g}"
    if own:
        # Once begun, the site's process itself knows best what is left; here only what is used up is seen.
        spent = accountant.spent_on(own, study.privacy.delta).epsilon
        return Check("budget", True, f"{words}; this study has spent {spent:.3g} of its own")
    if before + needed > limit:
        return Check(
            "budget",
            False,
            words,
            "This site cannot take part with this limit. Raise budget.maximum_epsilon in the policy only if those "
            "responsible for privacy decide so; or ask for a study with a smaller epsilon",
        )
    return Check("budget", True, words)


def weights_check(study: Study) -> Check:
    """Whether this machine has the study's frozen model."""
    backbone = study_backbone(study)
    return Check("weights", True, f"{backbone.name}, fingerprint {backbone.fingerprint[:16]}, as the study pins it")


def data_listing(folder: SiteFolder, study: Study) -> Check:
    """A quick look at the folders that this site reads: they are there and not empty."""
    if study.data.source == "phantoms":
        return Check("data", True, "drawn by this program itself")
    wanted = {folder.site, study.reference.site} - {""}
    found = []
    for source in study.data.sources:
        if source.site not in wanted:
            continue
        count = _files_in(Path(source.path))
        if count is None:
            remedy = f"Mount it, or change the path of this source in {folder.study_file}"
            return Check(
                "data", False, f"the folder of {source.site} cannot be read: {source.path or 'none given'}", remedy
            )
        if not count:
            remedy = f"Mount it, or change the path of this source in {folder.study_file}"
            return Check("data", False, f"the folder of {source.site} is empty: {source.path}", remedy)
        found.append(f"{source.site}: {'more than ' if count > LISTED else ''}{min(count, LISTED)} files")
    return Check("data", True, f"{'; '.join(found)}; --data reads them all and counts")


def data_check(folder: SiteFolder, study: Study, note: Callable[[str], None] = lambda _: None) -> Check:
    """Read the data as a start would, and compare their number with the request; it can take long.

    Args:
        folder: of the consortium. study: with this machine's paths. note: told what a person should know.
    """
    backbone, method, cache = study_backbone(study), federated_method(study), default_cache()
    with image_index(study, cache, folder.home.parent, note) as reader:
        plan = own_plan(study, folder.site, folder.phantoms, reader=reader, note=note)
        own = own_data(study, method, backbone, plan, folder.home, cache, reader=reader, note=note)
    found, told = count_of(study, own.data.sites[0]), folder.read_request().document.samples
    unit = "units" if study.private else "training images"
    left_out = f"; {len(own.skipped)} images cannot be read" if own.skipped else ""
    if found != told:
        return Check(
            "data",
            False,
            f"{found} {unit}, the request said {told}{left_out}",
            "Restore the images that the study was joined with; withdraw patients with: wardround site forget",
        )
    return Check("data", True, f"{found} {unit}, as in the request{left_out}")


def _files_in(folder: Path) -> int | None:
    """Files in a folder and below, up to `LISTED`; None where it cannot be read."""
    if not folder.is_absolute() or not folder.is_dir():
        return None
    try:
        with os.scandir(folder) as entries:
            next(entries, None)
    except OSError:
        return None
    walk = (1 for _, _, names in os.walk(folder) for _ in names)
    return sum(itertools.islice(walk, LISTED + 1))

"""A site's start-up kit at the site: installed by this side's own code, and checked before every start.

Of what the coordinator sends, only the address, the site's certificate and the authority's are taken; every setting
is written anew from `hardening`, whatever the coordinator's files say.
"""

from __future__ import annotations

import datetime as dt
import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ....privacy.atomic import make_private
from ...errors import PlatformError
from .certificates import (
    CertificateError,
    Standing,
    check_certificate,
    check_machine_name,
    fingerprint,
    key_fits,
    read_certificate,
)
from .hardening import Machine, site_files
from .provisioning import check_place, description, write_files

FACTS = "kit.json"
CERTIFICATE, KEY, ROOT = "startup/client.crt", "startup/client.key", "startup/rootCA.pem"
_LIMIT = 256 * 1024
_SOON = dt.timedelta(days=30)


class KitError(PlatformError):
    """A start-up kit that cannot be installed or read."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What ``kit.json`` says.

    Attributes:
        project: the consortium's name.
        site: the site's name.
        machine: where the coordinator's server is reached.
    """

    project: str
    site: str
    machine: Machine


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong with a kit.

    Attributes:
        what, where, remedy: as in every error of ours.
        fatal: whether the client must not be started with it.
    """

    what: str
    where: str
    remedy: str
    fatal: bool = True


def install(files: Mapping[str, bytes], key_pem: bytes, folder: Path, *, authority: str | None = None) -> None:
    """Write a site's kit.

    Args:
        files: what the coordinator sent, by path in the kit.
        key_pem: the key that the site made with its request.
        folder: the kit's folder, made with mode 0700; an older kit of the same consortium is replaced.
        authority: SHA-256 of the authority's certificate as confirmed out of band; None leaves that to later.

    Raises:
        KitError: files that do not belong into a kit, too many bytes, a certificate that is not this site's, not by
            the authority that it comes with or that was confirmed, or not for this key.
        OSError: as the file system reports it.
    """
    if sum(map(len, files.values())) > _LIMIT:
        raise KitError("the kit is larger than a kit is", remedy="Ask the coordinator to provision the site again.")
    missing = {FACTS, CERTIFICATE, ROOT} - set(files)
    if missing:
        raise KitError(f"the kit lacks {', '.join(sorted(missing))}", remedy="Ask the coordinator for the whole kit.")
    facts = _facts(files[FACTS])
    if unknown := sorted(set(files) - {FACTS, CERTIFICATE, ROOT}):
        raise KitError(
            f"the kit holds {unknown[0][:80]!r}, which does not belong into one",
            remedy="Do not use it. Ask the coordinator why it is there.",
        )
    _check_certificates(files[CERTIFICATE], files[ROOT], facts.site, key_pem, authority)
    make_private(folder)
    if any(path.is_symlink() for path in (folder, folder / "startup", folder / "local")):
        raise KitError("the kit's folder is a link", where=str(folder), remedy="Choose a folder of your own.")
    write_files(folder, {FACTS: files[FACTS], CERTIFICATE: files[CERTIFICATE], ROOT: files[ROOT], KEY: key_pem})
    render(folder)


def render(folder: Path) -> Facts:
    """Write every setting of an installed kit anew, from this program's own templates; done before each start.

    Raises:
        KitError: there is no kit, or its description cannot be read.
        OSError: as the file system reports it.
    """
    facts = read_facts(folder)
    write_files(folder, site_files(facts.project, facts.site, facts.machine))
    return facts


def read_facts(folder: Path) -> Facts:
    """What an installed kit is for.

    Raises:
        KitError: there is none, or its description cannot be read.
    """
    try:
        return _facts((folder / FACTS).read_bytes())
    except OSError as error:
        raise KitError(
            f"the kit cannot be read: {error.strerror}", where=str(folder), remedy="Run `site join KIT` again."
        ) from None


def check_kit(folder: Path, *, authority: str | None = None, now: dt.datetime | None = None) -> list[Problem]:
    """What is wrong with an installed kit; nothing when it may be used.

    Args:
        folder: the kit.
        authority: SHA-256 of the consortium's authority as confirmed out of band, to notice a kit of another consortium
            or one from before the authority was renewed.
        now: the time to check at; None for the clock's.
    """
    now = now or dt.datetime.now(dt.UTC)
    again = "Run `site join KIT` again with the kit that the coordinator sent."
    try:
        facts = read_facts(folder)
        own = site_files(facts.project, facts.site, facts.machine)
        pem, root, key = ((folder / path).read_bytes() for path in (CERTIFICATE, ROOT, KEY))
    except (KitError, OSError) as error:
        what = error.what if isinstance(error, KitError) else f"the kit cannot be read: {error.strerror}"
        return [Problem(what, str(folder), again)]
    problems = [
        Problem("this setting is not the hardened one: somebody changed it", str(folder / path), again)
        for path, content in own.items()
        if not _same(folder / path, content)
    ]
    expected = {*own, CERTIFICATE, ROOT, KEY}
    for part in ("startup", "local"):
        for path in sorted((folder / part).rglob("*")):
            name = path.relative_to(folder).as_posix()
            if name not in expected or path.is_symlink():
                problems.append(Problem("this file does not belong into a kit", str(path), "Remove it."))
    for path in (folder, folder / "startup", folder / "local", folder / KEY):
        if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
            problems.append(Problem("others on this machine can read this", str(path), f"chmod go= {path}"))
    return problems + _check_trust(folder, facts, (pem, root, key), authority, now)


def _check_trust(
    folder: Path, facts: Facts, found: tuple[bytes, bytes, bytes], authority: str | None, now: dt.datetime
) -> list[Problem]:
    pem, root, key = found
    where = str(folder / CERTIFICATE)
    anew = "Ask the coordinator for a new certificate (`consortium provision`), then run `site join KIT`."
    problems = []
    try:
        if authority is not None and fingerprint(root) != authority:
            problems.append(
                Problem(
                    "the kit is of another consortium, or from before its authority was renewed",
                    str(folder / ROOT),
                    "Compare the fingerprint with the coordinator by telephone; join with a new kit if theirs is new.",
                )
            )
        if not key_fits(key, pem):
            problems.append(Problem("the private key is not the certificate's", str(folder / KEY), anew))
    except CertificateError as error:
        problems.append(Problem(error.what, where, anew))
    checked = check_certificate(pem, root, name=facts.site, now=now)
    if checked.standing is Standing.GOOD and checked.until is not None and checked.until - now < _SOON:
        left = (checked.until - now).days
        problems.append(Problem(f"the site's certificate ends in {left} days", where, anew, fatal=False))
    elif checked.standing is not Standing.GOOD:
        remedy = (
            "Set this machine's clock, if it is wrong. Otherwise wait."
            if checked.since and now < checked.since
            else anew
        )
        problems.append(Problem(_WORDS[checked.standing].format(checked), where, remedy))
    return problems


_WORDS = {
    Standing.UNREADABLE: "the site's certificate or the authority's cannot be read",
    Standing.OTHER_AUTHORITY: "the site's certificate was not signed by the authority in this kit",
    Standing.OTHER_NAME: "the certificate is for {0.name!r}, not for this site",
    Standing.NOT_YET: "the certificate is valid only from {0.since:%Y-%m-%d %H:%M} UTC, by this machine's clock",
    Standing.EXPIRED: "the certificate has expired on {0.until:%Y-%m-%d %H:%M} UTC, by this machine's clock",
}


def _check_certificates(pem: bytes, root: bytes, site: str, key_pem: bytes, authority: str | None) -> None:
    ask = "Ask the coordinator for the kit of this site's own request."
    try:
        checked = check_certificate(pem, root, name=site, now=dt.datetime.now(dt.UTC))
        fits = checked.standing is not Standing.UNREADABLE and key_fits(key_pem, pem)
        known = authority is None or fingerprint(root) == authority
        read_certificate(root)
    except CertificateError as error:
        raise KitError(error.what, remedy=ask) from None
    if checked.standing is not Standing.GOOD:
        raise KitError(_WORDS[checked.standing].format(checked), where=CERTIFICATE, remedy=ask)
    if not fits:
        raise KitError("the certificate is not for the key that this site made", where=CERTIFICATE, remedy=ask)
    if not known:
        raise KitError(
            "the kit's authority is not the one whose fingerprint was confirmed",
            where=ROOT,
            remedy="Do not use it. Compare the fingerprint with the coordinator by telephone.",
        )


def _facts(content: bytes) -> Facts:
    try:
        said = json.loads(content)
        machine = Machine(said["host"], said["port"], said["admin_port"])
        facts = Facts(said["project"], said["site"], machine)
        check_place(facts.project, machine)
        check_machine_name(facts.site)
        if content != description(facts.project, facts.site, machine):
            raise ValueError
    except CertificateError as error:
        raise KitError(error.what, where=FACTS, remedy="Ask the coordinator to provision the site again.") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise KitError("the kit's description cannot be read", where=FACTS, remedy="Ask for the kit again.") from None
    return facts


def _same(path: Path, content: bytes) -> bool:
    try:
        return not path.is_symlink() and path.read_bytes() == content
    except OSError:
        return False

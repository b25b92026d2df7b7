"""Which job a hospital runs: the one of `job`, byte for byte, signed by the consortium's coordinator, and no other.

FLARE refuses custom code and unlisted classes by itself. It would still take a job with other settings, filters or
arguments, from whichever certificate of the consortium signed it. Nothing of FLARE is imported here.
"""

from __future__ import annotations

import io
import re
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from .hardening import ROLES
from .job import APP, app_files
from .provisioning import ADMIN

_LIMIT = 64 * 1024
_JOB = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SIGNATURE, _SUBMITTER = ".__nvfl_sig.json", ".__nvfl_submitter.crt"
_FOLDER = "config"
_EXPECTED = {path.removeprefix(f"{APP}/"): content for path, content in app_files().items()}
_SIGNED = {f"{folder}{name}" for folder in ("", f"{_FOLDER}/") for name in (_SIGNATURE, _SUBMITTER)}
_FILES = len(_EXPECTED) + len(_SIGNED)
_EMPTY = ("resource_spec", "launcher_spec", "scope", "custom_props", "stats_pool_config", "edge_method", "byoc")
_FREE = frozenset(
    {
        "approvals",
        "content_location",
        "data_storage_format",
        "duration",
        "job_clients",
        "job_deploy_detail",
        "job_folder_name",
        "last_schedule_time",
        "mandatory_clients",
        "min_clients",
        "name",
        "result_location",
        "schedule_count",
        "schedule_history",
        "start_time",
        "status",
        "submit_time",
        "submit_time_iso",
        "submitter_org",
    }
)
"""What FLARE writes about a job that nothing at a site acts on."""


class JobRefusedError(Exception):
    """A job that this site does not run; its text says why and holds nothing of the job itself."""


def check_archive(archive: object) -> None:
    """Refuse an app as it arrives, before a byte of it is unpacked.

    Args:
        archive: what the server sent: a ZIP file of the app's folder.

    Raises:
        JobRefusedError: it is anything but the consortium's app, signed by its coordinator.
    """
    if not isinstance(archive, bytes | bytearray) or len(archive) > _LIMIT:
        raise JobRefusedError("the app is no archive of the expected size")
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            infos = [info for info in opened.infolist() if info.filename != f"{_FOLDER}/"]
            if sum(info.file_size for info in infos) > _LIMIT or any(_odd(info) for info in infos):
                raise JobRefusedError("the app's archive has odd entries")
            names = [info.filename for info in infos]
            if len(names) != len(set(names)):
                raise JobRefusedError("the app's archive names a file twice")
            found = {info.filename: opened.read(info) for info in infos}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError, OSError):
        raise JobRefusedError("the app is no readable archive") from None
    _check_files(found)


def check_folder(folder: Path) -> None:
    """Refuse an app as it lies on disk, before it is started.

    Raises:
        JobRefusedError: as `check_archive`.
    """
    found: dict[str, bytes] = {}
    try:
        for path in sorted(folder.rglob("*")):
            status = path.lstat()
            name = path.relative_to(folder).as_posix()
            if stat.S_ISDIR(status.st_mode) and name == _FOLDER:
                continue
            if not stat.S_ISREG(status.st_mode) or status.st_size > _LIMIT or len(found) > _FILES:
                raise JobRefusedError("the deployed app has odd entries")
            found[name] = path.read_bytes()
    except OSError:
        raise JobRefusedError("the deployed app cannot be read") from None
    _check_files(found)


def check_meta(job: object, app: object, meta: object) -> None:
    """Refuse what FLARE says about a job.

    Args:
        job: its id.
        app: name of the app; None where FLARE does not say.
        meta: its ``meta.json`` as the server changed it.

    Raises:
        JobRefusedError: it asks for resources, a launcher, a privacy scope, another app, or is not the coordinator's.
    """
    if not isinstance(job, str) or not _JOB.fullmatch(job) or not isinstance(meta, Mapping):
        raise JobRefusedError("the job has no proper id or description")
    if app is not None and app != APP:
        raise JobRefusedError("the job has an app of another name")
    known: dict[str, Any] = {str(getattr(key, "value", key)): value for key, value in meta.items()}
    if known.pop("job_id", job) != job:
        raise JobRefusedError("the job is described under another id")
    deployed = known.pop("deploy_map", None)
    if not isinstance(deployed, Mapping) or set(deployed) != {APP}:
        raise JobRefusedError("the job deploys other apps")
    if known.pop("submitter_name", None) != ADMIN or known.pop("submitter_role", None) != ROLES[0]:
        raise JobRefusedError("the job was not submitted by the coordinator")
    if known.pop("study", "default") not in ("", "default", None):
        raise JobRefusedError("the job belongs to a study of FLARE's own")
    asked = [name for name in _EMPTY if known.pop(name, None)]
    if asked:
        raise JobRefusedError(f"the job sets {', '.join(asked)}")
    if unknown := set(known) - _FREE:
        raise JobRefusedError(f"the job's description holds {len(unknown)} unknown keys")


def _check_files(found: Mapping[str, bytes]) -> None:
    if unknown := set(found) - set(_EXPECTED) - _SIGNED:
        raise JobRefusedError(f"the app holds {len(unknown)} files that are not the consortium's")
    if missing := (set(_EXPECTED) | _SIGNED) - set(found):
        raise JobRefusedError(f"the app lacks {len(missing)} files; it must be complete and signed")
    if any(found[name] != content for name, content in _EXPECTED.items()):
        raise JobRefusedError("the app is configured otherwise than this version of Wardround configures it")
    for name in found:
        if name.endswith(_SUBMITTER):
            _check_submitter(found[name])


def _check_submitter(pem: bytes) -> None:
    """Whether the certificate is the coordinator's by name; that the authority signed it is checked by FLARE."""
    try:
        subject = x509.load_pem_x509_certificate(pem).subject
        named = [part.value for part in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        roles = [part.value for part in subject.get_attributes_for_oid(NameOID.UNSTRUCTURED_NAME)]
    except ValueError:
        raise JobRefusedError("the app's signer cannot be read") from None
    if named != [ADMIN] or roles != [ROLES[0]]:
        raise JobRefusedError("the app is signed by somebody other than the coordinator")


def _odd(info: zipfile.ZipInfo) -> bool:
    kind = stat.S_IFMT(info.external_attr >> 16)
    return info.is_dir() or kind not in (0, stat.S_IFREG) or bool(info.flag_bits & 1) or len(info.filename) > 100

"""What a kit tells FLARE: everything that a hospital need not grant is off. Plain data; nothing of FLARE is imported.

FLARE's own policy is not enough for a hospital. A site asks its authorization file only when the server's message says
that it should, and believes the server's word about who gives the order. So the files here say no to everybody, and
`guard`, which every site's FLARE processes load before FLARE and once more from these files, says no without asking
who is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

from ....privacy.atomic import canonical_json
from .certificates import SERVER

FLARE_VERSION: Final = "2.9.0"
"""The one whose seams are closed here and in `guard`; no process starts under another."""
EXECUTOR: Final = "wardround.platform.engines.nvflare.executor.RelayExecutor"
CONTROLLER: Final = "wardround.platform.engines.nvflare.controller.RelayController"
GUARD: Final = "wardround.platform.engines.nvflare.guard.SiteGuard"
LAUNCHER: Final = "wardround.platform.engines.nvflare.guard.GuardedLauncher"
SCHEME: Final = "tcp"
"""FLARE's own driver: under mutual TLS both ends check the other's certificate and the name in it."""
ROLES: Final = ("project_admin", "org_admin", "lead", "member")
HEARTBEAT: Final = 4
"""Seconds between a site's signs of life."""
_HEARTBEAT_LIMIT = 30
_FORBIDDEN = (
    "submit_job",
    "clone_job",
    "manage_job",
    "download_job",
    "view",
    "operate",
    "shell_commands",
    "byoc",
    "server-predeployed-flwr",
)
_OF_COORDINATOR = {"submit_job": "any", "manage_job": "any", "view": "any"}


@dataclass(frozen=True, slots=True)
class Machine:
    """Where the coordinator's FLARE server is reached.

    Attributes:
        host: the name or address that sites connect to.
        port: for sites.
        admin_port: for the coordinator's own orders; the same port as for sites will do.
    """

    host: str
    port: int
    admin_port: int


def site_files(project: str, site: str, machine: Machine) -> dict[str, bytes]:
    """Every file of a site's kit that holds no key or certificate, by its path in the kit."""
    return {
        "startup/fed_client.json": _json(
            {
                "format_version": 2,
                "require_signed_jobs": True,
                "servers": [
                    {
                        "name": project,
                        "service": {"target": f"{machine.host}:{machine.port}", "scheme": SCHEME},
                        "identity": SERVER,
                    }
                ],
                "client": {
                    "ssl_private_key": "client.key",
                    "ssl_cert": "client.crt",
                    "ssl_root_cert": "rootCA.pem",
                    "fqsn": site,
                    "is_leaf": True,
                    "connection_security": "mtls",
                    "site_config": {},  # or FLARE reports the settings of this machine to the server
                },
            }
        ),
        "local/authorization.json": _json(authorization(nobody=True)),
        "local/resources.json": _json(_site_resources()),
        **_common(),
    }


def server_files(project: str, machine: Machine, folder: str) -> dict[str, bytes]:
    """Every file of the server's kit that holds no key or certificate.

    Args:
        project: name of the consortium.
        machine: where it listens.
        folder: the kit's own absolute path; FLARE's job store and snapshots go below it, not below ``/tmp``.
    """
    server: dict[str, Any] = {
        "name": project,
        "service": {"target": f"{machine.host}:{machine.port}", "scheme": SCHEME},
        "admin_server": machine.host,
        "admin_port": machine.admin_port,
        "ssl_private_key": "server.key",
        "ssl_cert": "server.crt",
        "ssl_root_cert": "rootCA.pem",
        "connection_security": "mtls",
        "auth_identity": SERVER,
    }
    return {
        "startup/fed_server.json": _json({"format_version": 2, "require_signed_jobs": True, "servers": [server]}),
        "local/authorization.json": _json(authorization(nobody=False)),
        "local/resources.json": _json(_server_resources(PurePosixPath(folder))),
        **_common(),
    }


def admin_files(project: str, user: str, machine: Machine) -> dict[str, bytes]:
    """Every file of the coordinator's own admin kit that holds no key or certificate."""
    return {
        "startup/fed_admin.json": _json(
            {
                "format_version": 1,
                "admin": {
                    "project_name": project,
                    "username": user,
                    "server_identity": SERVER,
                    "scheme": SCHEME,
                    "host": machine.host,
                    "port": machine.admin_port,
                    "connection_security": "mtls",
                    "uid_source": "user_input",
                    "with_file_transfer": True,
                    "upload_dir": "transfer",
                    "download_dir": "transfer",
                    "client_key": "client.key",
                    "client_cert": "client.crt",
                    "ca_cert": "rootCA.pem",
                },
            }
        ),
        "local/resources.json": _json(
            {
                "format_version": 1,
                "admin": {"idle_timeout": 900.0, "login_timeout": 10.0, "with_debug": False, "prompt": "> "},
            }
        ),
    }


def authorization(*, nobody: bool) -> dict[str, Any]:
    """FLARE's authorization policy; a role that it does not name has no right at all.

    Args:
        nobody: for sites: no role may do anything there but have the consortium's own signed job deployed, which FLARE
            checks under the right ``submit_job``. Otherwise, for the server: the coordinator's ``project_admin`` may
            submit, abort and see jobs.
    """
    deny = dict.fromkeys(_FORBIDDEN, "none")
    admin = {**deny, "submit_job": "any"} if nobody else {**deny, **_OF_COORDINATOR}
    return {"format_version": "1.0", "permissions": {role: admin if role == ROLES[0] else deny for role in ROLES}}


def _site_resources() -> dict[str, Any]:
    return {
        "format_version": 2,
        "class_list_enforcement_mode": "enforce",
        "class_allow_list": [EXECUTOR],
        "allow_log_streaming": False,
        "client": {"retry_timeout": 30, "compression": "None"},
        "components": [
            _component("wardround_guard", GUARD),
            _component(
                "resource_manager",
                "nvflare.app_common.resource_managers.passthrough_resource_manager.PassthroughResourceManager",
            ),
            _component(
                "resource_consumer",
                "nvflare.app_common.resource_consumers.passthrough_resource_consumer.PassthroughResourceConsumer",
            ),
            _component(
                "process_launcher",
                LAUNCHER,
            ),
        ],
    }


def _server_resources(folder: PurePosixPath) -> dict[str, Any]:
    storage = "nvflare.app_common.storages.filesystem_storage.FilesystemStorage"
    snapshots = {"path": storage, "args": {"root_dir": str(folder / "snapshots"), "uri_root": "/"}}
    return {
        "format_version": 2,
        "class_list_enforcement_mode": "enforce",
        "class_allow_list": [CONTROLLER],
        "servers": [
            {
                "admin_storage": "transfer",
                "max_num_clients": 1000,
                "heart_beat_timeout": _HEARTBEAT_LIMIT,
                "admin_timeout": 10.0,
            }
        ],
        "snapshot_persistor": {
            "path": "nvflare.app_common.state_persistors.storage_state_persistor.StorageStatePersistor",
            "args": {"uri_root": "/", "storage": snapshots},
        },
        "components": [
            _component(
                "job_scheduler",
                "nvflare.app_common.job_schedulers.job_scheduler.DefaultJobScheduler",
                max_jobs=4,
                min_schedule_interval=1.0,
                max_schedule_interval=5.0,
                max_schedule_count=10,
            ),
            _component(
                "job_manager",
                "nvflare.apis.impl.job_def_manager.SimpleJobDefManager",
                uri_root=str(folder / "jobs"),
                job_store_id="job_store",
            ),
            _component("job_store", storage),
            _component(
                "process_launcher",
                "nvflare.app_common.job_launcher.server_process_launcher.ServerProcessJobLauncher",
            ),
        ],
    }


def _common() -> dict[str, bytes]:
    return {
        # Without this FLARE's parent and job process talk in clear text over a port that every local user reaches.
        "local/comm_config.json": _json(
            {
                "allow_adhoc_conns": False,
                "internal": {
                    "scheme": "tcp",
                    "resources": {"host": "localhost", "secure": True, "connection_security": "mtls"},
                },
            }
        ),
        "local/log_config.json": _json(_logging()),
        "local/privacy.json": _json({"scopes": []}),
    }


def _logging() -> dict[str, Any]:
    """One log file, which stays on this machine."""
    handler = {
        "class": "logging.handlers.RotatingFileHandler",
        "level": "INFO",
        "formatter": "plain",
        "filename": "log.txt",
        "mode": "a",
        "maxBytes": 5_000_000,
        "backupCount": 2,
    }
    form = {"()": "nvflare.fuel.utils.log_utils.BaseFormatter", "fmt": "%(asctime)s %(levelname)s %(name)s %(message)s"}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"plain": form},
        "handlers": {"file": handler},
        "loggers": {"root": {"level": "INFO", "handlers": ["file"]}},
    }


def _component(identity: str, path: str, **arguments: object) -> dict[str, Any]:
    return {"id": identity, "path": path, "args": arguments}


def _json(value: dict[str, Any]) -> bytes:
    return canonical_json(value) + b"\n"

"""The one job that Wardround runs under FLARE: two relays by class path, no code, no data, no arguments.

Its files are the same bytes for every study and every site, so that a hospital's guard can compare them; only
``meta.json``, which FLARE itself rewrites, names the study and the sites that are asked to take part.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ....privacy.atomic import canonical_json, make_private, write_atomic

EXECUTOR = "wardround.platform.engines.nvflare.executor.RelayExecutor"
CONTROLLER = "wardround.platform.engines.nvflare.controller.RelayController"
APP = "app"
SERVER_CONFIG = "config/config_fed_server.json"
CLIENT_CONFIG = "config/config_fed_client.json"

POLL_SECONDS = 2.0
"""How often FLARE's client asks for tasks; there are none, and a job takes no longer than this to end."""

_SERVER = {
    "format_version": 2,
    "task_request_interval": POLL_SECONDS,
    "task_data_filters": [],
    "task_result_filters": [],
    "components": [],
    "workflows": [{"id": "relay", "path": CONTROLLER, "args": {}}],
}
_CLIENT = {
    "format_version": 2,
    "executors": [{"tasks": ["none"], "executor": {"path": EXECUTOR, "args": {}}}],
    "task_data_filters": [],
    "task_result_filters": [],
    "components": [],
}


def app_files() -> dict[str, bytes]:
    """The app's files, by path in the app's folder: what every side deploys, byte for byte."""
    return {SERVER_CONFIG: canonical_json(_SERVER) + b"\n", CLIENT_CONFIG: canonical_json(_CLIENT) + b"\n"}


def job_files(study: bytes, sites: Iterable[str]) -> dict[str, bytes]:
    """All files of the job, by path in its folder.

    Args:
        study: digest of the study, 32 bytes.
        sites: FLARE's names of the clients that shall take part, at least one.
    """
    meta = {
        "name": f"wardround-{study.hex()}",
        "resource_spec": {},
        "deploy_map": {APP: ["server", *sorted(sites)]},
        "min_clients": 1,
    }
    app = {f"{APP}/{name}": data for name, data in app_files().items()}
    return {"meta.json": canonical_json(meta) + b"\n", **app}


def write_job(folder: Path, study: bytes, sites: Iterable[str]) -> Path:
    """Write the job's folder, private to this user; files of the same names are replaced.

    Raises:
        OSError: as the file system reports it.
    """
    for name, data in job_files(study, sites).items():
        path = folder / name
        make_private(path.parent)
        write_atomic(path, data)
    return folder

"""What every FLARE process of a hospital loads first: of FLARE's remote control it leaves what a round needs.

FLARE 2.9 lets a server read files of a site (``cat``, ``grep``), ask for its memory, settings and statistics, change
its logging, restart it, and decide by a header of its own message whether the site checks who asks. None of it is
needed, so none of it is left: orders that are not listed here have nobody who would carry them out, and messages on
other channels, or from other sites, are dropped before anything reads them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nvflare import __version__ as flare_version
from nvflare.apis.fl_component import FLComponent
from nvflare.apis.fl_constant import CellMessageAuthHeaderKey, FLContextKey, FLMetaKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.job_launcher_spec import JobHandleSpec, JobReturnCode
from nvflare.apis.workspace import Workspace
from nvflare.app_common.job_launcher.client_process_launcher import ClientProcessJobLauncher
from nvflare.fuel.common.excepts import ConfigError
from nvflare.fuel.f3.cellnet.core_cell import CoreCell, make_reply
from nvflare.fuel.f3.cellnet.defs import CellChannel, MessageHeaderKey, MessageType, ReturnCode
from nvflare.fuel.f3.message import Message as CellMessage
from nvflare.fuel.f3.streaming.stream_const import STREAM_CHANNEL, StreamHeaderKey
from nvflare.fuel.utils.log_utils import get_module_logger
from nvflare.private.admin_defs import Message, error_reply
from nvflare.private.defs import AUTH_CLIENT_NAME_FOR_SJ, RequestHeader
from nvflare.private.fed import authenticator
from nvflare.private.fed.client import admin_commands, client_req_processors, scheduler_cmds, training_cmds

from .cells import CHANNEL
from .hardening import FLARE_VERSION
from .job_guard import JobRefusedError, check_archive, check_folder, check_meta

_REFUSED = "refused by this site"
_SERVER = "server"
_LAUNCH = "wardround.platform.engines.nvflare.launch"
_WORKER = "nvflare.private.fed.app.client.worker_process"
_CHANNELS = frozenset(
    {
        CellChannel.CLIENT_MAIN,
        CellChannel.SERVER_MAIN,
        CellChannel.SERVER_COMMAND,
        CellChannel.CLIENT_COMMAND,
        CellChannel.AUX_COMMUNICATION,
        CellChannel.RETURN_ONLY,
        CellChannel.CELLNET,
        "credential_manager",
        CHANNEL,
    }
)
_BYE = "bye"
_log = get_module_logger(__name__, "SiteGuard")


class SiteGuard(FLComponent):  # type: ignore[misc]
    """Closes this process's remote control as soon as FLARE makes it, which is before FLARE connects."""

    def __init__(self) -> None:
        super().__init__()
        close_remote_control()


class GuardedLauncher(ClientProcessJobLauncher):  # type: ignore[misc]
    """Starts the job's process by way of `launch`, so that the guard stands there too before FLARE is run."""

    def get_command(self, job_meta: dict[str, Any], fl_ctx: FLContext) -> str:
        """FLARE's own command line, with ours in front."""
        before, worker, after = str(super().get_command(job_meta, fl_ctx)).partition(f"-m {_WORKER}")
        if not worker:
            raise ConfigError("FLARE starts jobs otherwise than Wardround knows")
        return f"{before}-m {_LAUNCH} {_WORKER}{after}"

    def launch_job(self, job_meta: dict[str, Any], fl_ctx: FLContext) -> JobHandleSpec:
        """FLARE's own, of which the server does not learn how it ended."""
        handle = super().launch_job(job_meta, fl_ctx)
        workspace = fl_ctx.get_prop(FLContextKey.WORKSPACE_OBJECT)
        return _QuietHandle(handle, Path(workspace.get_run_dir(job_meta["job_id"])) / FLMetaKey.PROCESS_RC_FILE)


class _QuietHandle(JobHandleSpec):  # type: ignore[misc]
    """A job's process whose failure is this site's alone: told of one, FLARE's server ends the job of every site."""

    def __init__(self, handle: JobHandleSpec, code: Path) -> None:
        self._handle, self._code = handle, code

    def terminate(self) -> None:
        self._handle.terminate()

    def poll(self) -> Any:
        found = self._handle.poll()
        return found if found == JobReturnCode.SUCCESS else JobReturnCode.UNKNOWN

    def wait(self) -> None:
        self._handle.wait()
        self._code.unlink(missing_ok=True)  # where FLARE would look for a more exact answer


def close_remote_control() -> None:
    """Cut this process's FLARE down to what a round needs. Calling it again does no harm.

    Raises:
        ConfigError: this version of FLARE is not one that was tested.
    """
    if flare_version != FLARE_VERSION:
        raise ConfigError(f"NVIDIA FLARE {flare_version} is not the one that Wardround is made for: {FLARE_VERSION}")
    _close_orders()
    _close_cells()
    authenticator._get_client_ip = str  # a site registers without its address inside the hospital's network


class _Deploy(training_cmds.DeployProcessor):  # type: ignore[misc]
    """Takes the consortium's own job, and refuses every other before it is unpacked."""

    def process(self, req: Message, app_ctx: Any) -> Message:
        try:
            check_meta(*_job(req), req.get_header(RequestHeader.JOB_META))
            check_archive(req.body)
        except JobRefusedError as refusal:
            return _refuse(refusal)
        return super().process(req, app_ctx)


class _Start(scheduler_cmds.StartJobProcessor):  # type: ignore[misc]
    """Starts the consortium's own job, as it lies on this disk."""

    def process(self, req: Message, app_ctx: Any) -> Message:
        job, app = _job(req)
        try:
            if req.body:
                raise JobRefusedError("the job asks for resources")
            check_meta(job, app, req.get_header(RequestHeader.JOB_META))
            workspace = Workspace(root_dir=app_ctx.args.workspace, site_name=app_ctx.get_client_name())
            check_folder(Path(workspace.get_app_dir(job)))
        except JobRefusedError as refusal:
            return _refuse(refusal)
        return super().process(req, app_ctx)


def _close_orders() -> None:
    """Leave FLARE's parent and job process of a site the orders that a job's life needs."""
    client_req_processors.ClientRequestProcessors.request_processors[:] = [
        _Deploy(),
        _Start(),
        scheduler_cmds.CheckResourceProcessor(),
        scheduler_cmds.CancelResourceProcessor(),
        training_cmds.AbortAppProcessor(),
        training_cmds.ClientStatusProcessor(),
        training_cmds.NotifyJobStatusProcessor(),
    ]
    admin_commands.AdminCommands.commands[:] = [
        admin_commands.CheckStatusCommand(),
        admin_commands.AbortCommand(),
        admin_commands.ByeCommand(),
    ]


def _close_cells() -> None:
    """Have every cell of this process drop what it is not meant to get, from its first message on."""
    make = CoreCell.__init__
    if getattr(make, "guarded", False):
        return

    def guarded(cell: Any, *arguments: Any, **named: Any) -> None:
        make(cell, *arguments, **named)
        cell.add_incoming_filter(channel="*", topic="*", cb=_drop, own=cell.get_fqcn().split(".")[0])

    guarded.guarded = True  # type: ignore[attr-defined]
    CoreCell.__init__ = guarded


def _drop(message: CellMessage, own: str) -> CellMessage | None:
    """Something for a message that goes no further; None for one that may pass."""
    channel = message.get_header(MessageHeaderKey.CHANNEL, "")
    if channel == STREAM_CHANNEL:  # a stream says on its first chunk, and on each, what it really is
        channel = message.get_header(StreamHeaderKey.CHANNEL, CellChannel.RETURN_ONLY)
    origin = str(message.get_header(MessageHeaderKey.ORIGIN, "")).split(".")[0]
    request = message.get_header(MessageHeaderKey.MSG_TYPE) == MessageType.REQ
    sender = message.get_header(CellMessageAuthHeaderKey.CLIENT_NAME)
    # Beside its "bye", FLARE's own channel between cells has orders that look into processes, stop them and load them;
    # and "bulk", which hides any message from this very filter.
    managed = channel == CellChannel.CELLNET and message.get_header(MessageHeaderKey.TOPIC, "") != _BYE
    if managed and request:
        _log.warning("dropped an order to manage this site's processes")
        return make_reply(ReturnCode.INVALID_REQUEST)
    ours = origin in (_SERVER, own) and sender in (None, "", _SERVER, AUTH_CLIENT_NAME_FOR_SJ, own)
    if ours and (channel in _CHANNELS or not request):
        return None
    _log.warning("dropped a message on a channel, or from a cell, that has no business with this site")
    return make_reply(ReturnCode.INVALID_REQUEST)


def _job(req: Message) -> tuple[Any, Any]:
    return req.get_header(RequestHeader.JOB_ID), req.get_header(RequestHeader.APP_NAME)


def _refuse(refusal: JobRefusedError) -> Message:
    _log.warning("%s: %s", _REFUSED, refusal)
    return error_reply(f"{_REFUSED}: {refusal}")

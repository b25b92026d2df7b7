"""A hostile coordinator: its FLARE server lets everybody do everything. No site runs its jobs or takes its orders."""

from __future__ import annotations

import io
import json
import socket
import subprocess
import sys
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nvflare")

from nvflare.apis.fl_constant import CellMessageAuthHeaderKey
from nvflare.fuel.f3.cellnet.defs import MessageHeaderKey, MessageType
from nvflare.fuel.f3.message import Message
from nvflare.fuel.f3.streaming.stream_const import StreamHeaderKey
from wardround.platform.engines.nvflare import guard, job_guard
from wardround.platform.engines.nvflare.authority import Authority
from wardround.platform.engines.nvflare.certificates import new_request
from wardround.platform.engines.nvflare.hardening import ROLES, admin_files
from wardround.platform.engines.nvflare.job import app_files, job_files
from wardround.platform.engines.nvflare.job_guard import JobRefusedError
from wardround.platform.engines.nvflare.kits import install
from wardround.platform.engines.nvflare.processes import FlareProcess, start_client, start_server
from wardround.platform.engines.nvflare.provisioning import ADMIN, Machine, provision, write_files

HERE = Path(__file__).parent
SITES = ("alpha", "beta")
SERVER, CLIENT = (f"app/config/config_fed_{side}.json" for side in ("server", "client"))
SECRET = "Jane Doe"
Files = dict[str, bytes]


def good() -> Files:
    return dict(job_files(bytes(32), SITES))


def changed(files: Files, path: str, change: Callable[[dict[str, Any]], object]) -> Files:
    value = json.loads(files[path])
    change(value)
    return {**files, path: json.dumps(value).encode()}


def touching(marker: Path) -> dict[str, Any]:
    """A class of Python's own library that, built as a component, runs a program."""
    return {"path": "subprocess.Popen", "args": {"args": ["touch", str(marker)]}}


def hostile(kind: str, marker: Path) -> Files:
    """A job of one kind, which makes the file ``marker`` wherever a part of it runs."""
    files, evil = good(), touching(marker)
    if kind == "custom code":
        files["app/custom/evil.py"] = (
            f"open({str(marker)!r}, 'w').close()\nfrom nvflare.apis.executor import Executor\n"
            "class Evil(Executor):\n    def execute(self, *arguments): pass\n"
        ).encode()
        return changed(files, CLIENT, lambda value: value["executors"][0]["executor"].update(path="evil.Evil"))
    if kind == "foreign executor":
        return changed(files, CLIENT, lambda value: value["executors"][0].update(executor=evil))
    if kind == "foreign component":
        return changed(files, CLIENT, lambda value: value["components"].append({"id": "x", **evil}))
    if kind == "foreign filter":
        chain = {"tasks": ["*"], "filters": [evil]}
        return changed(files, CLIENT, lambda value: value["task_result_filters"].append(chain))
    if kind == "nested component":
        return changed(files, CLIENT, lambda value: value["executors"][0]["executor"].update(args={"x": evil}))
    if kind == "changed setting":
        return changed(files, CLIENT, lambda value: value.update(get_task_interval=0.001))
    if kind == "hostile server":
        return changed(files, SERVER, lambda value: value["components"].append({"id": "x", **evil}))
    if kind == "YAML":
        files["app/config/config_fed_client.yml"] = json.dumps({"format_version": 2, "components": [evil]}).encode()
        return files
    if kind == "HOCON":
        files["app/config/config_fed_client.conf"] = json.dumps({"format_version": 2, "components": [evil]}).encode()
        return files
    assert kind == "another app"
    files |= {path.replace("app/", "other/", 1): content for path, content in hostile("custom code", marker).items()}
    return changed(files, "meta.json", lambda value: value["deploy_map"].update(app=["server"], other=list(SITES)))


KINDS = (
    "custom code",
    "foreign executor",
    "foreign component",
    "foreign filter",
    "nested component",
    "changed setting",
    "hostile server",
    "YAML",
    "HOCON",
    "another app",
)


def archive(files: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as opened:
        for path, content in files.items():
            opened.writestr(path, content)
    return stream.getvalue()


@pytest.fixture(scope="module")
def signers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    authority = Authority.create(tmp_path_factory.mktemp("authority"), "demo")
    return {role: authority.sign_admin(ADMIN, role)[1] for role in ROLES} | {
        "another name": authority.sign_admin("mallory@example.org")[1],
        "a site": authority.sign_site(new_request("alpha")[1], "alpha"),
    }


def signed(files: Mapping[str, bytes], pem: bytes) -> Files:
    app = {path.removeprefix("app/"): content for path, content in files.items() if path.startswith("app/")}
    for folder in ("", "config/"):
        app |= {f"{folder}.__nvfl_sig.json": b"{}", f"{folder}.__nvfl_submitter.crt": pem}
    return app


def test_the_consortiums_job_passes_in_both_forms(signers: dict[str, bytes], tmp_path: Path) -> None:
    app = signed(good(), signers["project_admin"])
    job_guard.check_archive(archive({"config/": b"", **app}))
    write_files(tmp_path / "app", app)
    job_guard.check_folder(tmp_path / "app")


@pytest.mark.parametrize("role", [*ROLES, "another name", "a site"])
@pytest.mark.parametrize("kind", [*KINDS, "none"])
def test_no_other_app_passes_whoever_signs_it(kind: str, role: str, signers: dict[str, bytes], tmp_path: Path) -> None:
    files = good() if kind == "none" else hostile(kind, tmp_path / "marker")
    if kind == "another app":
        files = {path.replace("other/", "app/", 1): content for path, content in files.items() if "other" in path}
    app = signed(files, signers[role])
    if kind == "none" and role == "project_admin":
        return
    with pytest.raises(JobRefusedError):
        job_guard.check_archive(archive(app))
    write_files(tmp_path / "app", app)
    with pytest.raises(JobRefusedError):
        job_guard.check_folder(tmp_path / "app")


def test_odd_archives_are_refused(signers: dict[str, bytes], tmp_path: Path) -> None:
    app = signed(good(), signers["project_admin"])
    unsigned = {path: content for path, content in app.items() if "__nvfl" not in path}
    twice = io.BytesIO()
    with zipfile.ZipFile(twice, "w") as opened, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path, content in [*app.items(), *unsigned.items()]:
            opened.writestr(zipfile.ZipInfo(path), content)
    link = zipfile.ZipInfo("config/config_fed_client.json")
    link.external_attr = 0o120777 << 16
    linked = io.BytesIO()
    with zipfile.ZipFile(linked, "w") as opened:
        for path, content in app.items():
            opened.writestr(link if path == link.filename else path, content)
    bomb = archive({**app, "config/config_fed_client.json": b"\0" * 10_000_000})
    escape = archive({**app, "../evil.py": b""})
    for odd in (None, b"", b"PK", archive(unsigned), twice.getvalue(), linked.getvalue(), bomb, escape, b"x" * 10**6):
        with pytest.raises(JobRefusedError):
            job_guard.check_archive(odd)
    write_files(tmp_path, app)
    (tmp_path / "config" / "config_fed_client.json").unlink()
    (tmp_path / "config" / "config_fed_client.json").symlink_to(tmp_path / "config" / "config_fed_server.json")
    with pytest.raises(JobRefusedError):
        job_guard.check_folder(tmp_path)


JOB = "2bf1b9cb-65aa-4a86-ba7c-943f63ba6d22"
META: dict[str, Any] = {
    **json.loads(job_files(bytes(32), SITES)["meta.json"]),
    "job_id": JOB,
    "study": "default",
    "submitter_name": ADMIN,
    "submitter_org": "wardround",
    "submitter_role": "project_admin",
}


def test_the_consortiums_description_passes() -> None:
    job_guard.check_meta(JOB, "app", META)
    job_guard.check_meta(JOB, None, META)


@pytest.mark.parametrize(
    "change",
    [
        {"submitter_role": "lead"},
        {"submitter_role": "anything"},
        {"submitter_name": "mallory@example.org"},
        {"byoc": True},
        {"resource_spec": {"alpha": {"num_of_gpus": 1}}},
        {"launcher_spec": {"default": {"docker": {"image": "evil"}}}},
        {"scope": "private"},
        {"study": "another"},
        {"deploy_map": {"app": ["server"], "other": ["alpha"]}},
        {"job_id": JOB.replace("2", "3")},
        {"stats_pool_config": {"x": 1}},
        {"server_predeployed": True},
    ],
)
def test_other_descriptions_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(JobRefusedError):
        job_guard.check_meta(JOB, "app", META | change)


@pytest.mark.parametrize(("job", "app", "meta"), [("../x", "app", META), (JOB, "other", META), (JOB, "app", None)])
def test_odd_orders_are_refused(job: object, app: object, meta: object) -> None:
    with pytest.raises(JobRefusedError):
        job_guard.check_meta(job, app, meta)


def test_the_app_is_compared_with_the_one_that_is_submitted() -> None:
    assert {f"app/{path}": content for path, content in app_files().items()} == {
        path: content for path, content in good().items() if path != "meta.json"
    }


@pytest.mark.parametrize(
    ("origin", "channel", "sender", "passes"),
    [
        ("server", "admin", "", True),
        (f"server.{JOB}", "wardround", "server_job", True),
        (f"alpha.{JOB}", "server_command", "alpha", True),
        (f"server.{JOB}", "sm__STREAM", "server_job", True),
        ("server", "_net_manager", "", False),
        ("server", "edge_request", "", False),
        ("beta", "admin", "beta", False),
        (f"beta.{JOB}", "wardround", "beta", False),
        ("server", "admin", "beta", False),  # one site under the server's name
        ("server-2", "admin", "", False),
        ("", "admin", "", False),
    ],
)
def test_only_the_server_and_the_site_itself_reach_a_sites_processes(
    origin: str, channel: str, sender: str, passes: bool
) -> None:
    headers = {MessageHeaderKey.ORIGIN: origin, MessageHeaderKey.CHANNEL: channel}
    headers |= {MessageHeaderKey.MSG_TYPE: MessageType.REQ, CellMessageAuthHeaderKey.CLIENT_NAME: sender}
    assert (guard._drop(Message(headers), own="alpha") is None) is passes


def test_a_stream_is_what_it_carries() -> None:
    headers = {MessageHeaderKey.ORIGIN: "server", MessageHeaderKey.CHANNEL: "sm__STREAM", StreamHeaderKey.CHANNEL: "x"}
    assert guard._drop(Message({**headers, MessageHeaderKey.MSG_TYPE: MessageType.REQ}), own="alpha") is not None


@dataclass
class Place:
    folder: Path
    admins: Mapping[str, tuple[Path, str]]
    server: FlareProcess
    sites: Mapping[str, FlareProcess]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def give(place: Place, role: str, orders: list[tuple[str, str]]) -> list[Any]:
    kit, user = place.admins[role]
    told = subprocess.run(
        [sys.executable, str(HERE / "orders" / "give.py"), str(kit), user],
        input=json.dumps(orders),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert told.returncode == 0, told.stderr[-2000:]
    answers: list[Any] = json.loads(told.stdout.splitlines()[-1])
    return answers


def wait_for(log: Path, words: str, seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not (log.exists() and words in log.read_text()):
        assert time.monotonic() < until, f"{words!r} is not in {log}"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("consortium")
    port = free_port()
    machine = Machine("127.0.0.1", port, port)
    requests = {site: new_request(site) for site in SITES}
    made = provision(folder / "c", "demo", machine, {site: csr for site, (_, csr) in requests.items()})
    for site, (key, _) in requests.items():
        install(made.sites[site], key, folder / site)
    authority = Authority.load(folder / "c" / "authority")
    admins = {"coordinator": (made.admin, ADMIN)}
    for role in ROLES:
        user = f"{role}@example.org"
        key, certificate = authority.sign_admin(user, role)
        keys = {"client.key": key, "client.crt": certificate, "rootCA.pem": authority.pem}
        files = admin_files("demo", user, machine) | {f"startup/{name}": content for name, content in keys.items()}
        write_files(folder / role, files)
        admins[role] = (folder / role, user)
    loosen(made.server)
    started: list[FlareProcess] = []
    try:
        server = start_server(made.server, folder / "courier", python_path=HERE / "hostile_server")
        started.append(server)
        wait_for(server.log, "Server started")
        for site in SITES:
            started.append(start_client(folder / site, folder / f"{site}.socket"))
        for process in started[1:]:
            wait_for(process.log, "Successfully registered")
        yield Place(folder, admins, server, dict(zip(SITES, started[1:], strict=True)))
    finally:
        for process in started:
            process.kill()


def loosen(kit: Path) -> None:
    """Let the server's own policy stop nothing."""
    resources = json.loads((kit / "local" / "resources.json").read_bytes())
    resources["class_allow_list"] = ["*"]
    everything = {"format_version": "1.0", "permissions": dict.fromkeys(ROLES, "any")}
    for name, value in (("resources", resources), ("authorization", everything)):
        (kit / "local" / f"{name}.json").write_text(json.dumps(value))


def refused_everywhere(answer: Mapping[str, Any]) -> bool:
    detail = [str(line) for line in answer["detail"]]
    said = all(any(line.startswith(f"{site}:") and "refused by this site" in line for line in detail) for site in SITES)
    return said and answer["status"] != "FINISHED:COMPLETED"


@pytest.mark.parametrize("role", ["coordinator", *(pytest.param(role, marks=pytest.mark.slow) for role in ROLES)])
def test_no_site_runs_a_hostile_job_whoever_submits_it(place: Place, role: str, tmp_path: Path) -> None:
    # Where alpha's processes may write: a site's other files are out of their reach anyway.
    markers = {kind: place.folder / "alpha" / f"{role}{number}.ran" for number, kind in enumerate(KINDS)}
    orders = []
    for number, kind in enumerate(KINDS):
        write_files(tmp_path / f"job{number}", hostile(kind, markers[kind]))
        orders.append(("submit", str(tmp_path / f"job{number}")))
    for kind, answer in zip(KINDS, give(place, role, orders), strict=True):
        assert refused_everywhere(answer), (kind, answer)
        assert not markers[kind].exists(), kind
    assert all(process.alive and not process.jobs for process in place.sites.values())


def test_the_consortiums_own_job_is_taken_from_the_coordinator_alone(place: Place, tmp_path: Path) -> None:
    write_files(tmp_path / "job", good())
    for role in ("lead", "project_admin"):
        assert refused_everywhere(give(place, role, [("submit", str(tmp_path / "job"))])[0])
    answer = give(place, "coordinator", [("deploy", str(tmp_path / "job"))])[0]
    assert {f"{site}: OK" for site in SITES} <= set(answer["detail"]), answer


def test_a_server_that_lies_about_authorization_gets_nothing_out_of_a_site(place: Place) -> None:
    (place.folder / "alpha" / "patients.csv").write_text(f"name\n{SECRET}\n")
    orders = [
        ("command", line)
        for line in (
            "cat alpha patients.csv",
            "grep alpha Doe patients.csv",
            "head alpha patients.csv",
            "tail alpha patients.csv",
            "ls alpha",
            "pwd alpha",
            "sys_info client alpha",
            "report_env alpha",
            "report_resources alpha",
            "show_scopes alpha",
            "configure_site_log client DEBUG alpha",
            "restart client alpha",
            "shutdown client alpha",
        )
    ]
    told = json.dumps(give(place, "project_admin", orders))
    assert SECRET not in told
    assert "local" not in told.replace("localhost", "")  # the listing of a folder
    assert str(place.folder) not in told
    assert "available" not in told  # the machine's memory
    time.sleep(1.0)
    assert all(process.alive for process in place.sites.values())
    assert "DEBUG" not in (place.folder / "alpha" / "log.txt").read_text()


@pytest.mark.slow
def test_the_same_attacks_succeed_on_a_site_with_flares_own_settings(place: Place, tmp_path: Path) -> None:
    """Without this, the tests above could pass because their attacks are harmless."""
    key_pem, csr = new_request("gamma")
    port = json.loads((place.folder / "alpha" / "kit.json").read_bytes())["port"]
    made = provision(place.folder / "c", "demo", Machine("127.0.0.1", port, port), {"gamma": csr})
    loosen(made.server)
    kit = place.folder / "gamma"
    install(made.sites["gamma"], key_pem, kit)
    resources = json.loads((kit / "local" / "resources.json").read_bytes())
    resources["class_allow_list"] = ["*"]
    resources["components"] = [each for each in resources["components"] if "wardround" not in each["path"]]
    launcher = "nvflare.app_common.job_launcher.client_process_launcher.ClientProcessJobLauncher"
    resources["components"].append({"id": "process_launcher", "path": launcher, "args": {}})
    (kit / "local" / "resources.json").write_text(json.dumps(resources))
    # Nobody may read files here, but FLARE's server can say that nobody needs to be asked.
    policy = json.loads((kit / "local" / "authorization.json").read_bytes())
    policy["permissions"]["lead"]["byoc"] = "any"
    (kit / "local" / "authorization.json").write_text(json.dumps(policy))
    command = [sys.executable, "-m", "nvflare.private.fed.app.client.client_train", "-m", str(kit)]
    command += ["-s", "fed_client.json", "--set", "secure_train=true", "uid=gamma", "org=x", "config_folder=config"]
    with open(kit / "out", "wb") as out:
        soft = subprocess.Popen(command, stdout=out, stderr=out, cwd=kit, start_new_session=True)
    try:
        wait_for(kit / "log.txt", "Successfully registered")
        (kit / "patients.csv").write_text(f"name\n{SECRET}\n")
        lines = ("cat gamma patients.csv", "ls gamma", "sys_info client gamma", "pwd gamma")
        told = json.dumps(give(place, "member", [("command", line) for line in lines]))
        assert all(words in told for words in (SECRET, "local", "available", str(kit)))
        for kind in ("foreign component", "custom code"):
            marker = tmp_path / kind.replace(" ", "-")
            files = changed(
                hostile(kind, marker), "meta.json", lambda value: value.update(deploy_map={"app": ["server", "gamma"]})
            )
            write_files(tmp_path / f"{marker.name}-job", files)
            give(place, "lead", [("submit", str(tmp_path / f"{marker.name}-job"))])
            assert marker.exists(), kind
    finally:
        soft.kill()
        soft.wait()

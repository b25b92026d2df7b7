"""What a hospital's IT is given: units, container file, firewall rules, and the commands that its documents name."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from wardround.platform.cli.app import app
from wardround.platform.cli.consortium import PORT
from wardround.platform.enrolling.passphrase import CREDENTIAL

ROOT = Path(__file__).parent.parent
DEPLOY, DOCS = ROOT / "deploy", ROOT / "docs"
UNITS = sorted(DEPLOY.glob("*.service"))
PAGES = [DOCS / "deployment.md", DOCS / "operations.md"]
KEYS = {
    "Unit": {"Description", "Wants", "After", "StartLimitIntervalSec", "StartLimitBurst"},
    "Service": {
        *("Type", "User", "Group", "UMask", "Environment", "LoadCredential", "ExecStart", "Restart", "RestartSec"),
        *("KillMode", "TimeoutStopSec", "StateDirectory", "StateDirectoryMode", "CacheDirectory", "CacheDirectoryMode"),
        *("RuntimeDirectory", "RuntimeDirectoryMode", "RuntimeDirectoryPreserve", "LimitCORE"),
        *("ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices", "ProtectProc", "ProtectClock"),
        *("ProtectHostname", "ProtectControlGroups", "ProtectKernelLogs", "ProtectKernelModules"),
        *("ProtectKernelTunables", "NoNewPrivileges", "CapabilityBoundingSet", "AmbientCapabilities"),
        *("LockPersonality", "RemoveIPC", "RestrictNamespaces", "RestrictRealtime", "RestrictSUIDSGID"),
        *("RestrictAddressFamilies", "SystemCallArchitectures", "SystemCallFilter", "SystemCallErrorNumber"),
    },
    "Install": {"WantedBy"},
}
"""Keys of systemd.unit(5), systemd.service(5), systemd.exec(5) and systemd.kill(5) that the units use."""
WANTED = {
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "UMask": "0077",
    "Restart": "on-failure",
    "KillMode": "mixed",
    "CapabilityBoundingSet": "",
    "LimitCORE": "0",
    "StateDirectoryMode": "0700",
    "RuntimeDirectoryMode": "0700",
    "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6 AF_NETLINK",
}


# --- units -----------------------------------------------------------------------------------------------------------


def unit(path: Path) -> list[tuple[str, str, str]]:
    """Section, key and value of every line that is no comment."""
    found, section = [], ""
    for line in path.read_text().splitlines():
        if not line or line[0] in "#;":
            continue
        if line[0] == "[":
            section = line.strip("[]")
            continue
        key, equals, value = line.partition("=")
        assert (equals, key) == ("=", key.strip()), f"{path.name}: {line!r} is no setting"
        found.append((section, key, value.strip()))
    return found


def test_there_is_a_unit_for_each_side() -> None:
    assert [path.name for path in UNITS] == ["wardround-coordinator@.service", "wardround-site@.service"]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_every_key_of_a_unit_is_known_and_in_its_section(path: Path) -> None:
    assert [f"[{section}] {key}" for section, key, _ in unit(path) if key not in KEYS[section]] == []


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_units_are_hardened(path: Path) -> None:
    values = {key: value for _, key, value in unit(path)}
    assert {key: values.get(key) for key in WANTED} == WANTED
    assert values["User"] not in ("", "root")
    assert values["LoadCredential"].partition(":")[0] == CREDENTIAL
    # PyTorch's own compiler of kernels needs memory that is both; with the key set no image could be encoded.
    assert "MemoryDenyWriteExecute" not in values
    filters = " ".join(value for _, key, value in unit(path) if key == "SystemCallFilter").split()
    assert {"landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"} <= set(filters)


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_sockets_below_a_units_runtime_folder_are_short_enough(path: Path) -> None:
    from wardround.platform.engines.nvflare.relay import PATH_LIMIT

    values = {key: value for _, key, value in unit(path)}
    longest = f"/run/{values['RuntimeDirectory']}/wardround-{2**32 - 2}-{'0' * 16}/courier.sock.key"
    assert len(longest) <= PATH_LIMIT


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_takes_the_unit(path: Path, tmp_path: Path) -> None:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd-analyze is not installed here")
    copy = tmp_path / path.name.replace("@.", "@study.")
    program = re.search(r"^ExecStart=(\S+)", path.read_text(), re.M)
    assert program
    copy.write_text(path.read_text().replace(program[1], "/bin/true"))  # the only thing that is not there yet
    done = subprocess.run([tool, "verify", "--man=no", str(copy)], capture_output=True, text=True, timeout=60)
    own = [line for line in done.stderr.splitlines() if copy.name in line]
    assert (done.returncode, own) == (0, []), done.stderr


# --- container -------------------------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n\s*", " ", (DEPLOY / "Containerfile").read_text())
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines]


def test_the_container_runs_without_rights_and_from_pinned_versions() -> None:
    found = instructions()
    names = [name for name, _ in found]
    known = {
        "FROM",
        "COPY",
        "RUN",
        "ENV",
        "USER",
        "WORKDIR",
        "VOLUME",
        "STOPSIGNAL",
        "HEALTHCHECK",
        "ENTRYPOINT",
        "CMD",
    }
    assert set(names) <= known
    assert [number for number, name in enumerate(names) if name == "FROM"] == [0]
    assert re.fullmatch(r"[\w./-]*python:3\.\d+-slim", found[0][1])
    (user,) = [value for name, value in found if name == "USER"]
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
    (install,) = [value for name, value in found if name == "RUN" and "pip install" in value]
    assert "--constraint /usr/src/wardround/constraints.txt" in install
    assert "[deploy]" in install
    assert names.index("USER") < names.index("ENTRYPOINT")
    copied = {path for name, value in found if name == "COPY" for path in value.split()[:-1]}
    assert {path for path in copied if not (ROOT / path).exists()} == set()
    assert {"__init__.py", "evaluation", "medical_datasets", "platform", "privacy"} <= copied


def test_the_container_file_names_no_address_but_the_base_image() -> None:
    rest = "\n".join(value for name, value in instructions() if name != "FROM")
    assert not re.search(r"://|index-url|find-links|trusted-host|git\+", rest)


def test_the_container_looks_after_itself() -> None:
    (health,) = [value for name, value in instructions() if name == "HEALTHCHECK"]
    (command,) = re.findall(r'CMD \["(.*)"\]', health)
    words = command.split('", "')
    assert words == ["wardround", "site", "status", "--json"]
    check(words[1:], "HEALTHCHECK")
    entry = dict(instructions())
    assert (entry["ENTRYPOINT"], entry["CMD"]) == ('["wardround"]', '["site", "start"]')


# --- firewall --------------------------------------------------------------------------------------------------------


def test_the_firewall_lets_the_service_reach_nobody_but_the_coordinator() -> None:
    text = (DEPLOY / "nftables-site.conf").read_text()
    rules = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    assert text.count("{") == text.count("}")
    assert rules.index("meta skuid != $service_user accept") < rules.index('oifname "lo" accept')
    assert f"define coordinator_port = {PORT}" in rules
    assert rules[-3].startswith("counter reject")


def test_nft_takes_the_rules(tmp_path: Path) -> None:
    tool = shutil.which("nft") or shutil.which("nft", path="/usr/sbin:/sbin")
    if tool is None or os.geteuid() != 0:
        pytest.skip("nft is not installed here, or may not be asked")
    copy = tmp_path / "rules.conf"
    text = (DEPLOY / "nftables-site.conf").read_text()
    copy.write_text(text.replace('service_user = "wardround"', "service_user = 0"))  # a user of this machine
    done = subprocess.run([tool, "--check", "--file", str(copy)], capture_output=True, text=True, timeout=60)
    if "Operation not permitted" in done.stderr:
        pytest.skip("this machine lets nobody ask nft")
    assert done.returncode == 0, done.stderr


# --- documents -------------------------------------------------------------------------------------------------------


def offered(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from offered(inner, (*path, name))


COMMANDS = dict(offered(typer.main.get_command(app)))


def check(words: list[str], where: str) -> None:
    """A command line after ``wardround``: the command exists, and each of its options."""
    name: tuple[str, ...] = ()
    while len(name) < len(words) and (*name, words[len(name)]) in COMMANDS:
        name = (*name, words[len(name)])
    assert name or words[0].startswith("-"), f"{where}: no command {' '.join(words[:2])}"
    command = COMMANDS[name]
    inner = getattr(command, "commands", None)
    assert not inner or len(words) == len(name) or words[len(name)].startswith(("-", "…")), f"{where}: {words}"
    known = {option for each in command.params for option in each.opts} | {"--help"}
    used = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert used <= known, f"{where}: {' '.join(words)} has no {used - known}"


def commands_of(text: str) -> Iterator[list[str]]:
    """Every command line of a document, in blocks and in the text."""
    blocks = re.findall(r"^```\w*$(.*?)^```$", text, re.M | re.S)
    lines = [line for block in blocks for line in re.sub(r"\\\n\s*", " ", block).splitlines()]
    rest = re.sub(r"^```\w*$.*?^```$", "", text, flags=re.M | re.S)
    lines += [line[4:] for line in rest.splitlines() if line.startswith("    ")]
    for line in lines:
        found = re.match(r"[$#] (?:.* )?(?:\S*/)?wardround ((?:[a-z]|--version).*)", line)
        if found:
            yield shlex.split(found[1].partition(" #")[0], comments=False)
    for inline in re.findall(r"`(?:\S*/)?wardround ((?:[a-z]|--)[^`]*)`", rest):
        yield shlex.split(inline)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_document_exists_with_its_options(page: Path) -> None:
    found = list(commands_of(page.read_text()))
    assert len(found) > 15
    for words in found:
        check(words, page.name)


def test_commands_of_units_exist() -> None:
    for path in UNITS:
        (start,) = [value for _, key, value in unit(path) if key == "ExecStart"]
        check(start.split()[1:], path.name)


def source() -> str:
    """The program's text, with strings that are written over several lines put together."""
    folders = ("platform", "privacy")
    text = "\n".join(path.read_text() for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))
    return re.sub(r"[\"']\s*\n\s*f?[\"']", "", text)


def test_messages_of_the_table_are_the_programs_own() -> None:
    text, known = (DOCS / "operations.md").read_text(), source()
    (table,) = re.findall(r"^\| what it says \|.*?\n(?=\n)", text, re.M | re.S)
    said = [message for row in table.splitlines()[2:] for message in re.findall(r"`([^`]+)`", row.split(" | ")[0])]
    assert len(said) > 20
    unknown = [part for each in said for part in re.split(r"\s*…\s*", each) if len(part) > 3 and part not in known]
    assert unknown == []


def test_every_metric_is_in_the_document() -> None:
    code = (ROOT / "platform" / "service" / "metrics.py").read_text()
    made = {name + "_total" * (kind == "Counter") for kind, name in re.findall(r'(\w+)MetricFamily\("(\w+)"', code)}
    rows = set(re.findall(r"^\| `(wardround_\w+)", (DOCS / "operations.md").read_text(), re.M))
    assert made == rows


def slug(heading: str) -> str:
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def test_links_lead_to_pages_and_headings() -> None:
    broken = []
    for page in [*PAGES, *(DOCS / f"{name}.md" for name in ("audit", "protocol", "threat-model"))]:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if "://" in target:
                continue
            name, _, anchor = target.partition("#")
            aim = page if not name else (page.parent / name)
            if not aim.exists():
                broken.append(f"{page.name} -> {target}")
            elif anchor and aim.suffix == ".md":
                headings = {slug(title) for title in re.findall(r"^#+ (.*)$", aim.read_text(), re.M)}
                if anchor not in headings:
                    broken.append(f"{page.name} -> {target}")
    assert broken == []

"""The command line against the list of commands that the documentation promises: nothing beyond it is offered."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner
from wardround.platform.cli.app import app

# The documented commands with their options. A command may be missing until its part is built; none may be extra.
COMMANDS = """\
wardround demo [--study brain|skin] [--method facmic|faa-clip|fedclip] [--sites N] [--rounds N] [--epsilon E] [--out DIR] [--seed N]
wardround run STUDY.toml --out DIR [--resume] [--previous RUN]
wardround compare STUDY.toml --methods a,b,c [--leave-one-out] [--seeds K] [--ablation NAME] --out DIR
wardround data check PATH|STUDY.toml [--dataset KEY] [--labels FILE] [--html OUT] [--all] [--json] [--no-encoder]
wardround data list [KEY] [--json]
wardround data split STUDY.toml --out FILE [--json]
wardround predict RUN IMAGE… [--site SITE]
wardround evaluate PREDICTIONS.csv [--groups COL] [--subgroups COL…] [--json] [--html OUT]
wardround report build RUN [--pdf]
wardround report sign RUN --site SITE --name NAME --role ROLE --decision accepted|accepted-with-remarks|rejected [--remarks TEXT] [--yes]
wardround report cases RUN --site SITE [--maps N] [--most N] [--device auto|cpu|cuda]
wardround audit verify RUN|LEDGER… [--key PARTY=KEY…] [--json]
wardround audit show RUN|LEDGER… [--study HASHPREFIX] [--round N] [--stage S] [--type T] [--peer P] [--owner O] [--direction out|in] [--outcome O] [--day YYYY-MM-DD] [--entries] [--json]
wardround audit reconcile SITE COORDINATOR [--json]
wardround audit prove LEDGER ENTRY [--out FILE]
wardround audit verify-proof FILE [--key PARTY=KEY…] [--json]
wardround audit export RUN|LEDGER… --format fhir|csv|jsonl [--out FILE]
wardround privacy show RUN
wardround privacy plan [STUDY.toml] [--epsilon E…] [--units N…] [--rounds N] [--batch N] [--epochs N] [--delta D]
wardround privacy audit RUN [--noise FACTOR]
wardround consortium new STUDY.toml --out C --address HOST[:PORT] [--admin-port N] [--passphrase-file FILE] [--json]
wardround consortium add-site FILE… [--consortium C] [--words [SITE=]WORDS…] [--unconfirmed] [--json]
wardround consortium provision [C] [--without SITE…] [--renew SITE…] [--passphrase-file FILE] [--json]
wardround coordinator start [C] [--resume] [--submit] [--wait SECONDS] [--listen ADDRESS] [--passphrase-file FILE] [--metrics-port PORT]
wardround coordinator submit [C]
wardround coordinator status [C] [--watch] [--json]
wardround coordinator abort [C] [--yes]
wardround site join INVITATION|KIT [--home HOME] [--site NAME] [--data DIR…] [--reference DIR] [--weights PATH] [--words WORDS] [--passphrase-file FILE] [--cache DIR] [--yes] [--other-patients] [--count-again]
wardround site roster confirm SIGNED [--home HOME] [--words SITE=WORDS…] [--person SITE=TEXT…] [--passphrase-file FILE]
wardround site policy edit [--home HOME]
wardround site policy check POLICY.toml [--study STUDY.toml] [--json]
wardround site start [STUDY] [--home HOME] [--passphrase-file FILE] [--metrics-port PORT]
wardround site status [STUDY] [--home HOME] [--watch] [--json]
wardround site stop [STUDY] [--home HOME] [--wait SECONDS] [--json]
wardround site leave [STUDY] [--home HOME] [--yes]
wardround site purge --home HOME [--cache DIR] [--ledger] [--yes]
wardround site forget GROUP --home HOME [--study STUDY.toml] [--cache DIR] [--yes]
wardround site rotate-key [--home HOME] [--lost] [--json]
wardround site approve [STUDY] [--home HOME] [--passphrase-file FILE] [--sum-again HASH…] [--accept-share] [--yes]
wardround bench secure-aggregation [--sites --dim --dropouts --bits --peer]
wardround bench dp
wardround bench encode
wardround bench round
wardround bench backbone DATA [--backbone --weights --allow-random --dataset --seed]
wardround doctor [--kit DIR] [--data] [--json]
wardround --version
"""  # noqa: E501
EVERYWHERE = {"--help", "--json", "--debug", "--version"}
# Commands that exist today; a command that disappears is as much a fault as one that nobody documented.
PROMISED_NOW = {
    "demo",
    "run",
    "compare",
    "predict",
    "data check",
    "data list",
    "data split",
    "report build",
    "report sign",
    "report cases",
    "evaluate",
    "audit show",
    "audit export",
    "site rotate-key",
    "site policy check",
    "audit verify",
    "audit reconcile",
    "audit prove",
    "audit verify-proof",
    "privacy audit",
    "privacy show",
    "privacy plan",
    "site forget",
    "site purge",
    "doctor",
    "consortium new",
    "consortium add-site",
    "consortium provision",
    "coordinator start",
    "coordinator submit",
    "coordinator status",
    "coordinator abort",
    "site join",
    "site approve",
    "site roster confirm",
    "site policy edit",
    "site start",
    "site status",
    "site stop",
    "site leave",
    "bench encode",
    "bench round",
    "bench dp",
    "bench backbone",
}


def documented() -> dict[str, set[str]]:
    """Command -> its documented options."""
    found: dict[str, set[str]] = {}
    for line in COMMANDS.splitlines():
        words = line.split()[1:]
        name = []
        for word in words:
            if not re.fullmatch(r"[a-z][a-z-]*", word):
                break
            name.append(word)
        found[" ".join(name)] = set(re.findall(r"--[a-z][a-z-]*", line))
    return found


def offered(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command and group, by its words."""
    yield " ".join(path), command
    for name, inner in getattr(command, "commands", {}).items():
        yield from offered(inner, (*path, name))


ROOT = typer.main.get_command(app)
OFFERED = dict(offered(ROOT))
LEAVES = {name: command for name, command in OFFERED.items() if not getattr(command, "commands", None)}


def options_of(command: Any) -> set[str]:
    return {
        name for parameter in command.params for name in parameter.opts + parameter.secondary_opts if name[0] == "-"
    }


def test_the_list_is_read_as_it_is_meant() -> None:
    listed = documented()
    assert listed["run"] == {"--out", "--resume", "--previous"}
    assert listed["site policy edit"] == {"--home"}
    assert len(listed) == len(COMMANDS.splitlines())


def test_what_this_version_promises_is_there() -> None:
    assert set(LEAVES) >= PROMISED_NOW


@pytest.mark.parametrize("name", sorted(LEAVES))
def test_every_command_and_option_is_documented(name: str) -> None:
    assert name in documented()
    assert options_of(LEAVES[name]) - documented()[name] - EVERYWHERE == set()


@pytest.mark.parametrize("name", sorted(OFFERED))
def test_every_command_has_an_example_in_its_help(name: str) -> None:
    command = OFFERED[name]
    text = " ".join((command.help or "", getattr(command, "epilog", None) or ""))
    if name == "":
        text += str(app.info.help)
    assert "Example: wardround" in text
    if name in LEAVES:
        assert f"wardround {name}" in text


@pytest.mark.parametrize("name", sorted(OFFERED))
def test_help_shows_the_example_and_explains_each_option(name: str) -> None:
    result = CliRunner().invoke(app, [*name.split(), "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert result.exit_code == 0
    assert "Example: wardround" in " ".join(result.output.replace("│", " ").split())
    for option in options_of(OFFERED[name]):
        assert option in result.output
    for parameter in OFFERED[name].params:
        assert parameter.help, f"{name}: {parameter.name} has no help"

"""``wardround audit prove`` and ``verify-proof``: a file that shows one entry to somebody without the ledger."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from wardround.privacy.atomic import canonical_json
from wardround.privacy.ledger.checkpoints import Checkpoint, signed
from wardround.privacy.ledger.proofs import Proof
from wardround.privacy.ledger.rosters import read_rosters
from wardround.privacy.merkle import Tree, leaf_hash

from ...privacy.ledger.audited import invent, read, replace, whole
from ..audit.audited_runs import make_run

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
Cli = Callable[..., Any]
SITE = "site-2"


@pytest.fixture(scope="module")
def made(tmp_path_factory: Any, toy_study: Any, toy_data: Any, BACKBONE: str) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "run", toy_study, toy_data(), BACKBONE, rounds=1)


@pytest.fixture
def home(made: Path) -> Path:
    return made / "sites" / SITE


@pytest.fixture
def proof(cli: Cli, home: Path, tmp_path: Path) -> Path:
    """Of the masked vector."""
    path = tmp_path / "entry.tlog-proof"
    assert cli("audit", "prove", home, vector(home), "--out", path).code == 0
    return path


def vector(home: Path) -> int:
    rows = [json.loads(line) for line in (home / "ledger.jsonl").read_bytes().splitlines()]
    return next(row["sequence"] for row in rows if row["message_type"] == "masked-vector")


def test_to_a_file_or_to_standard_output(cli: Cli, home: Path, proof: Path, tmp_path: Path) -> None:
    ended = cli("audit", "prove", home / "ledger.jsonl", vector(home))
    assert ended.code == 0
    assert ended.out.encode() == proof.read_bytes()
    assert proof.stat().st_mode & 0o777 == 0o600
    told = cli("audit", "prove", home, 0, "--out", tmp_path / "zero")
    assert (told.out, "entry 0 of site-2" in told.err) == ("", True)


def test_a_proof_is_told(cli: Cli, home: Path, proof: Path) -> None:
    ended = cli("audit", "verify-proof", proof)
    assert ended.code == 0, ended.err
    row = json.loads((home / "ledger.jsonl").read_bytes().splitlines()[vector(home)])
    assert f"Entry {row['sequence']} of the ledger of {SITE}, dated {row['time']}:" in ended.out
    assert "masked-vector sent, out, peer coordinator" in ended.out
    assert f"{row['wire_bytes']} bytes, SHA-256 {row['wire_sha256']}" in ended.out
    assert "3 sites cosigned it (site-1, site-2, site-3; 2 are needed)" in ended.out
    shown = json.loads(cli("audit", "verify-proof", proof, "--json").out)
    assert shown["entry"] == row
    assert shown["owner"] == SITE
    for party, words in shown["identities"].items():
        assert f"  {party}: {words}\n" in ended.out


def test_an_entry_that_is_no_message_is_told(cli: Cli, home: Path, tmp_path: Path) -> None:
    cli("audit", "prove", home, 0, "--out", tmp_path / "zero")
    ended = cli("audit", "verify-proof", tmp_path / "zero")
    assert ended.code == 0
    assert "\n  key\n" in ended.out


def test_keys_are_compared(cli: Cli, proof: Path) -> None:
    shown = json.loads(cli("audit", "verify-proof", proof, "--json").out)
    words, hexes = shown["identities"], shown["fingerprints"]
    given = [part for party, key in words.items() for part in ("--key", f"{party}={key}")]
    ended = cli("audit", "verify-proof", proof, *given)
    assert ended.code == 0
    assert "This rests on these keys" not in ended.out
    assert cli("audit", "verify-proof", proof, "--key", f"{SITE}={hexes[SITE]}").code == 0
    for key in (words["site-1"], hexes["site-1"]):
        wrong = cli("audit", "verify-proof", proof, "--key", f"{SITE}={key}")
        wrong.assert_explains(f"another key of '{SITE}'", str(proof))
        assert cli("audit", "verify-proof", proof, "--key", f"{SITE}={key}", "--json").out == ""
    cli("audit", "verify-proof", proof, "--key", f"zebra={hexes[SITE]}").assert_explains("'zebra'", "--key", "site-1")
    cli("audit", "verify-proof", proof, "--key", "amber=x").assert_explains("another form than PARTY=KEY")


def test_a_proof_of_another_run_has_other_keys(
    cli: Cli, proof: Path, tmp_path: Path, toy_study: Any, toy_data: Any, BACKBONE: str
) -> None:
    other = make_run(tmp_path / "other", toy_study, toy_data(), BACKBONE, rounds=1)
    cli("audit", "prove", other / "sites" / SITE, 3, "--out", tmp_path / "theirs")
    assert cli("audit", "verify-proof", tmp_path / "theirs").code == 0
    keys = json.loads(cli("audit", "verify-proof", proof, "--json").out)["identities"]
    for party in keys:
        ended = cli("audit", "verify-proof", tmp_path / "theirs", "--key", f"{party}={keys[party]}")
        ended.assert_explains(f"another key of '{party}'")


def test_a_changed_proof_proves_nothing(cli: Cli, proof: Path) -> None:
    data = proof.read_bytes()
    for place in range(0, len(data), len(data) // 12):
        proof.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        ended = cli("audit", "verify-proof", proof)
        ended.assert_explains("this proves nothing", str(proof), "audit prove")


def test_what_cannot_be_proven(cli: Cli, made: Path, home: Path, proof: Path, tmp_path: Path) -> None:
    entries = len((home / "ledger.jsonl").read_bytes().splitlines())
    cli("audit", "prove", home, entries - 1).assert_explains("no checkpoint over entry", "can be proven")
    cli("audit", "prove", home, entries).assert_explains(f"there is no entry {entries}", "audit show")
    cli("audit", "prove", made, 0).assert_explains("4 ledgers are here", "RUN/sites/NAME")
    cli("audit", "prove", tmp_path / "typo", 0).assert_explains("no such file or folder")
    cli("audit", "prove", home, 0, "--out", proof).assert_explains("not written over", str(proof))
    cli("audit", "prove", home, 0, "--out", tmp_path / "no" / "x").assert_explains("no such folder")
    cli("audit", "verify-proof", tmp_path / "typo").assert_explains("cannot be read", "typo")
    cli("audit", "verify-proof", home / "ledger.jsonl").assert_explains("this proves nothing")
    assert cli("audit", "prove", home, "first").code == 2
    assert cli("audit", "prove", home, -1).code == 2
    assert cli("audit", "prove", home).code == 2
    assert cli("audit", "verify-proof").code == 2
    broken = Path(shutil.copytree(home, tmp_path / "broken"))
    lines = (broken / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (broken / "ledger.jsonl").write_bytes(b"".join(lines[:3] + lines[4:]))
    cli("audit", "prove", broken, 0).assert_explains("the ledger does not hold: entry 3 (line 4)", "audit verify")
    (broken / "ledger.jsonl").write_bytes(b"")
    cli("audit", "prove", broken, 0).assert_explains("the ledger is empty")


def test_hostile_words_and_times_do_no_harm(cli: Cli, tmp_path: Path) -> None:
    group = whole(tmp_path / "parties")
    (roster,) = read_rosters(group.home("amber"))[0].values()
    key, hostile = group.keys["amber"], "\x1b[31m[bold]x\n"
    entries = replace(read(group.home("amber")), 3, message_type=hostile, peer=hostile, time=hostile)
    tree = Tree([leaf_hash(each.line()) for each in entries])
    note = signed(Checkpoint(key.origin, len(entries), tree.root), key.origin, key.sign, key.public_key)
    batch = invent(roster, group.identities, "amber", note, number=9, time=2**63 - 1)
    extra = {"entry": entries[3].line().decode(), "batch": batch.to_bytes().decode()}
    data = canonical_json({**extra, "roster": roster.to_bytes().decode()})
    path = tmp_path / "proof"
    path.write_bytes(Proof(3, tree.path(3), note, data).to_bytes())
    ended = cli("audit", "verify-proof", path)
    assert ended.code == 0, ended.err
    assert "\x1b" not in ended.out
    assert "\\x1b[31m[bold]x\\n" in ended.out
    assert f"about {2**63 - 1} seconds after 1970" in ended.out

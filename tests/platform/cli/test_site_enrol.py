"""A hospital enrols with the real commands: all is shown before it is asked, and the next step is always said."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from typer.testing import CliRunner
from wardround.platform.cli.app import app
from wardround.platform.cli.site_enrol_asking import ask_share
from wardround.platform.cli.site_enrol_home import held_home, identity_to_join, own_identity
from wardround.platform.engines.nvflare.hardening import Machine
from wardround.platform.enrolling.coordinator_folder import ConsortiumFolder
from wardround.platform.enrolling.documents import sign_document
from wardround.platform.enrolling.errors import EnrolmentError
from wardround.platform.enrolling.founding import found
from wardround.platform.enrolling.gathering import add_file
from wardround.platform.enrolling.kinds import SignedRoster
from wardround.platform.enrolling.provisioned import provision
from wardround.platform.enrolling.site_folder import SiteFolder
from wardround.privacy.identity import fingerprint
from wardround.privacy.ledger.rosters import keep_roster
from wardround.privacy.secure_aggregation.roster import Roster

SITES = ("amber", "birch", "cedar")
SECRET = "six words drawn by dice are good"
STUDY = """
name = "tiny"
method = "facmic"
rounds = 2
[data]
dataset = "brain-mri"
source = "phantoms"
images_per_site = 48
[sites]
count = 3
[reference]
source = "class-means"
"""


@dataclass(frozen=True)
class Town:
    """A consortium's folder, and hospitals with a WARDROUND_HOME each."""

    root: Path

    @property
    def folder(self) -> ConsortiumFolder:
        return ConsortiumFolder.load(self.root / "c")

    @property
    def words(self) -> str:
        return fingerprint(bytes.fromhex(self.folder.record.coordinator))

    def machine(self, name: str) -> Path:
        return self.root / f"of-{name}"

    def home(self, name: str) -> Path:
        return self.machine(name) / "sites" / name

    def site(self, name: str = "amber") -> SiteFolder:
        return SiteFolder(self.home(name), self.folder.record.study_hash)

    def own_words(self, name: str) -> str:
        return fingerprint(bytes.fromhex(self.site(name).read_request().document.public_key))

    def coordinate(self, *files: Path) -> None:
        """The coordinator takes files in, and does what can be done next."""
        folder = self.folder
        with folder.held():
            for file in files:
                add_file(folder, file, self.own_words)
            provision(folder, lambda: folder.read_identity(SECRET.encode()), now=1_790_000_000)


Call = Callable[..., Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Town:
    root = tmp_path_factory.mktemp("town")
    (root / "study.toml").write_text(STUDY)
    found(root / "study.toml", root / "c", Machine("localhost", 8002, 8002), lambda: SECRET.encode(), now=1_790_000_000)
    (root / "secret").write_text(SECRET)
    (root / "secret").chmod(0o600)
    return Town(root)


@pytest.fixture
def run(cli: Call, monkeypatch: pytest.MonkeyPatch) -> Call:
    """``run(town, "amber", "site", "join", …)``: a command on a hospital's machine."""

    def call(town: Town, name: str, *words: object) -> Any:
        monkeypatch.setenv("WARDROUND_HOME", str(town.machine(name)))
        monkeypatch.setenv("WARDROUND_PASSPHRASE_FILE", str(town.root / "secret"))
        return cli(*words)

    return call


@pytest.fixture
def town(made: Town, tmp_path: Path) -> Town:
    return Town(Path(shutil.copytree(made.root, tmp_path / "town")))


def join(run: Call, town: Town, name: str, *more: object) -> Any:
    return run(
        town, name, "site", "join", town.folder.invitation, "--site", name, "--words", town.words, "--yes", *more
    )


def typed(town: Town, name: str, answers: str, *words: object) -> Any:
    """A command whose questions a person answers."""
    env = {
        "WARDROUND_HOME": str(town.machine(name)),
        "WARDROUND_PASSPHRASE_FILE": str(town.root / "secret"),
        "COLUMNS": "120",
    }
    return CliRunner().invoke(app, [str(word) for word in words], input=answers, env=env)


@pytest.mark.slow
def test_three_hospitals_enrol_with_their_own_commands(run: Call, town: Town) -> None:
    for name in SITES:
        ended = join(run, town, name)
        assert ended.code == 0, ended.err
        assert town.own_words(name) in ended.out
        assert town.words not in ended.out + ended.err
        assert "Which images count is the coordinator's choice" in ended.out
        assert "Send the request's file to the coordinator" in ended.out
    town.coordinate(*(town.site(name).request for name in SITES))
    again = run(town, "amber", "site", "join", town.folder.invitation)
    assert again.code == 0, again.err
    assert "joined already" in again.out

    for name in SITES:
        ended = run(town, name, "site", "join", town.folder.kit(name))
        assert ended.code == 0, ended.err
        assert "wardround site approve" in ended.out
        ended = run(town, name, "site", "approve", "--yes")
        assert ended.code == 0, ended.err
        for shown in ("masked-vector: update", "class-means", "Not hidden by any of this", "birch", "SHA-256", "none."):
            assert shown in ended.out, shown
        assert not any(town.own_words(other) in ended.out for other in SITES)
    assert "approved the study already" in run(town, "amber", "site", "approve", "tiny", "--yes").out
    town.coordinate(*(town.site(name).approval for name in SITES))

    signed = town.folder.signed_roster
    heard = [word for each in ("birch", "cedar") for word in ("--words", f"{each}={town.own_words(each)}")]
    few = run(town, "amber", "site", "roster", "confirm", signed, *heard[:2])
    few.assert_explains("cedar", "a sum needs 3")
    ended = run(town, "amber", "site", "roster", "confirm", signed, *heard, "--person", "birch=Dr [red]Oak[/red]")
    assert ended.code == 0, ended.err
    assert "Dr [red]Oak[/red]" in ended.out
    assert "wardround site start" in ended.out
    answers = ["wrong", town.own_words("amber"), "Dr Ash", town.own_words("cedar"), "", ""]
    asked = typed(town, "birch", "\n".join(answers), "site", "roster", "confirm", signed)
    assert asked.exit_code == 0, asked.output
    assert json.loads(town.site("birch").pinned.read_bytes())["confirmed"] == {
        "amber": "Dr Ash",
        "birch": "",
        "cedar": "",
    }

    refused = typed(town, "amber", "tidy\n", "site", "leave")
    assert refused.exit_code == 1
    assert town.site().tls_key.exists()
    left = typed(town, "amber", "tiny\n", "site", "leave")
    assert left.exit_code == 0, left.output
    assert "its signature" in left.output
    run(town, "amber", "site", "approve", "tiny", "--yes").assert_explains("has left")


def test_nothing_is_read_before_the_words_are_right(run: Call, town: Town) -> None:
    ended = run(
        town, "amber", "site", "join", town.folder.invitation, "--site", "amber", "--words", "no such words", "--yes"
    )
    assert ended.code == 1
    assert "not the words" in ended.err
    assert not any(word in ended.err for word in town.words.split("-"))
    assert not town.home("amber").exists()


def test_who_says_no_tells_nobody_anything(town: Town, cache: Path) -> None:
    ended = typed(
        town, "amber", f"{town.words}\nn\n", "site", "join", town.folder.invitation, "--site", "amber", "--cache", cache
    )
    assert ended.exit_code == 1, ended.output
    assert "This number, and no other, would be told" in ended.output
    assert "Nobody was told anything" in ended.output
    assert not town.site().request.exists()
    assert not town.site().state_request.exists()


def test_wrong_files_and_places_are_explained(run: Call, town: Town, tmp_path: Path) -> None:
    run(town, "amber", "site", "join", tmp_path / "absent").assert_explains("no such file")
    run(town, "amber", "site", "join", town.folder.invitation).assert_explains("which hospital", "amber, birch, cedar")
    run(town, "amber", "site", "join", town.folder.invitation, "--site", "zeder").assert_explains(
        "no site of this study"
    )
    run(town, "amber", "site", "approve").assert_explains("no site has its home here")
    run(town, "amber", "site", "roster", "confirm", town.folder.invitation).assert_explains("an invitation")
    run(town, "amber", "site", "join", town.folder.invitation, "--site", "amber", "--data", tmp_path).assert_explains(
        "--data"
    )


@pytest.fixture(scope="module")
def enrolled(made: Town, tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Town:
    """Amber has its kit; the others have asked."""
    town = Town(Path(shutil.copytree(made.root, tmp_path_factory.mktemp("enrolled") / "town")))
    for name in SITES:
        ended = typed(
            town,
            name,
            "",
            "site",
            "join",
            town.folder.invitation,
            "--site",
            name,
            "--words",
            town.words,
            "--yes",
            "--cache",
            cache,
        )
        assert ended.exit_code == 0, ended.output
    town.coordinate(*(town.site(name).request for name in SITES))
    assert typed(town, "amber", "", "site", "join", town.folder.kit("amber")).exit_code == 0
    return town


@pytest.fixture
def ready(enrolled: Town, tmp_path: Path) -> Town:
    return Town(Path(shutil.copytree(enrolled.root, tmp_path / "town")))


def test_an_approval_takes_the_studys_name(ready: Town) -> None:
    refused = typed(ready, "amber", "yes\n", "site", "approve")
    assert refused.exit_code == 1
    assert "nothing was changed" in refused.output
    assert not ready.site().state_roster.exists()
    assert not (ready.home("amber") / "policy.toml").exists()
    ended = typed(ready, "amber", "tiny\n", "site", "approve", ready.site().digest[:8])
    assert ended.exit_code == 0, ended.output
    assert ready.site().approval.exists()


def test_an_earlier_study_is_named_by_a_person(run: Call, ready: Town) -> None:
    now = Roster.from_bytes(ready.site().read_kit().document.roster.encode())
    earlier = replace(now, study=bytes.fromhex("cd" * 32), vectors={"update": now.vectors["update"]})
    keep_roster(ready.home("amber"), earlier)
    refused = run(ready, "amber", "site", "approve", "--yes")
    assert refused.code == 1
    assert "cdcdcdcdcdcdcdcd" in refused.err
    assert "--sum-again" in refused.err
    wrong = typed(ready, "amber", "cdcd\ntiny\n", "site", "approve")
    assert wrong.exit_code == 1
    assert not ready.site().approval.exists()
    ended = typed(ready, "amber", "cdcdcdcd\ntiny\n", "site", "approve")
    assert ended.exit_code == 0, ended.output


def signed_roster(town: Town) -> bytes:
    kit = town.site().read_kit().document
    roster = SignedRoster(kit.study_hash, kit.roster, dict.fromkeys(SITES, "00" * 64))
    return sign_document(roster, town.folder.read_identity(SECRET.encode())).data


def test_a_site_whose_identity_is_gone_gets_no_other(run: Call, ready: Town) -> None:
    identity = ready.home("amber") / "identity.pem"
    identity.unlink()
    signed = ready.root / "signed-roster.json"
    signed.write_bytes(signed_roster(ready))
    home = ("--home", ready.home("amber"))
    for words in (
        ("approve", "--yes"),
        ("approve", "--yes", *home),
        ("roster", "confirm", signed, *home),
        ("join", ready.folder.kit("amber")),
        ("leave", "--yes"),
        ("start",),
    ):
        ended = run(ready, "amber", "site", *words)
        ended.assert_explains("the identity of this home is gone", "backup")
        assert not identity.exists()
    identity = ready.home("birch") / "identity.pem"  # which has no kit yet, and may ask anew
    identity.unlink()
    ended = join(run, ready, "birch", "--count-again")
    assert ended.code == 1
    assert "the identity of this home is gone" in ended.err
    assert not identity.exists()


def test_only_joining_makes_an_identity(town: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARDROUND_PASSPHRASE_FILE", str(town.root / "secret"))
    guarded: list[bool] = []
    monkeypatch.setattr("wardround.platform.service.runtime.guard_memory", lambda: guarded.append(True))
    with held_home(tmp_path / "sites" / "amber") as held:
        with pytest.raises(EnrolmentError, match="identity of this home is gone"):
            own_identity(held, None)
        assert not held.identity.exists()
        assert not guarded
        made = identity_to_join(held, None)
        assert guarded == ([True] if sys.platform.startswith("linux") else [])  # before there was a key in memory
        assert own_identity(held, None).public_key == identity_to_join(held, None).public_key == made.public_key


def test_a_policy_is_edited_on_a_copy_checked_and_replaced_whole(
    run: Call, ready: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(ready, "amber", "site", "policy", "edit").assert_explains("has no policy yet")
    assert typed(ready, "amber", "tiny\n", "site", "approve").exit_code == 0
    policy = ready.home("amber") / "policy.toml"
    before = policy.read_text()

    def editor(code: str) -> None:
        script = tmp_path / "editor.py"
        script.write_text(f"import sys, pathlib\npath = pathlib.Path(sys.argv[-1])\ntext = path.read_text()\n{code}\n")
        monkeypatch.setenv("VISUAL", f"{sys.executable} {script}")

    editor("pass")
    assert "Nothing was changed" in typed(ready, "amber", "", "site", "policy", "edit").output
    editor("path.write_text(text.replace('minimum_cell = 11', 'minimum_cell = 20'))")
    no = typed(ready, "amber", "n\n", "site", "policy", "edit")
    assert no.exit_code == 1
    assert policy.read_text() == before
    ended = typed(ready, "amber", "y\n", "site", "policy", "edit")
    assert ended.exit_code == 0, ended.output
    assert "+minimum_cell = 20" in ended.output
    assert "tiny would be refused, metrics.minimum_cell" in ended.output
    assert "minimum_cell = 20" in policy.read_text()
    assert policy.stat().st_mode & 0o777 == 0o600
    editor(
        "path.write_text(text.replace('minimum_cell = 20', 'minimal_cell = 21') if 'minimal' not in text\n"
        "else text.replace('minimal', 'minimum'))"
    )
    ended = typed(ready, "amber", "y\ny\n", "site", "policy", "edit")
    assert "unknown key 'minimal_cell'" in ended.output
    assert "minimum_cell = 21" in policy.read_text(), ended.output
    editor("sys.exit(3)")
    run(ready, "amber", "site", "policy", "edit").assert_explains("code 3")
    monkeypatch.setenv("VISUAL", "")
    monkeypatch.setenv("EDITOR", "")
    run(ready, "amber", "site", "policy", "edit").assert_explains("neither VISUAL nor EDITOR")
    assert not (ready.home("amber") / "policy.edit.toml").exists()


JOINED = """
name = "hospitals"
method = "facmic"
rounds = 2
[data]
dataset = "brain-mri"
source = "joined"
sources = [
    {dataset = "brain-mri", path = "amber", site = "amber", exclude = ["pituitary"]},
    {dataset = "brain-mri", path = "birch", site = "birch"},
    {dataset = "brain-mri", path = "cedar", site = "cedar"},
]
[sites]
partition = "column"
unseen = ""
[reference]
source = "class-means"
"""


def test_a_hospital_gives_its_own_folder_and_sees_by_what_its_images_are_counted(
    run: Call, images: Callable[..., Path], tmp_path: Path
) -> None:
    root = tmp_path / "town"
    root.mkdir()
    (root / "study.toml").write_text(JOINED)
    (root / "secret").write_text(SECRET)
    (root / "secret").chmod(0o600)
    found(root / "study.toml", root / "c", Machine("localhost", 8002, 8002), lambda: SECRET.encode(), now=1_790_000_000)
    town, mine = Town(root), images(8)
    join(run, town, "amber").assert_explains("0 folders are given with --data, 1 are wanted")
    join(run, town, "amber", "--data", mine / "absent").assert_explains("no such folder")
    join(run, town, "amber", "--data", mine, "--data", mine).assert_explains("2 folders are given")
    ended = join(run, town, "amber", "--data", mine)
    assert ended.code == 0, ended.err
    assert "classes left out: pituitary" in ended.out
    request = town.site().read_request().document
    assert f"{request.samples} training images" in ended.out
    assert 11 <= request.samples < 24  # of three classes with eight pictures each
    study = town.site().study()
    assert [source.path for source in study.data.sources] == [str(mine), "", ""]
    assert study.digest() == town.folder.record.study_hash
    assert str(mine) not in town.site().request.read_text()
    again = join(run, town, "amber", "--data", mine, "--count-again")
    assert again.code == 0, again.err
    assert town.site().read_request().document.samples == request.samples


@pytest.mark.parametrize(
    ("share", "accepted", "yes", "answer", "code"),
    [
        (0.5, False, True, "", 0),
        (0.7, True, True, "", 0),
        (0.7, False, False, "yes\n", 0),
        (0.7, False, False, "y\n", 1),
    ],
)
def test_a_sum_that_is_mostly_ones_own_needs_a_consent_of_its_own(
    share: float, accepted: bool, yes: bool, answer: str, code: int
) -> None:
    asking = typer.Typer()
    proposal: Any = SimpleNamespace(share=share)

    @asking.command()
    def ask() -> None:
        ask_share(proposal, accepted, yes)

    assert CliRunner().invoke(asking, [], input=answer).exit_code == code
    if share > 0.5 and not accepted:
        with pytest.raises(EnrolmentError, match="70 %"):
            ask_share(proposal, False, True)

"""``wardround site policy check`` and ``edit``: what a policy lets out, before anything does."""

from __future__ import annotations

import difflib
import os
import shlex
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from .console import ERR, OUT, one_line, print_json, show_error

if TYPE_CHECKING:
    from ...privacy.policy import Policy

EDITED = "policy.edit.toml"
"""The copy that is edited, in the home; it is removed at the end."""

app = typer.Typer(no_args_is_help=True, help="A site's egress policy. Example: wardround site policy check policy.toml")


@app.callback()
def group() -> None:
    """Look at the file that says what may leave a site."""


@app.command("check")
def check(
    policy: Annotated[Path, typer.Argument(metavar="POLICY.toml", help="The policy; in a home it is policy.toml.")],
    study: Annotated[
        Path | None, typer.Option("--study", metavar="STUDY.toml", help="Whether this study could run under it.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Say in words what a policy lets out, what is unwise in it, and which rules would stop a study.

    Exit code 1 where the study would be refused. Example: wardround site policy check policy.toml --study study.toml
    """
    from ...privacy.policy import Policy
    from ..policy_check import check_policy
    from ..study_file import load_study

    read = Policy.load(policy)
    found = check_policy(read, load_study(study) if study is not None else None)
    if json_:
        print_json({"role": read.role, "sha256": read.digest, **asdict(found)})
    else:
        OUT.print(Text(f"A {read.role}'s policy, SHA-256 {read.digest}. What may leave:", style="bold"))
        for line in found.allows:
            OUT.print(Text(one_line(f"  {line}")))
        if found.denied:
            OUT.print(Text(f"  not: {', '.join(found.denied)}"))
        for warning in found.warnings:
            OUT.print(Text("warning: ", style="bold yellow").append(one_line(warning), style="default"))
        for rule, why in found.refusals:
            OUT.print(Text("refused: ", style="bold red").append(one_line(f"{rule}: {why}"), style="default"))
        if study is not None and not found.refusals:
            OUT.print(Text("The study can run under this policy.", style="green"))
    if found.refusals:
        raise typer.Exit(1)


@app.command("edit")
def edit(
    home: Annotated[
        Path | None,
        typer.Option("--home", metavar="HOME", help="The site's home; default: the only one in WARDROUND_HOME/sites."),
    ] = None,
) -> None:
    """Edit the site's policy with VISUAL or EDITOR: a copy is edited, checked, and takes the policy's place whole.

    Example: wardround site policy edit
    """
    from ...privacy.atomic import write_atomic
    from ...privacy.errors import PolicyError
    from ...privacy.policy import Policy
    from ..enrolling.finding import find_home

    place = find_home(home)
    file, copy = place / "policy.toml", place / EDITED
    if not file.is_file():
        raise PolicyError(
            "this site has no policy yet",
            where=str(file),
            remedy="One is written when the site approves its first study: wardround site approve",
        )
    before = file.read_bytes()
    write_atomic(copy, before)
    try:
        while True:
            _open_editor(copy)
            after = copy.read_bytes()
            if after == before:
                OUT.print("Nothing was changed.")
                return
            try:
                _check_role(Policy.parse(after, where=str(copy)), copy)
            except PolicyError as error:
                show_error(error.what, error.where, error.remedy)
                if not typer.confirm("Edit it again? Else nothing is changed", default=True, err=True):
                    raise typer.Exit(1) from None
                continue
            break
        _show_change(before, after)
        _show_meaning(place, Policy.parse(after))
        if not typer.confirm("Let this be the policy?", default=True, err=True):
            ERR.print("Nothing was changed.")
            raise typer.Exit(1)
        write_atomic(file, after)
    finally:
        copy.unlink(missing_ok=True)
    OUT.print(Text(f"Policy replaced, SHA-256 {Policy.parse(after).digest}."))
    OUT.print(Text("A site that is running goes on with the one that it started with, until: wardround site stop"))


def _open_editor(path: Path) -> None:
    """Let a person edit a file; returns when the editor ends.

    Raises:
        PolicyError: there is no editor, or it failed.
    """
    from ...privacy.errors import PolicyError

    named = os.environ.get("VISUAL") or os.environ.get("EDITOR") or ""
    try:
        words = shlex.split(named)
        if not words:
            raise ValueError("neither VISUAL nor EDITOR is set")
        code = subprocess.run([*words, str(path)], check=False).returncode  # noqa: S603 - the person's own editor
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise PolicyError(
            f"the editor cannot be started: {reason}",
            where="EDITOR",
            remedy="Set EDITOR to the command of an editor that waits until the file is closed",
        ) from None
    if code:
        raise PolicyError(
            f"the editor ended with code {code}; nothing was changed", where=named, remedy="Run the command again"
        )


def _check_role(policy: Policy, where: Path) -> None:
    """Refuse a coordinator's policy in a site's home.

    Raises:
        PolicyError: it is one.
    """
    from ...privacy.errors import PolicyError

    if policy.role != "site":
        raise PolicyError("this is a coordinator's policy", where=f"{where}, key role", remedy='Write role = "site"')


def _show_change(before: bytes, after: bytes) -> None:
    old, new = (each.decode("utf-8", errors="replace").splitlines() for each in (before, after))
    for line in difflib.unified_diff(old, new, "policy.toml", "policy.toml, edited", lineterm="", n=1):
        OUT.print(Text(one_line(line)))


def _show_meaning(home: Path, policy: Policy) -> None:
    """What is unwise in a policy, and which studies of the site it would stop."""
    from ..enrolling.errors import EnrolmentError
    from ..enrolling.finding import folders_of
    from ..policy_check import check_policy

    for warning in check_policy(policy).warnings:
        OUT.print(Text("warning: ", style="bold yellow").append(one_line(warning), style="default"))
    for folder in folders_of(home):
        if folder.left.exists():
            continue
        try:
            study = folder.study()
        except EnrolmentError as error:
            OUT.print(Text("warning: ", style="bold yellow").append(one_line(error.what), style="default"))
            continue
        for rule, why in check_policy(policy, study).refusals:
            line = f"{study.name} would be refused, {rule}: {why}"
            OUT.print(Text("warning: ", style="bold yellow").append(one_line(line), style="default"))

"""``wardround site policy check``: what a policy lets out, before anything does."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from .console import OUT, one_line, print_json

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

"""``wardround privacy audit``: an attack on a run's private training, and its place in the dossier."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from .console import ERR, OUT, print_json, print_table

if TYPE_CHECKING:
    from ...privacy.differential_privacy.leakage import Leakage
    from ..privacy_audit import RunAudit


def audit(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A complete private run.")],
    noise: Annotated[
        float,
        typer.Option(
            "--noise",
            metavar="FACTOR",
            help="Divide the noise by this, at least 1, to see the audit find a fault; inf: no noise. Not recorded.",
        ),
    ] = 1.0,
    json_: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Attack a run's private training with 1,000 canaries, and put what that showed into its dossier.

    The training runs once more, on drawn features that belong to nobody. Example: wardround privacy audit runs/brain
    """
    from ..privacy_audit import audit_run

    with ERR.status("training on canaries"):
        found = audit_run(run, divisor=noise)
    if json_:
        print_json(found.as_dict())
        return
    print_table(_table(found))
    OUT.print(Text(_meaning(found)))
    if found.divisor == 1.0:
        OUT.print(Text(f"Recorded in {run / 'privacy-audit.json'}, and on the front page: {run / 'index.html'}"))


def _table(found: RunAudit) -> Table:
    bound, member = found.bound, found.membership
    table = Table(title="An attack on the training", title_justify="left")
    table.add_column("what")
    table.add_column("value", justify="right")
    lowered = "" if found.epsilon is not None else ", with all of the noise"
    for what, value in (
        (f"epsilon by the accountant, delta {found.delta:g}{lowered}", f"{found.full_epsilon:.3f}"),
        (f"noise multiplier, {found.steps} steps at {found.sample_rate:g}", f"{found.noise_multiplier:.3f}"),
        (f"canaries guessed right, of {bound.guesses} of {bound.canaries}", str(bound.right)),
        (f"epsilon is at least, {bound.confidence:.0%} sure", f"{bound.lower_bound:.3f}"),
        ("the most that so many guesses could show", f"{bound.ceiling:.3f}"),
        ("membership attack on the final adapter: AUC", f"{member.auc:.3f}"),
        ("epsilon by that attack is at least", f"{member.lower_bound:.3f}"),
        (f"plain update of one image: cosine, place of {found.unmasked.others + 1}", _leak(found.unmasked)),
        ("the same masked", _leak(found.masked)),
        ("the same noised", _leak(found.private)),
    ):
        table.add_row(what, value)
    return table


def _leak(leak: Leakage) -> str:
    return f"{leak.cosine:.2f}, {leak.rank}"


def _meaning(found: RunAudit) -> str:
    bound, claim = found.bound.lower_bound, found.full_epsilon
    weak = found.bound.ceiling < claim
    short = " With so few guesses even a perfect attack would have stayed below that." if weak else ""
    if found.epsilon is None:
        told = f"With so little noise the measured bound is {bound:.3f}; all of it would give epsilon {claim:.3f}. "
        if bound > claim:
            return f"{told}Such a fault is found. Nothing was recorded."
        return f"{told}Such a fault is not found.{short} Nothing was recorded."
    if bound > claim:
        return "The measured bound is ABOVE what the accountant says: there is a fault. Do not use this training."
    return (
        "The measured bound is not above what the accountant says. That proves no privacy; a bound above it would have "
        f"proved a fault.{short}"
    )

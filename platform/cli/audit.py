"""``wardround audit``: what left, whether the ledgers can be believed, and proofs to carry away."""

from __future__ import annotations

import typer

from . import audit_export, audit_proofs, audit_show, audit_verify

app = typer.Typer(no_args_is_help=True, help="Audit what was transmitted. Example: wardround audit verify runs/brain")


@app.callback()
def group() -> None:
    """Read ledgers offline: show what left, verify, compare, prove, export."""


app.command("verify")(audit_verify.verify)
app.command("reconcile")(audit_verify.reconcile)
app.command("prove")(audit_proofs.prove)
app.command("verify-proof")(audit_proofs.verify_proof)
app.command("show")(audit_show.show)
app.command("export")(audit_export.export)

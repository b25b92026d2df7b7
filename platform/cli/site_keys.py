"""``wardround site rotate-key``: a new key for a ledger's checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from .console import OUT, print_json


def rotate_key(
    home: Annotated[Path, typer.Option("--home", metavar="HOME", help="In a simulation RUN/homes/SITE.")],
    lost: Annotated[
        bool, typer.Option("--lost", help="The key in force is gone; the identity vouches alone, and audits show that.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Let a new key sign the ledger's checkpoints from now on. The identity, which rosters name, stays.

    Example: wardround site rotate-key --home runs/brain/homes/amber
    """
    from ...privacy.errors import KeyStoreError
    from ...privacy.identity import fingerprint_hex
    from ...privacy.ledger.keys import rotate
    from ..held_home import hold

    with hold(home) as held, held.ledger() as ledger:
        identity = held.identity()
        if identity is None:
            raise KeyStoreError(
                "the identity, or its passphrase, is not in this home",
                where=str(held.folder),
                remedy="Give the home of a site that took part in a study",
            )
        key = rotate(held.folder, identity, ledger, lost=lost)
        held.sign(ledger)
        number = ledger.chain.keys.keys[-1][0]
    if json_:
        print_json({"entry": number, "key": fingerprint_hex(key.public_key), "recovered": lost})
        return
    OUT.print(Text(f"A new key signs this ledger's checkpoints, from entry {number} on."))
    OUT.print(Text("The old one is removed: what it signed stays valid, and nothing later can be signed with it."))
    OUT.print(Text(f"Identity, as before: {identity.fingerprint}"))

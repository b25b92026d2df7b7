"""``wardround consortium``: the coordinator's side of enrolment, from a study to the roster that everybody signed."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from .console import ERR, OUT, one_line, print_json, print_table

if TYPE_CHECKING:
    from ..enrolling.coordinator_folder import ConsortiumFolder
    from ..enrolling.gathering import Heard
    from ..enrolling.standing import Standing

PORT = 8002
app = typer.Typer(
    no_args_is_help=True,
    help="Hospitals become a consortium. Example: wardround consortium new study.toml --out c --address host.example",
)
Json = Annotated[bool, typer.Option("--json", help="For scripts.")]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        metavar="FILE",
        help="Passphrase of the coordinator's identity, outside the folder, mode 0600; else it is asked for.",
    ),
]


@app.callback()
def group() -> None:
    """Found a consortium, take in what hospitals send, make their kits."""


@app.command("new")
def new(
    study: Annotated[Path, typer.Argument(metavar="STUDY.toml", help="The study; docs/study.md lists its keys.")],
    out: Annotated[Path, typer.Option("--out", metavar="C", help="The consortium's folder, which is made.")],
    address: Annotated[
        str, typer.Option("--address", metavar="HOST[:PORT]", help=f"Where hospitals reach this server; port {PORT}.")
    ],
    admin_port: Annotated[
        int | None,
        typer.Option(
            "--admin-port", min=1, max=65535, help="Port for this machine's own orders; the same one by default."
        ),
    ] = None,
    passphrase_file: PassphraseFile = None,
    json_: Json = False,
) -> None:
    """Make the coordinator's identity and an invitation, which hospitals are sent.

    Example: wardround consortium new study.toml --out consortium --address coordinator.example.org:8002
    """
    from ..engines.nvflare.hardening import Machine
    from ..enrolling.founding import found
    from ..enrolling.passphrase import passphrase_for

    host, port = _address(address)
    made = found(
        study,
        out,
        Machine(host, port, admin_port or port),
        lambda: passphrase_for(passphrase_file, new=True, folder=out),
        now=int(time.time()),
    )
    if json_:
        print_json(
            {
                "study": made.study.name,
                "study_hash": made.folder.record.study_hash,
                "backbone": made.study.backbone.fingerprint,
                "words": made.words,
                "invitation": str(made.folder.invitation),
                "invitation_sha256": made.invitation.sha256,
                "sites": list(made.members),
            }
        )
        return
    OUT.print(Text(f"Founded: {made.study.name}, study {made.folder.record.study_hash}", style="bold"))
    OUT.print(Text(f"Backbone, pinned: {made.study.backbone.fingerprint}"))
    OUT.print(Text("Your own words, for hospitals that call you: ").append(made.words, style="bold"))
    OUT.print(Text("Read them out on the telephone only; do not send them along with a file."))
    OUT.print(Text("Next:", style="bold"))
    OUT.print(Text(f"  1. Send {made.folder.invitation} to: {', '.join(made.members)}. It holds no secret."))
    OUT.print(Text("     Each runs: wardround site join invitation.json --site NAME"))
    OUT.print(Text(f"  2. Add each request that comes back: wardround consortium add-site REQUEST --consortium {out}"))
    OUT.print(Text(f"  3. Keep a backup of {out} and, elsewhere, of the passphrase."))


@app.command("add-site")
def add_site(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Requests or approvals that hospitals sent.")],
    consortium: Annotated[
        Path, typer.Option("--consortium", metavar="C", help="The consortium's folder.", show_default="here")
    ] = Path(),
    words: Annotated[
        list[str] | None,
        typer.Option("--words", metavar="[SITE=]WORDS", help="The eight words that the hospital read out; else asked."),
    ] = None,
    unconfirmed: Annotated[
        bool,
        typer.Option("--unconfirmed", help="Take requests without comparing words: such sites do not count for sums."),
    ] = False,
    json_: Json = False,
) -> None:
    """Check what a hospital sent and take it in: its request to take part, or its approval of the study.

    Files before one that is refused stay taken in. Example: wardround consortium add-site amber.request.json
    """
    from ..enrolling.coordinator_folder import ConsortiumFolder
    from ..enrolling.gathering import add_file
    from ..enrolling.standing import standing_of

    folder = ConsortiumFolder.load(consortium)
    heard = _heard(words or [], unconfirmed=unconfirmed, single=len(files) == 1)
    added = []
    with folder.held():
        for path in files:
            each = add_file(folder, path, heard)
            added.append(each)
            if not json_:
                state = "taken in" if each.new else "was here already"
                compared = "words compared" if each.confirmed else "words NOT compared"
                OUT.print(Text(one_line(f"{each.site}: {each.kind} {state}, {compared}")))
        standing = standing_of(folder, now=datetime.now(UTC))
    if json_:
        shown = [{"site": a.site, "kind": a.kind, "new": a.new, "confirmed": a.confirmed} for a in added]
        print_json({"added": shown, **_as_json(folder, standing)})
    else:
        _print_steps(standing)


@app.command("provision")
def provision(
    consortium: Annotated[
        Path, typer.Argument(metavar="C", help="The consortium's folder.", show_default="here")
    ] = Path(),
    without: Annotated[
        list[str] | None,
        typer.Option("--without", metavar="SITE", help="A hospital of the study that does not take part after all."),
    ] = None,
    renew: Annotated[
        list[str] | None,
        typer.Option("--renew", metavar="SITE", help="Make its certificate anew; `coordinator`: the server's own."),
    ] = None,
    passphrase_file: PassphraseFile = None,
    json_: Json = False,
) -> None:
    """Do what can be done next: draw the roster, once; make kits; gather the signatures. Says who must do what.

    Example: wardround consortium provision consortium
    """
    from ..enrolling.coordinator_folder import ConsortiumFolder
    from ..enrolling.passphrase import passphrase_for
    from ..enrolling.provisioned import provision as go_on
    from ..enrolling.standing import standing_of

    folder = ConsortiumFolder.load(consortium)
    with folder.held():
        go_on(
            folder,
            lambda: folder.read_identity(passphrase_for(passphrase_file, new=False, folder=folder.root)),
            without=without or (),
            renew=renew or (),
            now=int(time.time()),
        )
        standing = standing_of(folder, now=datetime.now(UTC))
    if json_:
        print_json(_as_json(folder, standing))
        return
    _print_table(standing)
    _print_steps(standing)


def _address(text: str) -> tuple[str, int]:
    """``HOST[:PORT]`` as host and port.

    Raises:
        EnrolmentError: it is none.
    """
    from ..enrolling.errors import EnrolmentError

    host, colon, port = text.rpartition(":") if ":" in text else (text, "", "")
    if ":" in host or (colon and not (port.isascii() and port.isdigit() and 1 <= int(port[:6]) <= 65535)):
        raise EnrolmentError(
            f"{text!r} is no address",
            where="--address",
            remedy="Write HOST or HOST:PORT, with a name or an IPv4 address and a port from 1 to 65535",
        )
    return host, int(port) if colon else PORT


def _heard(words: list[str], *, unconfirmed: bool, single: bool) -> Heard:
    """Where a site's words come from: the command line, or a person at the terminal."""
    from ..enrolling.errors import EnrolmentError
    from ..enrolling.words import CALL

    named = dict(each.split("=", 1) for each in words if "=" in each)
    bare = [each for each in words if "=" not in each]
    if len(bare) > 1 or (bare and not single):
        raise EnrolmentError(
            "it is not said whose words these are", where="--words", remedy="Write SITE=WORDS for each hospital"
        )

    def heard(site: str) -> str | None:
        if site in named or bare:
            return named.get(site) or bare[0]
        if unconfirmed:
            return None
        if not sys.stdin.isatty():
            raise EnrolmentError(
                f"the words of '{site}' were not compared, so its request is not taken in",
                where="--words",
                remedy=f"{CALL}. Then give them with --words, or take the request with --unconfirmed",
            )
        ERR.print(Text(f"{CALL}."))
        return str(typer.prompt(f"The eight words that {site} read out", err=True))

    return heard


def _as_json(folder: ConsortiumFolder, standing: Standing) -> Mapping[str, Any]:
    return {
        "study": standing.study,
        "study_hash": standing.study_hash,
        "drawn": standing.drawn,
        "signed": standing.signed,
        "signed_roster": str(folder.signed_roster) if standing.signed else None,
        "sites": [
            {
                "site": row.site,
                "takes_part": row.takes_part,
                "request": row.samples is not None,
                "samples": row.samples,
                "confirmed": row.confirmed,
                "kit": str(folder.kit(row.site)) if row.kit else None,
                "certificate_until": None if row.until is None else row.until.isoformat(),
                "approved": row.approved,
            }
            for row in standing.sites
        ],
        "next": list(standing.steps),
    }


def _print_table(standing: Standing) -> None:
    title = f"{standing.study} · study {standing.study_hash[:16]}… · roster " + (
        "signed by all" if standing.signed else "drawn" if standing.drawn else "not drawn yet"
    )
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for name in ("site", "request", "words compared", "kit", "certificate until", "approval"):
        table.add_column(name, no_wrap=True)
    table.columns[1].justify = "right"
    for row in standing.sites:
        if not row.takes_part:
            table.add_row(row.site, "left out", "–", "–", "–", "–")
            continue
        table.add_row(
            row.site,
            "–" if row.samples is None else f"{row.samples} samples",
            "yes" if row.confirmed else "no",
            "made" if row.kit else "–",
            "–" if row.until is None else f"{row.until:%Y-%m-%d}",
            "yes" if row.approved else "–",
        )
    print_table(table)


def _print_steps(standing: Standing) -> None:
    OUT.print(Text("Next:", style="bold"))
    for number, step in enumerate(standing.steps, start=1):
        OUT.print(Text(one_line(f"  {number}. {step}.")))

"""What a hospital's person reads before each step of enrolment; texts from elsewhere are never read as markup."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .console import OUT, one_line, print_table, size

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from ..enrolling.approving import Proposal, Spending
    from ..enrolling.confirming import Confirmed
    from ..enrolling.counting import Counted
    from ..enrolling.installing import Installed
    from ..enrolling.joining import Invited
    from ..enrolling.leaving import Leaving

UNCOVERED = (
    "how many {units} this site has: the number stands in the roster, in clear",
    "that it takes part, when its messages leave, and how large they are",
    "numbers of messages and hashes of its ledger, which others sign",
)
"""What no sum and no noise hides."""


def say(text: str, *, title: str = "", out: Console = OUT, style: str = "bold") -> None:
    """One line of plain text, whatever is in it."""
    line = Text(f"{title} " if title else "", style=style)
    out.print(line.append(one_line(text), style="default"))


def list_of(lines: Iterable[str], out: Console = OUT) -> None:
    """Lines of a list."""
    for line in lines:
        say(f"- {line}", out=out)


def show_invitation(invited: Invited, site: str, others: Iterable[str], filters: Mapping[str, str]) -> None:
    """Who asks, for what, and which images would count."""
    study, document = invited.study, invited.signed.document
    created = dt.datetime.fromtimestamp(document.created, dt.UTC)
    say(f"{study.name} ({invited.digest})", title="Study:")
    say(f"{study.method}, {study.rounds} rounds, over {document.host}:{document.port}", title="Trains:")
    say(f"{site}; with {', '.join(others)}", title="As:")
    say(f"{study.backbone.name}, fingerprint {study.backbone.fingerprint}", title="Frozen model:")
    privacy = study.privacy
    say(
        f"differential privacy, epsilon {privacy.epsilon:g} and delta {privacy.delta:g} for one {privacy.unit}"
        if study.private
        else "no differential privacy: what is summed carries no noise",
        title="Privacy:",
    )
    say(f"{created:%Y-%m-%d %H:%M} UTC", title="Invited:")
    OUT.print(Text("Which images count is the coordinator's choice:", style="bold"))
    list_of(f"{key}: {words}" for key, words in filters.items())


def show_counted(counted: Counted) -> None:
    """The number that would be told, and what it is the number of."""
    say(f"{counted.samples} training {counted.what}. This number, and no other, would be told.", title="Here:")
    list_of(
        [
            f"{counted.train} images in training, {counted.validation} in validation, {counted.test} in test",
            *([f"{counted.withdrawn} withdrawn training images are in the number"] if counted.withdrawn else []),
            *([f"{counted.skipped} images could not be read and do not count"] if counted.skipped else []),
        ]
    )


def show_request(path: Path, words: str, samples: int) -> None:
    """Where the request is, and what happens next."""
    say(str(path), title="Request:")
    say(f"It states {samples}, this site's public keys, and nothing about images.")
    say(words, title="Own words:")
    OUT.print(Text("Next:", style="bold"))
    list_of(
        [
            "Send the request's file to the coordinator.",
            "Read your own words out when the coordinator or another hospital calls.",
            "When the coordinator sends this site's kit: wardround site join NAME.kit.json",
        ]
    )


def show_installed(installed: Installed, site: str) -> None:
    """A kit that was installed."""
    roster = installed.roster
    title = "Installed:" if installed.new else "Installed before, and whole:"
    say(f"{len(roster.names)} sites, under the same roster as drawn here.", title=title)
    say(installed.authority, title="Authority of the network (SHA-256):")
    _others(installed, site)
    say("wardround site approve", title="Next, read what would leave, and decide:")


def show_proposal(proposal: Proposal, site: str) -> None:
    """All that consent is about."""
    from ..enrolling.outflow import outgoing

    study, terms, roster = proposal.study, proposal.installed.terms, proposal.installed.roster
    units = f"{study.privacy.unit}s" if study.private else "training images"
    say(f"{study.name} ({terms.digest})", title="Study:")
    say(f"{study.method}, {study.rounds} rounds", title="Trains:")
    say(f"{study.backbone.name}, fingerprint {terms.backbone}", title="Frozen model:")
    rows = outgoing(terms)
    table = Table(title="What would leave this site", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for name in ("message", "what is in it", "bytes, at most", "a round", "in the study"):
        table.add_column(name, justify="left" if name in ("message", "what is in it") else "right", no_wrap=True)
    for row in rows:
        often = str(row.each_round) if row.each_round else "–"
        table.add_row(Text(row.message), Text(row.holds), size(row.largest), often, str(row.whole or "–"))
    print_table(table)
    again = sum(row.largest * row.each_round for row in rows)
    say(f"{size(sum(row.total for row in rows))} at most; each round that is repeated sends up to {size(again)} more.")
    least = roster.thresholds.least
    say(f"each over at least {least} of {len(roster.names)} sites: {', '.join(roster.vectors)}", title="Sums:")
    colluding = roster.thresholds.colluding
    say(f"up to this many other sites, together with the coordinator, learn no more: {colluding}.", title="Collusion:")
    _privacy(proposal, units)
    say(f"{100 * proposal.share:.0f} % of a sum at most is this site's own.", title="Share:")
    if proposal.share > 0.5:
        say("such a sum is nearly this site's own update.", title="warning:", style="bold yellow")
    OUT.print(Text("Not hidden by any of this:", style="bold"))
    list_of(line.format(units=units) for line in UNCOVERED)
    _others(proposal.installed, site)
    if proposal.earlier:
        from ..enrolling.earlier import in_words

        OUT.print(Text("Earlier studies, over what may be the same images:", style="bold"))
        list_of(in_words(each) for each in proposal.earlier)
    _policy(proposal)


def show_approval(path: Path) -> None:
    """An approval that was given."""
    say(str(path), title="Approved:")
    OUT.print(Text("Next:", style="bold"))
    list_of(
        [
            "Send the approval's file to the coordinator.",
            "When the coordinator sends signed-roster.json, call each other hospital.",
            "Then confirm their words: wardround site roster confirm signed-roster.json",
        ]
    )


def show_confirmed(confirmed: Confirmed, site: str) -> None:
    """Who counts from now on."""
    roster = confirmed.roster.roster
    say(f"{len(confirmed.persons)} of {len(roster.names)} sites, each with its signature.", title="Confirmed:")
    list_of(
        f"{name}: {person or 'the words were compared'}" for name, person in confirmed.persons.items() if name != site
    )
    if confirmed.others:
        say(f"{', '.join(confirmed.others)}; they do not count towards the size of a sum.", title="Not confirmed:")
    OUT.print(Text("Next:", style="bold"))
    list_of(["Look whether all is in place: wardround doctor --kit DIR", "Take part: wardround site start"])


def show_left(found: Leaving, name: str) -> None:
    """What leaving does, and what it cannot undo."""
    say(f"this site takes no further part in {name}; its keys to the network are removed.", title="Left:")
    kept = ["This site's ledger, its rosters and documents, its models."]
    known = ["that this site was invited"] if not found.asked else ["the number that it told, and its public keys"]
    known += ["that it approved, and its signature"] if found.approved else []
    known += ["every sum that it was in; sums are not taken back"] if found.begun else []
    OUT.print(Text("Kept here:", style="bold"))
    list_of([*kept, "Cached features and the study's state: wardround site purge removes them."])
    OUT.print(Text("What the coordinator still knows:", style="bold"))
    list_of(known)
    say("Tell the coordinator that this site has left: nothing does so by itself.", title="Next:")


def _privacy(proposal: Proposal, units: str) -> None:
    study, spending = proposal.study, proposal.spending
    if spending is None:
        say("none. What is summed carries no noise; only the sums are hidden behind others'.", title="Privacy:")
        return
    privacy = study.privacy
    say(
        f"epsilon {privacy.epsilon:g}, delta {privacy.delta:g} for one {privacy.unit}, over all rounds, by this site's "
        f"own noise ({spending.plan.noise_multiplier:.2f} times the clip {privacy.clip:g}).",
        title="Privacy:",
    )
    say(f"{proposal.samples} {units}; {_left(spending)}", title="Budget:")


def _left(spending: Spending) -> str:
    most = spending.maximum
    limit = "the policy sets no most" if most is None else f"{most:g} is the policy's most over all"
    return f"epsilon {spending.spent:.2f} is spent by earlier studies; {limit}"


def _others(installed: Installed, site: str) -> None:
    table = Table(title="Who takes part", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("site")
    table.add_column("samples", justify="right")
    for each in installed.roster.sites:
        table.add_row(Text(f"{each.name} (this site)" if each.name == site else each.name), str(each.samples))
    print_table(table)


def _policy(proposal: Proposal) -> None:
    from ..policy_check import check_policy

    new = proposal.policy_text is not None
    say(
        f"SHA-256 {proposal.policy.digest}" + ("; this site has none yet, so this one is written:" if new else ""),
        title="Policy:",
    )
    checked = check_policy(proposal.policy)
    if new:
        list_of(checked.allows)
    for warning in checked.warnings:
        say(warning, title="warning:", style="bold yellow")
    for rule, why in proposal.refusals:
        say(f"{rule}: {why}", title="refused:", style="bold red")
    say(f"ledger entries are kept {proposal.policy.log.retention_days} days.", title="Retention:")

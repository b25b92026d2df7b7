"""A draft annex to a data-protection impact assessment, from what a run's ledgers say. A lawyer finishes it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from ...privacy.ledger.batches import COORDINATOR
from ...privacy.ledger.reading import read_good
from ...privacy.ledger.verifying import Verified
from ..config import Study
from .sources import Source
from .verification import Audit

_SPECIAL = re.compile(r"[\\\\`*_{}\[\]<>()#+|!-]")
CONTENT = {
    "advert": "two fresh public keys, a commitment, a hash",
    "sealed-shares": "encrypted shares of one-time secrets, for the other sites",
    "masked-vector": "the update of the adapter under one-time masks: unreadable alone",
    "agreement": "a signature over the list of sites in a sum",
    "unmask-answer": "shares that open the sum over all sites, never one site's update",
    "receipt": "size and hash of the site's ledger; hashes of what it received",
    "cosignature": "a signature over everybody's ledger hashes",
    "refusal": "a code: the site does not go on",
}
"""What each message type of a site has in it."""


def annex(study: Study, found: Audit) -> str:
    """The annex as Markdown; the same ledgers give the same text.

    Args:
        study: what was run.
        found: its ledgers, verified.
    """
    pairs = list(zip(found.sources, found.ledgers, strict=True))
    sites = [(source, ledger) for source, ledger in pairs if ledger.owner != COORDINATOR]
    lines = [
        f'# Annex to the impact assessment: study "{study.name}"',
        "",
        (
            "Drafted from the ledgers of the study by `wardround report build`. It states what was transmitted, and "
            "how it was protected. Purpose, necessity, legal basis and the rights of patients are for the controller "
            "to write; what it must fill in is marked [ ]. Not legal advice."
        ),
        "",
        *_warning(found),
        *_processing(study, found),
        *_transmitted(sites),
        *_measures(study, sites),
        *_evidence(found),
        *_risks(study),
    ]
    return "\n".join(lines) + "\n"


def _warning(found: Audit) -> Iterator[str]:
    if not found.ok:
        yield "**NOT TO BE RELIED ON: these ledgers do not hold (see 4). Every figure below is only what they say.**"
        yield ""


def _processing(study: Study, found: Audit) -> Iterator[str]:
    owners = [
        f"{party} (its ledger is not here)" if party in found.missing else party
        for party in found.parties
        if party != COORDINATOR
    ]
    yield from (
        "## 1. Processing (GDPR 30, 35(7)(a))",
        "",
        "| | |",
        "|---|---|",
        f"| study | {study.name}, SHA-256 `{study.digest()}` |",
        f"| what is trained | an adapter ({study.method}) on a frozen image model, {study.rounds} rounds |",
        f"| sites (controllers) | {', '.join(owners)} [ legal names ] |",
        "| coordinator (recipient) | [ legal name, country ] |",
        "| data subjects | patients whose images are in the sites' training data [ number, criteria ] |",
        "| images and labels | stay at the site; no message type can carry them |",
        "| purpose | [ ] |",
        "",
    )


def _transmitted(sites: list[tuple[Source, Verified]]) -> Iterator[str]:
    yield from (
        "## 2. What left the sites",
        "",
        "| message | what is in it | messages | bytes |",
        "|---|---|---|---|",
    )
    count: Counter[str] = Counter()
    size: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    first, last = "", ""
    for source, _ in sites:
        for entry in read_good(source.ledger):
            if entry.kind != "message" or entry.direction != "out":
                continue
            if entry.outcome == "refused":
                refused[entry.rule] += 1
                continue
            count[entry.message_type] += 1
            size[entry.message_type] += entry.wire_bytes
            first, last = min(first or entry.time, entry.time), max(last, entry.time)
    for kind in sorted(count):
        yield f"| {kind} | {CONTENT.get(kind, '')} | {count[kind]:,} | {size[kind]:,} |"
    yield from (
        f"| **all** | | **{count.total():,}** | **{size.total():,}** |",
        "",
        f"From {first or '-'} to {last or '-'} (UTC). Recipient of all of them: the coordinator.",
    )
    if refused:
        stopped = ", ".join(f"{rule} ({number})" for rule, number in sorted(refused.items()))
        yield f"Stopped by the sites' own policies before anything left: {stopped}."
    else:
        yield "The sites' own policies stopped nothing."
    yield ""


def _measures(study: Study, sites: list[tuple[Source, Verified]]) -> Iterator[str]:
    yield from ("## 3. Measures (GDPR 25, 32; HIPAA 164.312)", "")
    yield "- **Secure aggregation**: the coordinator sees sums over sites; masks are one-time and agreed between sites."
    if study.private:
        privacy = study.privacy
        yield (
            f"- **Differential privacy** of every site's update: epsilon at most {privacy.epsilon:g} at delta "
            f"{privacy.delta:g} by {privacy.unit}, over the whole study."
        )
    else:
        yield "- **No differential privacy**: the sums are exact, and can hold traces of single patients."
    cosigned, entries = sum(ledger.cosigned for _, ledger in sites), sum(ledger.entries for _, ledger in sites)
    yield (
        f"- **Ledger**: every message is written down before it leaves; the other parties cosigned the first "
        f"{cosigned:,} of {entries:,} entries of the sites' ledgers."
    )
    yield (
        "- **Keys** are encrypted at rest; homes are readable by their owner alone. In a simulation the passphrase "
        "lies beside the key."
    )
    for source, ledger in sites:
        for policy, purpose, basis, days in sorted(_reasons(source)):
            yield (
                f"- **Policy of {ledger.owner}** (SHA-256 `{policy}`), as its entries have it: purpose "
                f"{_plain(purpose) or '[ ]'}, legal basis {_plain(basis) or '[ ]'}, ledger kept {days} days."
            )
    yield ""


def _evidence(found: Audit) -> Iterator[str]:
    yield from (
        "## 4. Evidence (GDPR 5(2); HIPAA 164.312(b), (c); 21 CFR 11.10(e))",
        "",
        "| ledger | identity (compare by telephone) | entries | cosigned | verdict |",
        "|---|---|---|---|---|",
    )
    for ledger in found.ledgers:
        verdict = "holds" if ledger.ok else f"DOES NOT HOLD: {ledger.problems[0]}"
        yield f"| {ledger.owner} | {ledger.identity} | {ledger.entries:,} | {ledger.cosigned:,} | {verdict} |"
    yield ""
    for problem in found.between:
        yield f"- **Between ledgers**: {problem}"
    yield from (
        "Repeat it offline: `wardround audit verify RUN`, `wardround audit reconcile RUN`; or open audit.html.",
        "",
    )


def _risks(study: Study) -> Iterator[str]:
    yield from (
        "## 5. What remains (GDPR 35(7)(c))",
        "",
        (
            "- The ledgers show what passed the gate of this software. What other software on these machines sends, "
            "only the firewall's log shows."
        ),
        (
            "- A site and the coordinator together can rewrite a ledger unnoticed by whoever sees only theirs; the "
            "other sites' evidence shows it."
        ),
        "- Sizes, times and who took part are visible to the coordinator and on the network.",
    )
    if not study.private:
        yield "- The trained adapter, and each round's sum, can hold traces of single patients."
    yield from (
        (
            "- A patient who withdraws is left out from then on (`wardround site forget`); adapters trained before are "
            "not unlearned."
        ),
        "- [ assessment by the controller; views of data subjects; opinion of the data-protection officer ]",
    )


def _reasons(source: Source) -> set[tuple[str, str, str, int]]:
    """Policies under which messages left: hash, purpose, legal basis, days that entries are kept."""
    return {
        (entry.policy_sha256, entry.purpose, entry.legal_basis, entry.retention_days)
        for entry in read_good(source.ledger)
        if entry.kind == "message" and entry.direction == "out"
    }


def _plain(text: str) -> str:
    """A site's own words, without whatever Markdown, HTML or a terminal would make of them."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return _SPECIAL.sub(r"\\\g<0>", shown)

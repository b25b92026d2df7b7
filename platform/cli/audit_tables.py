"""What a survey of ledgers found, as tables and lines for a terminal."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from rich.box import SIMPLE_HEAD
from rich.table import Table

from .console import one_line, size

if TYPE_CHECKING:
    from ...privacy.ledger.entries import Entry
    from ..audit.showing import Count, Survey, Tally

ROWS, SHORT, WIDE = 20, 12, 44
"""Rows of a table at most; characters of a hash, and of words in a cell."""
HUGE = 10**18
_WAYS = {"out": "to", "in": "from"}
Row = TypeVar("Row")


def headline(found: Survey) -> list[str]:
    """How much was looked at, and what left whom, in a few sentences."""
    ledgers, entries = len(found.ledgers), sum(part.entries for part in found.ledgers)
    seen = f"{ledgers} ledger{'s' if ledgers > 1 else ''}, {entries:,} entries"
    if found.matching != entries:
        seen += f", {found.matching:,} of them asked for"
    seen += f"; {_when(*found.span)} UTC"
    lines = [seen]
    sites = [tally for owner, tally in found.owners.items() if owner != "coordinator"]
    own = [tally for owner, tally in found.owners.items() if owner == "coordinator"]
    for who, tallies in ((_one_of("site", found), sites), ("the coordinator", own)):
        if tallies:
            left, total = sum(tally.left for tally in tallies), sum(tally.left_bytes for tally in tallies)
            lines.append(f"left {who}: {_messages(left)}, {bytes_of(total)}")
    if found.owners:
        refused = sum(tally.refused for tally in found.owners.values())
        failed = sum(tally.failed for tally in found.owners.values())
        lines.append(f"refused by policy: {refused:,}; arrived, but no message: {failed:,}")
    return lines


def tables(found: Survey) -> list[Table]:
    """The summary; a table that would be empty is left out."""
    made = [_studies(found), _days(found), _parties(found), _types(found), _policies(found), _budgets(found)]
    return [table for table in [*made, _events(found)] if table.row_count]


def entry_line(entry: Entry, widths: tuple[int, int, int]) -> str:
    """One entry as one line: when, whose and which, where to or from, what, what became of it, how many bytes.

    Args:
        entry: any.
        widths: longest owner, peer and type of all that are shown.
    """
    from ..audit.filters import type_of

    owner, peer, kind = widths
    cells = (
        f"{entry.time[:19].replace('T', ' '):<19}",
        f"{entry.owner:<{owner}} {entry.sequence:>5}",
        f"{_WAYS.get(entry.direction, ''):<4} {entry.peer:<{peer}}",
        f"{type_of(entry):<{kind}}",
        f"{f'round {entry.round}' if entry.round >= 0 else '':<8}",
        f"{entry.outcome:<8}",
        _ending(entry),
    )
    line = "  ".join(cells).rstrip()
    return line if line.isprintable() else one_line(line)


def _ending(entry: Entry) -> str:
    """What matters most about it: the rule that stopped it, its bytes and their hash, or what it states."""
    if entry.outcome == "refused":
        return f"rule {entry.rule}"
    if entry.kind == "message":
        return f"{bytes_of(entry.wire_bytes):>8}  {entry.rule or f'sha256 {entry.wire_sha256[:SHORT]}'}"
    if entry.dp is not None:
        return f"{entry.stage} {entry.rule} epsilon {_epsilon(entry.dp.get('epsilon'))}".strip()
    # What a person declared is read as it is written; hashes and keys are cut.
    wide = entry.kind == "sign"
    facts = [
        f"{name} {str(value)[: None if wide and name != 'report' else SHORT]}"
        for name, value in sorted((entry.facts or {}).items())
    ]
    return ", ".join(facts) or entry.rule


def widths_of(found: Survey) -> tuple[int, int, int]:
    """For `entry_line`."""
    kinds = [kind for kind, _, _ in found.types] + [kind for _, kind in found.events]
    peers, owners = [peer for _, _, peer, _ in found.parties], [part.owner for part in found.ledgers]
    longest = [max((len(text) for text in texts), default=0) for texts in (owners, peers, kinds)]
    return min(longest[0], WIDE), min(longest[1], WIDE), min(longest[2], WIDE)


def bytes_of(number: int) -> str:
    """Bytes in a unit that is easy to read, whatever a ledger claims."""
    return size(number) if 0 <= number < HUGE else f"{number} B"


def _studies(found: Survey) -> Table:
    table = _table("by study", "study", "rounds", "when (UTC)", "left", "arrived", "refused", "failed")
    for study, tally in _some(found.studies.items(), table):
        low, high = found.rounds.get(study, (None, None))
        rounds = "-" if low is None else str(low) if low == high else f"{low}-{high}"
        table.add_row(_hash(study), rounds, _when(tally.first, tally.last), *_moved(tally))
    return table


def _days(found: Survey) -> Table:
    table = _table("by day (UTC)", "day", "left", "arrived", "refused", "failed")
    for day, tally in _some(sorted(found.days.items()), table):
        table.add_row(_words(day), *_moved(tally))
    return table


def _parties(found: Survey) -> Table:
    table = _table("to whom and from whom, as each ledger has it", "ledger", "peer", "peer's key", "left", "arrived")
    table.columns[1].justify = table.columns[2].justify = "left"
    for name in ("refused", "failed"):
        table.add_column(name, justify="right", no_wrap=True)
    pairs: dict[tuple[str, str, str], Tally] = {}
    for (owner, _, peer, key), tally in found.parties.items():
        pairs[owner, peer, key] = pairs[owner, peer, key] + tally if (owner, peer, key) in pairs else tally
    for (owner, peer, key), tally in _some(pairs.items(), table):
        table.add_row(_words(owner), _words(peer) or "-", _hash(key), *_moved(tally))
    return table


def _types(found: Survey) -> Table:
    table = _table("by message type and outcome", "type", "sent", "retried", "received", "refused", "failed")
    outcomes = ("sent", "retried", "received", "refused", "failed")
    rows: dict[str, dict[str, Count]] = {}
    for (kind, _, outcome), count in sorted(found.types.items()):
        row = rows.setdefault(kind, {})
        row[outcome] = row[outcome] + count if outcome in row else count
    for kind, row in _some(rows.items(), table):
        counts = [row.get(outcome) for outcome in outcomes]
        cells = [_cell(count.entries, count.bytes) if count else "-" for count in counts[:3]]
        table.add_row(_words(kind), *cells, *(_red(count.entries if count else 0) for count in counts[3:]))
    return table


def _policies(found: Survey) -> Table:
    table = _table("under which policy", "policy", "purpose", "legal basis", "kept", "ledgers", "messages")
    for number in (1, 2, 4):
        table.columns[number].justify, table.columns[number].no_wrap = "left", False
        table.columns[number].max_width = WIDE
    for (digest, purpose, basis, days), use in _some(found.policies.items(), table):
        tally = use.messages
        table.add_row(
            _hash(digest),
            _words(purpose) or "not stated",
            _words(basis) or "not stated",
            f"{days} days" if days else "-",
            _names(use.owners),
            f"{tally.left + tally.arrived + tally.refused + tally.failed:,}",
        )
    return table


def _budgets(found: Survey) -> Table:
    table = _table("privacy budget", "ledger", "study", "epsilon so far", "limit", "delta", "unit", "private messages")
    table.add_column("as of (UTC)", no_wrap=True)
    for (owner, study), use in _some(found.budgets.items(), table):
        figures = (_epsilon(use.dp.get("epsilon")), _figure(use.limit), _figure(use.dp.get("delta")))
        unit = _words(str(use.dp.get("unit", "-")))
        table.add_row(_words(owner), _hash(study), *figures, unit, f"{use.releases:,}", _minute(use.time))
    return table


def _events(found: Survey) -> Table:
    table = _table("written down beside messages", "what", "entries", "ledgers", "when (UTC)")
    table.columns[2].justify = table.columns[3].justify = "left"
    for kind in sorted({kind for _, kind in found.events}):
        counts = {owner: count for (owner, each), count in found.events.items() if each == kind}
        total = functools.reduce(lambda one, other: one + other, counts.values())
        table.add_row(kind, f"{total.entries:,}", _names(counts), _when(total.first, total.last))
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left", no_wrap=True)
    return table


def _some(rows: Iterable[Row], table: Table) -> Sequence[Row]:
    """As many rows as are easy to read; the table's foot says how many more there are."""
    every = list(rows)
    if len(every) <= ROWS:
        return every
    table.caption, table.caption_justify = f"and {len(every) - ROWS:,} more; --json has all", "left"
    return every[:ROWS]


def _moved(tally: Tally) -> tuple[str, str, str, str]:
    left, arrived = _cell(tally.left, tally.left_bytes), _cell(tally.arrived, tally.arrived_bytes)
    return left, arrived, _red(tally.refused), _red(tally.failed)


def _cell(number: int, total: int) -> str:
    return f"{bytes_of(total)} in {number:,}" if number else "-"


def _red(number: int) -> str:
    return f"[bold red]{number:,}[/bold red]" if number else "-"


def _messages(number: int) -> str:
    return f"{number:,} message{'' if number == 1 else 's'}"


def _one_of(what: str, found: Survey) -> str:
    owners = sorted(owner for owner in found.owners if owner != "coordinator")
    return one_line(owners[0]) if len(owners) == 1 else f"the {len(owners)} {what}s"


def _names(owners: Iterable[str]) -> str:
    every = sorted(owners)
    return _words(", ".join(every) if len(every) <= 4 else f"{', '.join(every[:3])} and {len(every) - 3} more")


def _words(text: str) -> str:
    """Text from a ledger for a table's cell: no markup, no terminal commands, not without end."""
    from rich.markup import escape

    whole = one_line(text)
    return escape(whole if len(whole) <= 5 * WIDE else whole[: 5 * WIDE] + " (...)")


def _hash(text: str) -> str:
    return _words(text[:SHORT]) or "-"


def _minute(time: str) -> str:
    return _words(time[:16].replace("T", " "))


def _when(first: str, last: str) -> str:
    if first[:16] == last[:16]:
        return _minute(first)
    return (
        f"{_minute(first)} to {_words(last[11:16])}"
        if first[:10] == last[:10]
        else _words(f"{first[:10]} to {last[:10]}")
    )


def _figure(value: Any) -> str:
    return f"{value:.6g}" if _is_figure(value) else "-"


def _epsilon(value: Any) -> str:
    """Rounded up, as everywhere."""
    from ...evaluation.page_parts import MINUS, upper

    return upper(float(value), 3).replace(MINUS, "-") if _is_figure(value) else "-"


def _is_figure(value: Any) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool) and abs(value) < HUGE

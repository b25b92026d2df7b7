"""The timeline of one ledger's transmissions as an inline drawing: a row a message type, a dot a round.

Drawn by hand, not by matplotlib: a page may hold a hundred of them. Dots are subpaths of no length with round caps, a
few bytes each.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from markupsafe import escape

from .audit_model import Count
from .page_parts import byte_size, plural

INK, MUTED, RULE = "#1c2833", "#52616d", "#d5dce2"
LOOKS = {"out": "#0b5c8a", "in": "#7b8a97"}
MARKS = {
    "refused": ("#a4161a", "m-4-4l8 8m0-8l-8 8", "none"),
    "retried": ("#8a4b00", "m0-5l5 9h-10z", "#fff"),
    "failed": ("#6b1a6b", "m0-5l5 5l-5 5l-5-5z", "#6b1a6b"),
}
"""Of outcomes that are not as they should be: colour, path from the middle of a dot, and fill. Shapes differ too."""

WORDS = {"out": "sent", "in": "received"}
_LEFT, _PLOT, _RIGHT, _ROW, _TOP = 168, 470, 122, 22, 26
_MOST_COLUMNS = 60
_TICKS = 8


@dataclass
class _Row:
    """One type in one direction: entries and bytes, and by column bytes and the outcomes to mark."""

    direction: str
    message_type: str
    entries: int = 0
    wire_bytes: int = 0
    columns: dict[int, int] = field(default_factory=dict)
    marks: dict[int, set[str]] = field(default_factory=dict)


def _columns(counts: Sequence[Count]) -> tuple[list[str], dict[int, int]]:
    """A label for every column, and the column of every round; several rounds share one where they are too many."""
    rounds = sorted({count.round for count in counts})
    inside = [number for number in rounds if number >= 0]
    outside = len(inside) < len(rounds)
    each = math.ceil(len(inside) / (_MOST_COLUMNS - outside)) if inside else 1
    groups = [inside[i : i + each] for i in range(0, len(inside), each)]
    labels = ["–"] if outside else []
    labels += [str(group[0]) if len(group) == 1 else f"{group[0]}–{group[-1]}" for group in groups]
    place = {number: i + outside for i, group in enumerate(groups) for number in group}
    place |= {number: 0 for number in rounds if number < 0}
    return labels, place


def _rows(counts: Iterable[Count], place: dict[int, int]) -> list[_Row]:
    rows: dict[tuple[int, str], _Row] = {}
    for count in counts:
        name = (0 if count.direction == "out" else 1, count.message_type)
        row = rows.setdefault(name, _Row(count.direction, count.message_type))
        row.entries += count.entries
        row.wire_bytes += count.wire_bytes
        column = place[count.round]
        row.columns[column] = row.columns.get(column, 0) + count.wire_bytes
        if count.outcome in MARKS:
            row.marks.setdefault(column, set()).add(count.outcome)
    return [rows[name] for name in sorted(rows)]


def _width(size: int, step: float) -> int:
    """Diameter of a dot for bytes: 4 for none, 2 more for each power of 10 above 1 kB, never wider than its column."""
    grown = 5 + 1.6 * max(0.0, math.log10(size + 1) - 2)
    return max(2, min(round(grown), 15, int(step) - 1))


def _dots(row: _Row, xs: Sequence[float], y: int, step: float) -> str:
    of_width: dict[int, list[str]] = {}
    for column in sorted(row.columns):
        of_width.setdefault(_width(row.columns[column], step), []).append(f"M{xs[column]:g} {y}h0")
    colour = LOOKS.get(row.direction, MUTED)
    drawn = [
        f'<path d="{"".join(of_width[width])}" stroke="{colour}" stroke-width="{width}" stroke-linecap="round"/>'
        for width in sorted(of_width)
    ]
    for outcome, (stroke, shape, fill) in MARKS.items():
        places = "".join(f"M{xs[c]:g} {y}{shape}" for c in sorted(row.marks) if outcome in row.marks[c])
        if places:
            drawn.append(f'<path d="{places}" stroke="{stroke}" stroke-width="2" fill="{fill}"/>')
    return "".join(drawn)


def _said(row: _Row) -> str:
    bad = sorted({outcome for marks in row.marks.values() for outcome in marks})
    words = f"{row.message_type} {WORDS.get(row.direction, '')}: {plural(row.entries, 'entry')}"
    return f"{words}, {byte_size(row.wire_bytes)}" + (f", some {' and '.join(bad)}" if bad else "")


def timeline(key: str, owner: str, counts: Sequence[Count]) -> str:
    """An <svg> of what one ledger says left and arrived, round by round; empty without a message.

    Args:
        key: unique on the page. owner: whose ledger. counts: by `counts_of`; entries that are no message are not drawn.
    """
    messages = [count for count in counts if count.kind == "message"]
    if not messages:
        return ""
    labels, place = _columns(messages)
    rows = _rows(messages, place)
    step = _PLOT / len(labels)
    xs = [round(_LEFT + (i + 0.5) * step, 1) for i in range(len(labels))]
    bottom = _TOP + _ROW * len(rows)
    wide, high = _LEFT + _PLOT + _RIGHT, bottom + 34
    parts = [f'<text x="{_LEFT - 12}" y="14" text-anchor="end" fill="{MUTED}">message type</text>']
    parts.append(f'<text x="{wide}" y="14" text-anchor="end" fill="{MUTED}">entries · bytes</text>')
    for i, row in enumerate(rows):
        y = _TOP + _ROW * i + _ROW // 2
        arrow = {"out": "→", "in": "←"}.get(row.direction, "·")
        name = escape(row.message_type if len(row.message_type) < 20 else f"{row.message_type[:18]}…")
        parts.append(f'<path d="M{_LEFT} {y}h{_PLOT}" stroke="{RULE}"/>')
        parts.append(
            f'<text x="{_LEFT - 12}" y="{y + 4}" text-anchor="end" fill="{INK}">{name} '
            f'<tspan fill="{LOOKS.get(row.direction, MUTED)}" font-weight="700">{arrow}</tspan></text>'
        )
        parts.append(_dots(row, xs, y, step))
        figures = f"{row.entries:,} · {byte_size(row.wire_bytes)}"
        parts.append(f'<text x="{wide}" y="{y + 4}" text-anchor="end" fill="{INK}">{figures}</text>')
    every = math.ceil(len(labels) / _TICKS)
    # Labels count from the first real round, so that 1 stands there also beside the column of what is in no round.
    first = 1 if labels[0] == "–" else 0
    for i, (x, label) in enumerate(zip(xs, labels, strict=True)):
        if i < first or (i - first) % every == 0:
            shown = label.split("–")[0] or "–"
            parts.append(f'<text x="{x:g}" y="{bottom + 14}" text-anchor="middle" fill="{MUTED}">{shown}</text>')
    middle = _LEFT + _PLOT // 2
    under = "round" + (" (–: outside rounds)" if first else "")
    parts.append(f'<text x="{middle}" y="{bottom + 30}" text-anchor="middle" fill="{MUTED}">{under}</text>')
    described = escape("; ".join(_said(row) for row in rows))
    return (
        f'<svg class="lane" role="img" viewBox="0 0 {wide} {high}" aria-labelledby="{key}-title {key}-desc" '
        f'fill="none" xmlns="http://www.w3.org/2000/svg"><title id="{key}-title">{escape(owner)}: transmissions by '
        f'round and message type</title><desc id="{key}-desc">{described}.</desc><g font-size="12.5">{"".join(parts)}'
        "</g></svg>"
    )

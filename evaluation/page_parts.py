"""Small pieces that both pages share: numbers as words, and tables as values that the templates draw."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .per_class import Rate
from .report_model import PrivacyFacts, Provenance

FEWEST_FOR_RATE = 5
"""Below this denominator a rate is given as counts and the words "too few"."""

MINUS = "\N{MINUS SIGN}"
UNKNOWN = "not known"


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: the value, a quieter second line, an optional link, and whether it is stressed."""

    main: str
    sub: str = ""
    href: str | None = None
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table with a caption; the first cell of a row names the row.

    ``stacked``: rows become cards on a phone. ``words``: cells are words, which stand at the left.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    stacked: bool = True
    words: bool = False


@dataclass(frozen=True, slots=True)
class HeadlineFigure:
    """A large number with the line under it."""

    label: str
    value: str
    sub: str


def number(value: float | None, digits: int = 2) -> str:
    """A figure with fixed digits and a real minus sign, or "not known"."""
    if value is None:
        return UNKNOWN
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.removeprefix("-")
    return text.replace("-", MINUS)


def upper(value: float | None, digits: int = 2) -> str:
    """An upper bound as :func:`number`, rounded up: print never claims less than what it was."""
    return number(None if value is None else math.ceil(value * 10**digits - 1e-6) / 10**digits, digits)


def lower(value: float | None, digits: int = 2) -> str:
    """A lower bound, or what is left, as :func:`number`, rounded down."""
    return number(None if value is None else math.floor(value * 10**digits + 1e-6) / 10**digits, digits)


def scientific(value: float | None) -> str:
    """A small probability as "1e−5" or "2.5e−6"."""
    if value is None:
        return UNKNOWN
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}".replace("-", MINUS)


def percent(share: float) -> str:
    """ "86 %", with a space that does not break."""
    return f"{100 * share:.0f}\N{NO-BREAK SPACE}%"


def signed(value: float | None, digits: int = 2) -> str:
    """As :func:`number`, with a plus sign for what is above 0."""
    text = number(value, digits)
    return text if value is None or text.startswith(MINUS) or float(text) == 0 else f"+{text}"


def span(low: float | None, high: float | None, digits: int = 2) -> str:
    """ "0.70 to 0.85", or an empty string when a bound is missing."""
    return "" if low is None or high is None else f"{number(low, digits)} to {number(high, digits)}"


def byte_size(count: int | None) -> str:
    """Bytes as people write them, in powers of 1000."""
    if count is None:
        return UNKNOWN
    size, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 999.95 or unit == "TB":
            break
        size /= 1000
    return f"{count}\N{NO-BREAK SPACE}B" if unit == "B" else f"{size:.1f}\N{NO-BREAK SPACE}{unit}"


def duration(seconds: float | None) -> str:
    """Seconds below two minutes, minutes above."""
    if seconds is None:
        return UNKNOWN
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def plural(count: int, noun: str) -> str:
    """ "1 image", "2 images", "2 classes", "2 entries"."""
    if count == 1:
        return f"1 {noun}"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return f"{count:,} {noun[:-1]}ies"
    return f"{count:,} {noun}{'es' if noun.endswith(('s', 'x', 'ch', 'sh')) else 's'}"


def rate_cell(rate: Rate) -> Cell:
    """A proportion with its Wilson interval, or counts alone where the denominator does not carry a proportion."""
    counts = f"{rate.numerator} of {rate.denominator}"
    if rate.value is None:
        return Cell("none to count")
    if rate.denominator < FEWEST_FOR_RATE:
        return Cell("too few", counts)
    return Cell(number(rate.value), f"{span(rate.low, rate.high)} · {counts}")


def privacy_facts(facts: PrivacyFacts, *, sends: bool) -> tuple[tuple[str, str], ...]:
    """Term and description for what protected the images and what left; ``sends`` is False for an unseen site."""
    if not sends:
        return (
            ("Images", "Stayed at the site. It took no part in training and sent no update."),
            ("Bytes sent", byte_size(facts.bytes_sent)),
            ("Ledger when the report was made", _ledger(facts)),
        )
    if facts.secure_aggregation:
        masking = "On: the coordinator received masked vectors and learnt only their sum"
        if facts.threshold is not None and facts.participants is not None:
            masking += f" (at least {facts.threshold} of {facts.participants} sites must finish a round to open it)"
    else:
        masking = "OFF: single updates were visible to the coordinator"
    if facts.epsilon is None:
        noise = "Off. Masking hides single updates; it does not bound what the final model may reveal about an image."
    else:
        delta = "" if facts.delta is None else f", delta = {scientific(facts.delta)}"
        noise = f"On: epsilon = {upper(facts.epsilon)}{delta}, per {facts.unit or 'record'}."
    sent = byte_size(facts.bytes_sent)
    if facts.messages_sent is not None:
        sent += f" in {plural(facts.messages_sent, 'message')}"
    return (
        ("Images", "Stayed at the site. No picture, name or free text was sent."),
        ("Secure aggregation", masking + "."),
        ("Differential privacy", noise),
        ("Bytes sent", sent),
        ("Ledger when the report was made", _ledger(facts)),
    )


def _ledger(facts: PrivacyFacts) -> str:
    if facts.ledger_entries == 0:
        return "No entry."
    return f"{plural(facts.ledger_entries, 'entry')}; hash of the last: {facts.ledger_head}"


def provenance_facts(facts: Provenance) -> tuple[tuple[str, str], ...]:
    """Term and description for what has to be the same to get the same page."""
    return (
        ("Model (SHA-256)", facts.model_hash),
        ("Backbone", facts.backbone),
        ("Backbone fingerprint", facts.backbone_fingerprint),
        *facts.versions,
    )


def sentence_list(words: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    if len(words) < 2:
        return "".join(words)
    return ", ".join(words[:-1]) + " and " + words[-1]

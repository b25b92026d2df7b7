"""What a section of a report is made of: frozen values that one template draws in order."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Literal

from ..page_parts import HeadlineFigure, Table
from ..statements import Statement

_LEAST = re.compile(r"min-width:([\d.]+)px")
_PHONE = 354
"""Pixels of a column on a phone of 390."""


@dataclass(frozen=True, slots=True)
class Grid:
    """A table; ``label`` is what a screen reader calls its scrolling region."""

    kind: ClassVar[str] = "grid"
    table: Table
    label: str


@dataclass(frozen=True, slots=True)
class Note:
    """A quiet line: how to read what stands above it."""

    kind: ClassVar[str] = "note"
    text: str


@dataclass(frozen=True, slots=True)
class Warn:
    """A line in a box that must not be overlooked."""

    kind: ClassVar[str] = "warn"
    text: str


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading within a section."""

    kind: ClassVar[str] = "heading"
    text: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """One figure: ``svg`` is the package's own, finished and escaped; title, line under it and caption are text."""

    svg: str
    title: str = ""
    sub: str = ""
    caption: str = ""

    @property
    def scrolls(self) -> bool:
        """Whether the figure keeps a width that a phone does not have, so that its frame scrolls there."""
        least = _LEAST.search(self.svg)
        return least is not None and float(least.group(1)) > _PHONE


@dataclass(frozen=True, slots=True)
class Drawings:
    """Figures side by side.

    ``layout``: ``wide`` fills the column, ``pair`` is two, ``multiples`` many small ones, ``matrix`` one of its size.
    """

    kind: ClassVar[str] = "drawings"
    items: tuple[Drawing, ...]
    layout: Literal["wide", "pair", "multiples", "matrix"]


@dataclass(frozen=True, slots=True)
class Facts:
    """Terms and descriptions, one under the other."""

    kind: ClassVar[str] = "facts"
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Tiles:
    """Terms and short descriptions, side by side."""

    kind: ClassVar[str] = "tiles"
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Bullets:
    """Sentences, one under the other."""

    kind: ClassVar[str] = "bullets"
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Big:
    """The headline card: one large figure and a few beside it."""

    kind: ClassVar[str] = "big"
    figure: HeadlineFigure
    side: tuple[HeadlineFigure, ...]


@dataclass(frozen=True, slots=True)
class Door:
    """A sentence with a link; ``href`` is a checked relative path."""

    kind: ClassVar[str] = "door"
    before: str
    label: str
    href: str
    after: str


@dataclass(frozen=True, slots=True)
class Signed:
    """Statements that people signed."""

    kind: ClassVar[str] = "signed"
    statements: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class SignLines:
    """Empty lines to sign on paper."""

    kind: ClassVar[str] = "lines"
    labels: tuple[str, ...]


Block = Grid | Note | Warn | Heading | Drawings | Facts | Tiles | Bullets | Big | Door | Signed | SignLines


@dataclass(frozen=True, slots=True)
class Section:
    """One section: what the figures mean in sentences first, then the figures.

    Attributes:
        key: identifier on the page. title: heading. number: in the table of contents; None for an unnumbered one.
        reading: sentences for a reader in a hurry. blocks: in order.
    """

    key: str
    title: str
    reading: tuple[str, ...]
    blocks: tuple[Block, ...]
    number: int | None = None

"""Everything that a published report says of counts, as linear constraints over whole numbers.

The unknowns are the counts themselves. For one report they are

* C[i, j], images of class i that were called j;
* R[b] and W[b], right and wrong images in bin b of the top label's confidence;
* sums of cells in a row, in a column and off the diagonal, in bands of their own;
* r[l, k] and w[l, k], right and wrong images of class k at level l of a subgroup column.

They are bound by their bands and by these links, which hold for any images:

* sum over b of R[b] = sum over k of C[k, k], and sum over b of W[b] = sum over i != j of C[i, j];
* for every column and class, sum over l of r[l, k] = C[k, k], and sum over l of w[l, k] = sum over j != k of C[k, j];
* a top label has a probability of at least 1/K, so bins that end at or below 1/K are empty.

These constraints are complete: whole numbers that fulfil them are the counts of some set of images. Right images of a
class can be dealt out to bins and to levels of every column independently of one another, because every table is a
margin of the same images, and any bin above 1/K can hold any image, with any mean confidence inside the bin. So
nobody, with whatever cleverness, can exclude what the solver finds. Figures that are computed from bands add no
constraint. The two that are not, Brier and AUROC, are checked by building the images (see `witnesses`).

Two reports are linked by what a reader may know of them:

* ``APART``: nothing.
* ``SAME_MODEL``: the model is the same and images were added, or were taken away, so that no count of the second is
  smaller, or none is larger, than its count of the first. The reader may even know how many images were added.
* ``SAME_IMAGES``: the images are the same, or some were added, and the model is another: then only counts by true class
  compare (of the matrix's rows, and of every level by class).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from scipy.sparse import csr_matrix

from ..reliability import N_BINS
from .bands import Band
from .published import Margins, Published

Link = Literal["apart", "same model", "same images"]
MANY = 10**6
"""Stands for "no upper bound"; larger than any test set that is published with bands."""
Terms = dict[int, float]


@dataclass
class System:
    """Whole numbers x with low <= x <= high and row_low <= A x <= row_high.

    Attributes:
        low, high: of each unknown. rows: (terms, least, most) of each row of A.
        watched: name and terms of every count that must not be known when it is small.
        keys: the unknowns of each report, by what they count.
    """

    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)
    rows: list[tuple[Terms, float, float]] = field(default_factory=list)
    watched: list[tuple[str, Terms]] = field(default_factory=list)
    keys: list[dict[tuple[object, ...], int]] = field(default_factory=list)

    def unknown(self, band: Band | None) -> int:
        """A new unknown within a band, or with any count."""
        self.low.append(float(band.low if band else 0))
        self.high.append(float(band.high if band else MANY))
        return len(self.low) - 1

    def row(self, terms: Mapping[int, float], least: float, most: float) -> None:
        """least <= sum of factor times unknown <= most."""
        self.rows.append((dict(terms), least, most))

    def watch(self, name: str, terms: Mapping[int, float]) -> None:
        """Guard a count, or a difference of two."""
        self.watched.append((name, dict(terms)))

    def matrix(self, given: Sequence[Terms]) -> csr_matrix:
        """Terms as a sparse matrix, a row each, a column an unknown."""
        where = [(i, j, factor) for i, terms in enumerate(given) for j, factor in terms.items()]
        rows, columns, factors = zip(*where, strict=True) if where else ((), (), ())
        return csr_matrix((factors, (rows, columns)), shape=(len(given), len(self.low)))


def system_of(
    published: Published, previous: Published | None = None, link: Link = "apart", growth: int | None = None
) -> System:
    """The constraints of one report, or of two with a link.

    Args:
        published: what is about to be published. previous: what was published before it by the same coordinator.
        link: what a reader is taken to know of both. growth: images by which the second test set is larger, negative
            where it is smaller, as far as the reader knows it; None where not.
    """
    system = System()
    _add(system, published, "")
    if previous is not None:
        _add(system, previous, "previous ")
        _join(system, link, growth)
    return system


def _add(system: System, published: Published, prefix: str) -> None:
    k = published.n_classes
    key: dict[tuple[object, ...], int] = {}
    system.keys.append(key)
    for i in range(k):
        for j in range(k):
            band = published.confusion[i][j] if published.confusion is not None else None
            key["cell", i, j] = system.unknown(band)
    hits = [{key["cell", c, c]: 1.0} for c in range(k)]
    misses = [{key["cell", c, j]: 1.0 for j in range(k) if j != c} for c in range(k)]
    for terms, name in _margins(key, k):
        system.watch(prefix + name, terms)
    if published.margins is not None:
        _add_margins(system, published.margins, key, misses)
    if published.reliability:
        _add_bins(system, published, key, prefix, hits, misses)
    for table in published.subgroups:
        for c in range(k):
            for part, whole in (("right", hits[c]), ("wrong", misses[c])):
                levels: Terms = {}
                for row in table.rows:
                    place = system.unknown((row.right if part == "right" else row.wrong)[c])
                    key[part, table.column, row.level, c] = place
                    levels[place] = 1.0
                    system.watch(f"{prefix}{table.column} {row.level} class {c} {part}", {place: 1.0})
                system.row(levels | _times(whole, -1.0), 0, 0)
            for row in table.rows:
                both = {key[part, table.column, row.level, c]: 1.0 for part in ("right", "wrong")}
                system.watch(f"{prefix}{table.column} {row.level} class {c}", both)
        for row in table.rows:
            everyone: Terms = {}
            for part, band in (("right", row.all_right), ("wrong", row.all_wrong)):
                whole = {key[part, table.column, row.level, c]: 1.0 for c in range(k)}
                system.row(whole, band.low, band.high)
                system.watch(f"{prefix}{table.column} {row.level} {part}", whole)
                everyone |= whole
            system.watch(f"{prefix}{table.column} {row.level}", everyone)


def _margins(key: Mapping[tuple[object, ...], int], k: int) -> list[tuple[Terms, str]]:
    def of(name: str, chosen: Sequence[tuple[int, int]]) -> tuple[Terms, str]:
        return {key["cell", i, j]: 1.0 for i, j in chosen}, name

    every = [(i, j) for i in range(k) for j in range(k)]
    found = [of(f"cell {i} {j}", [(i, j)]) for i, j in every]
    for c in range(k):
        found.append(of(f"class {c}", [(i, j) for i, j in every if i == c]))
        found.append(of(f"class {c} missed", [(i, j) for i, j in every if i == c != j]))
        found.append(of(f"called {c}", [(i, j) for i, j in every if j == c]))
        found.append(of(f"called {c} wrongly", [(i, j) for i, j in every if j == c != i]))
    found.append(of("right", [(i, j) for i, j in every if i == j]))
    found.append(of("wrong", [(i, j) for i, j in every if i != j]))
    found.append(of("images", every))
    return found


def _add_margins(
    system: System, margins: Margins, key: Mapping[tuple[object, ...], int], misses: Sequence[Terms]
) -> None:
    k = len(misses)
    system.row({j: 1.0 for terms in misses for j in terms}, margins.wrong.low, margins.wrong.high)
    for c, band in enumerate(margins.missed):
        system.row(misses[c], band.low, band.high)
    for c, band in enumerate(margins.false):
        system.row({key["cell", i, c]: 1.0 for i in range(k) if i != c}, band.low, band.high)


def _add_bins(
    system: System,
    published: Published,
    key: dict[tuple[object, ...], int],
    prefix: str,
    hits: Sequence[Terms],
    misses: Sequence[Terms],
) -> None:
    # The ten fine bins are always the unknowns, so that reports with ten and with five bins can be compared.
    for part, wholes in (("hits", hits), ("misses", misses)):
        for b in range(N_BINS):
            empty = (b + 1) * published.n_classes <= N_BINS
            key[part, b] = system.unknown(Band(0, 0) if empty else None)
        for row in published.reliability:
            inside = [b for b in range(N_BINS) if row.low <= (b + 0.5) / N_BINS < row.high]
            band = row.right if part == "hits" else row.wrong
            terms = {key[part, b]: 1.0 for b in inside}
            system.row(terms, band.low, band.high)
            system.watch(f"{prefix}bin {row.low} {part}", terms)
        every = {key[part, b]: 1.0 for b in range(N_BINS)}
        system.row(every | {j: -1.0 for whole in wholes for j in whole}, 0, 0)
    for row in published.reliability:
        inside = [b for b in range(N_BINS) if row.low <= (b + 0.5) / N_BINS < row.high]
        both = {key[part, b]: 1.0 for part in ("hits", "misses") for b in inside}
        system.watch(f"{prefix}bin {row.low}", both)


def _join(system: System, link: Link, growth: int | None) -> None:
    now, before = system.keys
    shared = [name for name in now if name in before]
    cells = [name for name in shared if name[0] == "cell"]
    k = 1 + max(int(str(name[1])) for name in cells)
    for name in shared:
        system.watch(f"change of {name}", {now[name]: 1.0, before[name]: -1.0})
    for (first, text), (second, _) in zip(_margins(now, k), _margins(before, k), strict=True):
        # How many images were added is what this reader knows already.
        if text != "images" or growth is None:
            system.watch(f"change of {text}", first | _times(second, -1.0))
    whole = {now[name]: 1.0 for name in cells} | {before[name]: -1.0 for name in cells}
    if link == "apart":
        return
    if growth is not None:
        system.row(whole, growth, growth)
    up = growth is None or growth >= 0
    least, most = (0.0, float(MANY)) if up else (-float(MANY), 0.0)
    if link == "same model":
        for name in shared:
            system.row({now[name]: 1.0, before[name]: -1.0}, least, most)
        return
    groups: list[list[tuple[object, ...]]] = [[("cell", i, j) for j in range(k)] for i in range(k)]
    levels = {name[1:] for name in shared if name[0] == "right"}
    groups += [[("right", *rest), ("wrong", *rest)] for rest in sorted(levels, key=str)]
    for names in groups:
        terms = {now[name]: 1.0 for name in names} | {before[name]: -1.0 for name in names}
        system.row(terms, least, most)
        system.watch(f"change of {names}", terms)


def _times(terms: Mapping[int, float], factor: float) -> Terms:
    return {name: value * factor for name, value in terms.items()}

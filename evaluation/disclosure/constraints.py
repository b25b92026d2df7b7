"""Everything that a published report says of counts, as linear constraints over whole numbers.

The unknowns are the counts themselves. For one report they are

* C[i, j], images of class i that were called j;
* R[b] and W[b], right and wrong images in segment b of the top label's confidence: a bin, cut where a decision is;
* Q[b, e] and V[b, e], those of them that lay in bin e before the temperature;
* A[k, b] and F[k, b], right and wrong images in segment b that were called k, where there are decision counts;
* sums of cells in a row, in a column and off the diagonal, in bands of their own;
* r[l, k] and w[l, k], right and wrong images of class k at level l of a subgroup column.

They are bound by their bands and by these links, which hold for any images:

* sum over b of R[b] = sum over k of C[k, k], and sum over b of W[b] = sum over i != j of C[i, j];
* for every column and class, sum over l of r[l, k] = C[k, k], and sum over l of w[l, k] = sum over j != k of C[k, j];
* a top label has a probability of at least 1/K, so bins that end at or below 1/K are empty;
* sum over e of Q[b, e] = R[b] and of V[b, e] = W[b], for pairs that a temperature can make (see `softening`);
* sum over k of A[k, b] = R[b] and of F[k, b] = W[b]; sum over b of A[k, b] = C[k, k] and of F[k, b] = sum over
  i != k of C[i, k]; a decision count is a sum of A or F over segments (see `decisions`), so true positives and
  missed ones make up the class, and all counts are monotone in the threshold;
* a bin's mean confidence lies between the least and the largest that its images can have.

These constraints are complete: whole numbers that fulfil them are the counts of some set of images. Right images of a
class can be dealt out to bins and to levels of every column independently of one another, because every table is a
margin of the same images, and any bin above 1/K can hold any image. What was in which bin before the temperature
is a question of the probabilities of the other classes, which nothing else that is published counts. So
nobody, with whatever cleverness, can exclude what the solver finds. Figures that are computed from bands add no
constraint. Those that are not, Brier scores and AUROC, are checked by building the images (see `witnesses`).

Two reports are linked by what a reader may know of them:

* ``APART``: nothing.
* ``SAME_MODEL``: the model is the same and images were added, or were taken away, so that no count of the second is
  smaller, or none is larger, than its count of the first. The reader may even know how many images were added.
* ``SAME_IMAGES``: the images are the same, or some were added, and the model is another: then only counts by true class
  compare (of the matrix's rows, and of every level by class).

A later report of the same model with another temperature has other bins for the same images: `publishing` gives it no
tables of confidence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from .confidence_links import add_confidence, segments
from .published import Margins, Published
from .system import MANY, System, Terms, plus, times

Link = Literal["apart", "same model", "same images"]


def system_of(
    published: Published, previous: Published | None = None, link: Link = "apart", growth: int | None = None
) -> System:
    """The constraints of one report, or of two with a link.

    Args:
        published: what is about to be published. previous: what was published before it by the same coordinator.
        link: what a reader is taken to know of both. growth: images by which the second test set is larger, negative
            where it is smaller, as far as the reader knows it; None where not.
    """
    reports = (published,) if previous is None else (published, previous)
    system = System(edges=segments(reports))
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
        add_confidence(system, published, key, prefix, hits, misses)
    for table in published.subgroups:
        for c in range(k):
            for part, whole in (("right", hits[c]), ("wrong", misses[c])):
                levels: Terms = {}
                for row in table.rows:
                    place = system.unknown((row.right if part == "right" else row.wrong)[c])
                    key[part, table.column, row.level, c] = place
                    levels[place] = 1.0
                    system.watch(f"{prefix}{table.column} {row.level} class {c} {part}", {place: 1.0})
                system.row(levels | times(whole, -1.0), 0, 0)
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
            system.watch(f"change of {text}", plus(first, times(second, -1.0)))
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

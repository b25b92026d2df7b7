"""Class maps: which class of a study's data set the images of another data set belong to.

A study that joins sources has the classes of one data set, its target. Each class of a source goes, in this order,
where the study's own map says; nowhere, if the study excludes it by name; where :mod:`.class_map_tables` says; to the
class of equal name. A class that none of these settles is refused: nothing is dropped because nobody thought of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .class_map_tables import CLASS_MAPS
from .classes import nearest_class, suggestion
from .cohort import Dataset
from .errors import UnknownClassError


@dataclass(frozen=True, slots=True)
class ClassMap:
    """The resolved map of one source.

    Attributes:
        source: key of the source.
        target: key of the target.
        labels: for each label of the source, the label of the target; None: the class is excluded by name.
        notes: where the map is not exact, a sentence each, for reports.
    """

    source: str
    target: str
    labels: tuple[int | None, ...]
    notes: tuple[str, ...] = ()


def map_classes(
    source: Dataset,
    target: Dataset,
    explicit: Mapping[str, str] | None = None,
    exclude: Sequence[str] = (),
) -> ClassMap:
    """Resolve every class of ``source`` to a class of ``target``, or to None where it is excluded by name.

    Args:
        source: the data set that is taken in, with the classes that are kept of it.
        target: the data set whose classes the study has, with the classes that are kept of it.
        explicit: the study's own map, class of the source -> class of the target, names or aliases; it wins.
        exclude: classes of the source that are left out, names or aliases.

    Raises:
        UnknownClassError: a class of the source goes nowhere (all such classes are named, with the lines to write); or
            ``explicit`` and ``exclude`` name no class, name one twice, or both name one.
    """
    chosen = _explicit(source, target, explicit or {})
    left_out = _excluded(source, exclude)
    both = [source.class_names[label] for label in sorted(chosen.keys() & left_out)]
    if both:
        raise UnknownClassError(
            f"{_listed(both)} of {source.key} is both mapped and excluded",
            where=f"map and exclude of the source {source.key}",
            remedy="keep one of the two",
        )
    table = CLASS_MAPS.get((source.key, target.key), {})
    labels: list[int | None] = []
    notes: list[str] = []
    nowhere: dict[str, str] = {}
    for label, name in enumerate(source.class_names):
        if label in chosen:
            labels.append(chosen[label])
            continue
        if label in left_out:
            labels.append(None)
            continue
        into = table.get(name)
        wanted = name if into is None else into.name
        found = None if wanted is None else target.class_index(wanted)
        labels.append(found)
        if found is None:
            nowhere[name] = _reason(wanted, into.note if into else "", target)
        elif into is not None and into.note:
            notes.append(f"{source.key} {name!r} -> {target.key} {target.class_names[found]!r}: {into.note}")
    if nowhere:
        raise _unmapped(source, target, nowhere)
    return ClassMap(source.key, target.key, tuple(labels), tuple(notes))


def _explicit(source: Dataset, target: Dataset, explicit: Mapping[str, str]) -> dict[int, int]:
    chosen: dict[int, int] = {}
    for name, wanted in explicit.items():
        label = _class_of(name, source, "map")
        into = _class_of(wanted, target, "map", of=source)
        if label in chosen:
            raise _twice(name, source, "map")
        chosen[label] = into
    return chosen


def _excluded(source: Dataset, exclude: Sequence[str]) -> set[int]:
    left_out: set[int] = set()
    for name in exclude:
        label = _class_of(name, source, "exclude")
        if label in left_out:
            raise _twice(name, source, "exclude")
        left_out.add(label)
    return left_out


def _class_of(name: str, dataset: Dataset, key: str, of: Dataset | None = None) -> int:
    label = dataset.class_index(name)
    if label is None:
        raise UnknownClassError(
            f"{name!r} is no class of {dataset.key}",
            where=f"{key} of the source {(of or dataset).key}",
            remedy=suggestion(name, dataset),
        )
    return label


def _twice(name: str, source: Dataset, key: str) -> UnknownClassError:
    return UnknownClassError(
        f"{name!r} names a class of {source.key} a second time",
        where=f"{key} of the source {source.key}",
        remedy="name every class once",
    )


def _reason(wanted: str | None, note: str, target: Dataset) -> str:
    if wanted is None:
        return note
    near = nearest_class(wanted, target)
    return f"the study has no class {wanted!r}" + (f", but {near!r}" if near else "")


def _unmapped(source: Dataset, target: Dataset, nowhere: Mapping[str, str]) -> UnknownClassError:
    names = list(nowhere)
    reasons = "; ".join(f"{name!r}: {reason}" for name, reason in nowhere.items())
    mapped = ", ".join(f'"{name}" = "…"' for name in names)
    excluded = ", ".join(f'"{name}"' for name in names)
    return UnknownClassError(
        f"{_listed(names)} of {source.key} belongs to no class of {target.key} ({reasons})",
        where=f"source {source.key}",
        remedy=(
            f"leave it out with exclude = [{excluded}], or say where it belongs with map = {{ {mapped} }} and one of "
            f"the classes {', '.join(target.class_names)}"
        ),
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)

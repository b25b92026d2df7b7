"""Which classes a study keeps, and what an unknown class name may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace

from .cohort import ClassLabel, Dataset, normalise_name
from .errors import EmptyClassError, UnknownClassError


def keep_classes(dataset: Dataset, classes: Sequence[str] | None) -> Dataset:
    """The data set with some of its classes, named in any order and by any spelling; None keeps all.

    Raises:
        UnknownClassError: a name is no class, or names one twice.
        EmptyClassError: fewer than two are named.
    """
    return replace(dataset, classes=tuple(dataset.classes[label] for label in kept_labels(dataset, classes)))


def kept_labels(dataset: Dataset, classes: Sequence[str] | None) -> tuple[int, ...]:
    """Labels of the classes named, rising; None keeps all. Raises as :func:`keep_classes`."""
    if classes is None:
        return tuple(range(len(dataset.classes)))
    kept: set[int] = set()
    for name in classes:
        label = dataset.class_index(name)
        if label is None:
            raise UnknownClassError(
                f"{name!r} is no class of {dataset.title}", where="classes", remedy=suggestion(name, dataset)
            )
        if label in kept:
            raise UnknownClassError(
                f"{name!r} names the class {dataset.class_names[label]!r} a second time",
                where="classes",
                remedy="name every class once",
            )
        kept.add(label)
    if len(kept) < 2:
        raise EmptyClassError(
            f"{len(kept)} classes are asked for; a classifier needs at least 2",
            where="classes",
            remedy=f"the classes are {', '.join(dataset.class_names)}",
        )
    return tuple(sorted(kept))


def named_classes(names: Sequence[str] | None, dataset: Dataset, there: Sequence[str]) -> tuple[ClassLabel, ...]:
    """The classes of a data set that has none of its own: those that the study names, in its order.

    Args:
        names: as the study gives them; None: it gives none.
        dataset: for messages; its modality is the word in the prompts.
        there: class names that the data hold, for the remedy.

    Raises:
        EmptyClassError: fewer than two are named.
        UnknownClassError: one is named twice, or is empty.
    """
    listed = ", ".join(f'"{name}"' for name in sorted(set(there)))
    if names is None or len(names) < 2:
        raise EmptyClassError(
            f"{dataset.title} has no classes of its own, and the study names {'none' if names is None else len(names)}",
            where="classes",
            remedy=f"name at least 2, in the order that labels shall have: classes = [{listed}]",
        )
    plain = [normalise_name(name) for name in names]
    for at, name in enumerate(plain):
        if not name or name in plain[:at]:
            raise UnknownClassError(
                f"the class {names[at]!r} is {'named twice' if name else 'no name'}",
                where="classes",
                remedy="name every class once, with letters or digits",
            )
    kind = {"radiology": "a medical scan", "any": "a medical image"}.get(dataset.modality, "a medical image")
    return tuple(
        ClassLabel(
            name=name,
            clinical_name=name[:1].upper() + name[1:].replace("_", " "),
            prompts=(f"{kind} showing {words}", f"{kind} of {words}", f"{words}, seen in {kind}"),
        )
        for name, words in ((each, each.replace("_", " ").replace("-", " ")) for each in names)
    )


def nearest_class(name: str, dataset: Dataset, cutoff: float = 0.6) -> str | None:
    """The class whose name or alias is most like ``name``, or None when none is like it."""
    spellings = {
        normalise_name(spelling): label.name for label in dataset.classes for spelling in (label.name, *label.aliases)
    }
    near = difflib.get_close_matches(normalise_name(name), spellings, n=1, cutoff=cutoff)
    return spellings[near[0]] if near else None


def suggestion(name: str, dataset: Dataset) -> str:
    """What to write instead of an unknown class name."""
    near = nearest_class(name, dataset)
    known = f"the classes are {', '.join(dataset.class_names)}"
    return f"did you mean {near!r}? {known}" if near else known

"""The classes of a data set that has none of its own, and the table of its labels: what a study says of both."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from .classes import named_classes
from .cohort import Dataset
from .errors import DataError, EmptyClassError, UnknownClassError
from .listing import Wanted
from .source_labels import unlike_names


def with_classes(dataset: Dataset, wanted: Wanted, there: Collection[str]) -> tuple[Dataset, tuple[DataError, ...]]:
    """The data set with the classes that the study names, in its order.

    Where the study names none, those that the data hold, sorted, and a problem that says so: a check can look on. None
    of them where there are fewer than two.

    Args:
        dataset: without classes.
        wanted: with them.
        there: names of classes that the data hold.

    Raises:
        EmptyClassError: the study names one class.
        UnknownClassError: it names one twice.
    """
    names = unlike_names(sorted(set(there)))
    try:
        return replace(dataset, classes=named_classes(wanted.classes, dataset, names)), ()
    except (EmptyClassError, UnknownClassError) as problem:
        if wanted.classes is not None:
            raise
        found = named_classes(names, dataset, names) if len(names) > 1 else ()
        return replace(dataset, classes=found), (problem,)

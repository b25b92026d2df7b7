"""The index of image files beside the feature cache: opened for a study's images, and what it says passed on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..medical_datasets.errors import DataError
from ..medical_datasets.index import Index, forget_contents, indexed_contents
from ..medical_datasets.reading import DIRECT, Reader
from ..privacy.forgotten import Forgotten
from .config import Study
from .errors import CacheError
from .feature_cache import index_folder


@contextmanager
def image_index(
    study: Study, cache: Path, homes: Path | None = None, note: Callable[[str], None] = lambda _: None
) -> Iterator[Reader]:
    """What answers for a study's image files: the index of a cache folder; phantoms are asked themselves.

    Args:
        study: whose images they are.
        cache: the feature cache that the index lies in.
        homes: folder of sites' homes; nothing is kept of what one of them has withdrawn. None: there are none.
        note: told why the index is not used, or was made anew.

    Raises:
        HomeError: a list of withdrawn groups is damaged or gone.
    """
    if study.data.source == "phantoms":
        yield DIRECT  # their folder is the run's: nobody asks for it again
        return
    lists = [Forgotten.read(home) for home in sorted(homes.iterdir())] if homes is not None and homes.is_dir() else []
    lists = [known for known in lists if known.withdrawals]
    marks = [(known, known.marks) for known in lists]

    def withheld(content: str) -> bool:
        return any(known.image_mark(content) in marked for known, marked in marks)

    with Index.open(index_folder(cache), withheld=withheld if marks else None) as index:
        yield index
    for told in index.notes:
        note(told)


def forget_images(cache: Path, forgotten: Forgotten) -> int:
    """Remove from the index what a home has withdrawn; the number of rows that went.

    Raises:
        CacheError: it cannot be done now.
    """
    folder, marks = index_folder(cache), forgotten.marks
    try:
        gone = [content for content in indexed_contents(folder) if forgotten.image_mark(content) in marks]
        return forget_contents(folder, gone)
    except DataError as error:
        raise CacheError(error.what, where=error.where or str(folder), remedy=error.remedy) from error

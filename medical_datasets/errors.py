"""The errors of ``medical_datasets``: what was wrong, where, and what to do."""


class DataError(Exception):
    """Base of every error that this folder raises on purpose.

    Args:
        what: what was wrong, with the value that was refused.
        where: the file, key, line or record it was found in; empty when there is none.
        remedy: what the reader can do about it; empty when nothing can be done.
    """

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what = what
        self.where = where
        self.remedy = remedy
        super().__init__(". ".join(part.rstrip(".") for part in (what, where, remedy) if part))


class DatasetLayoutError(DataError):
    """A folder or table does not have the layout that the data set's file describes."""


class UnknownClassError(DatasetLayoutError):
    """A folder, table or option names a class that the data set does not have."""


class EmptyClassError(DatasetLayoutError):
    """A class of the cohort has no image."""


class TableError(DatasetLayoutError):
    """A table beside the images lacks a column, or one of its rows contradicts the folders."""


class UnreadableImageError(DataError):
    """One image cannot be decoded; callers skip it, count it and name it."""


class SplitError(DataError):
    """A split or a partition over sites cannot be made as asked."""

"""The errors of ``platform``: what was wrong, where, and what to do."""


class PlatformError(Exception):
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


class StudyFileError(PlatformError):
    """A study file cannot be read, or a key or value in it is not allowed."""


class RunFolderError(PlatformError):
    """A run folder cannot be made, found, read or resumed."""


class CheckpointError(RunFolderError):
    """A checkpoint or stored update is damaged, or belongs to another study or backbone."""


class MethodError(PlatformError):
    """A method was given options or data that it cannot train with."""


class RoundError(PlatformError):
    """A round could not be completed; nothing of it was released."""


class BackboneError(PlatformError):
    """A frozen model, its weights or its preprocessing cannot be found, read or trusted."""


class CacheError(PlatformError):
    """The feature cache cannot be made or written; damaged entries are re-made and raise nothing."""

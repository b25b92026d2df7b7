"""The errors of ``evaluation``: what was wrong, where, and what to do."""


class EvaluationError(Exception):
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


class InvalidPredictionsError(EvaluationError):
    """Logits, probabilities or labels do not have the promised shape, type or range."""


class InvalidReportError(EvaluationError):
    """A report's input is incomplete, contradicts itself, or was written by another version."""

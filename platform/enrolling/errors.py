"""The errors of enrolment: what is wrong with a file or a step, where, and whom to ask."""

from __future__ import annotations

from ..errors import PlatformError


class EnrolmentError(PlatformError):
    """A document or a step of enrolment that is refused; nothing was changed because of it."""

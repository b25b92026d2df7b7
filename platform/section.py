"""What all tables of a study file have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A table of the study file: frozen; unknown keys and values of another type are refused.

    Strict, because `rounds = true` or `lr = "1e-4"` is a slip and not a number; only lists may stand for tuples.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

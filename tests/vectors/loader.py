"""Reads the files of known answers strictly: every key is known, every case has what belongs to it."""

from __future__ import annotations

from typing import Any, Literal, Union

import msgspec
import operations_ledger  # noqa: F401  (each registers its kinds of input)
import operations_numbers  # noqa: F401
import operations_secrets  # noqa: F401
import operations_wire  # noqa: F401
from operations import Operation, RefusedError, Strict
from wardround.privacy.errors import PrivacyError, ProtocolError


class VectorFileError(Exception):
    """A file of known answers that is not in form."""


def kinds(kind: type[Operation] = Operation) -> list[type[Operation]]:
    """Every kind of input that a case can have."""
    below = [leaf for child in kind.__subclasses__() for leaf in kinds(child)]
    return below or [kind]


AnyOperation = Union[tuple(kinds())]  # noqa: UP007


class Case(Strict, frozen=True):
    name: str
    comment: str
    expect: Literal["accept", "reject"]
    input: AnyOperation  # type: ignore[valid-type]
    output: dict[str, Any] | None = None
    refusal: str | None = None


class VectorFile(Strict, frozen=True):
    topic: str
    source: str
    cases: list[Case]


def read(data: bytes) -> VectorFile:
    """The cases of a file.

    Raises:
        VectorFileError: for an unknown or a missing key anywhere, a name that occurs twice, or a case that has not
            exactly what belongs to its ``expect``.
    """
    try:
        file = msgspec.json.decode(data, type=VectorFile)
    except msgspec.MsgspecError as error:
        raise VectorFileError(str(error)) from None
    names = [case.name for case in file.cases]
    for case in file.cases:
        accepted = case.expect == "accept"
        if names.count(case.name) > 1 or not case.comment:
            raise VectorFileError(f"case {case.name}: its name is not its own, or nothing says what it is for")
        if (case.output is not None) != accepted or (case.refusal is None) != accepted:
            raise VectorFileError(f"case {case.name}: an accepted case has an output, a rejected one a refusal")
        if case.output is not None and set(case.output) != set(case.input.gives):
            raise VectorFileError(f"case {case.name}: the output's keys are not {case.input.gives}")
    return file


def answer(case: Case) -> dict[str, Any] | str:
    """The product's output, or the name of its refusal: a protocol error's code, else the type of the exception."""
    try:
        return case.input.run()
    except RefusedError as error:
        return error.refusal
    except ProtocolError as error:
        return str(error.code)
    except (PrivacyError, ValueError) as error:
        return type(error).__name__

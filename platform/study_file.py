"""Study files: TOML in, TOML with every default written out, errors that name the nearest key."""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from .config import METHOD_TABLES, Study
from .errors import StudyFileError


def load_study(path: Path, *, of_run: bool = False) -> Study:
    """Read a study file; paths of its data become absolute, relative to the file.

    Args:
        path: the file.
        of_run: it is a run's own copy, which has every key that there was then: one that it lacks is younger, and
            means what was done before there was a choice.

    Raises:
        StudyFileError: the file is missing, is no TOML, or a key or value is not allowed; each fault is named.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise StudyFileError(
            "no such study file",
            where=str(path),
            remedy="Give the path of a TOML study; docs/study.md shows one",
        ) from None
    except IsADirectoryError:
        raise StudyFileError(
            "this is a folder, not a study file", where=str(path), remedy="Give the TOML file itself"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise StudyFileError(
            f"the study file cannot be read ({type(error).__name__})",
            where=str(path),
            remedy="It must be a readable UTF-8 text file",
        ) from None
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise StudyFileError(
            f"not valid TOML: {error}", where=str(path), remedy="Mend that line; strings need quotes"
        ) from None
    if of_run and isinstance(values.get("data"), dict):
        values["data"].setdefault("split_rule", "balanced")
    return parse_study(values, where=path)


REMEDY = "docs/study.md lists every key with its range and default"


def parse_study(values: dict[str, Any], *, where: Path, remedy: str = REMEDY) -> Study:
    """Check a study's values; ``where`` is the file they came from, for messages and relative paths."""
    try:
        study = Study.model_validate(values)
    except ValidationError as error:
        raise StudyFileError(
            "\n".join(_explain(fault) for fault in error.errors()),
            where=str(where),
            remedy=remedy,
        ) from None
    data = study.data
    found: dict[str, Any] = {key: _absolute(f"data.{key}", getattr(data, key), where) for key in ("path", "split_file")}
    found["sources"] = tuple(
        each.model_copy(update={"path": _absolute(f"data.sources.{at}.path", each.path, where)})
        for at, each in enumerate(data.sources)
    )
    study = study.model_copy(update={"data": data.model_copy(update=found)})
    return _with_local_weights(study, where)


def _absolute(key: str, written: str, where: Path) -> str:
    """A path of the study file, relative to it, as an absolute one; empty stays empty."""
    if not written:
        return ""
    try:
        return str((where.parent / Path(written).expanduser()).resolve())
    except (RuntimeError, ValueError, OSError) as error:  # an unknown ~user, a null character, a loop of links
        raise StudyFileError(
            f"'{key}' = {written!r} is no path ({error})",
            where=str(where),
            remedy="Give a file or folder, relative to the study file",
        ) from None


def _with_local_weights(study: Study, where: Path) -> Study:
    """Weights that lie beside the study file, as an absolute path; a tag or hub name stays what it is."""
    weights = study.backbone.weights
    if not weights or weights.startswith("hf-hub:"):
        return study
    try:
        local = (where.parent / Path(weights).expanduser()).resolve()
        found = local.exists()
    except (RuntimeError, ValueError, OSError):
        return study  # no path; what it is instead, the backbone's loader says
    if not found:
        return study
    return study.model_copy(update={"backbone": study.backbone.model_copy(update={"weights": str(local)})})


def dump_study(study: Study) -> str:
    """The study as TOML with every key written out and explained; :func:`load_study` reads it back equal."""
    scalars, tables = [], []
    for name, field in Study.model_fields.items():
        value = getattr(study, name)
        if isinstance(value, BaseModel):
            tables.append(f"\n[{name}]")
            for key, inner in type(value).model_fields.items():
                tables.append(f"{key} = {_toml(getattr(value, key))}  # {inner.description}")
        else:
            scalars.append(f"{name} = {_toml(value)}  # {field.description}")
    return "\n".join([*scalars, *tables]) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        escaped = "".join(
            f"\\u{ord(c):04x}" if ord(c) < 32 or ord(c) == 127 else {"\\": "\\\\", '"': '\\"'}.get(c, c) for c in value
        )
        return f'"{escaped}"'
    if isinstance(value, BaseModel):
        return "{" + ", ".join(f"{key} = {_toml(getattr(value, key))}" for key in type(value).model_fields) + "}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(key)} = {_toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    raise TypeError(f"a study holds no {type(value).__name__}")


def _tables_with(option: str) -> list[str]:
    """Tables of method options that have an option of this name."""
    models = {name: Study.model_fields[name].annotation for name in METHOD_TABLES}
    return [name for name, model in models.items() if option in getattr(model, "model_fields", {})]


def _explain(fault: Any) -> str:
    """One sentence for one fault that pydantic found, with the nearest valid key for an unknown one."""
    location = [str(part) for part in fault["loc"]]
    key = ".".join(location)
    if fault["type"] == "extra_forbidden":
        parent: type[BaseModel] = Study
        for part in location[:-1]:
            annotation = parent.model_fields[part].annotation if part in parent.model_fields else None
            inner = get_args(annotation)[0] if get_args(annotation) else annotation
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                parent = inner
        others = _tables_with(location[-1]) if location[0] in METHOD_TABLES and len(location) == 2 else []
        if others:
            known = " and ".join([", ".join(others[:-1]), others[-1]] if others[1:] else others)
            verb = "have" if others[1:] else "has"
            return f"unknown key '{key}'; {location[0]} has no option '{location[-1]}'; {known} {verb} it"
        names = list(parent.model_fields)
        near = difflib.get_close_matches(location[-1], names, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(names)}"
        return f"unknown key '{key}'; {hint}"
    if fault["type"] == "missing":
        return f"key '{key}' is missing"
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "value_error" and (isinstance(fault["input"], dict | BaseModel) or not location):
        return f"{key}.{message}" if key else message
    message = message[0].lower() + message[1:]
    if fault["type"] == "model_type":
        message = f"this must be a table, [{key}]"
    if fault["type"] == "tuple_type":
        message = "this must be a list, [...]"
    near = (
        difflib.get_close_matches(str(fault["input"]), re.findall(r"'([^']*)'", fault["ctx"]["expected"]), n=1)
        if fault["type"] == "literal_error"
        else []
    )
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return f"'{key}' = {fault['input']!r}: {message}{hint}"

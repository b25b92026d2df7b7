"""Which code ran a cell: one hash over the package's source files."""

from __future__ import annotations

import hashlib
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2]
FOLDERS = ("evaluation", "medical_datasets", "platform", "privacy")


def source_sha256(package: Path = PACKAGE) -> str:
    """SHA-256, hexadecimal, over names and content of every Python file of the package; tests are not of it."""
    files = [package / "__init__.py", *(file for folder in FOLDERS for file in (package / folder).rglob("*.py"))]
    total = hashlib.sha256()
    for name, file in sorted((file.relative_to(package).as_posix(), file) for file in files):
        total.update(f"{name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()

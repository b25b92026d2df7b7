"""Writes the files of known answers beside it, from `slow_reference` alone: python tests/vectors/generate.py"""

from __future__ import annotations

import json
from pathlib import Path

import cases_ledger
import cases_numbers
import cases_secrets
import cases_wire

HERE = Path(__file__).parent
TOPICS = (
    cases_secrets.primitives,
    cases_secrets.kdf_labels,
    cases_secrets.prg,
    cases_secrets.shamir,
    cases_numbers.fixed_point,
    cases_numbers.packing,
    cases_numbers.merkle,
    cases_wire.roster,
    cases_wire.messages,
    cases_wire.statements,
    cases_ledger.ledger,
)


def files() -> dict[str, str]:
    """Name and text of every file."""
    made = (topic() for topic in TOPICS)
    return {f"{one['topic'].replace('-', '_')}.json": _text(one) for one in made}


def _text(topic: dict) -> str:
    """One case a line, so that files stay small and a change shows."""
    cases = ",\n".join(json.dumps(case) for case in topic["cases"])
    head = json.dumps({"topic": topic["topic"], "source": topic["source"]}, indent=1)
    return f'{head[:-2]},\n "cases": [\n{cases}\n]}}\n'


if __name__ == "__main__":
    for name, text in files().items():
        (HERE / name).write_text(text)

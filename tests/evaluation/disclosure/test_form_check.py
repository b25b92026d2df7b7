"""An edited report is refused: only the published forms may be in it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from wardround.evaluation.disclosure.published import Published
from wardround.evaluation.disclosure.publishing import publish
from wardround.evaluation.disclosure.twins import from_json, to_json
from wardround.evaluation.errors import InvalidReportError

from .studies import draw, facts, summed

EXACT = {"low": 7, "high": 7}
EDITS: dict[str, Any] = {
    "an exact cell": lambda r: r["confusion"][0].__setitem__(0, EXACT),
    "a narrow band": lambda r: r["confusion"][1].__setitem__(1, {"low": 12, "high": 14}),
    "an exact margin": lambda r: r["margins"].__setitem__("wrong", EXACT),
    "an exact margin of a class": lambda r: r["margins"]["missed"].__setitem__(0, EXACT),
    "an exact bin": lambda r: r["reliability"][9].__setitem__("wrong", EXACT),
    "an exact bin before": lambda r: r["raw_reliability"][9].__setitem__("right", EXACT),
    "an exact decision": lambda r: r["decisions"][0]["false"].__setitem__(0, EXACT),
    "an exact subgroup": lambda r: r["subgroups"][0]["rows"][0]["right"].__setitem__(0, EXACT),
    "an exact total of a subgroup": lambda r: r["subgroups"][0]["rows"][0].__setitem__("all_wrong", EXACT),
    "a mean of nobody": lambda r: r["reliability"][0].__setitem__("mean_confidence", 0.05),
    "a mean to three digits": lambda r: r["reliability"][9].__setitem__("mean_confidence", 0.951),
    "a mean outside of its bin": lambda r: r["reliability"][9].__setitem__("mean_confidence", 0.5),
    "a mean before": lambda r: r["raw_reliability"][9].__setitem__("mean_confidence", 0.95),
    "a bin too few": lambda r: r["reliability"].pop(),
    "other edges": lambda r: r["reliability"][3].__setitem__("high", 0.35),
    "a narrow Brier score": lambda r: r.__setitem__("brier", {"low": 0.231, "high": 0.232}),
    "a wide Brier score": lambda r: r.__setitem__("brier", {"low": 0.1, "high": 0.3}),
    "a point": lambda r: r.__setitem__("macro_auroc", {"low": 0.95, "high": 0.95}),
    "an AUROC off the grid": lambda r: r.__setitem__("macro_auroc", {"low": 0.951, "high": 0.962}),
    "an AUROC above 1": lambda r: r.__setitem__("macro_auroc", {"low": 0.98, "high": 1.02}),
    "a threshold that is not published": lambda r: r["decisions"][0].__setitem__("threshold", 0.25),
    "thresholds in no order": lambda r: r["facts"].__setitem__("thresholds", [0.5, 0.1]),
    "a level twice": lambda r: r["subgroups"][0]["rows"][0].__setitem__("level", "male"),
    "a column twice": lambda r: r["subgroups"].append(r["subgroups"][0]),
    "no sites": lambda r: r.__setitem__("sites", 0),
    "no temperature": lambda r: r.__setitem__("temperature", -1.0),
    "a table before without a temperature": lambda r: r.__setitem__("temperature", None),
    "a score before without its table": lambda r: r.__setitem__("raw_reliability", []),
    "scores without a table": lambda r: r.__setitem__("reliability", []),
    "no matrix": lambda r: r.__setitem__("confusion", None),
}


@pytest.fixture(scope="module")
def published() -> Published:
    found = publish(summed(*draw(300, 4, seed=4), temperature=1.4), facts(4))
    assert found.raw_brier is not None
    assert found.subgroups
    return found


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_report_is_refused(name: str, published: Published) -> None:
    report = json.loads(to_json(published))
    EDITS[name](report)
    with pytest.raises(InvalidReportError, match="not a form that is published"):
        from_json(json.dumps(report).encode())


def test_what_was_published_is_read_back(published: Published) -> None:
    assert from_json(to_json(published)) == published

"""Inputs of pages survive a trip through JSON, and what contradicts itself is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from wardround.evaluation.errors import InvalidPredictionsError, InvalidReportError
from wardround.evaluation.report import site_report
from wardround.evaluation.report_json import dossier_from_json, site_report_from_json, to_json
from wardround.evaluation.report_model import Dossier, Link, Predictions, SiteReport, SiteRow
from wardround.evaluation.scores import pool, score


def test_site_report_round_trip(site_report_input: Callable[..., SiteReport]) -> None:
    report = site_report_input()
    data = to_json(report)
    again = site_report_from_json(data)
    assert again == report
    assert to_json(again) == data
    assert site_report(again) == site_report(report)


def test_dossier_round_trip(dossier_input: Dossier) -> None:
    data = to_json(dossier_input)
    assert dossier_from_json(data) == dossier_input
    assert to_json(dossier_from_json(data)) == data


def test_marks_survive_and_files_from_before_there_were_any_still_load(
    site_report_input: Callable[..., SiteReport], dossier_input: Dossier
) -> None:
    marks = ("Transductive: <b>", "Oracle: of labels")
    report, dossier = replace(site_report_input(), marks=marks), replace(dossier_input, marks=marks)
    assert site_report_from_json(to_json(report)).marks == marks
    assert dossier_from_json(to_json(dossier)).marks == marks
    older = [json.loads(to_json(page)) for page in (report, dossier)]
    for content in older:
        del content["marks"]
    assert site_report_from_json(json.dumps(older[0]).encode()) == site_report_input()
    assert dossier_from_json(json.dumps(older[1]).encode()) == dossier_input


def test_a_temperature_of_the_models_own_is_none_that_was_fitted(site_report_input: Callable[..., SiteReport]) -> None:
    report = site_report_input()
    z, y, groups = report.federated.arrays(4)
    carried = Predictions.from_arrays(z, y, groups, source="model")
    assert site_report_from_json(to_json(replace(report, federated=carried))).federated == carried
    with pytest.raises(InvalidReportError, match="does not go with"):
        replace(carried, temperature=2.0)


@given(arrays(np.float64, st.tuples(st.integers(0, 6), st.just(4)), elements=st.floats(-1e9, 1e9)))
@settings(max_examples=60, deadline=None)
def test_logits_come_back_bit_for_bit(site_report_input: Callable[..., SiteReport], logits: np.ndarray) -> None:
    n = len(logits)
    given_ = Predictions.from_arrays(logits, np.arange(n) % 4, [f"p{i}" for i in range(n)])
    report = replace(site_report_input(n_groups=2), federated=given_, local_only=None, zero_shot=None)
    z, y, groups = site_report_from_json(to_json(report)).federated.arrays(4)
    assert z.tobytes() == logits.tobytes()
    assert y.tolist() == [i % 4 for i in range(n)]
    assert groups.tolist() == list(range(n))


def test_patient_names_are_replaced_by_numbers(site_report_input: Callable[..., SiteReport]) -> None:
    given_ = Predictions.from_arrays(np.zeros((3, 4)), [0, 1, 2], ["Doe^John", "Roe^Jane", "Doe^John"])
    assert given_.groups == (0, 1, 0)
    report = replace(site_report_input(), federated=given_, local_only=None, zero_shot=None)
    assert b"Doe" not in to_json(report)


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"\xff", b'{"study": 3}'])
def test_other_json_is_refused(data: bytes) -> None:
    for read in (site_report_from_json, dossier_from_json):
        with pytest.raises(InvalidReportError, match="not the JSON"):
            read(data)


def test_a_later_layout_is_refused(site_report_input: Callable[..., SiteReport]) -> None:
    data = to_json(site_report_input()).replace(b'"schema": 1', b'"schema": 2')
    with pytest.raises(InvalidReportError, match="layout version 2"):
        site_report_from_json(data)


def test_contradictions_are_refused(site_report_input: Callable[..., SiteReport]) -> None:
    report = site_report_input()
    one = report.federated
    with pytest.raises(InvalidReportError, match="same test images"):
        replace(report, zero_shot=replace(one, labels=one.labels[::-1]))
    with pytest.raises(InvalidReportError, match="logits per image"):
        replace(report, federated=Predictions(((0.0, 1.0),), (0,), (0,)), local_only=None, zero_shot=None)
    with pytest.raises(InvalidReportError, match="outside the classes"):
        replace(report, federated=Predictions(((0.0,) * 4,), (4,), (0,)), local_only=None, zero_shot=None)
    with pytest.raises(InvalidReportError, match="data flow"):
        replace(report, flow=replace(report.flow, rows=report.flow.rows[::-1]))
    with pytest.raises(InvalidReportError, match="not finite"):
        Predictions(((float("nan"), 0.0),), (0,), (0,))
    with pytest.raises(InvalidReportError, match="does not go with"):
        replace(one, temperature=None)
    with pytest.raises(InvalidPredictionsError, match="temperature"):
        replace(one, temperature=-1.0)


@pytest.mark.parametrize(
    "href",
    [
        "javascript:alert(1)",
        "https://example.org/",
        "//host/x",
        "/etc/passwd",
        "../up.html",
        "a/../../b",
        "",
        "a b",
        '"><x',
    ],
)
def test_links_leave_nothing_but_relative_paths(href: str, dossier_input: Dossier) -> None:
    with pytest.raises(InvalidReportError, match="link"):
        Link("x", href, "y")
    first = dossier_input.sites[0]
    with pytest.raises(InvalidReportError, match="link"):
        SiteRow(first.site, "training", 1, 1, first.federated, report_link=href)


def test_pooled_predictions_keep_groups_of_sites_apart(site_report_input: Callable[..., SiteReport]) -> None:
    parts = [site_report_input(seed=seed).federated for seed in (1, 2)]
    both = pool(parts, temperature=2.0)
    assert len(both.labels) == 240
    assert len(set(both.groups)) == 120
    assert both.temperature_source == "federated"
    whole = score(both, site_report_input().classes)
    assert whole.n == 240
    assert whole.low is not None
    assert whole.balanced_accuracy is not None
    assert whole.low < whole.balanced_accuracy

"""Every file of a deployed coordinator: its layout, and that no exact figure is in any of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest
from wardround.evaluation.disclosure import deployed as module
from wardround.evaluation.disclosure.bands import Band, band_of
from wardround.evaluation.disclosure.published import Published
from wardround.evaluation.disclosure.publishing import publish
from wardround.evaluation.disclosure.twins import deployed_summary, from_json
from wardround.evaluation.errors import InvalidReportError
from wardround.evaluation.statements import Statement

from .studies import ROUND, SITES, deployed, draw, facts, summed


@pytest.fixture(scope="module")
def published() -> Published:
    return publish(summed(*draw(300, 3, seed=6), levels={}), facts(3))


@pytest.fixture(scope="module")
def files(published: Published) -> Mapping[str, bytes]:
    return deployed(published)


def test_the_files_are_these_and_the_same_every_time(published: Published, files: Mapping[str, bytes]) -> None:
    assert set(files) == {
        *("coordinator/report.html", "coordinator/report.json", "coordinator/report.csv"),
        *("index.html", "summary.json", "rounds.jsonl"),
    }
    assert files == deployed(published)
    assert from_json(files["coordinator/report.json"]) == published


def test_the_summary_has_the_layout_of_a_run_and_null_where_a_site_has_a_figure(
    published: Published, files: Mapping[str, bytes]
) -> None:
    summary = json.loads(files["summary.json"])
    assert summary["simulation"] is False
    assert summary["global"] == deployed_summary(published)
    assert summary["global"]["balanced_accuracy"] is not None
    assert set(summary) == {
        *("study", "method", "rounds", "simulation", "secure_aggregation", "global", "not_summed"),
        *("sites", "unseen", "baselines", "bytes_up", "bytes_down", "seconds"),
    }
    assert summary["not_summed"] == ""
    for site in summary["sites"].values():
        assert set(site) == {*module.FIGURES, "epsilon", "delta", "bytes_sent", "train_n", "test_n"}
        assert {site[name] for name in (*module.FIGURES, "test_n")} == {None}
    # 239 and 0 may be told; 7 is a small count.
    assert [site["train_n"] for site in summary["sites"].values()] == [239, None, 0]


def test_rounds_hold_the_protocol_and_no_figure(published: Published, files: Mapping[str, bytes]) -> None:
    record = json.loads(files["rounds.jsonl"])
    assert record["train_loss"] is None
    assert record["validation"] is None
    assert {key: record[key] for key in module.KEPT} == {key: ROUND[key] for key in module.KEPT}
    small = replace(published, confusion=None, margins=None, reliability=(), decisions=(), brier=None, macro_auroc=None)
    unknown = module.deployed_files(small, records=[{**ROUND, "confusion": [[7]]}])
    assert b"confusion" not in unknown["rounds.jsonl"]


def test_the_front_page_has_links_sites_rounds_and_statements(published: Published) -> None:
    said = Statement("coordinator", "A. Reader", "statistician", "accepted", "", "2026-01-01T00:00:00Z", True, "yes")
    page = module.deployed_files(published, records=[ROUND], sites=SITES, statements=[said])["index.html"].decode()
    for href in ("coordinator/report.html", "coordinator/report.json", "summary.json", "rounds.jsonl"):
        assert f'href="{href}"' in page
    for text in ("amber", "birch", "dune (mask)", "A. Reader", "ask the site for its report"):
        assert text in page
    assert "0.62" not in page
    small = replace(published, confusion=None, margins=None, reliability=(), decisions=(), brier=None, macro_auroc=None)
    bare = module.deployed_files(small, records=[])["index.html"].decode()
    assert "No round was completed." in bare


def test_a_simulation_and_what_is_never_published_are_refused(published: Published) -> None:
    with pytest.raises(InvalidReportError, match="simulation"):
        deployed(replace(published, facts=replace(published.facts, simulation=True)))
    edited = Published(facts(2), 3, None, ((Band(7, 7), band_of(1)), (band_of(2), band_of(4))))
    with pytest.raises(InvalidReportError, match="not a form"):
        deployed(edited)


def test_a_study_without_sums_has_a_front_page_and_a_summary_that_say_why_and_no_report(
    files: Mapping[str, bytes],
) -> None:
    why = "a site stayed away"
    bare = module.files_without_figures(facts(3), why, records=[ROUND], sites=SITES, unseen=["harbour"], seconds=12.3)
    assert set(bare) == {"index.html", "summary.json", "rounds.jsonl"}
    assert bare["rounds.jsonl"] == files["rounds.jsonl"]
    with_sums, without = (json.loads(each["summary.json"]) for each in (files, bare))
    assert without == {**with_sums, "global": dict.fromkeys(module.FIGURES), "not_summed": why}
    page = bare["index.html"].decode()
    assert "There are no figures of all sites together: a site stayed away." in page
    assert "coordinator/report" not in page
    assert "amber" in page
    with pytest.raises(InvalidReportError, match="without a reason"):
        module.files_without_figures(facts(3), "", records=[])
    with pytest.raises(InvalidReportError, match="simulation"):
        module.files_without_figures(replace(facts(3), simulation=True), why, records=[])

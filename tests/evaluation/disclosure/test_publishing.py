"""What is published, what is withheld, and that neither depends on more than it may."""

from __future__ import annotations

from dataclasses import replace

import pytest
from wardround.evaluation.disclosure import publishing
from wardround.evaluation.disclosure.bands import band_of
from wardround.evaluation.disclosure.published import Published
from wardround.evaluation.disclosure.publishing import publish
from wardround.evaluation.errors import InvalidPredictionsError, InvalidReportError
from wardround.evaluation.sums.summed import SummedFigures

from .studies import draw, facts, of_counts, summed


@pytest.fixture(scope="module")
def sums() -> SummedFigures:
    return summed(*draw(300, 4, seed=4))


@pytest.fixture(scope="module")
def published(sums: SummedFigures) -> Published:
    return publish(sums, facts(4))


def test_every_published_band_holds_its_count(sums: SummedFigures, published: Published) -> None:
    assert published.confusion == tuple(tuple(band_of(int(c)) for c in row) for row in sums.confusion)
    width = 10 // len(published.reliability)
    right, n = (sums.fields[name].reshape(-1, width).sum(axis=1) for name in ("bin_right", "bin_n"))
    mass = sums.fields["bin_confidence"].reshape(-1, width).sum(axis=1)
    for b, row in enumerate(published.reliability):
        assert (row.right, row.wrong) == (band_of(int(right[b])), band_of(int(n[b] - right[b])))
        if row.mean_confidence is not None:
            assert n[b] > 10
            assert row.mean_confidence == pytest.approx(mass[b] / n[b], abs=0.005 + 1e-9)
    figures, auroc = sums.figures(), sums.macro_auroc
    assert published.brier is not None
    assert figures.brier is not None
    assert published.brier.low <= figures.brier < published.brier.high
    assert published.macro_auroc is not None
    assert auroc is not None
    assert published.macro_auroc.low <= auroc.value - auroc.bound
    assert auroc.value + auroc.bound <= published.macro_auroc.high
    table = published.subgroups[0]
    for place, row in enumerate(table.rows):
        assert row.right == tuple(band_of(int(c)) for c in sums.fields["right_0"][place])
        assert row.all_right == band_of(int(sums.fields["right_0"][place].sum()))


def test_the_same_sums_give_the_same_report(sums: SummedFigures, published: Published) -> None:
    assert publish(sums, facts(4)) == published


def test_refusals_at_random_come_once_in_so_many_and_depend_on_sums_of_probabilities() -> None:
    """The same counts, with other probabilities behind them, are refused and not refused."""
    sums = summed(*of_counts([[30, 3], [2, 40]], seed=0))
    drawn = []
    for step in range(1500):
        fields = dict(sums.fields) | {"nll": sums.fields["nll"] + step * 2.0**-24}
        drawn.append(publishing._Draw(replace(sums, fields=fields)).refuses("bins 1"))
    assert 1500 / publishing.CHANCE * 0.6 < sum(drawn) < 1500 / publishing.CHANCE * 1.5


def test_a_form_that_is_refused_at_random_is_left_out(sums: SummedFigures, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = {"margins", "bins 1", "Brier score 0.01", "Brier score 0.05", "column sex"}
    monkeypatch.setattr(publishing._Draw, "refuses", lambda _, form: form in refused)
    found = publish(sums, facts(4))
    assert found.margins is not None
    assert found.margins.false == ()
    assert len(found.reliability) == 5
    assert found.brier is None
    assert found.subgroups == ()
    assert {missing.what for missing in found.withheld} >= {
        "Wrong calls by called class",
        "Brier score",
        "Subgroups by sex",
    }


def test_what_is_not_safe_is_left_out(sums: SummedFigures, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing._Draw, "refuses", lambda *_: False)
    monkeypatch.setattr(publishing, "is_safe", lambda *_: False)
    found = publish(sums, facts(4))
    assert found.confusion is not None  # bands that nothing links are safe by themselves
    assert (found.margins, found.reliability, found.brier, found.subgroups) == (None, (), None, ())
    assert publish(sums, facts(4), found).confusion is None


def test_a_level_that_few_sites_hold_is_counted_as_other() -> None:
    """Only one site records women: their figures would be its own."""
    logits, labels, _ = draw(240, 2, seed=2)
    sex = ["female" if row % 4 == 0 else ("male", "x", "")[row % 3] for row in range(240)]
    found = publish(summed(logits, labels, sex, sites=4), facts(2))
    assert [row.level for row in found.subgroups[0].rows] == ["male", "other", "not recorded"]


def test_a_column_that_few_sites_record_is_withheld() -> None:
    logits, labels, _ = draw(240, 2, seed=2)
    sex = ["female" if row % 4 == 0 else "" for row in range(240)]
    found = publish(summed(logits, labels, sex, sites=4), facts(2))
    assert found.subgroups == ()
    assert ("Subgroups by sex", publishing.FEW_SITES) in [(w.what, w.why) for w in found.withheld]


def test_no_images_are_said_to_be_none() -> None:
    found = publish(summed(*draw(0, 3)), facts(3))
    assert [missing.why for missing in found.withheld] == ["there are no test images"]
    assert (found.brier, found.macro_auroc, found.reliability) == (None, None, ())


def test_classes_must_fit() -> None:
    with pytest.raises(InvalidPredictionsError):
        publish(summed(*draw(9, 3)), facts(2))
    with pytest.raises(InvalidReportError):
        Published(facts(3), 3, None, ((band_of(1), band_of(1)), (band_of(1), band_of(1))))
    with pytest.raises(InvalidReportError):
        Published(facts(2), 3, None, None, schema=9)


def test_mean_confidence_is_not_given_of_few_images() -> None:
    rows = publishing._reliability(summed(*of_counts([[6, 2], [1, 7]], seed=1)), 1)
    assert sum(row.right.high for row in rows) > 10
    assert all(row.mean_confidence is None for row in rows)


def test_a_previous_report_must_have_counts_of_the_same_classes(sums: SummedFigures) -> None:
    other = Published(facts(3), 3, None, ((band_of(1),) * 3,) * 3)
    for previous in (other, Published(facts(4), 3, None, None)):
        with pytest.raises(InvalidReportError, match="previous"):
            publish(sums, facts(4), previous)

"""What is published, what is withheld, and that neither depends on more than it may."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from wardround.evaluation.disclosure import forms, publishing
from wardround.evaluation.disclosure.bands import Band, Range, band_of
from wardround.evaluation.disclosure.published import Published
from wardround.evaluation.disclosure.publishing import publish
from wardround.evaluation.disclosure.twins import figures, to_json
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
    exact, auroc = sums.figures(), sums.macro_auroc
    assert published.brier is not None
    assert exact.brier is not None
    assert published.brier.low <= exact.brier < published.brier.high
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
    assert found.decisions == ()
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
    rows = forms.reliability(summed(*of_counts([[6, 2], [1, 7]], seed=1)), 1)
    assert sum(row.right.high for row in rows) > 10
    assert all(row.mean_confidence is None for row in rows)


def test_a_previous_report_must_have_counts_of_the_same_classes(sums: SummedFigures) -> None:
    matrix = ((band_of(1),) * 4,) * 4
    strange = Published(facts(4), 3, None, ((Band(7, 7), *matrix[0][1:]), *matrix[1:]))
    for previous, what in (
        (Published(facts(3), 3, None, ((band_of(1),) * 3,) * 3), "other classes"),
        (Published(facts(4), 3, None, None), "no counts"),
        (Published(replace(facts(4), study="skin"), 3, None, matrix), "another study"),
        (Published(replace(facts(4), dataset="Skin"), 3, None, matrix), "another data set"),
        (strange, "not a form"),
    ):
        with pytest.raises(InvalidReportError, match=what):
            publish(sums, facts(4), previous)


def test_thresholds_must_be_those_of_the_sums(sums: SummedFigures) -> None:
    with pytest.raises(InvalidPredictionsError, match="thresholds"):
        publish(sums, replace(facts(4), thresholds=(0.5,)))


def test_decisions_are_published_by_a_rule_that_depends_on_no_count(sums: SummedFigures, published: Published) -> None:
    assert [row.threshold for row in published.decisions] == [0.5]
    reasons = {missing.what: missing.why for missing in published.withheld}
    for threshold in ("0.1", "0.25"):
        assert reasons[f"Decision counts at {threshold}"] == publishing.UNLINKED
    true, acted = sums.fields["acted_rightly"][:, 2], sums.fields["acted"][:, 2]
    assert published.decisions[0].true == tuple(band_of(int(count)) for count in true)
    assert published.decisions[0].false == tuple(band_of(int(count)) for count in acted - true)


def test_what_was_before_the_temperature_is_published_too() -> None:
    sums = summed(*draw(300, 4, seed=4), temperature=1.4)
    found, exact = publish(sums, facts(4)), sums.before_temperature()
    assert exact is not None
    right = sums.fields["raw_bin_right"].reshape(len(found.raw_reliability), -1).sum(axis=1)
    assert [row.right for row in found.raw_reliability] == [band_of(int(count)) for count in right]
    assert all(row.mean_confidence is None for row in found.raw_reliability)
    assert found.raw_brier is not None
    assert found.raw_brier.low <= exact[1] < found.raw_brier.high
    error = figures(found)["calibration error before the temperature"]
    assert isinstance(error, Range)
    assert error.low <= exact[0] <= error.high
    assert publish(summed(*draw(300, 4, seed=4), temperature=1.0), facts(4)).raw_reliability == ()


def test_a_later_report_of_the_same_model_has_no_figure_that_is_not_a_count(published: Published) -> None:
    later = summed(*draw(400, 4, seed=5), sites=4)
    found = publish(later, facts(4), published, 100)
    assert found.confusion is not None
    assert (found.brier, found.macro_auroc, found.raw_reliability) == (None, None, ())
    assert all(row.mean_confidence is None for row in found.reliability)
    assert {missing.why for missing in found.withheld} >= {publishing.LATER}
    assert found.earlier == hashlib.sha256(to_json(published)).hexdigest()
    softened = summed(*draw(400, 4, seed=5), sites=4, temperature=1.3)
    assert publish(softened, facts(4), published, 100).reliability == ()

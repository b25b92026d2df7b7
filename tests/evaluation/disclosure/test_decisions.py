"""Ranges of decisions hold the exact counts and net benefits, whether counts are published or not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from wardround.evaluation.disclosure.abstaining import answering
from wardround.evaluation.disclosure.decisions import cut_of, decisions, publishable
from wardround.evaluation.disclosure.published import Published
from wardround.evaluation.disclosure.publishing import publish

from .studies import THRESHOLDS, draw, facts, summed


@pytest.mark.parametrize("k", [2, 3, 4])
@pytest.mark.parametrize("whole", [True, False])
def test_ranges_hold_the_exact_figures(k: int, whole: bool) -> None:
    sums = summed(*draw(220, k, skill=1.5, seed=k), levels={})
    published = publish(sums, facts(k))
    if not whole:
        published = replace(published, decisions=(), reliability=(), brier=None, macro_auroc=None)
    benefit = sums.net_benefit(THRESHOLDS)
    assert benefit is not None
    prevalence = sums.confusion.sum(axis=1) / sums.n
    found = decisions(published)
    assert len(found) == k * len(THRESHOLDS)
    for each in found:
        t = THRESHOLDS.index(each.threshold)
        true = sums.fields["acted_rightly"][each.k, t]
        assert each.true.low <= true <= each.true.high
        assert each.false.low <= sums.fields["acted"][each.k, t] - true <= each.false.high
        assert each.missed.low <= sums.confusion[each.k].sum() - true <= each.missed.high
        assert each.model.low <= benefit[each.k, t] <= each.model.high
        everybody = prevalence[each.k] - (1 - prevalence[each.k]) * each.threshold / (1 - each.threshold)
        assert each.treat_all is not None
        assert each.treat_all.low <= everybody <= each.treat_all.high
        assert each.published == (whole and publishable(each.threshold, k))


def test_what_may_be_published_depends_on_threshold_and_number_of_classes_alone() -> None:
    assert [publishable(t, 4) for t in (0.1, 0.49, 0.5, 0.9)] == [False, False, True, True]
    assert publishable(0.1, 2)
    assert (cut_of(0.1), cut_of(0.75)) == (0.9, 0.75)


def test_nothing_is_said_of_no_images() -> None:
    assert decisions(Published(facts(2), 3, None, None)) == ()
    assert decisions(publish(summed(*draw(0, 2)), facts(2))) == ()


def test_answering_only_when_sure_holds_the_exact_shares() -> None:
    sums = summed(*draw(300, 4, skill=1.5, seed=9), levels={})
    n, right = sums.fields["bin_n"], sums.fields["bin_right"]
    found = answering(publish(sums, facts(4)).reliability)
    assert [row.threshold for row in found] == [0.0, 0.5, 0.6, 0.7, 0.8, 0.9]
    for row in found:
        first = round(10 * row.threshold)
        answered, wrong = n[first:].sum(), (n - right)[first:].sum()
        assert row.answered.low <= answered <= row.answered.high
        assert row.wrong.low <= wrong <= row.wrong.high
        for value, exact in ((row.coverage, answered / n.sum()), (row.risk, wrong / answered)):
            assert value is not None
            assert value.low <= exact <= value.high
    assert answering(()) == ()
    assert np.all(n >= right)

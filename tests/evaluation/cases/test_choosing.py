"""Which images are on the page and which get a map."""

from __future__ import annotations

import numpy as np
import pytest
from wardround.evaluation.cases.choosing import Judged, mapped, review_order, shown


def make_judged(n: int = 60, seed: int = 0) -> Judged:
    generator = np.random.default_rng(seed)
    confidence = generator.uniform(0.3, 1.0, n)
    return Judged(confidence, generator.random(n) < 0.7, confidence < 0.45, None, 0.8)


def kind(judged: Judged, at: int) -> str:
    if judged.abstains[at]:
        return "abstained"
    return "right" if judged.right[at] else "wrong"


def test_the_order_is_errors_surest_first_then_the_least_sure() -> None:
    judged = make_judged()
    order = review_order(judged).tolist()
    assert sorted(order) == list(range(60))
    key = {"wrong": 0, "abstained": 1, "right": 2}
    expected = sorted(
        range(60),
        key=lambda at: (
            key[kind(judged, at)],
            judged.confidence[at] * (-1 if kind(judged, at) == "wrong" else 1),
        ),
    )
    assert order == expected


def test_counts_are_of_answers() -> None:
    judged = make_judged()
    counts, kinds = judged.counts(), [kind(judged, at) for at in range(60)]
    assert (counts.right, counts.wrong, counts.abstained) == tuple(map(kinds.count, ("right", "wrong", "abstained")))
    assert counts.images == counts.right + counts.wrong + counts.abstained == 60
    assert counts.confident == sum(k == "wrong" and c >= 0.8 for k, c in zip(kinds, judged.confidence, strict=True))
    assert 0 < counts.confident < counts.wrong
    assert counts.misses is None


@pytest.mark.parametrize("most", [0, 1, 5, 30, 59, 60, 1000])
def test_a_full_page_keeps_errors_and_abstentions_and_draws_right_ones(most: int) -> None:
    judged = make_judged()
    page, order = shown(judged, most, seed=3).tolist(), review_order(judged).tolist()
    assert len(page) == min(most, 60)
    assert page == [at for at in order if at in set(page)]
    troubled = [at for at in order if kind(judged, at) != "right"]
    assert [at for at in page if kind(judged, at) != "right"] == troubled[:most]
    assert page == shown(judged, most, seed=3).tolist()


def test_right_ones_on_a_full_page_are_a_sample_and_not_the_worst() -> None:
    judged = make_judged(400)
    pages = [shown(judged, 200, seed).tolist() for seed in (1, 2)]
    right = [[at for at in page if kind(judged, at) == "right"] for page in pages]
    assert right[0] != right[1]
    every = np.sort(judged.confidence[[kind(judged, at) == "right" for at in range(400)]])
    assert np.median(judged.confidence[right[0]]) > np.quantile(every, 0.3)


def test_maps_go_to_confident_errors_then_abstentions_then_other_errors_and_a_few_right_ones() -> None:
    judged = make_judged()
    page = shown(judged, 1000, seed=0)
    confident = set(np.flatnonzero(judged.confident_errors).tolist())
    abstained = set(np.flatnonzero(judged.abstains).tolist())
    got = mapped(judged, page, len(confident) + 2 + 1, seed=0).tolist()  # a sixth of so few is one
    assert got == sorted(got)
    assert confident < set(got)
    assert len(set(got) & abstained) == 2
    assert sum(kind(judged, at) == "right" for at in got) == (len(confident) + 3) // 6 == 1
    everything = mapped(judged, page, 1000, seed=0).tolist()
    assert everything == list(range(60))
    assert mapped(judged, page, 0, seed=0).tolist() == []
    assert set(mapped(judged, page[:4], 24, seed=0).tolist()) == set(page[:4].tolist())

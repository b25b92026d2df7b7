"""A reader attacks every file of a deployed coordinator, also of two in a row; and breaks what is published naively."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wardround.evaluation.disclosure.bands import band_of
from wardround.evaluation.disclosure.published import Published
from wardround.evaluation.disclosure.publishing import publish
from wardround.evaluation.disclosure.twins import from_json, to_csv

from .attacker import Knowledge, brute_force, consecutive, read, read_csv
from .reader import lines_of, numbers
from .studies import LEVELS, deployed, draw, facts, of_counts, summed, with_one_more


def known(published: Published) -> Knowledge:
    """What all files tell together."""
    return read(lines_of(deployed(published)))


def given_back(published: Published) -> Published:
    """The report as the product reads it for the next one: from its JSON."""
    return from_json(deployed(published)["coordinator/report.json"])


def matrix_of(cells: list[list[int]]) -> Published:
    """A report of nothing but bands of a confusion matrix."""
    return Published(facts(2), 3, None, tuple(tuple(band_of(count) for count in row) for row in cells))


def attack(published: Published) -> None:
    """No count from 1 to 10 may have one value only."""
    assert known(published).pinned() == []


EDGES = {
    "one error": [[38, 1], [0, 38]],
}
MORE_EDGES = {
    "tops of bands": [[15, 10, 10], [10, 20, 10], [10, 10, 25]],
    "two wrong cells": [[30, 1], [10, 40]],
    "bottoms of bands": [[11, 1, 1], [1, 16, 1], [1, 1, 21]],
    "all small": [[3, 1, 2], [1, 4, 0], [2, 0, 1]],
    "perfect": [[30, 0, 0], [0, 12, 0], [0, 0, 5]],
    "one image": [[0, 1], [0, 0]],
    "one class": [[7, 2], [0, 0]],
    "nobody": [[0, 0], [0, 0]],
}


@pytest.mark.parametrize("name", [*EDGES, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE_EDGES)])
def test_nothing_small_is_pinned(name: str) -> None:
    cells = (EDGES | MORE_EDGES)[name]
    temperature = None if name == "one error" else 0.7 if len(cells) == 2 else 1.4
    sums = summed(
        *of_counts(cells, seed=3), levels=LEVELS if name == "two wrong cells" else {}, temperature=temperature
    )
    assert sums.confusion.tolist() == cells
    attack(publish(sums, facts(len(cells))))


def test_a_small_study_at_random() -> None:
    attack(publish(summed(*draw(40, 3, seed=11), levels={}, temperature=1.4), facts(3)))


@pytest.mark.slow
def test_two_classes_with_decisions_and_a_temperature() -> None:
    published = publish(summed(*draw(60, 2, seed=5), levels={}, temperature=0.7), facts(2))
    assert published.decisions
    attack(published)


def test_all_files_agree_and_say_more_than_one_of_them() -> None:
    """The lines of CSV, JSON and page are the same counts; each file is read."""
    published = publish(summed(*draw(300, 4, seed=4), temperature=1.4), facts(4))
    files = deployed(published)
    every = lines_of(files)
    for left_out in ("coordinator/report.csv", "coordinator/report.html", "index.html", "summary.json"):
        empty = {"summary.json": deployed(matrix_of([[30, 3], [2, 40]]))["summary.json"]}
        without = lines_of({**files, left_out: empty.get(left_out, b"")})
        assert len(without) < len(every)
    found = read(every)
    assert found.solve({}) is not None
    tables = {row[0] for row in every}
    assert {"reliability before the temperature", "decisions at 0.5", "decisions at 0.1", "abstention"} <= tables


@pytest.mark.slow
@pytest.mark.timeout(1200)
@settings(max_examples=60, deadline=None)
@given(st.integers(2, 4), st.integers(1, 90), st.floats(0, 6), st.integers(0, 10**6))
def test_many_small_studies_at_random(k: int, n: int, skill: float, seed: int) -> None:
    temperature = (None, 0.6, 1.0, 1.7)[seed % 4]
    attack(publish(summed(*draw(n, k, skill=skill, seed=seed), temperature=temperature), facts(k)))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from([0, 1, 2, 5, 9, 10, 11, 15, 16]), min_size=4, max_size=4),
    st.integers(0, 3),
    st.integers(0, 1),
    st.integers(0, 10**6),
    st.booleans(),
)
def test_many_pairs_of_reports(cells: list[int], where: int, more: int, seed: int, same_model: bool) -> None:
    """One image is added, or none and the model is another: nothing of either report is pinned."""
    first = of_counts([cells[:2], cells[2:]], seed=seed)
    before = given_back(publish(summed(*first), facts(2)))
    if same_model:
        more, model = 1, "ab"
        second = with_one_more(first, where // 2, where % 2, seed=seed + 1)
    else:
        model = "cd"
        grown = [*cells[:where], cells[where] + more, *cells[where + 1 :]]
        second = of_counts([grown[:2], grown[2:]], seed=seed + 1)
    after = publish(summed(*second), facts(2, model * 32), before, more)
    if after.confusion is not None:
        _attack_both(after, before, more, same_model)


def _attack_both(after: Published, before: Published, growth: int, same_model: bool) -> None:
    both = consecutive(known(after), known(before), growth=growth, same_model=same_model)
    small = [name for name in both.low if "gap" not in name]
    if both.solve({}) is not None:
        assert both.pinned(small) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["all small", "one error"])
def test_counting_all_matrices_pins_nothing_either(name: str) -> None:
    """Balanced accuracy and AUROC are no linear constraints; here every matrix is tried one by one."""
    cells = [row[:2] for row in (EDGES | MORE_EDGES)[name][:2]]
    published = publish(summed(*of_counts(cells, seed=5), levels={}), facts(2))
    values = brute_force(known(published))
    for (_, i, j), possible in values.items():
        names = [label.name for label in published.facts.classes]
        truth = cells[names.index(i)][names.index(j)]
        assert truth in possible
        assert len(possible) >= 2 or truth == 0 or truth > 10


def test_adding_one_patient_tells_nothing() -> None:
    """A cell of 10 becomes 11. Who knows that one image was added would know both counts: nothing new is published."""
    cells = [[10, 20], [20, 40]]
    before = given_back(publish(summed(*of_counts(cells, seed=1), levels={}), facts(2)))
    sums = summed(*of_counts([[11, 20], [20, 40]], seed=1), levels={})
    naive = publish(sums, facts(2))
    both = consecutive(known(naive), known(before), growth=1, same_model=True)
    assert both.pinned([("before", "cell", "glioma", "glioma")])
    after = publish(sums, facts(2), before, growth=1)
    assert after.confusion is None
    assert "that report stands" in after.withheld[0].why
    assert "10" not in to_csv(after).split("withheld", 1)[1]


def test_adding_a_site_is_published_and_tells_nothing_small() -> None:
    cells, more = [[10, 20], [20, 40]], [[21, 33], [25, 61]]
    before = given_back(publish(summed(*of_counts(cells, seed=1), levels={}), facts(2)))
    sums = summed(*of_counts(more, seed=2), sites=4, levels={})
    after = publish(sums, facts(2), before, growth=int(sums.n - 90))
    assert after.confusion is not None
    assert (after.brier, after.macro_auroc) == (None, None)  # a difference of sums would be of the added site alone
    _attack_both(after, before, int(sums.n - 90), True)


@pytest.mark.slow
def test_another_model_after_one_more_patient_tells_nothing_small() -> None:
    images = draw(80, 3, seed=21)
    before = given_back(publish(summed(*images, levels={}, temperature=1.3), facts(3)))
    grown = summed(*with_one_more(images, 0, 1, seed=3), levels={}, temperature=0.8)
    after = publish(grown, facts(3, "cd" * 32), before)
    if after.confusion is not None:
        _attack_both(after, before, 1, False)
    assert after.earlier


def test_the_attacker_breaks_exact_rates() -> None:
    """ "accuracy .98 at n = 300 is 6 errors": the attack works where somebody publishes as everybody does."""
    published = matrix_of([[150, 6], [0, 144]])
    bands = [line for line in to_csv(published).splitlines() if line.startswith(("table", "confusion"))]
    exact = [*bands, "figures,images,,300,300,", "figures,accuracy,,0.975,0.985,"]
    assert read_csv("\n".join(exact)).pinned() == []  # bands and a rounded rate leave 5, 6 and 7
    exact[-1] = "figures,accuracy,,0.98,0.98,"
    assert ("cell", "glioma", "meningioma") in read_csv("\n".join(exact)).pinned()
    # The same at a smaller study, where even two decimals are exact.
    small = ["table", "confusion,a,a,21,25,", "confusion,a,b,1,10,", "confusion,b,a,0,0,", "confusion,b,b,21,25,"]
    small += ["figures,images,,45,45,", "figures,accuracy,,0.925,0.935,"]
    assert ("cell", "a", "b") in read_csv("\n".join(small)).pinned()


def test_the_attacker_breaks_a_reliability_table_that_meets_the_matrix_in_a_corner() -> None:
    lines = ["table", "confusion,a,a,1,10,", "confusion,a,b,0,0,", "confusion,b,a,0,0,", "confusion,b,b,1,10,"]
    lines += ["reliability,0.9 to 1.0,right,20,24,", "reliability,0.9 to 1.0,wrong,0,0,"]
    assert [name[0] for name in read_csv("\n".join(lines)).pinned()].count("cell") == 2


def test_the_attacker_breaks_tables_that_a_temperature_or_a_threshold_links() -> None:
    lines = ["table", "confusion,a,a,26,30,", "confusion,a,b,0,0,", "confusion,b,a,0,0,", "confusion,b,b,26,30,"]
    lines += ["figures,temperature,,2,2,", "reliability,0.7 to 0.8,right,46,50,", "reliability,0.9 to 1.0,right,10,14,"]
    lines += ["reliability,0.7 to 0.8,wrong,0,0,", "reliability,0.9 to 1.0,wrong,0,0,"]
    assert read_csv("\n".join(lines)).pinned() == []
    table = "reliability before the temperature"
    lines += [f"{table},0.8 to 0.9,right,41,50,", f"{table},0.9 to 1.0,right,1,10,"]
    assert ("right", "0.9 to 1.0") in read_csv("\n".join(lines)).pinned()
    lines = ["table", "confusion,a,a,11,15,", "confusion,a,b,1,10,", "confusion,b,a,0,0,", "confusion,b,b,26,30,"]
    lines += ["decisions at 0.1,a,true,25,29,", "decisions at 0.1,b,true,26,30,"]
    lines += ["decisions at 0.1,a,false,0,30,", "decisions at 0.1,b,false,1,10,"]
    assert ("cell", "a", "b") in read_csv("\n".join(lines)).pinned()


def test_no_exact_count_or_sum_is_in_any_file() -> None:
    sums = summed(*draw(317, 4, seed=8))
    published = publish(sums, facts(4))
    files = deployed(published)
    page, table = files["coordinator/report.html"].decode(), to_csv(published)
    figures = sums.figures()
    for value in (figures.accuracy, figures.balanced_accuracy, figures.brier, figures.nll, figures.ece):
        assert value is not None
        assert f"{value:.3f}" not in page + table
    assert f"{sums.n}" not in page + table
    allowed = (
        {1.0, 10.0, 0.0} | {float(low) for low in range(11, 400, 5)} | {float(low + 4) for low in range(11, 400, 5)}
    )
    counts = {float(x) for name in ("confusion", "bin_n", "bin_right", "acted") for x in np.ravel(sums.fields[name])}
    bare = deployed(
        replace(
            published,
            confusion=None,
            margins=None,
            reliability=(),
            subgroups=(),
            decisions=(),
            brier=None,
            macro_auroc=None,
        )
    )
    for name in ("coordinator/report.json", "summary.json"):
        assert not (counts - allowed - numbers(bare[name])) & numbers(files[name])


def test_studies_with_the_same_bands_have_the_same_bytes() -> None:
    """No shade, length, number of decimals or description in the page depends on what is behind a band."""
    one, two = matrix_of([[33, 3], [4, 52]]), matrix_of([[35, 7], [2, 55]])
    assert one == two
    assert deployed(one) == deployed(two)

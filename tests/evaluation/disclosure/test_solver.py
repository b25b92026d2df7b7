"""The solver says "pinned" where counting all matrices says so, and where a link between tables or reports pins."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from wardround.evaluation.disclosure.bands import Band, band_of
from wardround.evaluation.disclosure.constraints import System, system_of
from wardround.evaluation.disclosure.published import (
    DecisionRow,
    Margins,
    Published,
    ReliabilityRow,
    SubgroupRow,
    SubgroupTable,
)
from wardround.evaluation.disclosure.publishing import is_safe
from wardround.evaluation.disclosure.solver import Search, UndecidedError

from .studies import facts


def report(cells: list[list[int]], **fields: object) -> Published:
    matrix = tuple(tuple(band_of(count) for count in row) for row in cells)
    return replace(Published(facts(len(cells)), 3, None, matrix), **fields)  # type: ignore[arg-type]


def bins(right: Band, wrong: Band) -> tuple[ReliabilityRow, ...]:
    none = Band(0, 0)
    rows = [ReliabilityRow(b / 10, (b + 1) / 10, none, none) for b in range(9)]
    return (*rows, ReliabilityRow(0.9, 1.0, right, wrong))


def test_bands_alone_pin_nothing() -> None:
    assert is_safe(report([[1, 10], [0, 3]]))
    assert is_safe(report([[0, 0], [0, 0]]))
    assert is_safe(report([[40, 0], [0, 40]]))


def test_a_total_that_meets_the_bands_in_one_point_pins() -> None:
    """Cells of 10 and 10 beside a right total of 20-24 cannot both be anything but 10."""
    safe = report([[10, 30], [30, 10]], reliability=bins(Band(19, 23), Band(56, 60)))
    pinned = replace(safe, reliability=bins(Band(20, 24), Band(56, 60)))
    assert is_safe(safe)
    assert not is_safe(pinned)
    assert Search(system_of(pinned)).pinned() == "cell 0 0"


def test_one_less_than_the_corner_leaves_two_values() -> None:
    """At a total of 19-24 both cells may be 9 or 10; no margin is asked for beyond that."""
    assert is_safe(report([[10, 30], [30, 10]], reliability=bins(Band(19, 24), Band(56, 60))))


def test_margins_pin_when_every_cell_must_be_one() -> None:
    cells = [[30] + [1] * 10] + [[0] * 11 for _ in range(10)]
    matrix = tuple(tuple(band_of(count) for count in row) for row in cells)
    eleven = replace(facts(2), classes=tuple(replace(facts(2).classes[0], name=f"c{k}") for k in range(11)))
    base = Published(eleven, 3, None, matrix)
    tight = Margins(Band(1, 10), (Band(1, 10), *[Band(0, 0)] * 10))
    assert is_safe(base)
    assert not is_safe(replace(base, margins=tight))


def test_a_subgroup_column_pins_through_its_class() -> None:
    def table(women: int, men: int) -> SubgroupTable:
        zero = band_of(0)
        rows = tuple(
            SubgroupRow(level, (band_of(n), zero), (zero, zero), band_of(n), zero)
            for level, n in (("female", women), ("male", men))
        )
        return SubgroupTable("sex", rows)

    # 16-20 right of the class; 1-10 and 11-15 give 12-25, which leaves nine values.
    assert is_safe(report([[18, 0], [0, 0]], subgroups=(table(4, 14),)))
    # 11-15 of the class; 1-10 and 11-15 give 12-25: the first may be 1 to 4.
    assert is_safe(report([[15, 0], [0, 0]], subgroups=(table(4, 11),)))
    narrow = report([[15, 0], [0, 0]], subgroups=(table(4, 11),))
    assert narrow.confusion is not None
    cut = ((Band(11, 12), narrow.confusion[0][1]), narrow.confusion[1])
    assert not is_safe(replace(narrow, confusion=cut))


def test_a_brier_score_that_leaves_room_for_one_error_pins_it() -> None:
    """Wrong images have a Brier score of at least 1/2: 0.00-0.01 of at most 85 images leaves room for one error."""
    from wardround.evaluation.disclosure.bands import Range

    base = report([[38, 1], [0, 38]], reliability=bins(Band(71, 75), Band(1, 10)))
    assert is_safe(base)
    assert not is_safe(replace(base, brier=Range(0.0, 0.01)))
    assert is_safe(replace(base, brier=Range(0.05, 0.15)))


def rows(**right: Band) -> tuple[ReliabilityRow, ...]:
    """Ten bins without a wrong image; the named ones (``b9``) hold right ones."""
    none = Band(0, 0)
    return tuple(ReliabilityRow(b / 10, (b + 1) / 10, right.get(f"b{b}", none), none) for b in range(10))


def test_a_table_before_the_temperature_pins_through_the_order_of_confidences() -> None:
    """At temperature 2 a confidence of .9 was at least .98: the last bin before holds all of the last bin after."""
    base = report([[30, 0], [0, 30]], temperature=2.0, reliability=rows(b9=Band(10, 14), b7=Band(46, 50)))
    assert is_safe(base)
    assert is_safe(replace(base, raw_reliability=rows(b9=Band(11, 15), b8=Band(41, 45))))
    assert not is_safe(replace(base, raw_reliability=rows(b9=Band(1, 10), b8=Band(41, 50))))


def test_a_decision_count_pins_what_was_missed() -> None:
    """15 found and 10 not make up 25: all of them are acted on."""
    one = ReliabilityRow(0.8, 0.9, Band(41, 45), Band(1, 10))
    base = report([[15, 10], [0, 30]], reliability=(*rows()[:8], one, rows()[9]))

    def at_a_tenth(true: Band) -> Published:
        return replace(base, decisions=(DecisionRow(0.1, (true, Band(26, 30)), (Band(26, 30), Band(12, 25))),))

    assert is_safe(at_a_tenth(Band(16, 20)))
    assert not is_safe(at_a_tenth(Band(25, 29)))


def test_a_mean_confidence_that_images_from_before_cannot_have_is_impossible() -> None:
    """Two classes, temperature 2: what was below .8 before is below 2/3 now, and cannot have a mean of .69."""
    row = ReliabilityRow(0.6, 0.7, Band(41, 45), Band(0, 0), 0.69)
    base = report([[20, 0], [0, 25]], temperature=2.0, reliability=(*rows()[:6], row, *rows()[7:]))
    assert is_safe(replace(base, raw_reliability=rows(b8=Band(31, 35), b7=Band(6, 15))))
    assert not is_safe(replace(base, raw_reliability=rows(b7=Band(41, 45))))


def test_a_report_that_no_images_can_have_is_not_safe() -> None:
    assert not is_safe(report([[10, 30], [30, 10]], reliability=bins(Band(61, 65), Band(56, 60))))


def test_a_solution_that_is_never_accepted_is_undecided_and_so_not_safe() -> None:
    with pytest.raises(UndecidedError):
        Search(system_of(report([[1, 10], [0, 3]])), lambda _: False).pinned()


def test_bins_below_one_over_k_are_empty() -> None:
    """With two classes no top label is below 0.5: what is printed there as 1-10 has no images behind it."""
    rows = (ReliabilityRow(0.0, 0.2, Band(1, 10), Band(0, 0)), *bins(Band(0, 0), Band(0, 0))[2:])
    assert not is_safe(report([[3, 0], [0, 0]], reliability=rows))


@pytest.mark.parametrize("growth", [1, 11])
def test_two_reports_of_the_same_model_are_not_subtractable(growth: int) -> None:
    """10 became 10 + growth, the least with which the band can be left: the earlier count would be known."""
    before, after = report([[10, 20], [20, 40]]), report([[10 + growth, 20], [20, 40]])
    assert not is_safe(after, before, growth)
    assert is_safe(after, before, growth + 1)


@pytest.mark.slow
def test_without_a_known_growth_all_small_ones_are_guarded() -> None:
    before, after = report([[10, 20], [20, 40]]), report([[11, 20], [20, 40]])
    assert not is_safe(after, before)
    assert is_safe(before, before)


def test_another_model_on_the_same_images_can_pin_through_class_totals() -> None:
    """A class of 11-15 images; the other model spreads it over a band of 11-15 and four cells that must then be 1."""
    before = report([[15, 0, 0, 0, 0], *([[0, 20, 20, 20, 20]] * 4)])
    after = replace(
        report([[11, 1, 1, 1, 1], *([[0, 20, 20, 20, 20]] * 4)]),
        facts=facts(5, "cd" * 32),
    )
    assert not is_safe(after, before, 0)
    assert is_safe(after)


def counted(system: System) -> bool:
    """Slow and obvious: all solutions of a small system, and whether some watched count is pinned."""
    boxes = [range(int(low), int(high) + 1) for low, high in zip(system.low, system.high, strict=True)]
    values = []
    for x in product(*boxes):
        if all(least <= sum(f * x[j] for j, f in terms.items()) <= most for terms, least, most in system.rows):
            values.append([sum(f * x[j] for j, f in terms.items()) for _, terms in system.watched])
    table = np.array(values)
    low, high = table.min(axis=0), table.max(axis=0)
    return bool(((low == high) & (np.abs(low) >= 1) & (np.abs(low) <= 10)).any())


@pytest.mark.parametrize("seed", range(12))
def test_the_solver_agrees_with_counting(seed: int) -> None:
    generator = np.random.default_rng(seed)
    system = System()
    for _ in range(5):
        low = int(generator.integers(0, 3))
        system.unknown(Band(low, low + int(generator.integers(0, 4))))
        system.watch(f"x{len(system.low)}", {len(system.low) - 1: 1.0})
    truth = [int(generator.integers(low, high + 1)) for low, high in zip(system.low, system.high, strict=True)]
    for _ in range(3):
        terms = {int(j): 1.0 for j in generator.choice(5, size=3, replace=False)}
        value = sum(truth[j] for j in terms)
        system.row(terms, value, value + int(generator.integers(0, 2)))
        system.watch("sum of two", dict(list(terms.items())[:2]))
    assert (Search(system).pinned() != "") == counted(system)

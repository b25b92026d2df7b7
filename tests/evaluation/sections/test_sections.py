"""Sections one by one: what they say at the edges, and that they say only what the figures carry."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from wardround.evaluation.arrays import softmax
from wardround.evaluation.figures.compute import compute
from wardround.evaluation.figures.figure_set import DecisionCurve, DecisionPoint, Estimate, FigureSet, SetCoverage
from wardround.evaluation.figures.sample import Column, Sample
from wardround.evaluation.page_parts import number, percent
from wardround.evaluation.per_class import rate
from wardround.evaluation.report_model import SiteReport
from wardround.evaluation.sections.abstention import abstention
from wardround.evaluation.sections.blocks import Bullets, Drawings, Grid, Section
from wardround.evaluation.sections.calibration import calibration
from wardround.evaluation.sections.classes import classes
from wardround.evaluation.sections.crosswalk import ITEMS, crosswalk
from wardround.evaluation.sections.decision import decision
from wardround.evaluation.sections.failures import MOST, failures
from wardround.evaluation.sections.headline import glance, headline, reading
from wardround.evaluation.sections.limits import limits
from wardround.evaluation.sections.monitoring import plan
from wardround.evaluation.sections.shift import shift
from wardround.evaluation.sections.subgroups import subgroups
from wardround.evaluation.sections.words import estimate_cell, estimate_words, rate_words
from wardround.evaluation.site_figures import SiteFigures

CLASSES = ("Ash", "Beech", "Cedar")


def sample(n: int = 60, *, skill: float = 2.0, seed: int = 0, columns: dict[str, Column] | None = None) -> Sample:
    generator = np.random.default_rng(seed)
    labels = np.arange(n, dtype=np.int64) % 3
    z = generator.normal(size=(n, 3)) + skill * np.eye(3)[labels]
    return Sample(z, labels, np.arange(n, dtype=np.int64), CLASSES, None, columns or {}, group_key="patient")


def figures(given: Sample, **options: object) -> FigureSet:
    return compute(given, model="Federated", seed=0, resamples=40, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def plain() -> FigureSet:
    return figures(sample())


def texts(section: Section) -> str:
    """All words of a section, figures left out."""
    said = list(section.reading)
    for block in section.blocks:
        if isinstance(block, Grid):
            said.append(block.table.caption)
            said += [f"{cell.main} {cell.sub}" for row in block.table.rows for cell in row]
        elif isinstance(block, Bullets):
            said += block.items
        else:
            said.append(str(getattr(block, "text", "")))
    return re.sub(r"\s+", " ", " ".join(said))


def test_an_estimate_says_why_there_is_no_number() -> None:
    assert estimate_cell(None).main == "not known"
    assert estimate_cell(Estimate(None, note="too few groups")).main == "too few"
    missing = estimate_cell(Estimate(None, note="no image of this class"))
    assert (missing.main, missing.sub) == ("not known", "no image of this class")
    assert estimate_cell(Estimate(0.5, 0.4, 0.6)).sub == "0.40 to 0.60"
    assert estimate_cell(Estimate(0.5, note="too few groups")).sub == "too few groups"
    assert estimate_cell(Estimate(0.5, note="no interval: chance alone")).sub == ""
    assert estimate_words(Estimate(0.5, 0.4, 0.6)) == "0.50 (0.40 to 0.60)"
    assert estimate_words(Estimate(None)) == "not known"
    assert rate_words(rate(2, 3)) == "2 of 3"
    assert rate_words(rate(12, 15)).startswith("12 of 15 (0.80, ")


def test_no_images_at_all_still_makes_every_section() -> None:
    empty = Sample(np.zeros((0, 3)), np.zeros(0, np.int64), np.zeros(0, np.int64), CLASSES)
    found = figures(empty)
    for make in (headline, classes, decision, abstention, subgroups):
        assert make(found).reading
    assert failures(empty).reading == ("There are no test images.",)
    assert [row[0].main for row in plan(found).rows] == ["Scanner, camera, protocol, referral"]


def test_under_ten_patients_there_are_counts_and_no_figure() -> None:
    given = sample(45, columns={"sex": Column(("f", "m"), np.arange(45, dtype=np.int64) % 2)})
    patients = replace(given, groups=np.arange(45, dtype=np.int64) // 5)
    covered = (SetCoverage("all", 0.9, rate(40, 45), 1.2, 0.0, 0.8),)
    found = figures(patients, abstain_below=0.5, sets=covered)
    figure = r"\b[01]\.\d\d"
    for make in (headline, classes, calibration, decision, abstention, subgroups):
        said = texts(make(found)).replace(f"{number(1 / 3)}", "").replace("0.50", "")  # guessing
        assert "too few" in said.lower() or make is subgroups
        assert not re.search(figure, said), (make, re.search(figure, said))
    assert "From 45 images of 9 patients." in texts(headline(found))
    for make in (calibration, decision, abstention):
        assert not any(isinstance(block, Drawings) for block in make(found).blocks)
    assert "15 of 15" in texts(classes(found)) or "14 of 15" in texts(classes(found))
    assert "40 of 45" in texts(abstention(found))
    assert "a figure needs at least 10 patients" in headline(found).reading[0]
    card = glance(found)
    assert (card.figure.value, [side.value for side in card.side]) == ("too few", ["too few", "too few", "45"])
    assert card.figure.sub == "45 images of 9 patients; a figure needs at least 10 patients"
    assert [row[0].main for row in plan(found).rows] == ["Scanner, camera, protocol, referral"]
    drawn = next(block for block in subgroups(found).blocks if isinstance(block, Drawings))
    assert drawn.items[0].svg.count(">too few<") == 2


def test_captions_say_by_what_wilson_intervals_are(plain: FigureSet) -> None:
    grouped = figures(replace(sample(60), groups=np.arange(60, dtype=np.int64) // 2))
    for make in (classes, calibration, abstention):
        assert "95 % Wilson intervals by patient" in texts(make(grouped))
        assert "by patient" not in texts(make(plain)).replace("95 % intervals by patient", "")


def test_the_class_that_is_missed_most_is_named_first(plain: FigureSet) -> None:
    worst = min(plain.per_class, key=lambda row: row.sensitivity.value or 0.0)
    said = classes(plain).reading[0]
    assert said.startswith(f"Found least often: {worst.name}, {worst.sensitivity.numerator} of")
    few = figures(sample(9))
    assert classes(few).reading == ("There are too few images of any class to say how well it is found.",)


def curve(name: str, low: float, high: float, treat_all: float, *, named: bool = True) -> DecisionCurve:
    found, rival = Estimate((low + high) / 2, low, high), max(0.0, treat_all)
    gain = Estimate((low + high) / 2 - rival, low - rival, high - rival) if named else None
    point = DecisionPoint(0.2, found, treat_all, named, gain)
    return DecisionCurve(name, 0.3, (point,))


def test_decision_claims_only_what_whole_intervals_show(plain: FigureSet) -> None:
    sure, unsure = curve("Ash", 0.10, 0.20, 0.05), curve("Beech", 0.04, 0.20, 0.05)
    said = decision(replace(plain, decision=(sure, unsure))).reading[0]
    assert f"nobody for Ash at {percent(0.2)}." in said
    assert f"no class at {percent(0.2)}" in decision(replace(plain, decision=(unsure,))).reading[0]
    assert f"every class at {percent(0.2)}" in decision(replace(plain, decision=(sure,))).reading[0]
    # Better than everybody, but not than nobody.
    harmful = curve("Ash", -0.05, 0.02, -0.4)
    assert "no class" in decision(replace(plain, decision=(harmful,))).reading[0]
    # The model's own interval holds its rival, that of the paired difference lies above 0: the latter counts.
    paired = replace(unsure, points=(replace(unsure.points[0], gain=Estimate(0.07, 0.02, 0.12)),))
    found = decision(replace(plain, decision=(harmful, paired)))
    assert f"nobody for Beech at {percent(0.2)}." in found.reading[0]
    assert "gain +0.070 (+0.020 to +0.120)" in texts(found)
    unnamed = curve("Ash", 0.1, 0.2, 0.05, named=False)
    assert "No threshold was named beforehand" in decision(replace(plain, decision=(unnamed,))).reading[0]
    nothing = DecisionCurve("Ash", None, (), "no image of this class")
    assert "Ash: no image of this class." in texts(decision(replace(plain, decision=(nothing,))))


def test_a_threshold_of_ten_percent_weighs_a_miss_as_nine_false_alarms() -> None:
    said = texts(decision(figures(sample(), thresholds=(0.1, 0.5))))
    assert "as much as 9 false alarms" in said


def test_abstention_counts_what_it_costs() -> None:
    found = figures(sample(200, skill=1.0), abstain_below=0.7, wanted_risk=0.01)
    chosen = found.risk.chosen
    assert chosen is not None
    section = abstention(found, "A remark.")
    assert f"The cost: {200 - chosen.answered} of 200 images" in section.reading[1]
    wrong, more = chosen.risk.numerator, found.risk.points[0].risk.numerator - chosen.risk.numerator
    assert f"That leaves {wrong} wrong answers; {more} more among the images it declined." in section.reading[1]
    assert "clearly higher than wanted" in section.reading[1]
    assert section.reading[-1] == "A remark."
    grid = next(block for block in section.blocks if isinstance(block, Grid))
    answered = [int(row[2].main) for row in grid.table.rows]
    assert answered == sorted(answered, reverse=True)
    assert [row[0].sub for row in grid.table.rows].count("in use") == 1
    assert "No threshold for declining" in abstention(figures(sample())).reading[0]


def test_only_a_study_says_that_images_were_kept_out_of_training(plain: FigureSet) -> None:
    assert "60 test images of 60 patients that were kept out of training" in reading(plain)
    assert reading(plain, kept_out=False).startswith("On 60 images of 60 patients, the model named")
    assert "training" not in reading(plain, kept_out=False)


def test_subgroups_with_missing_values_and_a_group_that_does_worse() -> None:
    given = sample(120, skill=4.0)
    z = given.logits.copy()
    z[:40] = -z[:40]  # wrong nearly always
    codes = np.repeat([0, 1, -1], 40).astype(np.int64)
    worse = replace(given, logits=z, columns={"skin_type": Column(("dark", "light"), codes)})
    section = subgroups(figures(worse))
    assert "Recorded: skin type." in section.reading[0]
    assert f"Not recorded: skin type for {percent(1 / 3)} of images." in section.reading[0]
    assert "Clearly below the figure for all images in balanced accuracy: skin type dark" in section.reading[0]
    assert "light" not in section.reading[0]
    assert "not recorded for 40 of 120 images" in texts(section)
    assert sum(isinstance(block, Drawings) for block in section.blocks) == 1
    assert "cannot be said" in subgroups(figures(given)).reading[0]


def test_shift_does_not_call_a_difference_that_chance_explains(
    rich_report: SiteReport, rich_figures: SiteFigures
) -> None:
    def told(low: float, high: float, role: str = "training") -> str:
        gains = {"local_only": Estimate((low + high) / 2, low, high)}
        report = replace(rich_report, role=role)  # type: ignore[arg-type]
        return " ".join(shift(report, rich_figures.federated, rich_figures.others, gains).reading)

    assert "is better here than the local model" in told(0.1, 0.3)
    assert "is worse here than the local model" in told(-0.3, -0.1)
    assert "cannot be told apart from the local model" in told(-0.1, 0.3)
    assert "took no part in training" in told(0.1, 0.3, "unseen")
    nothing = shift(rich_report, rich_figures.federated, {}, {})
    assert "no other model, or too few images" in nothing.reading[0]
    assert "A model that is missing here was not scored" in texts(nothing)


def test_failures_are_the_surest_errors_and_never_more_than_a_dozen() -> None:
    given = sample(300, skill=0.3)
    section = failures(given)
    grid = next(block for block in section.blocks if isinstance(block, Grid))
    assert len(grid.table.rows) == MOST
    shown = [float(row[3].main) for row in grid.table.rows]
    assert shown == sorted(shown, reverse=True)
    named = failures(given, records=[1000 + at for at in range(300)])
    first = next(block for block in named.blocks if isinstance(block, Grid)).table.rows[0][0].main
    assert first == f"Image {int(grid.table.rows[0][0].main.split()[1]) + 999}"
    right = replace(given, logits=20.0 * np.eye(3)[given.labels])
    assert failures(right).reading == ("None of the 300 test images was called wrongly.",)
    unsure = replace(given, logits=given.logits / 100)
    assert "None of the answers was given with" in failures(unsure).reading[0]
    # As the case review counts: an image that it declined is no wrong answer.
    stated = softmax(given.logits)
    wrong = stated.max(axis=1)[stated.argmax(axis=1) != given.labels]
    said = failures(given, answers_from=0.6).reading[0]
    answered = int((wrong >= 0.6).sum())
    assert said.startswith(f"{answered} wrong answers among 300 test images; {len(wrong) - answered} more among")
    assert "declined" not in section.reading[0]


def test_the_monitoring_plan_takes_prediction_limits_of_a_new_sample(rich_figures: SiteFigures) -> None:
    found = rich_figures.federated
    rows = {row[0].main: row[2] for row in plan(found).rows}
    accuracy, chance, slope = found.balanced_accuracy, found.calibration.chance, found.calibration.slope
    assert accuracy.value is not None
    assert accuracy.low is not None
    wanted = accuracy.value - 2**0.5 * (accuracy.value - accuracy.low)
    assert rows["Balanced accuracy"].main == f"below {wanted:.2f}"
    assert chance is not None
    assert rows["Calibration error"].main == f"above {chance.bound:.3f}"
    assert ("already above" in rows["Calibration error"].sub) is chance.exceeded
    assert rows["Calibration slope"].main == "its 95 % interval excludes 1"
    assert slope.low is not None
    assert slope.high is not None
    assert ("already so" in rows["Calibration slope"].sub) is not (slope.low <= 1 <= slope.high)
    assert rows["Share that it declines to answer"].main.startswith("outside ")
    for row in found.per_class:
        low, high = (float(end) for end in re.findall(r"\d+", rows[f"Share called {row.name}"].main))
        assert row.called is not None
        assert row.called.low is not None
        assert row.called.high is not None
        assert low < 100 * row.called.low
        assert high > 100 * row.called.high
    said = plan(found).caption
    assert "m = 120 images, collected as these n = 120 of 60 patients were" in said
    assert "pool weeks until 120 are together" in said
    assert "chance no longer explains" not in texts(Section("x", "x", (), (Grid(plan(found), "Plan"),)))
    off = replace(found.calibration, slope=Estimate(0.5, 0.3, 0.7), chance=replace(chance, exceeded=True))
    rows = {row[0].main: row[2] for row in plan(replace(found, before=off, after=None)).rows}
    assert "already so" in rows["Calibration slope"].sub
    assert "already above" in rows["Calibration error"].sub


def test_a_direction_is_named_only_where_an_interval_or_chance_shows_it(plain: FigureSet) -> None:
    unsure = replace(plain.before, slope=Estimate(0.9, 0.7, 1.2), intercept=Estimate(-0.1, -0.3, 0.1))

    def told(**changes: object) -> str:
        return calibration(replace(plain, before=replace(unsure, **changes))).reading[0]  # type: ignore[arg-type]

    assert unsure.chance is not None
    wide, narrow = replace(unsure.chance, bound=1.0), replace(unsure.chance, bound=0.0)
    assert told(chance=wide).endswith("of images: no direction can be told from these images.")
    stated = sum(b.n * b.mean_confidence for b in unsure.bins if b.mean_confidence is not None) / plain.n
    over = stated > sum(b.correct for b in unsure.bins) / plain.n
    way = "overconfident" if over else "underconfident"
    assert told(chance=narrow).endswith(f"{way} (the difference is more than chance explains).")
    assert "overconfident (intercept" in told(chance=wide, intercept=Estimate(-0.4, -0.7, -0.1))
    assert "underconfident (intercept" in told(chance=wide, intercept=Estimate(0.4, 0.1, 0.7))
    assert "overconfident where it is sure (slope 0.60" in told(chance=wide, slope=Estimate(0.6, 0.4, 0.8))
    assert "underconfident where it is sure (slope 1.60" in told(chance=wide, slope=Estimate(1.6, 1.4, 1.8))


def test_calibration_that_did_not_help_is_named(plain: FigureSet) -> None:
    worse = replace(plain.before, nll=Estimate(0.883), brier=Estimate(0.5))
    found = replace(plain, before=replace(plain.before, nll=Estimate(0.864), brier=Estimate(0.5)), after=worse)
    said = calibration(found).reading[-1]
    assert "a higher log likelihood loss than the uncalibrated ones (0.883 against 0.864)" in said
    assert "Brier" not in said
    assert "did not help" not in " ".join(calibration(replace(found, before=worse)).reading)
    assert "did not help" not in " ".join(calibration(plain).reading)


def test_sets_that_hold_the_truth_too_seldom_are_named(plain: FigureSet) -> None:
    rows = (
        SetCoverage("all", 0.9, rate(52, 60), 1.2, 0.0, 0.8),
        SetCoverage("Ash", 0.9, rate(12, 20), 1.2, 0.0, 0.8),
        SetCoverage("Beech", 0.9, rate(0, 3), 1.2, 0.0, 0.8),
    )
    said = texts(abstention(replace(plain, sets=rows)))
    assert "clearly less often than was aimed at for Ash, 12 of 20 (0.60, " in said
    assert "all images together" not in said
    assert "clearly less often" not in texts(abstention(replace(plain, sets=rows[:1])))
    short = replace(rows[0], covered=rate(40, 60))
    assert "aimed at for all images together, 40 of 60" in texts(abstention(replace(plain, sets=(short,))))


def test_a_perfect_score_is_no_certainty() -> None:
    given = sample(60)
    found = figures(replace(given, logits=20.0 * np.eye(3)[given.labels]))
    section = headline(found)
    assert "resampling cannot widen its interval" in section.reading[0]
    assert "the Wilson intervals in the section “Each class” do allow for it" in texts(section)
    assert "1.00 to 1.00" not in texts(section)
    assert "see the interval of each class" in glance(found).figure.sub
    assert classes(found).reading[0].startswith("No image of a class with enough images was missed. Least sure: ")
    rows = {row[0].main: row[2].main for row in plan(found).rows}
    assert "below 0.8" < rows["Balanced accuracy"] < "below 1.00"
    assert "Calibration error" not in rows
    assert "no spread" not in texts(headline(figures(given)))


def test_guessing_has_no_figure_where_the_score_has_none() -> None:
    given = sample(60)
    for one in (given.at(given.labels == 1), given.at(np.arange(1))):
        grid = next(block for block in headline(figures(one)).blocks if isinstance(block, Grid))
        assert [row[2].main for row in grid.table.rows] == ["\N{EN DASH}"] * 4


def test_the_crosswalk_names_items_that_exist_and_sections_that_exist() -> None:
    highest = {"tripod": 27, "claim": 44, "stard": 40, "mi_claim": 6}
    for item in ITEMS:
        assert item.section is None or 1 <= item.section <= 13
        for checklist, last in highest.items():
            for found in re.findall(r"\d+", getattr(item, checklist)):
                assert 1 <= int(found) <= last
    assert {item.section for item in ITEMS} >= set(range(1, 14))
    assert len(crosswalk().rows) == len(ITEMS)


def test_limits_name_the_classes_of_which_nothing_is_known(
    site_report_input: Callable[..., SiteReport], plain: FigureSet
) -> None:
    report = site_report_input(synthetic=False)
    assert "Nothing is known here about" not in texts(limits(report, plain))
    gone = replace(plain, counts=(20, 20, 0))
    assert "Nothing is known here about Cedar" in texts(limits(report, gone))
    assert "phantoms" not in texts(limits(report, plain))
    assert "phantoms" in texts(limits(site_report_input(), plain))

"""Files of predictions: what is read equals what was written, and every fault is named with its line and column."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from wardround.evaluation import predictions_csv
from wardround.evaluation.arrays import softmax
from wardround.evaluation.calibration.temperature import fit
from wardround.evaluation.errors import InvalidPredictionsError
from wardround.evaluation.figures.sample import MISSING
from wardround.evaluation.predictions_csv import ZERO_LOGIT, read_predictions
from wardround.evaluation.predictions_header import read_header
from wardround.evaluation.predictions_rows import RowReader, sum_tolerance

HEADER = "label,prob_benign,prob_malignant,group"
SOUND = [
    f"{'benign' if i % 2 else 'malignant'},{0.1 * (i % 9) + 0.1:.1f},{0.9 - 0.1 * (i % 9):.1f},p{i // 2}"
    for i in range(8)
]

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def make(*lines: str, end: str = "\n", start: str = "") -> Path:
        path = tmp_path / "p.csv"
        path.write_bytes((start + end.join(lines) + end).encode())
        return path

    return make


def refusal(path: Path, **options: object) -> InvalidPredictionsError:
    with pytest.raises(InvalidPredictionsError) as caught:
        read_predictions(path, **options)  # type: ignore[arg-type]
    assert str(path) in caught.value.where
    assert caught.value.remedy
    return caught.value


# --- round trip ----------------------------------------------------------------------------------------------------

text = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=6).filter(lambda t: t == t.strip())


@st.composite
def tables(draw: st.DrawFn) -> dict[str, object]:
    classes = draw(st.lists(text, min_size=2, max_size=5, unique=True))
    k, n = len(classes), draw(st.integers(1, 12))
    weights = draw(st.lists(st.lists(st.integers(0, 99), min_size=k, max_size=k), min_size=n, max_size=n))
    p = np.array(weights, dtype=np.float64) + np.eye(k)[np.arange(n) % k]
    return {
        "classes": classes,
        "p": p / p.sum(axis=1, keepdims=True),
        "labels": draw(st.lists(st.integers(0, k - 1), min_size=n, max_size=n)),
        "groups": draw(st.lists(text, min_size=n, max_size=n)),
        "sex": draw(st.lists(st.sampled_from(["", "female", 'o"d,d;', "\n x"]), min_size=n, max_size=n)),
        "order": draw(st.permutations(range(k + 4))),
        "delimiter": draw(st.sampled_from(",;\t")),
        "quoting": draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])),
        "end": draw(st.sampled_from(["\n", "\r\n"])),
        "bom": draw(st.booleans()),
        "comma": draw(st.booleans()),
        "blank": draw(st.integers(0, 3)),
        "block": draw(st.integers(1, 14)),
    }


@given(tables())
@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_written_is_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, t: dict) -> None:
    monkeypatch.setattr(predictions_csv, "BLOCK_ROWS", t["block"])
    mark = "," if t["comma"] and t["delimiter"] != "," else "."
    names = ["label", "patient", "sex", "image file", *(f"prob_{name}" for name in t["classes"])]
    rows = [
        [t["classes"][y], f" {g} ", sex, "a.png", *(repr(float(v)).replace(".", mark) for v in p)]
        for y, g, sex, p in zip(t["labels"], t["groups"], t["sex"], t["p"], strict=True)
    ]
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=t["delimiter"], quoting=t["quoting"], lineterminator=t["end"])
    writer.writerows([row[i] for i in t["order"]] for row in [names, *rows])
    path = tmp_path / "p.csv"
    data = ("\ufeff" * t["bom"] + stream.getvalue() + t["end"] * t["blank"]).encode()
    path.write_bytes(data)
    read = read_predictions(path, groups="patient", subgroups=["sex"])
    place = [i - 4 for i in t["order"] if i >= 4]
    sample = read.sample
    assert sample.classes == tuple(t["classes"][k] for k in place)
    assert [sample.classes[y] for y in sample.labels] == [t["classes"][y] for y in t["labels"]]
    expected = t["p"][:, place]
    np.testing.assert_allclose(softmax(sample.logits), expected, rtol=1e-12, atol=1e-300)
    assert read.zeros == int((expected == 0).sum())
    first: dict[str, int] = {}
    assert sample.groups.tolist() == [first.setdefault(g, len(first)) for g in t["groups"]]
    column = sample.columns["sex"]
    assert list(column.levels) == sorted({s.strip() for s in t["sex"]} - {""})
    assert ["" if c == MISSING else column.levels[c] for c in column.codes] == [s.strip() for s in t["sex"]]
    assert (read.rows, read.sha256) == (len(rows), hashlib.sha256(data).hexdigest())
    assert (sample.group_key, sample.site, sample.calibrated) == ("patient", None, None)


cell = st.sampled_from(
    [
        "0.5",
        "0,5",
        "1",
        "0",
        " 0.5 ",
        "1e-1",
        "0.9",
        ".5",
        "5e-1",
        "0.50100001",
        "0.4990",
        "-0.0",
        "+0.5",
        "nan",
        "inf",
        "1_0",
        "",
        "x",
        "٠.٥",
        "1.1",
        "-0.1",
        "1.0,0",
        "0_0.5",
    ]
)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(["a", "b", "c", ""]), cell, cell, st.sampled_from(["g", " "])).map(list),
            st.sampled_from([[], ["", "", "", ""], ["a", "0.5", "0.5"], ["a", "0.5", "0.5", "g", ""]]),
            st.just(["a", "0.5", "0.5", "g"]),
            st.just(["b", "0,25", "0,75", "g"]),
        ),
        min_size=1,
        max_size=8,
    ),
    st.integers(1, 8),
    st.sampled_from([",", ";"]),
)
@settings(max_examples=300, deadline=None, derandomize=True)
@example([["a", "0,5", "0,5", "g"], ["a", "0.5", "0.5", "g"]], 1, ";")
def test_the_fast_path_accepts_exactly_what_the_slow_one_does(rows: list[list[str]], block: int, mark: str) -> None:
    layout = read_header(mark.join(["label", "prob_a", "prob_b", "group"]), where="p", groups=None, subgroups=())
    fast, slow = RowReader(layout, "p"), RowReader(layout, "p")
    lines = list(range(2, 2 + len(rows)))
    kept = []
    for start in range(0, len(rows), block):
        fast.read(rows[start : start + block], lines[start : start + block])
    for row, line in zip(rows, lines, strict=True):
        kept += slow._examine([row], [line])
    assert (fast.fault, fast.faulty, fast.rows) == (slow.fault, slow.faulty, slow.rows)
    assert len(kept) == slow.rows - slow.faulty


def test_a_small_file_by_hand(write: Write) -> None:
    read = read_predictions(
        write("label,prob_a,prob_b,site", "a,0.75,0.25,north", "b,1,0,", end="\r\n", start="\ufeff")
    )
    np.testing.assert_allclose(read.sample.logits, [np.log([0.75, 0.25]), [0.0, ZERO_LOGIT]])
    assert read.sample.labels.tolist() == [0, 1]
    assert read.sample.groups.tolist() == [0, 1]
    assert read.sample.group_key == "image"
    assert read.sample.site is not None
    assert (read.sample.site.levels, read.sample.site.codes.tolist()) == (("north",), [0, MISSING])
    assert (read.zeros, read.zero_truths, read.renormalised) == (1, 1, 0)
    notes = " ".join(read.notes)
    assert "intervals are too narrow" in notes
    assert "Probabilities of exactly 0: 1. Images whose true class has one: 1 of 2" in notes


def test_zero_lies_below_every_positive_probability(write: Write) -> None:
    read = read_predictions(write("label,prob_a,prob_b", "a,1,0", "a,1,5e-324"))
    assert read.sample.logits[0, 1] < read.sample.logits[1, 1]


def test_rows_within_rounding_are_divided_by_their_sum(write: Write) -> None:
    read = read_predictions(write("label,prob_a,prob_b,prob_c", "a,0.333,0.333,0.333", "b,0.25,0.25,0.5"))
    np.testing.assert_allclose(softmax(read.sample.logits)[0], 1 / 3)
    np.testing.assert_allclose(np.exp(read.sample.logits).sum(axis=1), 1)
    assert read.renormalised == 1
    assert any("within rounding only (0.0015), and were divided by their sum: 1 of 2" in note for note in read.notes)
    assert "sum to 0.998," in refusal(write("label,prob_a,prob_b,prob_c", "a,0.333,0.333,0.332")).what


def test_the_tolerance_is_what_three_decimals_can_do() -> None:
    assert [sum_tolerance(k) for k in (2, 4, 20, 1000)] == [0.001, 0.002, 0.01, 0.01]


def test_unused_columns_are_named_and_unnamed_ones_are_passed_over(write: Write) -> None:
    read = read_predictions(write(",label,prob_a,prob_b,age,", "0,a,0.5,0.5,70,"))
    assert any(note == "Columns that were not used: age." for note in read.notes)


def test_levels_are_in_order_of_their_numbers(write: Write) -> None:
    rows = [f"a,0.5,0.5,{age}" for age in ("100+", "40-59", "0-39", "not recorded", "x", "40-59")]
    column = read_predictions(write("label,prob_a,prob_b,age", *rows), subgroups=["age"]).sample.columns["age"]
    assert column.levels == ("0-39", "40-59", "100+", "x")
    assert column.codes.tolist() == [2, 1, 0, MISSING, 3, 1]


def test_a_group_at_two_sites_is_said(write: Write) -> None:
    rows = ["a,0.5,0.5,1,north", "b,0.5,0.5,1,south", "b,0.5,0.5,2,south"]
    read = read_predictions(write("label,prob_a,prob_b,group,site", *rows))
    assert any("Groups at more than one site: 1." in note for note in read.notes)
    assert read.sample.n_groups == 2


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    data = "\n".join([HEADER, *SOUND]).encode()
    writer = threading.Thread(target=path.write_bytes, args=(data,))
    writer.start()
    read = read_predictions(path)
    writer.join()
    assert (read.rows, read.sha256) == (len(SOUND), hashlib.sha256(data).hexdigest())


# --- split ---------------------------------------------------------------------------------------------------------


def split_rows(n: int, part: str, start: int, seed: int) -> list[str]:
    """Overconfident answers, a quarter of them wrong."""
    sure = np.random.default_rng(seed).uniform(0.93, 0.999, n)
    return [f"{'a' if i % 4 else 'b'},{v!r},{1 - v!r},{part},p{start + i}" for i, v in enumerate(map(float, sure))]


def test_a_temperature_is_fitted_on_validation_rows_alone(write: Write) -> None:
    head = "label,prob_a,prob_b,split,group"
    validation, test = split_rows(40, "validation", 0, 1), split_rows(24, "test", 38, 2)
    read = read_predictions(write(head, *test[:10], *validation, *test[10:], "a,0.5,0.5,train,q"))
    alone = read_predictions(write("label,prob_a,prob_b", *(",".join(row.split(",")[:3]) for row in validation))).sample
    assert read.temperature == fit(alone.logits, alone.labels)
    assert read.temperature is not None
    assert read.temperature > 1.5
    assert (read.rows, len(read.sample.labels), read.validation_n) == (65, 24, 40)
    assert read.sample.calibrated is not None
    np.testing.assert_allclose(read.sample.calibrated, read.sample.logits / read.temperature)
    notes = " ".join(read.notes)
    for words in (
        "rows of split 'train', 1.",
        "rows of split 'validation' (40)",
        "Groups with rows in validation and in test: 2",
    ):
        assert words in notes


def test_without_a_fit_nothing_is_calibrated(write: Write) -> None:
    rows = [*split_rows(5, "validation", 0, 1), *split_rows(5, "test", 9, 2)]
    read = read_predictions(write("label,prob_a,prob_b,split,group", *rows))
    assert (read.temperature, read.sample.calibrated) == (None, None)
    assert any("No temperature could be fitted" in note for note in read.notes)


# --- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "column", "what", "remedy"),
    [
        ("malignnant,0.5,0.5,p", "label", "'malignnant' has no column 'prob_malignnant'", "Did you mean 'malignant'?"),
        ("naevus,0.5,0.5,p", "label", "'naevus' has no column 'prob_naevus'", "classes are benign, malignant"),
        (",0.5,0.5,p", "label", "the label is empty", "benign, malignant"),
        ("benign,nan,0.5,p", "prob_benign", "'nan', not a number", "Leave the image out"),
        ("benign,0.5,inf,p", "prob_malignant", "'inf', outside 0 to 1", "softmax"),
        ("benign,0.5,,p", "prob_malignant", "the probability is empty", "not 0"),
        ("benign,half,0.5,p", "prob_benign", "'half', not a number", "from 0 to 1"),
        ("benign,0_0.5,0.5,p", "prob_benign", "'0_0.5', not a number", "from 0 to 1"),
        ("benign,1.5,-0.5,p", "prob_benign", "'1.5', outside", "per cent"),
        ("benign,0.5,-0.1,p", "prob_malignant", "'-0.1', outside", "softmax"),
        ('benign,"0,5","0,5",p', "prob_benign", "'0,5' has a decimal comma", "semicolon"),
        ("benign,0.5,0.6,p", "prob_benign' + 'prob_malignant", "sum to 1.1, not to 1", "0.001"),
        ("benign,0.5,0.5,", "group", "the group is empty", "a name of its own"),
        ("benign,0.5", "prob_malignant", "2 cells, the header 4", "an empty one"),
        ("benign,0,5,0,5,p", "column 5", "6 cells, the header 4", "semicolon"),
    ],
)
def test_a_faulty_row_is_named_with_line_and_column(
    write: Write, row: str, column: str, what: str, remedy: str
) -> None:
    error = refusal(write(HEADER, *SOUND[:4], row, *SOUND[4:], "x,2,3,"))
    assert what in error.what
    assert "the first of 2 faulty rows among 10" in error.what
    assert "line 6, column" in error.where
    assert column in error.where
    assert remedy in error.remedy


def test_a_line_is_that_of_the_file_and_not_a_count_of_rows(write: Write) -> None:
    path = write("label,prob_a,prob_b,note", 'a,0.5,0.5,"two\nlines"', "a,0.5,0.5,one", "c,0.5,0.5,one")
    assert refusal(path).where == f"{path}, line 5, column 'label'"


def test_empty_rows_count_only_at_the_end(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    for block in (1, 3, 100):
        monkeypatch.setattr(predictions_csv, "BLOCK_ROWS", block)
        assert read_predictions(write(HEADER, *SOUND, "", ",,,", "  ")).rows == len(SOUND)
        error = refusal(write(HEADER, *SOUND[:3], "", ",,,", *SOUND[3:]))
        assert "the row is empty; it is the first of 2 faulty rows among 10" in error.what
        assert "line 5" in error.where


def test_decimal_marks_may_not_mix(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    for block in (1, 100):
        monkeypatch.setattr(predictions_csv, "BLOCK_ROWS", block)
        error = refusal(write("label;prob_a;prob_b", "a;0,5;0,5", "a;1;0", "b;0.5;0.5"))
        assert "mixes decimal point and comma" in error.what
        assert "line 4, column 'prob_a'" in error.where


@pytest.mark.parametrize(
    ("header", "what", "remedy"),
    [
        ("Label,prob_a,prob_b", "no column 'label'", "Rename the column 'Label' to 'label'"),
        ("truth,prob_a,prob_b", "the columns are truth, prob_a, prob_b", "true class 'label'"),
        ("label,p_a,p_b", "no column of probabilities; the columns are label, p_a, p_b", "'p_a'"),
        ("label,a,b", "no column of probabilities", "Add a column"),
        ("label,prob_a", "one column of probabilities, 'prob_a'", "1 - p"),
        ("label,prob_a,prob_", "without a class", "Write the class"),
        ("label,prob_a,prob_b,prob_a", "'prob_a' stands twice in the header, as column 2 and 4", "Rename"),
        ("label,prob_a,prob_ a", "the class 'a' has two columns", "Rename"),
        ('label,"prob_a,prob_b', "a quotation mark is not closed", "CSV"),
        ("", "the first line is empty", "header"),
    ],
)
def test_a_faulty_header_is_named(write: Write, header: str, what: str, remedy: str) -> None:
    error = refusal(write(header, "a,0.5,0.5"))
    assert what in error.what
    assert "line 1" in error.where
    assert remedy in error.remedy


@pytest.mark.parametrize(
    ("options", "what", "remedy"),
    [
        ({"groups": "pateint"}, "--groups: there is no column 'pateint'", "Did you mean 'patient'?"),
        ({"groups": "zzz"}, "--groups: there is no column 'zzz'", "The columns are label, prob_a"),
        ({"groups": "label"}, "'label' holds the true class", "another column"),
        ({"subgroups": ["Sexx"]}, "--subgroups: there is no column 'Sexx'", "Did you mean 'sex'?"),
        ({"subgroups": ["sex", "sex"]}, "'sex' is asked for twice", "Leave it out"),
        ({"subgroups": ["prob_b"]}, "'prob_b' holds probabilities", "Leave it out"),
        ({"subgroups": ["site"]}, "without being asked", "Leave it out"),
        ({"groups": "patient", "subgroups": ["patient"]}, "'patient' holds the groups", "Leave it out"),
        ({"subgroups": [""]}, "there is no column ''", "The columns are"),
    ],
)
def test_a_column_that_cannot_be_had_is_named(write: Write, options: dict, what: str, remedy: str) -> None:
    error = refusal(write("label,prob_a,prob_b,patient,sex,site", "a,0.5,0.5,p,f,n"), **options)
    assert what in error.what
    assert remedy in error.remedy


def test_a_column_of_too_many_values_is_no_subgroup(write: Write) -> None:
    rows = [f"a,0.5,0.5,{age}" for age in range(101)]
    error = refusal(write("label,prob_a,prob_b,age", *rows), subgroups=["age"])
    assert "'age' has more than 100 different values" in error.what
    assert error.where.endswith("column 'age'")


def test_files_that_are_no_predictions(tmp_path: Path) -> None:
    assert "folder" in refusal(tmp_path).what
    assert "no such file" in refusal(tmp_path / "none.csv").what
    path = tmp_path / "p.csv"
    head = HEADER.encode() + b"\n"
    for data, what, where in (
        (b"", "the file is empty", ""),
        (head, "a header and no row", ""),
        (head + b"\r\n,,,\n", "a header and no row", ""),
        (b"\x1f\x8b\x08\x00", "gzip", ""),
        (b"PK\x03\x04", "Excel", ""),
        (HEADER.encode("utf-16"), "UTF-16", ""),
        (head + b"b\xe4nign,0.5,0.5,p\n", "byte 2 of the line, 0xe4, is not UTF-8", ", line 2"),
        (head.replace(b"\n", b"\r") + b"benign,0.5,0.5,p\r", "does not end", ", line 1"),
        (head + b"benign,0.5,0.5,p\n" + b'benign,0.5,0.5,"p\n', "is not CSV", ", line 3"),
        (head + b"benign,0.5,0.5,p\n" + b'benign,0.5,0.5,"p"q\n', "is not CSV", ", line 3"),
    ):
        path.write_bytes(data)
        error = refusal(path)
        assert what in error.what
        assert error.where == f"{path}{where}"


def test_a_fault_before_the_end_of_reading_is_the_one_that_is_named(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_bytes((HEADER + "\nother,0.5,0.5,p\n").encode() + b"\xff\n")
    error = refusal(path)
    assert "'other'" in error.what
    assert "reading stopped" in error.what
    assert "line 2" in error.where


def test_the_line_of_a_byte_is_found_in_any_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "p.csv"
    rows = [row.encode() + b"\n" for row in [HEADER, *SOUND]]
    rows[6] = b'"b\n\xff,0.5,0.5,p\n'
    path.write_bytes(b"".join(rows))
    for size in (1, 30, 1 << 20):
        monkeypatch.setattr(predictions_csv, "TEXT_BYTES", size)
        error = refusal(path)
        assert (error.what, error.where) == ("byte 1 of the line, 0xff, is not UTF-8", f"{path}, line 8")


def test_no_rows_to_test(write: Write) -> None:
    assert "no row has split 'test'" in refusal(write("label,prob_a,prob_b,split", "a,0.5,0.5,train")).what
    error = refusal(write("label,prob_a,prob_b,split", "a,0.5,0.5,test", "a,0.5,0.5,dev"))
    assert "the part is 'dev', which is none of validation, test, train" in error.what
    assert "line 3, column 'split'" in error.where


def test_messages_hold_nothing_that_a_terminal_obeys(write: Write) -> None:
    error = refusal(write("label,prob_a\x1b[2J,prob_b", "\x1b[2Jx,0.5,0.5"))
    assert "\x1b" not in str(error)
    assert "\\x1b[2Jx" in error.what


def test_a_spreadsheets_separator_line_is_named(write: Write) -> None:
    error = refusal(write("sep=;", "label;prob_a;prob_b", "a;0.5;0.5"))
    assert "separator" in error.what
    assert error.where.endswith("line 1")


def test_a_class_name_that_no_table_can_hold_is_refused(write: Write) -> None:
    error = refusal(write(f"label,prob_a,prob_{'b' * 101}", "a,0.5,0.5"))
    assert "101 characters" in error.what

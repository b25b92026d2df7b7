"""A file of any model's predictions, as arrays that every figure can be made of. docs/evaluate.md is its description.

The file is read once, from its beginning to its end, in blocks: cells become numbers at once and no row is kept.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias

import numpy as np

from .arrays import FloatArray, IntArray
from .calibration.temperature import FEWEST_RECORDS, fit
from .errors import InvalidPredictionsError
from .figures.sample import Column, Sample
from .predictions_header import Layout, listed, read_header
from .predictions_rows import INEXACT, SPLITS, Block, Fault, Row, RowReader, sum_tolerance

BLOCK_ROWS = 65_536
TEXT_BYTES = 1 << 20
LONGEST_HEADER = 1 << 20
ZERO_LOGIT: Final = -750.0
"""Stands for log 0: below the logarithm of every positive float64 (-744.44), so that the order of log odds is kept."""
_RowBlock: TypeAlias = tuple[list[Row], list[int]]
NEWLINE: Final = b"\n"
_BOM: Final = b"\xef\xbb\xbf"
_OTHER_FORMATS: Final = (
    (b"\x1f\x8b", "is compressed by gzip", "Unpack it first: gzip -d FILE"),
    (b"PK\x03\x04", "is a zip archive or an Excel workbook", "Save the sheet as CSV in UTF-8"),
    (b"\xff\xfe", "is UTF-16 text", "Save it as CSV in UTF-8"),
    (b"\xfe\xff", "is UTF-16 text", "Save it as CSV in UTF-8"),
)


@dataclass(frozen=True, slots=True)
class PredictionsFile:
    """What a file of predictions holds.

    Attributes:
        sample: rows to evaluate. Logits are log p; ``calibrated`` is None unless a temperature was fitted.
        notes: sentences for the reader of the report: what was passed over, changed, or limits the figures.
        warnings: those of them that change how figures are to be read.
        sha256: of the file's bytes, in hex. rows: in the file.
        zeros: probabilities of exactly 0 among the rows to evaluate. zero_truths: images whose true class has one.
        renormalised: rows among those that sum to 1 only within rounding, and were divided by their sum.
        temperature: fitted on the rows of ``split`` = validation; None without such rows or where none can be fitted.
        validation_n: rows that it was fitted on.
    """

    sample: Sample
    notes: tuple[str, ...]
    sha256: str
    rows: int
    zeros: int
    zero_truths: int
    renormalised: int
    temperature: float | None = None
    validation_n: int = 0
    warnings: tuple[str, ...] = ()


def read_predictions(path: Path, *, groups: str | None = None, subgroups: Sequence[str] = ()) -> PredictionsFile:
    """Read and check a file of predictions.

    Args:
        path: CSV in UTF-8 with a header; comma, semicolon or tab.
        groups: name of the column of patients, lesions or clusters; None for ``group`` where there is such a column.
        subgroups: names of columns whose values are reported one by one; an empty cell is "not recorded".

    Raises:
        InvalidPredictionsError: names line and column of the first fault, and how many rows have one.
        OSError: as the file system reports it.
    """
    if path.is_dir():
        raise InvalidPredictionsError("this is a folder", where=str(path), remedy="Name the CSV file in it")
    if not path.exists():
        raise InvalidPredictionsError(
            "there is no such file", where=str(path), remedy="Give the path of a CSV file of predictions"
        )
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        header = _header_line(stream, path, digest)
        layout = read_header(header, where=str(path), groups=groups, subgroups=subgroups)
        reader = RowReader(layout, str(path))
        blocks = []
        try:
            for rows, starts in _row_blocks(stream, layout, path, digest):
                block = reader.read(rows, starts)
                if block is not None:
                    blocks.append(block)
        except InvalidPredictionsError as error:
            if reader.fault is not None:  # it stands before what stopped the reading
                raise _fault_error(reader, reader.fault, path, complete=False) from error
            raise
    if reader.fault is not None:
        raise _fault_error(reader, reader.fault, path, complete=True)
    if not blocks:
        raise InvalidPredictionsError(
            "there is a header and no row below it", where=str(path), remedy="Write one row for every image"
        )
    return _assemble(path, layout, reader, blocks, digest.hexdigest())


def _header_line(stream: BinaryIO, path: Path, digest: hashlib._Hash) -> str:
    raw = stream.readline(LONGEST_HEADER)
    digest.update(raw)
    for start, what, remedy in _OTHER_FORMATS:
        if raw.startswith(start):
            raise InvalidPredictionsError(f"the file {what}", where=str(path), remedy=remedy)
    if not raw:
        raise InvalidPredictionsError(
            "the file is empty", where=str(path), remedy="Write a header and one row for every image"
        )
    data = raw.removeprefix(_BOM)
    try:
        text = data.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise _not_utf8(data, error, path, 1) from error
    if "\r" in text or len(raw) == LONGEST_HEADER:
        raise InvalidPredictionsError(
            "the first line does not end: lines must end in LF or CR LF",
            where=f"{path}, line 1",
            remedy="Export it again as CSV in UTF-8",
        )
    return text


def _not_utf8(data: bytes, error: UnicodeDecodeError, path: Path, first_line: int) -> InvalidPredictionsError:
    """The fault that stopped decoding ``data``, whose first byte is that of line ``first_line``."""
    line_start = data.rfind(NEWLINE, 0, error.start) + 1
    return InvalidPredictionsError(
        f"byte {error.start - line_start + 1} of the line, 0x{data[error.start]:02x}, is not UTF-8",
        where=f"{path}, line {first_line + data.count(NEWLINE, 0, error.start)}",
        remedy="Save the file as UTF-8 (Excel: 'CSV UTF-8')",
    )


def _texts(stream: BinaryIO, path: Path, digest: hashlib._Hash) -> Iterator[io.StringIO]:
    """What follows the header as whole lines, about a megabyte at a time; the bytes go into the digest.

    Raises:
        InvalidPredictionsError: a line is not UTF-8; the lines before it are given out first, as one of their rows may
            have a fault of its own.
    """
    line = 2
    while block := stream.readlines(TEXT_BYTES):
        data = b"".join(block)
        digest.update(data)
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            sound = data.rfind(NEWLINE, 0, error.start) + 1
            yield io.StringIO(data[:sound].decode("utf-8"), newline="\n")
            raise _not_utf8(data, error, path, line) from error
        yield io.StringIO(text, newline="\n")
        line += len(block)


def _row_blocks(stream: BinaryIO, layout: Layout, path: Path, digest: hashlib._Hash) -> Iterator[_RowBlock]:
    """Blocks of rows with the line that each begins on. What stops the reading comes after the rows before it."""
    rows: list[Row] = []
    starts: list[int] = []
    begun, stopped = 2, None
    lines = itertools.chain.from_iterable(_texts(stream, path, digest))
    cells = csv.reader(lines, delimiter=layout.delimiter, strict=True)
    try:
        for row in cells:
            rows.append(row)
            starts.append(begun)
            begun = cells.line_num + 2  # the header is not the reader's, and the next row begins one below this one
            if len(rows) == BLOCK_ROWS:
                yield rows, starts
                rows, starts = [], []
    except InvalidPredictionsError as error:
        stopped = error
    except csv.Error as error:
        stopped = InvalidPredictionsError(
            f"the row that begins here is not CSV: {error}",
            where=f"{path}, line {begun}",
            remedy="Look for a quotation mark that is not closed, or not doubled within a cell",
        )
    if rows:
        yield rows, starts
    if stopped is not None:
        raise stopped


def _fault_error(reader: RowReader, fault: Fault, path: Path, *, complete: bool) -> InvalidPredictionsError:
    count = "" if reader.faulty == 1 else f"; it is the first of {reader.faulty:,} faulty rows"
    count += f" among {reader.rows:,}" if count else ""
    return InvalidPredictionsError(
        fault.what + count + ("" if complete else ", and reading stopped after them"),
        where=f"{path}, line {fault.line}" + (f", {fault.column}" if fault.column else ""),
        remedy=fault.remedy,
    )


def _assemble(path: Path, layout: Layout, reader: RowReader, blocks: list[Block], sha256: str) -> PredictionsFile:
    probabilities = np.concatenate([block.probabilities for block in blocks])
    labels = np.concatenate([block.labels for block in blocks])
    codes = {index: np.concatenate([block.codes[index] for block in blocks]) for index in blocks[0].codes}
    sums = probabilities.sum(axis=1)
    logits = np.log(probabilities / sums[:, None], where=probabilities > 0, out=np.full_like(probabilities, ZERO_LOGIT))
    columns = {index: levels.column(codes[index]) for index, levels in reader.levels.items() if index != layout.group}
    every = Sample(
        logits,
        labels,
        np.arange(len(labels)) if layout.group is None else codes[layout.group],
        layout.classes,
        columns={layout.names[index]: columns[index] for index in layout.subgroups},
        site=None if layout.site is None else columns[layout.site],
        group_key="image" if layout.group is None else layout.names[layout.group],
    )
    part = None if layout.split is None else codes[layout.split]
    sample, temperature, notes, flattering = _by_split(every, part, path)
    used = np.ones(len(labels), dtype=bool) if part is None else part == SPLITS.index("test")
    zero = probabilities[used] == 0
    file = PredictionsFile(
        sample=sample,
        notes=(),
        sha256=sha256,
        rows=len(labels),
        zeros=int(zero.sum()),
        zero_truths=int(zero[np.arange(len(zero)), labels[used]].sum()),
        renormalised=int((np.abs(sums[used] - 1) > INEXACT).sum()),
        temperature=temperature,
        validation_n=0 if part is None else int((part == SPLITS.index("validation")).sum()),
    )
    cautions = (*flattering, *_warnings(file, layout))
    return replace(file, notes=(*notes, *cautions, *_notes(file, layout)), warnings=cautions)


def _by_split(
    every: Sample, part: IntArray | None, path: Path
) -> tuple[Sample, float | None, tuple[str, ...], tuple[str, ...]]:
    """The rows to evaluate, calibrated by what the validation rows say, what to tell of it, and to warn of."""
    if part is None:
        return every, None, (), ()
    warnings: list[str] = []
    validation, test, train = (part == number for number in range(len(SPLITS)))
    if not test.any():
        raise InvalidPredictionsError(
            "no row has split 'test': there is nothing to evaluate",
            where=f"{path}, column 'split'",
            remedy="Mark the rows to evaluate as test, or rename the column to evaluate all rows",
        )
    notes = [f"Left out: rows of split 'train', {int(train.sum()):,}."] if train.any() else []
    temperature = None
    if validation.any():
        temperature = fit(every.logits[validation], every.labels[validation])
        words = f"rows of split 'validation' ({int(validation.sum()):,})"
        notes.append(
            f"A temperature of {temperature:.3f} was fitted on {words}; figures are of test rows."
            if temperature is not None
            else f"No temperature could be fitted on {words}: it takes {FEWEST_RECORDS}, of two "
            "classes, some answered wrongly."
        )
        both = len(np.intersect1d(every.groups[validation], every.groups[test]))
        if both:
            warnings.append(f"Groups with rows in validation and in test: {both:,}. Figures after calibration flatter.")
    sample = every.at(test)
    return replace(sample, calibrated=_divided(sample.logits, temperature)), temperature, tuple(notes), tuple(warnings)


def _divided(logits: FloatArray, temperature: float | None) -> FloatArray | None:
    return None if temperature is None else logits / temperature


def _warnings(file: PredictionsFile, layout: Layout) -> Iterator[str]:
    if layout.group is None:
        yield (
            "No column of groups: every image counts as its own patient. If a patient has several images, intervals "
            "are too narrow; add a column 'group' or name one with --groups."
        )
    elif file.sample.site is not None and (shared := _at_several_sites(file.sample.groups, file.sample.site)):
        yield f"Groups at more than one site: {shared:,}. Each is taken as one; name them apart if they are not."


def _notes(file: PredictionsFile, layout: Layout) -> Iterator[str]:
    n = len(file.sample.labels)
    if file.zeros:
        yield (
            f"Probabilities of exactly 0: {file.zeros:,}. Images whose true class has one: {file.zero_truths:,} of "
            f"{n:,}; NLL is infinite there, and {-ZERO_LOGIT:g} nats stand for it."
        )
    if file.renormalised:
        yield (
            f"Rows that sum to 1 within rounding only ({sum_tolerance(len(layout.classes)):g}), and were divided by "
            f"their sum: {file.renormalised:,} of {n:,}."
        )
    if layout.unused:
        yield f"Columns that were not used: {listed(layout.unused)}."


def _at_several_sites(groups: IntArray, site: Column) -> int:
    pairs = np.unique(np.stack([groups, site.codes], axis=1), axis=0)
    return int((np.unique(pairs[:, 0], return_counts=True)[1] > 1).sum())

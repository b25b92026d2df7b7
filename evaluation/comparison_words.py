"""What a comparison comes to, in sentences: they claim no more than its tests carry."""

from __future__ import annotations

from collections.abc import Sequence

from .comparison import RIVALS, Comparison, PairedTest, Row
from .comparison_tables import DAGGER, label_of, marked
from .page_parts import plural, sentence_list, signed, span

CORRECTED = "at 5 % after correction for several tests"
CALIBRATIONS = {
    "after": "Probabilities are calibrated by a temperature fitted on validation images after training.",
    "federated-head": "Adapters carry a temperature, fitted on each site's validation images in every round and "
    "averaged with them; what carries none is calibrated by one fitted on validation images after training.",
}


def reading(comparison: Comparison) -> tuple[str, ...]:
    """What the tests come to, a sentence for each kind; of the strict scores alone."""
    strict = [test for test in comparison.tests if test.score != "transductive"]
    if not strict:
        return (
            "No two rows of this grid could be tested against each other: there is no baseline, or other test images.",
        )
    if all(test.low is None for test in strict):
        return ("Too few groups were tested on to say whether a difference is more than chance.",)
    kinds = {
        kind: [test for test in strict if test.against == kind and test.low is not None]
        for kind in ("baseline", "fedclip", "pixels", "variant")
    }
    return tuple(
        line
        for line in (
            _baseline(kinds["baseline"]),
            _fedclip(kinds["fedclip"]),
            _fixed(
                kinds["pixels"], "a method that trains on pictures and was granted less, on the cells that both have,"
            ),
            _fixed(kinds["variant"], "the first variant"),
        )
        if line
    )


def _baseline(tests: Sequence[PairedTest]) -> str:
    """Who beats the best baseline; of the other methods the interval alone, because its score chose the baseline."""
    ahead = [test for test in tests if test.beyond_chance and (test.difference or 0.0) > 0]
    others = [test for test in tests if test not in ahead and test.method not in RIVALS]
    if not ahead and not others:
        return ""
    said = (
        f"More than chance explains, {CORRECTED}: {'; '.join(_verdict(test) for test in ahead)}."
        if ahead
        else f"No method beats the best baseline by more than chance explains, {CORRECTED}."
    )
    return said + _not_shown(others, "to beat it")


def _fedclip(tests: Sequence[PairedTest]) -> str:
    """Who beats FedCLIP, who falls behind it, and who is not shown to do either."""
    if not tests:
        return ""
    known = [test for test in tests if test.beyond_chance]
    said = "; ".join(_verdict(test) for test in known) or "no method beats it by more than chance explains"
    return f"Against FedCLIP, {CORRECTED}: {said}." + _not_shown(
        [test for test in tests if test not in known], "to beat it"
    )


def _fixed(tests: Sequence[PairedTest], rival: str) -> str:
    """Differences from a rival that no score chose, in both directions."""
    if not tests:
        return ""
    beyond = [test for test in tests if test.beyond_chance]
    if not beyond:
        return f"No difference from {rival} is more than chance explains, {CORRECTED}."
    rest = len(tests) - len(beyond)
    said = f"Against {rival} {CORRECTED}: {'; '.join(_verdict(test) for test in beyond)}."
    return said + (f" {plural(rest, 'other difference')} may be chance." if rest else "")


def _not_shown(tests: Sequence[PairedTest], what: str) -> str:
    if not tests:
        return ""
    return f" Not shown {what}, with the difference and its 95 % interval: {'; '.join(_interval(t) for t in tests)}."


def _verdict(test: PairedTest) -> str:
    verb = "beats" if (test.difference or 0.0) > 0 else "falls behind"
    return f"{label_of(test.method, test.variant)} {verb} {label_of(test.rival, test.rival_variant)} in {test.score}"


def _interval(test: PairedTest) -> str:
    row, rival = label_of(test.method, test.variant), label_of(test.rival, test.rival_variant)
    return f"{row} in {test.score} ({signed(test.difference, 3)} from {rival}, {span(test.low, test.high, 3)})"


def pixel_notes(comparison: Comparison) -> tuple[str, ...]:
    """What methods that train on pictures were granted, in a line for those granted the same, and what follows."""
    granted: dict[str, list[Row]] = {}
    for row in comparison.rows:
        if row.limits:
            images = (
                f"at most {row.limits.images:,} training images a site" if row.limits.images else "all training images"
            )
            words = f"{plural(row.limits.rounds, 'round')}, {images}, {plural(row.limits.seeds, 'seed')}"
            if not row.limits.unseen:
                words += ", no site left out, so nothing is known of a new site"
            elif not row.limits.folds:
                words += ", the study's own unseen site only"
            granted.setdefault(words, []).append(row)
    return (
        *(f"{DAGGER} {sentence_list([row.name for row in rows])}: {words}." for words, rows in granted.items()),
        *_excluded(comparison),
    )


def adapter_note(comparison: Comparison) -> tuple[str, ...]:
    """What local-only and pooled train, in a line for each adapter."""
    trained: dict[str, list[str]] = {}
    for row in comparison.rows:
        if row.trains and row.method not in trained.setdefault(row.trains, []):
            trained[row.trains].append(row.method)
    return tuple(
        f"{sentence_list([f'{method} ({adapter} adapter)' for method in methods])}: without adaptation."
        for adapter, methods in trained.items()
    )


def _excluded(comparison: Comparison) -> tuple[str, ...]:
    """Baselines that were no rival of rows with more cells."""
    most = max((row.cells for row in comparison.rows), default=0)
    out = [row for row in comparison.rows if row.limits and row.cells < most]
    if not out:
        return ()
    few = sentence_list(sorted({f"{row.cells} of {most}" for row in out}))
    said = (
        f"{sentence_list([marked(row) for row in out])} cannot be the best baseline of a method with more cells: "
        f"each has {few} cells, because training on pictures is slow."
    )
    tested = any(test.against == "pixels" for test in comparison.tests)
    return (said + (" Adapters are tested against each of them on the cells that both have." if tested else ""),)

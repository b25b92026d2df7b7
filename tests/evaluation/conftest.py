"""Seeded predictions and complete page inputs that the tests of this folder share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from wardround.evaluation.arrays import softmax
from wardround.evaluation.calibration import conformal
from wardround.evaluation.calibration.calibrator import Calibrator
from wardround.evaluation.report_model import (
    ClassName,
    DataFlow,
    Dossier,
    FlowRow,
    Link,
    Predictions,
    PrivacyFacts,
    Provenance,
    RoundRow,
    SiteReport,
    SiteRow,
)
from wardround.evaluation.scores import pool, score
from wardround.evaluation.site_facts import Collection, Gain, PartitionFacts, SubgroupColumn
from wardround.evaluation.site_figures import SiteFigures, site_figures
from wardround.evaluation.statements import Statement

BRAIN = (
    ClassName("glioma", "Glioma"),
    ClassName("meningioma", "Meningioma"),
    ClassName("notumor", "No tumour"),
    ClassName("pituitary", "Pituitary tumour"),
)
SKIN = tuple(
    ClassName(name, words)
    for name, words in (
        ("akiec", "Actinic keratosis"),
        ("bcc", "Basal cell carcinoma"),
        ("bkl", "Benign keratosis"),
        ("df", "Dermatofibroma"),
        ("mel", "Melanoma"),
        ("nv", "Melanocytic naevus"),
        ("vasc", "Vascular lesion"),
    )
)


def make_predictions(
    labels: np.ndarray, groups: np.ndarray, k: int, *, skill: float, sharpness: float, seed: int, fitted: bool
) -> Predictions:
    """Predictions of a given skill; patients share part of the noise, as slices of one head do."""
    generator = np.random.default_rng(seed)
    z = generator.normal(size=(len(labels), k)) + generator.normal(size=(int(groups.max()) + 1, k))[groups]
    z += skill * np.eye(k)[labels]
    return Predictions.from_arrays(
        z * sharpness, labels, groups.tolist(), temperature=sharpness * 0.95 if fitted else None
    )


def make_site_report(
    *,
    site: str = "site-a",
    classes: tuple[ClassName, ...] = BRAIN,
    n_groups: int = 60,
    synthetic: bool = True,
    role: str = "training",
    seed: int = 1,
) -> SiteReport:
    generator = np.random.default_rng(seed)
    k = len(classes)
    of_group = generator.integers(0, k, n_groups)
    groups = np.repeat(np.arange(n_groups), 2)
    labels = of_group[groups]
    test = np.bincount(labels, minlength=k)
    sends = role == "training"
    return SiteReport(
        study="demo-brain",
        method="facmic",
        site=site,
        role="training" if sends else "unseen",
        synthetic=synthetic,
        dataset="Brain MRI, four classes" if k == 4 else "Dermoscopy, seven classes (HAM10000)",
        rounds=10,
        classes=classes,
        flow=DataFlow(
            rows=tuple(
                FlowRow(c.name, int(n) * 8 if sends else 0, int(n), int(n)) for c, n in zip(classes, test, strict=True)
            ),
            skipped=1,
            group_key="patient",
            train_groups=480 if sends else 0,
            validation_groups=n_groups,
            test_groups=n_groups,
        ),
        federated=make_predictions(labels, groups, k, skill=3.2, sharpness=2.5, seed=seed, fitted=True),
        local_only=make_predictions(labels, groups, k, skill=2.6, sharpness=2.5, seed=seed + 1, fitted=True)
        if sends
        else None,
        zero_shot=make_predictions(labels, groups, k, skill=1.0, sharpness=4.0, seed=seed + 2, fitted=False),
        privacy=PrivacyFacts(
            True, 3, 4, bytes_sent=42_183_004, messages_sent=40, ledger_entries=41, ledger_head="9f" * 32
        )
        if sends
        else PrivacyFacts(True),
        provenance=Provenance("ab" * 32, "embedded", "cd" * 32, (("wardround", "0.1.0"), ("torch", "2.9.0"))),
    )


def make_rich_report() -> SiteReport:
    """A report with everything: subgroups with missing values, thresholds, prediction sets, facts of the data."""
    report = make_site_report(n_groups=60)
    k = len(report.classes)
    z, y, groups = make_predictions(
        np.arange(160) % k, np.arange(160) // 2, k, skill=3.2, sharpness=2.5, seed=77, fitted=False
    ).arrays(k)
    sets = conformal.fit_by_group(softmax(z / 2.4), y, groups.tolist(), np.random.default_rng(5), nominal=0.9)
    calibrator = Calibrator(
        "temperature", "site", k, len(y), 2.4, sets, abstain_below=0.6, abstain_risk=0.1, risk_reached=True
    )
    n = len(report.federated.labels)
    generator = np.random.default_rng(3)
    of_group = generator.integers(-1, 2, n // 2)
    ages = np.where(np.arange(n) < 4, 2, generator.integers(0, 2, n))
    return replace(
        report,
        columns=(
            SubgroupColumn("age_band", ("20-39", "40-59", "80+"), tuple(ages.tolist())),
            SubgroupColumn("sex", ("female", "male"), tuple(np.repeat(of_group, 2).tolist())),
        ),
        thresholds=(0.1, 0.25, 0.5),
        wanted_risk=0.1,
        abstain_below=0.6,
        calibrator=calibrator.to_dict(),
        partition=PartitionFacts("patient", 6, 3, 7, 0, 2),
        collection=Collection(dates="2019 to 2021", source="A data set", licence="CC0"),
    )


def make_dossier() -> Dossier:
    reports = [make_site_report(site=f"site-{letter}", seed=i + 1) for i, letter in enumerate("abcd")]
    reports.append(make_site_report(site="unseen", role="unseen", seed=9))
    rows = tuple(
        SiteRow(
            site=r.site,
            role=r.role,
            train_n=sum(row.train for row in r.flow.rows),
            test_n=len(r.federated.labels),
            federated=score(r.federated, r.classes),
            local_only=score(r.local_only, r.classes) if r.local_only else None,
            zero_shot=score(r.zero_shot, r.classes) if r.zero_shot else None,
            bytes_sent=r.privacy.bytes_sent,
            report_link=f"sites/{r.site}/report.html",
            ledger_link=f"sites/{r.site}/ledger.jsonl" if r.role == "training" else None,
            over_zero_shot=Gain(0.2, 0.1, 0.3) if r.role == "training" else Gain(0.1, -0.1, 0.3),
        )
        for r in reports
    )
    first = reports[0]
    training = reports[:4]
    return Dossier(
        study="demo-brain",
        method="facmic",
        dataset=first.dataset,
        synthetic=True,
        simulation=True,
        classes=BRAIN,
        sites=rows,
        rounds=tuple(
            RoundRow(i, 4, 0, 1.7, 16_870_000, 8_421_376, 1.2 * 0.85**i, 0.45 + 0.4 * (1 - 0.75**i))
            for i in range(1, 11)
        ),
        privacy=PrivacyFacts(True, 3, 4, bytes_sent=168_732_016, ledger_entries=171, ledger_head="7c" * 32),
        provenance=first.provenance,
        links=(
            Link("study.toml", "study.toml", "the study with every default written out"),
            Link("rounds.jsonl", "rounds.jsonl", "a line for every round"),
            Link("adapter.safetensors", "model/adapter.safetensors", "the final global adapter"),
        ),
        overall=score(pool([r.federated for r in training], temperature=2.4), BRAIN),
        overall_local_only=score(pool([r.local_only for r in training if r.local_only]), BRAIN),
        overall_zero_shot=score(pool([r.zero_shot for r in training if r.zero_shot]), BRAIN),
        seconds=41.3,
    )


@pytest.fixture(scope="session")
def site_report_input() -> Callable[..., SiteReport]:
    """A maker of complete site reports."""
    return make_site_report


@pytest.fixture(scope="session")
def rich_report() -> SiteReport:
    """A report with subgroups, thresholds, prediction sets and facts of the data."""
    return make_rich_report()


@pytest.fixture(scope="session")
def rich_figures(rich_report: SiteReport) -> SiteFigures:
    """Its figures, with few resamples."""
    return site_figures(rich_report, resamples=60)


STATEMENTS = (
    Statement(
        "site-a",
        "Dr A. Lind",
        "radiologist",
        "accepted-with-remarks",
        "Two gliomas\nlook mislabelled.",
        "2026-11-27T10:00:00Z",
        True,
        "the ledger holds; its owner's key signed this entry",
    ),
    Statement(
        "site-a",
        "B. <b>Moe</b>",
        "statistician",
        "rejected",
        "<script>alert(1)</script>",
        "2026-11-26T10:00:00Z",
        False,
        "NOT VERIFIED: the ledger does not hold: entry 3",
    ),
)


@pytest.fixture(scope="session")
def statements() -> tuple[Statement, ...]:
    """One about the very report, and a hostile one about an earlier report, in a ledger that does not hold."""
    return STATEMENTS


@pytest.fixture(scope="session")
def skin_classes() -> tuple[ClassName, ...]:
    return SKIN


@pytest.fixture(scope="session")
def dossier_input() -> Dossier:
    """A complete dossier of four training sites and one unseen."""
    return make_dossier()


ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]

CONTRAST = """() => {
  const part = c => { c /= 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
  const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  const rgb = s => s.match(/[\\d.]+/g).map(Number);
  const low = [];
  for (const e of document.querySelectorAll('body *')) {
    if (e.closest('svg') || ![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
    let back = e, colour = [0, 0, 0, 0];
    while (back) {
      colour = rgb(getComputedStyle(back).backgroundColor);
      if (colour[3] !== 0) break;
      back = back.parentElement;
    }
    if (!back) colour = [255, 255, 255];
    const a = light(rgb(getComputedStyle(e).color)), b = light(colour);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) low.push([e.tagName, e.textContent.slice(0, 30), ratio]);
  }
  return low;
}"""


def absent(reason: str) -> None:
    """Fail where a browser is required, and otherwise skip with a reason that is printed."""
    if os.environ.get("WARDROUND_REQUIRE_BROWSER") == "1":
        pytest.fail(f"WARDROUND_REQUIRE_BROWSER=1, but {reason}")
    pytest.skip(f"PAGES WERE NOT LOOKED AT: {reason}")


@pytest.fixture(scope="session")
def low_contrast() -> str:
    """JavaScript: every text of a page whose contrast is under 4.5 (WCAG AA), as (tag, start of text, ratio)."""
    return CONTRAST


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's Chromium through playwright; skipped loudly without one, unless one is required."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        absent("playwright is not installed")
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        absent("there is no Chromium on the PATH (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield launched
        launched.close()

"""Small studies: images drawn at random, their exact sums, and the public facts beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from wardround.evaluation.disclosure.deployed import SiteFacts, deployed_files
from wardround.evaluation.disclosure.published import Facts, Published
from wardround.evaluation.report_model import ClassName, PrivacyFacts, Provenance
from wardround.evaluation.sums.layout import evaluation_layout
from wardround.evaluation.sums.of_site import evaluation_fields
from wardround.evaluation.sums.summed import SummedFigures

NAMES = ("glioma", "meningioma", "notumor", "pituitary", "other tumour", "vessel", "abscess")
LEVELS: Mapping[str, Sequence[str]] = {"sex": ("female", "male")}


THRESHOLDS = (0.1, 0.25, 0.5)


def facts(k: int, model: str = "ab" * 32) -> Facts:
    return Facts(
        study="brain",
        method="facmic",
        dataset="Brain MRI",
        rounds=10,
        classes=tuple(ClassName(name, name.capitalize()) for name in NAMES[:k]),
        privacy=PrivacyFacts(True, 3, 4, bytes_sent=168_732_016, ledger_entries=171, ledger_head="7c" * 32),
        provenance=Provenance(model, "embedded", "cd" * 32, (("wardround", "0.1.0"),)),
        ledger_root="7d" * 32,
        thresholds=THRESHOLDS,
        abstain_below=0.5,
    )


ROUND = {
    "round": 1,
    "attempt": 0,
    "released": True,
    "reason": "",
    "participants": ["amber", "birch", "cedar"],
    "dropped": [{"site": "dune", "stage": "mask", "reason": "silent"}],
    "seconds": {"mask": 0.31, "total": 0.52},
    "waited": 0.0,
    "bytes_up": 6332343,
    "bytes_down": 6337325,
    "train_loss": 1.1401163736979167,
    "validation": {"balanced_accuracy": 0.6229670072797703, "sites": {"amber": 0.7307449494949495}},
}
SITES = tuple(SiteFacts(name, n, bytes_sent=2110781) for name, n in (("amber", 239), ("birch", 7), ("cedar", 0)))


def deployed(published: Published) -> Mapping[str, bytes]:
    """Everything that a deployed coordinator writes."""
    return deployed_files(published, records=[ROUND], sites=SITES, unseen=["harbour"], seconds=12.3)


def draw(n: int, k: int, *, skill: float = 2.5, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Logits (n, k), labels (n,), and the sex of each image."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, k, n)
    logits = generator.normal(size=(n, k)) + skill * np.eye(k)[labels] if n else np.zeros((0, k))
    sex = generator.choice(["female", "male", ""], size=n, p=[0.5, 0.4, 0.1]).tolist()
    return logits * 1.4, labels.astype(np.int64), sex


def summed(
    logits: np.ndarray,
    labels: np.ndarray,
    sex: Sequence[str] | None = None,
    *,
    sites: int = 3,
    levels: Mapping[str, Sequence[str]] = LEVELS,
    temperature: float | None = None,
) -> SummedFigures:
    """Exact sums of images that are dealt out to sites in turn."""
    k = logits.shape[1]
    given = list(sex) if sex is not None else [""] * len(labels)
    layout = evaluation_layout(k, levels, len(THRESHOLDS), 24)
    vector = np.zeros(layout.size)
    for site in range(sites):
        rows = np.arange(site, len(labels), sites)
        fields = evaluation_fields(
            logits[rows],
            labels[rows],
            {"sex": [given[row] for row in rows]},
            levels,
            (np.zeros((0, k)), np.zeros(0, dtype=np.int64), []),
            temperature,
            THRESHOLDS,
        )
        vector += layout.pack(fields)
    return SummedFigures.of(
        layout.unpack(vector), classes=NAMES[:k], sites=sites, temperature=temperature, levels=levels
    )


def of_counts(cells: Sequence[Sequence[int]], *, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Images with this confusion matrix; probabilities and sexes are random."""
    generator = np.random.default_rng(seed)
    matrix = np.array(cells)
    truth, called = (np.repeat(index.ravel(), matrix.ravel()) for index in np.indices(matrix.shape))
    n, k = len(truth), len(matrix)
    logits = generator.uniform(0, 1, size=(n, k))
    logits[np.arange(n), called] = logits.max(axis=1, initial=0.0) + generator.uniform(0.05, 4, size=n)
    sex = generator.choice(["female", "male", ""], size=n, p=[0.5, 0.4, 0.1]).tolist()
    # Classes are mixed, so that every site holds all of them.
    order = generator.permutation(n)
    return logits[order], truth[order].astype(np.int64), [sex[place] for place in order]


def with_one_more(
    images: tuple[np.ndarray, np.ndarray, list[str]], truth: int, called: int, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The same images and one more."""
    logits, labels, sex = images
    cells = np.zeros((logits.shape[1], logits.shape[1]), dtype=int)
    cells[truth, called] = 1
    more = of_counts(cells.tolist(), seed=seed)
    return np.concatenate([logits, more[0]]), np.concatenate([labels, more[1]]), [*sex, *more[2]]

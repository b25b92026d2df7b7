"""The demo's study: step size, adaptation weight and number of images were chosen on phantoms of seeds 0 and 1."""

from __future__ import annotations

from typing import Any

from ..medical_datasets.synthetic.population import demo_study

PRIVATE_IMAGES, PRIVATE_BATCH, PRIVATE_LR = 1500, 128, 3e-3
DATASETS_OF_DEMO = {"brain": "brain-mri", "skin": "ham10000"}


def demo_study_values(
    kind: str, *, method: str, sites: int, rounds: int, seed: int, epsilon: float = 0.0
) -> dict[str, Any]:
    """Values of a study file for the demo.

    Args:
        kind: ``"brain"`` or ``"skin"``.
        method: checked with the study.
        sites: training sites; one more phantom site is the public reference set, another one is unseen.
        rounds: federated rounds.
        seed: of phantoms, splits and start values.
        epsilon: of differential privacy; 0: none. With it sites have more images, because noise needs many units.
    """
    phantoms = demo_study("brain" if kind == "brain" else "skin", sites=max(sites, 1) + 1, seed=max(seed, 0))
    names = [site.name for site in phantoms.sites if site.name != phantoms.unseen]
    values: dict[str, Any] = {
        "name": f"demo-{kind}",
        "method": method,
        "rounds": rounds,
        "seed": seed,
        # Three tenths of each site's patients are tested on: fewer would leave intervals too wide to see a difference.
        "data": {
            "dataset": DATASETS_OF_DEMO[kind],
            "source": "phantoms",
            "images_per_site": 400,
            "split": (0.6, 0.1, 0.3),
        },
        "sites": {"partition": "column", "count": sites, "unseen": phantoms.unseen},
        "reference": {"source": "site", "site": names[-1]},
        "training": {"lr": 5e-4},
        "facmic": {"adaptation_weight": 0.3},
    }
    if epsilon != 0.0:
        values |= {
            "name": f"demo-{kind}-private",
            "data": {**values["data"], "images_per_site": PRIVATE_IMAGES, "split": (0.7, 0.1, 0.2)},
            "training": {"lr": PRIVATE_LR, "batch_size": PRIVATE_BATCH, "weight_decay": 0.0},
            "facmic": {"adaptation_weight": 0.03, "normalisation": "layer"},
            "faa_clip": {"adaptation_weight": 0.03, "normalisation": "layer"},
            "privacy": {"epsilon": epsilon},
        }
    return values

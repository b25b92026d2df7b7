"""The demo's study: step size, adaptation weight and number of images were chosen on phantoms of seeds 0 and 1."""

from __future__ import annotations

from typing import Any

from ..medical_datasets.synthetic.population import demo_study

DATASETS_OF_DEMO = {"brain": "brain-mri", "skin": "ham10000"}


def demo_study_values(kind: str, *, method: str, sites: int, rounds: int, seed: int) -> dict[str, Any]:
    """Values of a study file for the demo.

    Args:
        kind: ``"brain"`` or ``"skin"``.
        method: checked with the study.
        sites: training sites; one more phantom site is the public reference set, another one is unseen.
        rounds: federated rounds.
        seed: of phantoms, splits and start values.
    """
    phantoms = demo_study("brain" if kind == "brain" else "skin", sites=max(sites, 1) + 1, seed=max(seed, 0))
    names = [site.name for site in phantoms.sites if site.name != phantoms.unseen]
    return {
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

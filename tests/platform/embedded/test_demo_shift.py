"""The demo's sites are hard for the embedded model, but not hopeless: an adapter has something left to learn."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from wardround.medical_datasets.synthetic.population import demo_study, planned_images, render_planned
from wardround.platform.embedded.architecture import load_embedded, read_config


@lru_cache(maxsize=4)
def _encoded(kind: str, images_per_site: int):
    """Features, zero-shot guesses, labels and sites of a demo study's pictures."""
    study = demo_study(kind, images_per_site=images_per_site)
    model, tokenizer = load_embedded()
    preprocess = read_config()["preprocess"]
    side = preprocess["size"]
    mean = torch.tensor(preprocess["mean"]).view(1, 3, 1, 1)
    std = torch.tensor(preprocess["std"]).view(1, 3, 1, 1)
    planned = planned_images(study)
    features = []
    with torch.no_grad():
        for start in range(0, len(planned), 50):
            pictures = [
                np.asarray(Image.fromarray(render_planned(study, image)).resize((side, side), Image.Resampling.BICUBIC))
                for image in planned[start : start + 50]
            ]
            batch = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255.0
            features.append(model.encode_image((batch - mean) / std, normalize=True).numpy())
        prompts = torch.stack(
            [
                model.encode_text(tokenizer(list(label.prompts)), normalize=True).mean(0)
                for label in study.dataset.classes
            ]
        )
    rows = np.concatenate(features)
    guesses = (rows @ torch.nn.functional.normalize(prompts, dim=1).numpy().T).argmax(1)
    labels = np.array([image.label for image in planned])
    sites = np.array([image.site for image in planned])
    return study, rows, guesses, labels, sites


@pytest.mark.parametrize("kind", ["brain", "skin"])
def test_zero_shot_on_a_small_demo_lands_in_the_middle(kind: str) -> None:
    _, _, guesses, labels, _ = _encoded(kind, 40)
    assert 0.40 <= balanced_accuracy_score(labels, guesses) <= 0.75


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["brain", "skin"])
def test_zero_shot_lands_in_the_middle_at_every_demo_site(kind: str) -> None:
    study, _, guesses, labels, sites = _encoded(kind, 400)
    for site in study.sites:
        mine = sites == site.name
        assert 0.40 <= balanced_accuracy_score(labels[mine], guesses[mine]) <= 0.75, site.name


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["brain", "skin"])
def test_a_linear_probe_of_the_training_sites_beats_zero_shot_on_the_unseen_one(kind: str) -> None:
    study, rows, guesses, labels, sites = _encoded(kind, 400)
    unseen = sites == study.unseen
    scale = rows[~unseen].std(0)
    probe = LogisticRegression(C=0.01, max_iter=500).fit(rows[~unseen] / scale, labels[~unseen])
    probed = balanced_accuracy_score(labels[unseen], probe.predict(rows[unseen] / scale))
    zero_shot = balanced_accuracy_score(labels[unseen], guesses[unseen])
    assert probed > zero_shot + 0.08

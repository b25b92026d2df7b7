"""The backbone's figures on a folder, with encoders whose worth is known beforehand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from wardround.medical_datasets.errors import DataError
from wardround.platform.backbone import Backbone
from wardround.platform.bench_backbone import measure
from wardround.platform.errors import PlatformError
from wardround.platform.preprocessing import Preprocessing

CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 100, "width": 16, "heads": 2, "layers": 1},
}
NAMES = ("glioma", "meningioma", "notumor", "pituitary")


class Brightness(torch.nn.Module):
    """An encoder that sees only which quarter of the grey scale a picture's mean is in; its text tower knows that."""

    def __init__(self) -> None:
        super().__init__()
        self.logit_scale = torch.nn.Parameter(torch.tensor(2.0))
        self.visual = torch.nn.Conv2d(3, 3, 1)

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        mean = pixels.mean((1, 2, 3))
        centres = torch.tensor([0.1, 0.35, 0.6, 0.85])
        return torch.nn.functional.pad(torch.softmax(-80.0 * (mean[:, None] - centres).abs(), 1), (0, 12))

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pad(torch.eye(4)[tokens[:, 0].clamp(max=3)], (0, 12))


def tokens(texts: list[str]) -> torch.Tensor:
    words = ("glioma", "meningioma", "no", "pituitary")
    found = [next((k for k in (0, 1, 3) if words[k] in text), 2) for text in texts]
    return torch.tensor(found)[:, None]


def backbone(model: torch.nn.Module) -> Backbone:
    look = Preprocessing(32, 32, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    return Backbone(
        model, tokens, name="tiny", weights="none", config=CONFIG, preprocessing=look, device=torch.device("cpu")
    )


def tree(root: Path, per_class: int, *, same: bool = False) -> Path:
    """Class folders; a picture's mean tells its class, or, with ``same``, nothing does."""
    rng = np.random.default_rng(0)
    rows = ["path,label,near_duplicate_group"]
    for label, name in enumerate(NAMES):
        (root / name).mkdir(parents=True)
        for k in range(per_class):
            middle = 60 if same else 26 + 64 * label
            pixels = rng.integers(middle - 20, middle + 20, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{k}.png")
            rows.append(f"{name}/{k}.png,{name},{name}-{k // 2}")
    (root / "groups.csv").write_text("\n".join(rows) + "\n")
    return root


def test_an_encoder_that_knows_the_classes_gets_everything_right(tmp_path: Path) -> None:
    stages: list[str] = []
    knowing = backbone(Brightness())
    bench = measure(tree(tmp_path / "d", 8), knowing, cache=tmp_path / "c", stage=stages.append)
    assert (bench.n, bench.groups, bench.skipped, bench.classes) == (32, 16, 0, NAMES)
    assert bench.probe_accuracy == bench.probe_balanced_accuracy == bench.knn_accuracy == 1.0
    assert bench.zero_shot_balanced_accuracy == 1.0
    assert bench.ms_per_image > 0
    assert stages == ["reading the folder", "encoding", "linear probe", "timing"]
    document = bench.as_dict()
    assert {
        "n", "probe_accuracy", "probe_balanced_accuracy", "knn_accuracy", "zero_shot_balanced_accuracy", "ms_per_image"
    } <= document.keys()  # fmt: skip
    assert document["intervals"]["probe_accuracy"] == [1.0, 1.0]
    assert document["fingerprint"] == knowing.fingerprint


def test_where_nothing_tells_the_classes_apart_the_figures_are_chance(tmp_path: Path) -> None:
    bench = measure(tree(tmp_path / "d", 30, same=True), backbone(Brightness()), cache=tmp_path / "c")
    assert bench.zero_shot_balanced_accuracy == 0.25  # one class is always named
    assert bench.probe_accuracy < 0.5
    span = bench.intervals["probe_accuracy"]
    assert span.low is not None
    assert span.high is not None
    assert span.low <= bench.probe_accuracy <= span.high
    assert span.n_groups == 60


@pytest.mark.slow
def test_the_same_twice_but_for_time_and_another_seed_deals_other_folds(tmp_path: Path) -> None:
    folder = tree(tmp_path / "d", 12, same=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        drawn = backbone(open_clip.CLIP(**CONFIG).eval())

    def once(seed: int) -> dict[str, object]:
        document = measure(folder, drawn, cache=tmp_path / "c", seed=seed).as_dict()
        del document["ms_per_image"]
        return document

    assert once(0) == once(0)
    assert len({str(once(seed)["probe_accuracy"]) for seed in range(4)}) > 1


@pytest.mark.parametrize("how", ["deleted", "unreadable", "cut short"])
def test_a_class_without_images_is_named_and_what_was_left_out_is_counted(tmp_path: Path, how: str) -> None:
    folder = tree(tmp_path / "d", 8)
    for path in (folder / "notumor").iterdir():
        if how == "deleted":
            path.unlink()
        else:
            path.write_bytes(b"no picture" if how == "unreadable" else path.read_bytes()[:-600])
    (folder / "glioma" / "0.png").write_bytes(b"no picture")
    text = (folder / "groups.csv").read_text().splitlines()
    if how == "deleted":
        (folder / "groups.csv").write_text("\n".join(row for row in text if not row.startswith("notumor")) + "\n")
    bench = measure(folder, backbone(Brightness()), cache=tmp_path / "c")
    assert bench.classes == ("glioma", "meningioma", "pituitary")
    assert bench.missing == ("notumor",)
    assert (bench.n, bench.skipped) == (23, 1 if how == "deleted" else 9)
    assert bench.zero_shot_balanced_accuracy == 1.0


def test_few_groups_have_no_interval_and_the_reason_is_told(tmp_path: Path) -> None:
    document = measure(tree(tmp_path / "d", 6, same=True), backbone(Brightness()), cache=tmp_path / "c").as_dict()
    assert document["notes"] == ["fewer than 40 groups: the interval is somewhat too narrow"]
    folder = tree(tmp_path / "e", 6)
    for name in NAMES[2:]:
        for path in (folder / name).iterdir():
            path.unlink()
    text = (folder / "groups.csv").read_text().splitlines()
    (folder / "groups.csv").write_text("\n".join(row for row in text if not row.startswith(NAMES[2:])) + "\n")
    document = measure(folder, backbone(Brightness()), cache=tmp_path / "c").as_dict()
    assert document["intervals"]["probe_accuracy"] is None
    assert document["notes"] == ["too few groups"]


def test_what_cannot_be_probed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        measure(tmp_path / "nowhere", backbone(Brightness()), cache=tmp_path / "c")
    (tmp_path / "study.toml").write_text("")
    with pytest.raises(PlatformError, match=r"study.toml is a file"):
        measure(tmp_path / "study.toml", backbone(Brightness()), cache=tmp_path / "c")
    few = tree(tmp_path / "few", 4)
    with pytest.raises(PlatformError, match="'glioma' form 2 groups"):
        measure(few, backbone(Brightness()), cache=tmp_path / "c")
    for name in NAMES[1:]:
        for path in (few / name).iterdir():
            path.unlink()
    (few / "groups.csv").unlink()
    with pytest.raises(PlatformError, match="only 'glioma' has images"):
        measure(few, backbone(Brightness()), cache=tmp_path / "c")
    for path in (few / "glioma").iterdir():
        path.write_bytes(b"")
    with pytest.raises(PlatformError, match="no image could be read"):
        measure(few, backbone(Brightness()), cache=tmp_path / "c")

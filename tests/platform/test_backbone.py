"""The frozen encoder: the same bits whatever it is encoded with, and preprocessing equal to open_clip's."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from wardround.platform.backbone import Backbone, choose_device, fingerprint, fixed_numerics
from wardround.platform.errors import BackboneError
from wardround.platform.preprocessing import Preprocessing

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
VIT = {"embed_dim": 24, "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}}
RESNET = {"embed_dim": 24, "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16}}
COLOURS = ((0.2, 0.3, 0.4), (0.5, 0.25, 0.2))


def make(config: dict[str, Any], seed: int = 0, **changes: Any) -> Backbone:
    config = {**config, "text_cfg": TEXT}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = open_clip.CLIP(**config)
    size = config["vision_cfg"]["image_size"]
    return Backbone(
        model,
        open_clip.SimpleTokenizer(context_length=16),
        name="tiny",
        weights="random",
        config=config,
        preprocessing=changes.get("preprocessing", Preprocessing(size, size, *COLOURS)),
        device=torch.device("cpu"),
    )


@pytest.fixture(scope="module", params=[VIT, RESNET], ids=["vit", "resnet"])
def backbone(request: pytest.FixtureRequest) -> Backbone:
    return make(request.param)


def pictures(backbone: Backbone, count: int, seed: int = 0) -> np.ndarray:
    size = backbone.preprocessing.height
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def test_features_do_not_depend_on_count_order_or_neighbours(backbone: Backbone) -> None:
    batch = pictures(backbone, 48)
    whole = backbone.encode_images(batch)
    assert whole.shape == (48, 24)
    assert whole.dtype == np.float32
    assert np.array_equal(backbone.encode_images(batch[:17]), whole[:17])
    order = np.random.default_rng(1).permutation(48)
    assert np.array_equal(backbone.encode_images(batch[order]), whole[order])
    assert np.array_equal(backbone.encode_images(batch[5:6])[0], whole[5])
    frozen = batch[:3].copy()
    frozen.flags.writeable = False
    assert np.array_equal(backbone.encode_images(frozen), whole[:3])
    with_others = np.concatenate([pictures(backbone, 3, seed=9), batch[40:]])
    assert np.array_equal(backbone.encode_images(with_others)[3:], whole[40:])


def test_features_do_not_depend_on_the_callers_threads(backbone: Backbone) -> None:
    batch, threads = pictures(backbone, 20), torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(backbone.encode_images(batch))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    assert all(np.array_equal(results[0], result) for result in results[1:])


def test_features_are_those_of_open_clip(backbone: Backbone) -> None:
    batch = pictures(backbone, 5)
    model = make(VIT if backbone.preprocessing.height == 32 else RESNET)._model.to(
        memory_format=torch.contiguous_format
    )
    transform = oracle(backbone.preprocessing)
    with torch.inference_mode():
        wanted = model.encode_image(torch.stack([transform(Image.fromarray(rgb)) for rgb in batch]), normalize=True)
    np.testing.assert_allclose(backbone.encode_images(batch), wanted.numpy(), atol=2e-6)
    ready = backbone.preprocessing.normalise(torch.from_numpy(batch)).contiguous()
    assert np.array_equal(backbone.encode_images(ready), backbone.encode_images(batch))
    np.testing.assert_allclose(np.linalg.norm(backbone.encode_images(batch), axis=1), 1.0, atol=1e-6)


def test_no_rows_give_no_features(backbone: Backbone) -> None:
    assert backbone.encode_images(pictures(backbone, 0)).shape == (0, 24)
    assert backbone.encode_texts([]).shape == (0, 24)


@pytest.mark.parametrize(
    "batch",
    [np.zeros((2, 31, 32, 3), np.uint8), np.zeros((32, 32, 3), np.uint8), np.zeros((1, 32, 32, 3), np.float64)],
)
def test_a_batch_of_another_shape_or_type_is_refused(batch: np.ndarray) -> None:
    with pytest.raises(BackboneError, match="does not fit"):
        make(VIT).encode_images(batch)


def test_damaged_weights_are_noticed_when_a_feature_is_not_finite() -> None:
    backbone = make(VIT)
    backbone._model.visual.proj.data[0, 0] = math.nan
    with pytest.raises(BackboneError, match="not finite"):
        backbone.encode_images(pictures(backbone, 1))


def test_prompts_are_averaged_per_class_and_normalised(backbone: Backbone) -> None:
    prompts = [["a brain with glioma", "an MRI of a glioma"], ["a healthy brain"], ["a", "b", "c"]]
    features = backbone.encode_prompts(prompts)
    single = [np.stack([backbone.encode_texts([line])[0] for line in lines]).astype(float) for lines in prompts]
    wanted = np.stack([rows.mean(axis=0) / np.linalg.norm(rows.mean(axis=0)) for rows in single])
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, wanted, atol=1e-7)
    assert np.array_equal(backbone.encode_prompts(prompts[1:2])[0], features[1])


@pytest.mark.parametrize("prompts", [[], [["a"], []], [["a"], [" "]], ["glioma"]])
def test_classes_without_prompts_are_refused(prompts: Any) -> None:
    with pytest.raises(BackboneError):
        make(VIT).encode_prompts(prompts)


def test_logit_scale_is_the_exponential() -> None:
    assert make(VIT).logit_scale == pytest.approx(1 / 0.07, rel=1e-6)


def test_fingerprint_changes_with_every_part_and_with_nothing_else() -> None:
    base = make(VIT)
    assert make(VIT).fingerprint == base.fingerprint
    heads = {**VIT, "vision_cfg": {**VIT["vision_cfg"], "head_width": 8}}
    others = [
        make(VIT, seed=1),
        make(VIT, preprocessing=Preprocessing(32, 32, *COLOURS, interpolation="bilinear")),
        make(heads),  # the same tensors, another model
    ]
    prints = {base.fingerprint, *(other.fingerprint for other in others)}
    assert len(prints) == 4
    assert all(len(value) == 64 for value in prints)


def test_fingerprint_covers_names_types_shapes_and_single_bits() -> None:
    look = Preprocessing(32, 32, *COLOURS)
    zeros = torch.zeros(2, 3)
    flipped = zeros.clone()
    flipped[1, 2] = -0.0
    states = [
        {"a": zeros},
        {"b": zeros},
        {"a": zeros.reshape(3, 2)},
        {"a": zeros.to(torch.int32)},
        {"a": flipped},
        {"a": zeros, "b": torch.tensor(1.0)},
    ]
    prints = [fingerprint(state, VIT, look) for state in states]
    assert all(one != other for one, other in itertools.combinations(prints, 2))
    assert fingerprint({"b": zeros, "a": flipped}, VIT, look) == fingerprint({"a": flipped, "b": zeros}, VIT, look)


def test_settings_are_restored_after_an_error() -> None:
    before = torch.get_num_threads(), torch.get_float32_matmul_precision()
    inside = []

    def fail() -> None:
        with fixed_numerics():
            inside.append(torch.get_num_threads())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert inside == [1]
    assert (torch.get_num_threads(), torch.get_float32_matmul_precision()) == before


def test_devices() -> None:
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    for wrong in ("gpu", "meta", f"cuda:{torch.cuda.device_count()}"):
        with pytest.raises(BackboneError):
            choose_device(wrong)


def oracle(look: Preprocessing) -> Any:
    size = (look.height, look.width)
    cfg = PreprocessCfg(
        size=size,
        mean=look.mean,
        std=look.std,
        interpolation=look.interpolation,
        resize_mode=look.resize_mode,
        fill_color=look.fill_color,
    )
    return image_transform_v2(cfg, is_train=False)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(5, 70),
    width=st.integers(5, 70),
    size=st.integers(8, 40),
    grey=st.booleans(),
    interpolation=st.sampled_from(["bicubic", "bilinear"]),
    mode=st.sampled_from(["shortest", "longest", "squash"]),
    seed=st.integers(0, 100),
)
def test_preprocessing_has_the_bits_of_open_clips_transform(
    height: int, width: int, size: int, grey: bool, interpolation: str, mode: str, seed: int
) -> None:
    look = Preprocessing(size, size, *COLOURS, interpolation=interpolation, resize_mode=mode, fill_color=7)
    rgb = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    if grey:
        rgb = np.repeat(rgb[:, :, :1], 3, axis=2)
    ours = look.normalise(torch.from_numpy(look.geometry()(rgb)[None]))[0]
    assert torch.equal(ours, oracle(look)(Image.fromarray(rgb)))


def test_preprocessing_reads_a_models_configuration() -> None:
    base = {"size": 32, "mean": [0.5, 0.5, 0.5], "std": 0.25}
    look = Preprocessing.from_config(base)
    assert (look.height, look.width, look.std, look.resize_mode) == (32, 32, (0.25, 0.25, 0.25), "shortest")
    assert Preprocessing.from_config({**base, "size": [24, 32]}).height == 24
    assert Preprocessing.from_config({**base, "interpolation": "random"}).interpolation == "bicubic"
    for wrong in ({"mean": [1, 2]}, {"std": 0}, {"interpolation": "cubic"}, {"resize_mode": "x"}, {"size": 0}):
        with pytest.raises(BackboneError):
            Preprocessing.from_config({**base, **wrong})
    with pytest.raises(BackboneError, match="cannot be read"):
        Preprocessing.from_config({"size": 32})


@pytest.mark.parametrize("wrong", [np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8), np.zeros((4, 4, 3))])
def test_what_is_no_picture_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(BackboneError, match="picture"):
        make(VIT).prepare(wrong)

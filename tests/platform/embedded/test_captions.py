"""Captions: true of their phantoms, naming what they state; and the vocabulary learnt from them."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from wardround.medical_datasets.synthetic import brain, skin
from wardround.medical_datasets.synthetic.brain import VIEWS
from wardround.platform.embedded.architecture import load_tokenizer, read_config
from wardround.platform.embedded.attributes import (
    ATTRIBUTES,
    BORDERS,
    KINDS,
    LABELS,
    PLACES,
    SIGN_PREFIX,
    SIZES,
    WIDTHS,
    attributes,
)
from wardround.platform.embedded.caption_words import (
    BORDER_WORDS,
    CONTRAST_WORDS,
    ENHANCEMENT_WORDS,
    KIND_WORDS,
    NAMES,
    OEDEMA_WORDS,
    PLACE_WORDS,
    SHIFT_WORDS,
    SUBTYPES,
    SYMMETRY_WORDS,
)
from wardround.platform.embedded.captions import caption, corpus, described, drawn
from wardround.platform.embedded.vocabulary import learn_merges, vocabulary_size


@settings(max_examples=60, deadline=None)
@given(
    truth=arrays(np.int64, (5, 3), elements=st.integers(0, 2)),
    states=arrays(np.int64, (4, 3), elements=st.integers(-1, 2)),
)
def test_described_agrees_with_the_obvious_loop(truth: np.ndarray, states: np.ndarray) -> None:
    slow = [[all(s in (-1, t) for s, t in zip(said, fact, strict=True)) for said in states] for fact in truth]
    assert described(truth, states).tolist() == slow


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), label=st.sampled_from(LABELS))
def test_a_caption_is_true_of_its_phantom_and_names_what_it_states(seed: int, label: str) -> None:
    rng = np.random.default_rng(seed)
    phantom = drawn(label, rng)
    truth = attributes(phantom)
    assert all(0 <= value < WIDTHS[name] for name, value in zip(ATTRIBUTES, truth, strict=True))
    said = caption(phantom, rng)
    assert described(np.array([truth]), np.array([said.states])).all()
    stated = {name: value for name, value in zip(ATTRIBUTES, said.states, strict=True) if value >= 0}
    assert stated.items() <= dict(zip(ATTRIBUTES, truth, strict=True)).items()
    if "subtype" in stated:
        assert any(_bare(name) in said.text for name in SUBTYPES[list(SUBTYPES)[stated["subtype"]]][1])
    elif "label" in stated:
        assert any(_bare(name) in said.text for name in NAMES[label])
    if "kind" in stated:
        assert KIND_WORDS[KINDS[stated["kind"]]] in said.text
    if "view" in stated:
        assert VIEWS[stated["view"]] in said.text
    if "size" in stated:
        assert SIZES[stated["size"]] in said.text
    if "place" in stated:
        assert PLACE_WORDS[PLACES[stated["place"]]] in said.text
    if "border" in stated:
        assert BORDER_WORDS[BORDERS[stated["border"]]] in said.text
    if "contrast" in stated and phantom.label in brain.CLASSES:
        assert any(words in said.text for words in CONTRAST_WORDS[phantom.contrast])
    if "enhancement" in stated:
        assert any(words in said.text for words in ENHANCEMENT_WORDS[phantom.seen_enhancement])
    if "oedema" in stated:
        assert any(words in said.text for words in OEDEMA_WORDS[int(phantom.oedema > 0)])
    if SHIFT_WORDS in said.text:
        assert stated["mass effect"] == 1
        assert phantom.view != "sagittal"
        assert phantom.label != "pituitary"
    if "symmetry" in stated:
        assert SYMMETRY_WORDS[stated["symmetry"]] in said.text
    for name in stated:
        if name.startswith(SIGN_PREFIX):
            assert stated[name] == 1
            assert name.removeprefix(SIGN_PREFIX) in said.text
    assert "  " not in said.text


def _bare(name: str) -> str:
    return name.removeprefix("a ").removeprefix("an ")


def test_captions_state_everything_now_and_then_and_differ() -> None:
    rng = np.random.default_rng(0)
    texts, stated = set(), np.zeros(len(ATTRIBUTES), dtype=int)
    for index in range(3000):
        said = caption(drawn(LABELS[index % len(LABELS)], rng), rng)
        texts.add(said.text)
        stated += np.array(said.states) >= 0
    assert len(texts) > 2400
    never = [name for name, count in zip(ATTRIBUTES, stated, strict=True) if count == 0]
    assert never == []


def test_every_word_of_a_caption_reaches_the_text_tower() -> None:
    """A caption that is cut off would state what the tower never read."""
    config = read_config()["model"]["text_cfg"]
    tokenizer = load_tokenizer(context_length=int(config["context_length"]))
    longest = max(len(tokenizer.encode(line)) for line in corpus(5, 1500))
    assert longest + 2 <= int(config["context_length"])


def test_every_class_has_names_and_every_kind_and_place_words() -> None:
    assert NAMES.keys() == set(LABELS)
    assert set(KINDS) - {"notumor/none"} == KIND_WORDS.keys()
    assert set(PLACES) - {"none", "skin", "lobar"} == PLACE_WORDS.keys()
    words = [*KIND_WORDS.values(), *(f"with {name}" for name in skin.STRUCTURES)]
    assert len(words) == len(set(words))
    assert {look for looks, _ in SUBTYPES.values() for look in looks} <= set(KINDS)
    assert set(BORDERS) == set(brain.BORDERS) | set(skin.BORDERS)
    assert set(ENHANCEMENT_WORDS) == set(brain.ENHANCEMENTS)
    looks = [look for looks, _ in SUBTYPES.values() for look in looks]
    assert len(looks) == len(set(looks))


def test_merges_on_a_known_example() -> None:
    merges = learn_merges(["low low low lower lower newest"], 3)
    assert merges == [("l", "o"), ("lo", "w</w>"), ("w", "e")]  # the third: w e in lower and newest
    assert vocabulary_size(merges) == 512 + 3 + 2
    assert learn_merges(["aa"], 99) == [("a", "a</w>")]

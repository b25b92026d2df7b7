"""The case review page without a browser: words, bytes, and nothing that it must not hold."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from wardround.evaluation.cases.model import Box, OcclusionMap
from wardround.evaluation.cases.page import cases_page
from wardround.evaluation.cases.view import page_view, probability
from wardround.evaluation.errors import InvalidReportError
from wardround.evaluation.report_model import ClassName

from .review import CLASSES, make_review


class Reader(HTMLParser):
    """Tags and addresses of a page, and its words."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action")]

    def handle_data(self, data: str) -> None:
        self.words += data


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    return reader


def test_the_same_review_gives_the_same_bytes_and_says_that_it_is_local() -> None:
    page = cases_page(make_review())
    assert page == cases_page(make_review())
    found = read(page)
    assert found.words.count("It must not leave this site.") == 2
    assert "SYNTHETIC" not in page
    assert "SYNTHETIC PHANTOMS" in cases_page(make_review(synthetic=True))
    assert all(a.startswith(("data:image/png;base64,", "#main")) for a in found.addresses)
    assert found.tags.count("article") == 12
    assert found.tags.count("script") == 1


def test_the_policy_allows_one_script_and_nothing_else() -> None:
    page = cases_page(make_review())
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script.group(1).encode()).digest()).decode()
    assert f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:" in page
    assert not re.search(r"\son[a-z]+=", page)


def test_hostile_names_are_text() -> None:
    bad = '</script><img src=x onerror="alert(1)">'
    classes = (ClassName("a", bad), *CLASSES[1:])
    page = cases_page(make_review(classes=classes, site=bad, dataset=bad, marks=(bad,), group_key=bad, calibration=bad))
    assert bad not in page
    assert "&lt;/script&gt;&lt;img" in page
    assert page.count("<script>") == page.count("</script>") == 1
    assert read(page).tags == read(cases_page(make_review(marks=("a mark",)))).tags


def test_each_image_says_what_it_is() -> None:
    review = make_review()
    view = page_view(review)
    for case, shown in zip(review.cases, view.cases, strict=True):
        names = [label.clinical_name for label in CLASSES]
        assert (shown.called, shown.truth) == (names[case.called], names[case.truth])
        assert [bar.name for bar in shown.bars if bar.truth] == [shown.truth]
        assert [bar.name for bar in shown.bars if bar.called] == [shown.called]
        assert [bar.share for bar in shown.bars] == list(case.probabilities)
        assert tuple(k for k, bar in enumerate(shown.bars) if bar.member) == case.members
        assert shown.set_words.endswith("does not hold the truth." if case.set_misses else "holds the truth.")
        assert shown.confident == (case.outcome == "wrong" and case.confidence >= 0.8)
        assert (shown.map is not None) == (case.record % 3 == 0)
    assert {case.outcome for case in review.cases} == {"wrong", "right", "abstained"}
    assert view.cases[0].group == "tree 0, 2 images here"
    assert view.cases[2].group == "tree 1"
    counts = {key: count for key, _, count in view.filters}
    assert counts == {
        "all": 12,
        "wrong": review.counts.wrong,
        "confident": review.counts.confident,
        "abstained": review.counts.abstained,
        "misses": review.counts.misses,
        "right": review.counts.right,
    }


def test_a_map_in_words_and_squares() -> None:
    review = make_review(1)
    (case,) = page_view(review).cases
    assert case.map is not None
    assert case.map.words == (
        f"Strongest in the upper right. With the strongest square covered, {case.called} falls from "
        "91\N{NO-BREAK SPACE}% to 54\N{NO-BREAK SPACE}% (log odds down by 2.0)."
    )
    outlined = [square for square in case.map.squares if square.outlined]
    assert [(round(square.x * 7 / 100), round(square.y * 7 / 100)) for square in outlined] == [(5, 1)]
    assert outlined[0].tint == 1.0
    assert case.map.outline.count("M") == 4
    flat = OcclusionMap(tuple((0.01,) * 7 for _ in range(7)), 0.9, 0.9)
    (case,) = page_view(replace(review, cases=(replace(review.cases[0], map=flat),))).cases
    assert case.map is not None
    assert case.map.words.startswith("No single square matters")
    assert max(square.tint for square in case.map.squares) < 0.05
    assert case.map.outline == ""
    wide = OcclusionMap(tuple((1.0,) * 7 for _ in range(7)), 0.9, 0.8)
    (case,) = page_view(replace(review, cases=(replace(review.cases[0], map=wide),))).cases
    assert case.map is not None
    assert case.map.words.startswith("Spread over the picture")


def test_what_is_not_there_is_said() -> None:
    view = page_view(make_review(sets=False))
    assert "No prediction sets: none were fitted for this site." in view.reading
    assert any(line.startswith("4 images have an attention map; the others have none") for line in view.reading)
    assert "Every image on the page has an attention map." in page_view(make_review(1)).reading
    assert all(key != "misses" for key, _, _ in view.filters)
    page = cases_page(make_review(sets=False))
    assert "Prediction set:" not in page
    counts = replace(make_review().counts, images=500)
    said = page_view(make_review(counts=counts, withdrawn=2, shared_map=True)).reading
    assert "The page shows 12 of 500 test images and leaves out 488" in said[0]
    assert "2 images of withdrawn trees" in said[1]
    assert any("maps are of the shared model" in line for line in said)
    bare = tuple(replace(case, nearest=(), map=None) for case in make_review().cases)
    review = make_review(cases=bare, training=0, typical=None, role="unseen")
    assert "No attention maps were made." in page_view(review).reading
    assert cases_page(review).count("This site has no training images.") == 12
    empty = make_review(0)
    assert "This site has no test image to show." in cases_page(empty)


def test_a_picture_that_is_seen_whole_has_no_frame_and_padding_is_off_it() -> None:
    review = make_review(1)
    whole = replace(review.cases[0], seen=Box())
    assert 'class="frame"' not in cases_page(replace(review, cases=(whole,)))
    assert 'class="frame"' in cases_page(review)
    padded = replace(review.cases[0], seen=Box(0.0, -0.25, 1.0, 1.5))
    (case,) = page_view(replace(review, cases=(padded,))).cases
    assert case.frame == Box()
    assert case.seen == Box(0.0, -0.25, 1.0, 1.5)


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.0, "0 %"), (0.001, "< 1 %"), (0.0051, "1 %"), (0.9949, "99 %"), (0.996, "> 99 %"), (1, "100 %")],
)
def test_no_probability_is_rounded_to_certainty(value: float, said: str) -> None:
    assert probability(value).replace("\N{NO-BREAK SPACE}", " ") == said


def test_contradictions_are_refused() -> None:
    review = make_review(2)
    with pytest.raises(InvalidReportError, match="image 0 is on the page twice"):
        replace(review, cases=(review.cases[0], review.cases[0]))
    with pytest.raises(InvalidReportError, match="image 0 does not go with 2 classes"):
        replace(review, classes=CLASSES[:2])
    with pytest.raises(InvalidReportError, match="not a square grid"):
        OcclusionMap(((0.0, 1.0),), 0.5, 0.4)

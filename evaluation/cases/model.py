"""What the case review page is made from: frozen values with pictures as bytes, and no name of a file or a patient.

The page is local: it holds patients' pictures. Nothing here is written to JSON, and nothing of it is ever sent.
"""

from __future__ import annotations

import base64
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from ..errors import InvalidReportError
from ..report_model import ClassName, Role

Outcome = Literal["wrong", "abstained", "right"]


@dataclass(frozen=True, slots=True)
class Picture:
    """A small picture.

    Attributes:
        data: the encoded file, without metadata. media: its type, such as ``"image/jpeg"``.
        width, height: in pixels, > 0.
    """

    data: bytes
    media: Literal["image/jpeg", "image/png"]
    width: int
    height: int

    @property
    def uri(self) -> str:
        """The picture as a ``data:`` address. Base64 has no character that could end an attribute."""
        return f"data:{self.media};base64,{base64.b64encode(self.data).decode()}"


@dataclass(frozen=True, slots=True)
class Box:
    """The part of a picture that the model sees, as shares of its width and height; 0, 0, 1, 1 is all of it.

    Where the model's input is padded, the box is larger than the picture.
    """

    left: float = 0.0
    top: float = 0.0
    width: float = 1.0
    height: float = 1.0


@dataclass(frozen=True, slots=True)
class OcclusionMap:
    """How much the called class loses when a square of the model's input is covered.

    Attributes:
        drops: rows from the top, columns from the left: log odds of the called class uncovered minus covered.
            Positive: the square speaks for the class. Both after calibration.
        before: probability of the called class with nothing covered, 0..1, by the model that was asked.
        after: the same with the square of the largest drop covered.
    """

    drops: tuple[tuple[float, ...], ...]
    before: float
    after: float

    def __post_init__(self) -> None:
        if not self.drops or any(len(row) != len(self.drops) for row in self.drops):
            raise InvalidReportError("an occlusion map is not a square grid")


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A training image of the site that is near a test image.

    Attributes:
        record: its place in the site's training part, from 0. label: its class. picture: of it.
        similarity: cosine of the frozen features, -1..1.
    """

    record: int
    label: int
    similarity: float
    picture: Picture


@dataclass(frozen=True, slots=True)
class Case:
    """One test image and everything that is said of it.

    Attributes:
        record: its place in the site's report.json, from 0. group: number of the patient, lesion or cluster there.
        truth: class index. probabilities: calibrated, in label order, sum 1.
        abstains: whether the model gives no answer.
        members: classes in the prediction set; None where no set was fitted. It may be empty.
        picture: as the model got it, camera shift included. seen: which part of it the model sees.
        nearest: training images of the site, nearest first; empty for a site without training images.
        map: None where none was made.
    """

    record: int
    group: int
    truth: int
    probabilities: tuple[float, ...]
    abstains: bool
    members: tuple[int, ...] | None
    picture: Picture
    seen: Box
    nearest: tuple[Neighbour, ...] = ()
    map: OcclusionMap | None = None

    @property
    def called(self) -> int:
        """The most probable class; the first of equal ones."""
        return self.probabilities.index(max(self.probabilities))

    @property
    def confidence(self) -> float:
        """Its probability."""
        return max(self.probabilities)

    @property
    def outcome(self) -> Outcome:
        """An answer that is right or wrong, or none."""
        if self.abstains:
            return "abstained"
        return "right" if self.called == self.truth else "wrong"

    @property
    def set_misses(self) -> bool:
        """Whether there is a prediction set, and the truth is not in it."""
        return self.members is not None and self.truth not in self.members


@dataclass(frozen=True, slots=True)
class Counts:
    """Of all test images at the site that are not withdrawn, those on the page and the others.

    ``confident`` are among ``wrong``; ``misses`` (sets without the truth) is None where no sets were fitted.
    """

    images: int
    right: int
    wrong: int
    confident: int
    abstained: int
    misses: int | None


@dataclass(frozen=True, slots=True)
class CaseReview:
    """Everything that the case review page of one site is made from.

    Attributes:
        study, method, site: names. role: whether the site trained. dataset: title in words.
        synthetic: True for phantoms. marks: sentences that must be read first.
        classes: in label order. group_key: what a group is, in words.
        calibration: what made the probabilities, in words.
        coverage: what prediction sets aim at, 0..1; None without sets.
        abstain_below: the model answers from this probability on.
        confident: an error from this probability on is called confident.
        counts: of all test images that were not withdrawn. cases: those on the page, in the order they are printed.
        withdrawn: test images of withdrawn groups that the report has and this page does not.
        shared_map: whether maps are of the shared model, while the answers are of the site's own.
        typical: median cosine of a test image on the page and a training image; None without training images.
        training: training images at the site.
    """

    study: str
    method: str
    site: str
    role: Role
    dataset: str
    synthetic: bool
    marks: tuple[str, ...]
    classes: tuple[ClassName, ...]
    group_key: str
    calibration: str
    coverage: float | None
    abstain_below: float
    confident: float
    counts: Counts
    cases: tuple[Case, ...]
    withdrawn: int = 0
    shared_map: bool = False
    typical: float | None = None
    training: int = 0

    def __post_init__(self) -> None:
        records = Counter(case.record for case in self.cases)
        doubled = [record for record, times in records.items() if times > 1]
        if doubled:
            raise InvalidReportError(f"image {doubled[0]} is on the page twice", where="cases")
        for case in self.cases:
            labels = (case.truth, *(case.members or ()), *(near.label for near in case.nearest))
            if len(case.probabilities) != len(self.classes) or not all(0 <= k < len(self.classes) for k in labels):
                raise InvalidReportError(
                    f"image {case.record} does not go with {len(self.classes)} classes", where="cases"
                )

"""The grid of a comparison: every cell as a fully resolved study, checked before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from ..cohorts import MINIMUM_SITES
from ..config import MethodName, Study
from ..errors import StudyFileError
from ..methods.method import Method
from ..methods.table import method_of
from ..study_cohort import phantom_study
from ..study_file import parse_study
from .ablations import ablation_named, changes_of, check_ablation, unknown

METHODS: tuple[str, ...] = get_args(MethodName)


@dataclass(frozen=True, slots=True)
class CellKey:
    """Which cell of a grid.

    Attributes:
        method: its name.
        ablation: name of the ablation; empty: none.
        variant: label of its variant; empty likewise.
        seed: of the study.
        fold: the site that takes no part; empty: none.
    """

    method: str
    ablation: str
    variant: str
    seed: int
    fold: str

    @property
    def identifier(self) -> str:
        """A readable name for the cell's folder; different cells have different ones."""
        variant = [f"{self.ablation}-{self.variant}"] if self.ablation else []
        return "__".join([self.method, *variant, f"seed-{self.seed}", f"out-{self.fold}" if self.fold else "out"])

    @property
    def words(self) -> str:
        """For a person."""
        variant = f", {self.ablation} {self.variant}" if self.ablation else ""
        return f"{self.method}{variant}, seed {self.seed}" + (f", without {self.fold}" if self.fold else "")


@dataclass(frozen=True, slots=True)
class PlannedCell:
    """One cell.

    Attributes:
        key: which.
        study: resolved: this method, its options, this seed, this site left out.
        method: of the study.
    """

    key: CellKey
    study: Study
    method: Method

    @property
    def rounds(self) -> int:
        """Rounds of training that it takes."""
        return 0 if self.method.exchange == "nothing" else self.study.rounds


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be compared.

    Attributes:
        study: the study that every cell is a variation of. file: where it was read from.
        methods: names, in the order that tables have.
        ablation: name of an ablation; empty: none.
        seeds: how many, from the study's own on; at least 1.
        leave_one_out: leave out each site in turn, rather than the study's own unseen one.
    """

    study: Study
    file: Path
    methods: tuple[str, ...]
    ablation: str = ""
    seeds: int = 1
    leave_one_out: bool = False


def parse_methods(text: str) -> tuple[str, ...]:
    """Method names out of a list with commas, each once.

    Raises:
        StudyFileError: none, or one that does not exist; the nearest is named.
    """
    names = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not names:
        raise StudyFileError("no method is named", where="--methods", remedy=f"Known: {', '.join(METHODS)}")
    for name in names:
        if name not in METHODS:
            raise unknown("method", name, METHODS, "--methods")
    return names


def own_fold(study: Study) -> str:
    """The site that takes no part when none is left out in turn; empty: none."""
    return study.sites.left_out or unseen_name(study)


def unseen_name(study: Study) -> str:
    """Name of the study's unseen site, whatever is left out; empty: none."""
    return phantom_study(study).unseen if study.data.source == "phantoms" else study.sites.unseen


def fold_names(study: Study, in_data: Sequence[str]) -> tuple[str, ...]:
    """Every site that can be left out in turn.

    Args:
        study: how sites are made.
        in_data: names of sites that the images came with; not looked at where sites are dealt out.

    Raises:
        StudyFileError: without one of them, too few would be left to train.
    """
    if study.data.source == "phantoms":
        names = [site.name for site in phantom_study(study).sites]
    elif study.sites.partition == "column":
        names = list(in_data)
    else:
        names = [f"site-{i + 1}" for i in range(study.sites.count)] + ([study.sites.unseen] * bool(study.sites.unseen))
    public = study.reference.site if study.reference.source == "site" else None
    left = sorted(name for name in set(names) if name != public)
    if len(left) <= MINIMUM_SITES:
        raise StudyFileError(
            f"{len(left)} sites: {', '.join(left)}; with one left out, fewer than {MINIMUM_SITES} train, and the sum "
            "would show single sites",
            where="--leave-one-out",
            remedy="Add a site, or compare without it",
        )
    return tuple(left)


def plan_grid(request: Request, in_data: Sequence[str] = ()) -> tuple[PlannedCell, ...]:
    """Every cell, seed by seed, fold by fold; cells of one seed and fold share splits and reference set.

    Methods that train on pictures get what ``[compare]`` grants them.

    Args:
        request: what is compared.
        in_data: names of sites that the images came with.

    Raises:
        StudyFileError: an ablation that a method does not have, or a cell whose study is refused; the cell is named.
    """
    study = request.study
    if request.ablation:
        check_ablation(study, request.ablation, request.methods)
    own = own_fold(study)
    folds = fold_names(study, in_data) if request.leave_one_out else (own,)
    cells = []
    for number in range(request.seeds):
        for fold in dict.fromkeys((*folds, own)):
            for variant in _variants(request.ablation):
                for method in request.methods:
                    pixels = consumes_pixels(study, method)
                    if pixels and number >= study.compare.pixel_seeds:
                        continue
                    every = not pixels or study.compare.pixel_leave_one_out
                    if fold in folds if every else fold == own:
                        cells.append(
                            _cell(request, CellKey(method, request.ablation, variant, study.seed + number, fold))
                        )
    _check_different(cells)
    return tuple(cells)


def consumes_pixels(study: Study, method: str) -> bool:
    """Whether a method trains on pictures, which is slow."""
    return method_of(study.model_copy(update={"method": method})).consumes == "pixels"


def _variants(ablation: str) -> tuple[str, ...]:
    return tuple(variant.label for variant in ablation_named(ablation).variants) if ablation else ("",)


def _cell(request: Request, key: CellKey) -> PlannedCell:
    """One cell, its study checked by every rule of studies; where a fold is the study's own, nothing is left out."""
    study = request.study
    changes: dict[str, Any] = {"method": key.method, "seed": key.seed}
    if request.leave_one_out:
        changes["sites.left_out"] = "" if key.fold == unseen_name(study) else key.fold
    if key.ablation:
        ablation = ablation_named(key.ablation)
        variant = next(v for v in ablation.variants if v.label == key.variant)
        changes |= changes_of(study, ablation, variant, key.method)
    if consumes_pixels(study, key.method):
        most, granted = study.data.max_train_images, study.compare.pixel_images
        changes["rounds"] = min(changes.get("rounds", study.rounds), study.compare.pixel_rounds)
        changes["data.max_train_images"] = min(most, granted) if most and granted else most or granted
    try:
        resolved = parse_study(_changed(study, changes, key.fold), where=request.file)
        return PlannedCell(key, resolved, method_of(resolved))
    except StudyFileError as error:
        raise StudyFileError(f"{key.words}: {error.what}", where=error.where, remedy=error.remedy) from None


def _changed(study: Study, changes: Mapping[str, Any], out: str) -> dict[str, Any]:
    """The study's values with some changed; scripted faults that cannot happen any more are left out."""
    values = study.model_dump()
    for key, value in changes.items():
        *table, name = key.split(".")
        (values[table[0]] if table else values)[name] = value
    rounds = values["rounds"]
    values["faults"] = {
        kind: tuple(fault for fault in faults if fault["round"] <= rounds and fault.get("site") != out)
        for kind, faults in values["faults"].items()
    }
    return values


def _check_different(cells: Sequence[PlannedCell]) -> None:
    """Refuse variants that come to the same study, because the study has the option at that value already.

    Raises:
        StudyFileError: names both.
    """
    seen: dict[tuple[str, str], PlannedCell] = {}
    for cell in cells:
        first = seen.setdefault((cell.key.method, cell.study.digest()), cell)
        if first is not cell:
            raise StudyFileError(
                f"{first.key.words} and {cell.key.words} are the same study",
                where="--ablation",
                remedy=f"The study has '{cell.key.ablation}' at that value already; change it there",
            )

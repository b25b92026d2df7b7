"""``[data]``, ``[sites]`` and ``[reference]`` of a study: which pictures, and who holds them."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from .section import Section

PHANTOM_DATASETS = ("brain-mri", "ham10000")
Fraction = Annotated[float, Field(gt=0.0, lt=1.0)]
Sentences = Annotated[tuple[str, ...], Field(strict=False)]


class SourceSection(Section):
    """One entry of ``[[data.sources]]``: a folder of a data set of its own, joined with the others."""

    dataset: str = Field(description="key of the data set that the folder holds")
    path: str = Field(description="folder of images, relative to the study file")
    site: str = Field(
        default="",
        description="the site that holds all of it: a-z, 0-9, dot, dash, underscore; empty: each image's own site",
    )
    column: str = Field(default="", description="column of its table that names the site; empty: the data set's own")
    map: dict[str, str] = Field(
        default={}, description="class of the source = class of the study, where they are not the same by name"
    )
    exclude: tuple[str, ...] = Field(
        default=(), strict=False, description="classes of the source that are left out, by name"
    )
    labels: str = Field(default="labels.csv", description="as `data.labels`")
    slices: int = Field(default=1, ge=1, le=1000, description="as `data.slices`")
    burned_in: bool = Field(default=False, description="as `data.burned_in`")


class DataSection(Section):
    """``[data]``: which pictures."""

    dataset: str = Field(description="key of the data set: `wardround data list` prints them")
    source: Literal["folder", "joined", "phantoms"] = Field(
        default="folder",
        description="`folder` reads `path`; `joined` reads every folder of `sources`; `phantoms` generates synthetic "
        "images",
    )
    path: str = Field(default="", description="folder of images, relative to the study file; `folder` only")
    classes: tuple[str, ...] = Field(
        default=(),
        strict=False,
        description="keep these classes only; empty: all of the data set. A data set without classes of its own takes "
        "them from here, in this order",
    )
    prompts: dict[str, Sentences] = Field(
        default={}, description="class = sentences that describe it, instead of the data set's"
    )
    labels: str = Field(
        default="labels.csv",
        description="table of a data set that has none of its own (csv, dicom-folder, nifti-folder), relative to "
        "`path`",
    )
    slices: int = Field(default=1, ge=1, le=1000, description="pictures taken of each volume (nifti-folder, brats)")
    burned_in: bool = Field(
        default=False,
        description="take DICOM images whose tag says that text is burned into the picture (dicom-folder, csv, "
        "isic-2020)",
    )
    sources: tuple[SourceSection, ...] = Field(
        default=(), strict=False, description="`joined` only: the folders, each a table `[[data.sources]]`"
    )
    split: tuple[Fraction, Fraction, Fraction] = Field(
        default=(0.8, 0.1, 0.1), strict=False, description="train, validation and test fractions, by group"
    )
    split_rule: Literal["stable", "balanced"] = Field(
        default="stable",
        description="`stable` keeps nearly every group on its side when files are added; `balanced` meets the "
        "fractions more nearly, and is what phantoms always have",
    )
    split_file: str = Field(
        default="",
        description="a split that `wardround data split` exported, relative to the study file: its groups keep their "
        "sides, new ones are dealt; empty: none",
    )
    images_per_site: int = Field(default=280, ge=24, le=100_000, description="phantoms only: images of each site")
    max_train_images: int = Field(
        default=0,
        ge=0,
        le=10_000_000,
        description="training images of a site that are used, drawn class by class; 0: all",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.source == "folder" and not self.path:
            raise ValueError("path: a study with source = 'folder' needs the folder's path")
        if self.source == "phantoms" and self.dataset not in PHANTOM_DATASETS:
            raise ValueError(f"dataset: phantoms exist for {' and '.join(PHANTOM_DATASETS)}, not for '{self.dataset}'")
        if self.source == "phantoms" and self.classes:
            raise ValueError("classes: phantoms are drawn of all classes; leave the key out")
        if self.source == "joined" and (self.path or not self.sources):
            raise ValueError("sources: a study with source = 'joined' needs [[data.sources]] and no path")
        if self.source != "joined" and self.sources:
            raise ValueError("sources: they are read with source = 'joined' only")
        for name in ("split_file", "prompts"):
            if self.source == "phantoms" and getattr(self, name):
                raise ValueError(f"{name}: phantoms have none; leave the key out")
        for name, sentences in self.prompts.items():
            if not sentences or not all(each.strip() for each in sentences):
                raise ValueError(f"prompts: the class '{name}' has no sentence, or an empty one")
        if abs(sum(self.split) - 1.0) > 1e-9:
            raise ValueError(f"split: fractions must sum to 1, these sum to {sum(self.split):g}")
        return self

    @property
    def rule(self) -> Literal["stable", "balanced"]:
        """By which rule groups are divided."""
        return "balanced" if self.source == "phantoms" else self.split_rule


class SitesSection(Section):
    """``[sites]``: how the pictures lie at hospitals."""

    partition: Literal["dirichlet", "column"] = Field(
        default="dirichlet",
        description="`dirichlet` deals groups with label skew; `column` takes the site each image came with, in lower "
        "case with `_` for spaces",
    )
    count: int = Field(default=3, ge=3, le=100, description="training sites; `dirichlet` and phantoms only")
    alpha: float = Field(default=0.6, gt=0.0, le=1000.0, description="Dirichlet concentration; smaller is more skewed")
    unseen: str = Field(
        default="unseen",
        description="the site that takes no part and is only tested on; with `column`, its name there; empty: none",
    )
    column: str = Field(
        default="",
        description='column of the data\'s table that names the site, for `partition = "column"`; empty: the data '
        "set's own key",
    )
    left_out: str = Field(
        default="", description="this site takes no part instead of `unseen`, which then trains; `compare` sets it"
    )
    feature_shift: float = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        description="strength of each site's own camera or scanner (contrast, brightness, colour, blur); 0: none",
    )


class ReferenceSection(Section):
    """``[reference]``: the public, unlabelled set that adaptation aligns to; disjoint from every test set."""

    source: Literal["fraction", "site", "unseen", "class-means", "none"] = Field(
        default="fraction",
        description="`fraction` of all groups, taken out before sites are made; a whole `site`; the images of the "
        "`unseen` site itself; the federation's own `class-means`, summed securely once; or `none`",
    )
    fraction: float = Field(default=0.1, gt=0.0, le=0.5, description="share of groups; `fraction` only")
    site: str = Field(default="", description="name of the site that serves as the public set; `site` only")
    transductive: bool = Field(
        default=False,
        description="say so where reference images are tested on too (as the papers' code does); refused otherwise",
    )
    labels_known: bool = Field(
        default=False, description="give the adaptation the reference set's true labels: an oracle, for ablations only"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.source == "site" and not self.site:
            raise ValueError("site: a reference set with source = 'site' needs the site's name")
        if self.source == "unseen" and not self.transductive:
            raise ValueError(
                "transductive: a reference set of the unseen site's own images makes its figures transductive; "
                "set transductive = true to say so, or take source = 'fraction'"
            )
        if self.labels_known and self.source in ("none", "class-means"):
            raise ValueError(f"labels_known: source = '{self.source}' has no labels to know; leave the key out")
        return self

"""What each machine of a deployment reads of a study: a site its own pictures alone, the coordinator none.

A study that is joined of a source per hospital is the same study in one process and on many machines: there all
sources are read, here one. The study's hash leaves their paths out. A site's groups, split and training part are those
that a simulation gives it, where every group is known from the site's own table and no picture lies at two sites.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ..medical_datasets.cohort import Dataset, Skipped
from ..medical_datasets.reading import DIRECT, Reader
from .backbone import Backbone
from .cohorts import SitePlan, StudyPlan, deal, deal_site
from .config import Study
from .errors import StudyFileError
from .evaluation_section import subgroup_levels
from .methods.clip_inputs import clip_inputs
from .methods.method import Method, SharedInputs
from .study_cohort import own_sources, phantom_study, read_cohort, study_dataset, target_dataset, with_prompts
from .study_data import Progress, StudyData, encode_study
from .withdrawn import withdrawn_of_site

Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class OwnData:
    """What a site of a deployment has.

    Attributes:
        data: of this site alone. skipped: images that could not be read.
    """

    data: StudyData
    skipped: tuple[Skipped, ...]


def members(study: Study) -> tuple[str, ...]:
    """Names of the sites that train, in order, as the study itself says them.

    Raises:
        StudyFileError: its sites are dealt out, so no hospital can know what is its own.
    """
    if study.data.source == "phantoms":
        drawn = phantom_study(study)
        out = study.sites.left_out or drawn.unseen
        names = {site.name for site in drawn.sites} - {out, _public_site(study)}
        return tuple(sorted(names - {""}))
    if study.data.source != "joined":
        raise StudyFileError(
            "this study does not say which hospital holds what",
            where="data.source",
            remedy='Set source = "joined", with a [[data.sources]] for each hospital that has `site = "NAME"`',
        )
    without = [at for at, source in enumerate(study.data.sources) if not source.site]
    if without:
        raise StudyFileError(
            "a source of this study names no site",
            where=f"data.sources.{without[0]}.site",
            remedy="Where hospitals are on machines of their own, each source is one hospital's: name it",
        )
    names = {source.site for source in study.data.sources}
    return tuple(sorted(names - {study.out, _public_site(study)} - {""}))


def _public_site(study: Study) -> str:
    """Name of the site that is the public reference set; empty where there is none."""
    return study.reference.site if study.reference.source == "site" else ""


def check_deployable(study: Study) -> None:
    """Refuse a study that hospitals on machines of their own cannot run.

    Raises:
        StudyFileError: says which key, and what to write instead.
    """
    names = members(study)
    if len(names) < 3:
        raise StudyFileError(
            f"{len(names)} sites take part: {', '.join(names) or 'none'}; a federation needs at least 3",
            where="sites",
            remedy="Add hospitals, or the sum would show single ones",
        )
    joined = study.data.source == "joined"
    held = {source.site for source in study.data.sources}
    local = getattr(getattr(study, study.table, None), "normalisation", "") == "batch-local"
    refused = (
        (
            local,
            f"{study.table}.normalisation",
            "normalisation = 'batch-local' needs the reference images wherever the model is used",
            "Choose another: the coordinator of hospitals on machines of their own has no images",
        ),
        (
            joined and study.sites.partition != "column",
            "sites.partition",
            "pictures are dealt out to sites, so no hospital can know what is its own",
            "Set partition = 'column': each source is its hospital's",
        ),
        (
            joined and bool(study.out) and study.out not in held,
            "sites.left_out" if study.sites.left_out else "sites.unseen",
            f"'{study.out}' is the site of no source",
            'Name a source\'s site, or set unseen = "" where every hospital trains',
        ),
        (
            joined and study.reference.source == "site" and study.reference.site not in held,
            "reference.site",
            f"'{study.reference.site}' is the site of no source",
            "Add a source for the public set, with this site",
        ),
        (bool(study.faults), "faults", "a simulation's faults are for a simulation", "Take the table out"),
        (bool(study.data.split_file), "data.split_file", "a split file holds marks of every hospital", "Leave it out"),
    )
    for wrong, where, what, remedy in refused:
        if wrong:
            raise StudyFileError(what, where=where, remedy=remedy)
    # A fraction is taken out in a simulation even where the method looks at none, so the parts would differ.
    if study.reference.source == "unseen" or (joined and study.reference.source == "fraction"):
        raise StudyFileError(
            f"reference.source = '{study.reference.source}' takes images out of hospitals' own",
            where="reference.source",
            remedy="Use 'class-means', summed securely, or 'site' with a public set that every hospital has a copy of"
            if study.adapts
            else "Use 'none': the method as set here aligns to nothing",
        )


def deployed_dataset(study: Study) -> Dataset:
    """The data set of a study without its data: classes in order, with prompts.

    Raises:
        StudyFileError: it has no classes of its own and the study names none, or a class has no prompt.
    """
    known = study_dataset(study)
    if not known.classes and not study.data.classes:
        raise StudyFileError(
            f"the data set '{known.key}' has no classes of its own, and the study names none",
            where="data.classes",
            remedy="List them: every hospital must have them in one order",
        )
    dataset = with_prompts(target_dataset(study, known), study)
    for label in dataset.classes:
        if not label.prompts:
            raise StudyFileError(
                f"class '{label.name}' has no prompt", where="data.prompts", remedy="Give it a sentence or more"
            )
    return dataset


def shared_without_data(study: Study, method: Method, backbone: Backbone) -> SharedInputs:
    """What every site has alike, as far as the coordinator needs it: prompts, and no reference features."""
    classes = deployed_dataset(study).classes
    prompts = [label.prompts for label in classes]
    needs_clip = method.consumes == "pixels" or method.name == "prompt-fl"
    return SharedInputs(
        text=torch.from_numpy(backbone.encode_prompts(prompts)),
        scale=backbone.logit_scale,
        reference=torch.zeros((0, backbone.embed_dim)),
        reference_labels=None,
        clip=clip_inputs(backbone, prompts, [label.clinical_name for label in classes]) if needs_clip else None,
    )


def own_plan(
    study: Study,
    name: str,
    phantoms: Path,
    *,
    reader: Reader = DIRECT,
    note: Note = lambda _: None,
    progress: Callable[[int, int], None] | None = None,
) -> StudyPlan:
    """What a site has of a study, and which part each of its pictures is in.

    Args:
        study: with this machine's paths. name: the site.
        phantoms: folder for generated images; written only when the study is synthetic.
        reader: answers what is asked of image files. note: told what a person should know.
        progress: called with (done, total) while phantoms are drawn.

    Raises:
        StudyFileError: the site is not in the study, or the study cannot be deployed.
        DataError: from the loaders. SplitError: too few groups.
    """
    check_deployable(study)
    if name not in members(study):
        raise StudyFileError(
            f"'{name}' is no site of this study that trains",
            where="sites",
            remedy=f"Its sites are {', '.join(members(study))}",
        )
    if study.data.source == "phantoms":
        whole = deal(study, read_cohort(study, phantoms, progress))
        return StudyPlan(whole.cohort, tuple(site for site in whole.sites if site.name == name), None, whole.reference)
    wanted = {name, _public_site(study)} - {""}
    cohort = read_cohort(study, phantoms, reader=reader, note=note, only=own_sources(study, wanted))
    return deal_site(study, cohort, name)


def own_data(
    study: Study,
    method: Method,
    backbone: Backbone,
    plan: StudyPlan,
    home: Path,
    cache: Path,
    *,
    reader: Reader = DIRECT,
    note: Note = lambda _: None,
    progress: Progress | None = None,
) -> OwnData:
    """A site's features, without what its home says was withdrawn.

    Args:
        study, method, backbone: what is trained, how, on which encoder.
        plan: of :func:`own_plan`. home: the site's. cache: of features.
        reader, note, progress: as for :func:`..study_data.encode_study`.

    Raises:
        StudyFileError: too few images are left. HomeError: the list of withdrawn groups is damaged.
    """
    plan = _reduced(plan)
    withdrawn = withdrawn_of_site(home, plan, plan.sites[0], study)
    for told in withdrawn.notes:
        note(told)
    known = _with_own_columns(study, plan, note)
    data, skipped = encode_study(known, method, plan, backbone, cache, progress, note, withdrawn, reader)
    return OwnData(data, skipped)


def _with_own_columns(study: Study, plan: StudyPlan, note: Note) -> Study:
    """The study without subgroup columns that this site has not got; some other site may have them."""
    there = {column for record in plan.cohort.records for column in record.subgroups}
    kept = []
    for text in study.evaluation.subgroups:
        column = subgroup_levels(text)[0]
        if column in there:
            kept.append(text)
        else:
            note(f"evaluation.subgroups: no image here has a column '{column}'; all count as unknown in it")
    evaluation = study.evaluation.model_copy(update={"subgroups": tuple(kept)})
    return study.model_copy(update={"evaluation": evaluation})


def _reduced(plan: StudyPlan) -> StudyPlan:
    """The plan with only the records that it deals out: phantoms of other sites are not encoded."""
    (site,) = plan.sites
    parts = (site.train, site.validation, site.test, plan.reference)
    kept = np.unique(np.concatenate(parts))
    if len(kept) == len(plan.cohort.records):
        return plan
    train, validation, test, reference = (np.searchsorted(kept, rows) for rows in parts)
    cohort = replace(plan.cohort, records=tuple(plan.cohort.records[row] for row in kept))
    return StudyPlan(cohort, (SitePlan(site.name, train, validation, test),), None, reference, plan.notes)

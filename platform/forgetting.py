"""A patient withdraws: what is known of a group leaves one site's cache, later rounds and later studies.

The order is such that a crash can only leave too much forgotten. First the home's list says, durably, that the group is
out and that this is under way; then its rows leave the cache, and the stored state is gone through; then the ledger
says how much was removed, never of whom; last the list says that it is done. Whatever was interrupted is finished by
the next call for any group, without being told again which one it was about.

Of a study that is under way the newest stored update stays, for its round may be tried again and must then be about the
same vector; Adam's moments in it go, and the next round starts them anew. Older updates go. Under differential privacy
all of it stays: it is what noisy releases gave, epsilon covers it, and it is sealed.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from ..medical_datasets.camera_shift import CameraShift
from ..medical_datasets.cohort import ImageRef
from ..medical_datasets.reading import Reader, each
from ..privacy.atomic import sync_folder, write_atomic
from ..privacy.forgotten import Forgotten, Pending, Withdrawal, sorted_marks
from .cases_file import remove_cases
from .cohorts import SitePlan, StudyPlan, deal
from .config import Study
from .errors import RunFolderError, StudyFileError
from .feature_cache import cached_names, remove_rows, shards_with
from .features import default_cache
from .group_names import GroupNames, is_withdrawn, meant_groups
from .group_names import UnknownGroupError as UnknownGroupError
from .held_home import HeldHome
from .image_index import forget_images, image_index
from .means_memory import MEANS_FILE
from .own_data import own_plan
from .run_folder import RunFolder
from .state_files import read_state
from .study_cohort import read_cohort, source_names
from .study_file import load_study
from .trainer import outdated_updates, without_moments
from .withdrawn import rows_of_site

NEAR = 3


@dataclass(frozen=True, slots=True)
class Group:
    """What there is of a patient or lesion at a site. Names are in here, so it is printed nowhere.

    Attributes:
        groups: groups at the site that are meant: one a source, say.
        joined: images in those of them that join several names, where it cannot be told whose each image is.
        train, validation, test: images of it, by part; also those of equal content under another name.
        reference: images of it in the public reference set, which stay.
        images: content hashes.
        entries: names that its images can have in the feature cache.
        cached, shards: rows in the cache, and files that they are in.
        updates, moments: stored updates that go, and those that lose their moments.
        known: whether it was withdrawn before.
        stuck: studies whose class means this site was asked for and may be asked for again, which it cannot answer now.
        counted: whether a roster that was signed counts its images.
        kept: studies whose noisy releases stay, because epsilon covers them.
        names: all names of the groups, and what was asked for.
    """

    groups: int
    joined: int
    train: int
    validation: int
    test: int
    reference: int
    images: frozenset[str]
    entries: frozenset[str]
    cached: int
    shards: int
    updates: int
    moments: int
    known: bool
    stuck: tuple[str, ...]
    counted: bool
    kept: tuple[str, ...]
    names: frozenset[str]

    @property
    def records(self) -> int:
        """Images of it at this site."""
        return self.train + self.validation + self.test

    @property
    def files(self) -> int:
        """Files that are changed or removed."""
        return self.shards + self.updates + self.moments


@dataclass(frozen=True, slots=True)
class Removed:
    """What was done.

    Attributes:
        rows: features that left the cache.
        updates, moments: stored updates deleted, and those without moments now.
        noted: whether the ledger has an entry about it that it did not have before.
    """

    rows: int = 0
    updates: int = 0
    moments: int = 0
    noted: bool = False


def study_of(held: HeldHome, given: Path | None) -> tuple[Study, Path]:
    """The study whose data name the group, and its file: the one that was given, else the run's.

    Raises:
        RunFolderError: none was given, and the home lies in no run.
        StudyFileError: it cannot be read.
    """
    if given is not None:
        return load_study(given), given
    if held.run is None:
        joined = sorted(held.folder.glob("consortia/*/study.toml"))
        if len(joined) == 1:
            return load_study(joined[0], of_run=True), joined[0]
        raise RunFolderError(
            "this site has joined several studies, and it is not known which data are meant"
            if joined
            else "the home lies in no run, so it is not known which data it trains on",
            where=str(held.folder),
            remedy="Name a study of this site: --study STUDY.toml" + "".join(f"; there is {path}" for path in joined),
        )
    return RunFolder.open(held.run.root)[1], held.run.study


def find_group(held: HeldHome, study: Study, group: str, cache: Path, *, where: str = "study") -> Group:
    """Look for a patient or lesion in a study's data at this site; nothing is changed.

    Args:
        held: the home. study: whose data are read. group: any of its names, or ``patient_id:`` and the identifier in
            DICOM files; all groups at the site that it may mean are taken, see :func:`..group_names.meant_groups`.
        cache: the feature cache.
        where: the study's file, for messages.

    Raises:
        UnknownGroupError: the site does not hold it, and never withdrew it; or patients of several issuers are meant.
        StudyFileError: the site is none of the study's, or its phantoms are not there.
        HomeError, CheckpointError, CacheError: list, stored state or cache are damaged or cannot be read.
    """
    forgotten = Forgotten.read(held.folder)
    # Of what was withdrawn before, by this home or by one beside it, the index keeps nothing.
    with image_index(study, cache, held.folder.parent) as reader:
        plan = _plan(held, study, where, reader)
        site = _site(held, plan, where)
        records = plan.cohort.records
        rows = rows_of_site(site).tolist()
        hashes = each([records[row].image for row in rows], reader.content_hash)
        contents = {row: found if isinstance(found, str) else "" for row, found in zip(rows, hashes, strict=True)}
    names = GroupNames(plan.cohort)
    of_site: dict[str, list[ImageRef]] = {}
    for row in rows:
        of_site.setdefault(records[row].group, []).append(records[row].image)
    sources = {*source_names(study), *(section.site for section in study.data.sources if section.site)}
    meant = meant_groups(group, of_site, names, sources, where)
    every_name = names.said(group, sources).union(*map(names.of, meant))
    # Two groups that were one name's and another's when one of them withdrew may be one now: both names are to be out.
    known = all(_all_withdrawn(names.of(each), forgotten) for each in meant)
    if not meant:
        known = is_withdrawn(every_name, forgotten)
    of_group = {row for row in rows if records[row].group in meant}
    if not meant and not known:
        near = sorted({name for each in of_site for name in (each, *plan.cohort.aliases.get(each, ()))})
        raise UnknownGroupError(where, tuple(difflib.get_close_matches(group, near, n=NEAR)))
    images = {contents[row] for row in of_group} - {""}
    every = {row for row, content in contents.items() if row in of_group or content in images}
    train, validation, test = (len(every & set(rows.tolist())) for rows in (site.train, site.validation, site.test))
    entries = images | {_through_camera(image, study, plan, site) for image in images}
    found = shards_with(cache, entries)
    fresh = not known
    updates, moments = _stored(held) if fresh else ([], [])
    charged = held.charged
    return Group(
        groups=len(meant),
        joined=sum(names.several(records[row].group) for row in of_group),
        train=train,
        validation=validation,
        test=test,
        reference=sum(not every_name.isdisjoint(names.of(records[row].group)) for row in plan.reference.tolist()),
        images=frozenset(images),
        entries=frozenset(entries),
        cached=sum(found.values()),
        shards=len(found),
        updates=len(updates),
        moments=len(moments),
        known=known,
        stuck=_stuck(held) if fresh and train else (),
        counted=study.digest() in held.signed,
        kept=tuple(study for study in held.studies if study in charged),
        names=every_name,
    )


def forget(held: HeldHome, group: Group, cache: Path) -> Removed:
    """Do it, all of it, durably; asked for a group that is out already, only what is new of it in the cache goes.

    Raises:
        HomeError, LedgerError, CacheError, CheckpointError, OSError: what was done so far stands, and the next call
            goes on from there; the ledger has no entry before all is done.
    """
    if group.known and not group.cached:
        return Removed()
    forgotten = Forgotten.read(held.folder).with_key()
    with held.ledger() as ledger:
        pending = Pending(entries=ledger.sync()[0], records=group.records, files=group.files, state=not group.known)
    marks = [*map(forgotten.group_mark, group.names), *map(forgotten.image_mark, group.images | group.entries)]
    if set(marks) <= forgotten.marks:
        forgotten.becoming(pending)
    else:
        forgotten.adding(Withdrawal(marks=sorted_marks(marks), counted=held.signed), pending)
    return settle(held, cache)


def settle(held: HeldHome, cache: Path) -> Removed:
    """Finish a withdrawal that was begun; it need not be known which. Nothing happens when there is none.

    Raises:
        HomeError, LedgerError, CacheError, CheckpointError, OSError: as :func:`forget`.
    """
    forgotten = Forgotten.read(held.folder)
    pending = forgotten.pending
    if pending is None:
        return Removed()
    marks = forgotten.marks
    rows, _ = remove_rows(cache, [name for name in cached_names(cache) if forgotten.image_mark(name) in marks])
    forget_images(cache, forgotten)
    if held.run is not None:
        remove_cases(held.run, held.home.site)  # the patient may be on that page
    updates, moments = _clear_state(held) if pending.state else (0, 0)
    with held.ledger() as ledger:
        facts = {"records": pending.records, "files": pending.files}
        noted = held.note_once(ledger, "forget", facts, since=pending.entries)
    forgotten.becoming(None)
    return Removed(rows, updates, moments, noted)


def _all_withdrawn(names: Collection[str], forgotten: Forgotten) -> bool:
    return bool(forgotten.withdrawals) and forgotten.marks.issuperset(map(forgotten.group_mark, names))


def _plan(held: HeldHome, study: Study, where: str, reader: Reader) -> StudyPlan:
    if held.run is None and _is_one_hospitals(study, held.home.site):
        drawn = default_cache() / "phantoms" / study.digest()
        return own_plan(study, held.home.site, drawn, reader=reader)
    phantoms = Path() if held.run is None else held.run.phantoms
    if study.data.source == "phantoms" and (held.run is None or not phantoms.is_dir()):
        raise StudyFileError(
            "a synthetic study's images are in its run folder, and this home lies in none that has them",
            where=where,
            remedy="Give the home of a run: RUN/homes/SITE",
        )
    return deal(study, read_cohort(study, phantoms, reader=reader))


def _is_one_hospitals(study: Study, site: str) -> bool:
    """Whether a study's file is that of a hospital that has its own images alone."""
    if study.data.source != "joined":
        return False
    return any(source.site not in (site, study.reference.site) and not source.path for source in study.data.sources)


def _site(held: HeldHome, plan: StudyPlan, where: str) -> SitePlan:
    for site in plan.sites:
        if site.name == held.home.site:
            return site
    raise StudyFileError(
        f"'{held.home.site}' is no training site of this study",
        where=where,
        remedy=f"Its training sites are {', '.join(site.name for site in plan.sites)}; choose --home or --study so",
    )


def _through_camera(image: str, study: Study, plan: StudyPlan, site: SitePlan) -> str:
    """The name of an image's row where the study shifts this site's pictures; the content hash where it does not."""
    colour = not plan.cohort.dataset.grey
    tag = CameraShift(site.name, study.sites.feature_shift, colour).tag()
    return sha256(f"{image} {tag}".encode()).hexdigest() if tag else image


def _stored(held: HeldHome) -> tuple[list[Path], list[Path]]:
    """Stored updates that go, and those that lose their moments; none of a private study, whose noise covers them."""
    gone: list[Path] = []
    stripped: list[Path] = []
    charged = held.charged
    with held.ledger() as ledger:
        for study, folder in held.studies.items():
            if study in charged:
                continue
            old = outdated_updates(folder, over=not held.unfinished(study, ledger))
            gone += old
            rest = [path for path in folder.glob("update-*.safetensors") if path not in old]
            stripped += [path for path in rest if without_moments(path) is not None]
    return gone, stripped


def _clear_state(held: HeldHome) -> tuple[int, int]:
    gone, stripped = _stored(held)
    for path in stripped:
        content = without_moments(path)
        if content is not None:
            write_atomic(path, content)
    for path in gone:
        path.unlink()
        sync_folder(path.parent)
    return len(gone), len(stripped)


def _stuck(held: HeldHome) -> tuple[str, ...]:
    """Studies whose sum of class means this site has entered, and whose end it has not seen."""
    entered = {study: read_state(folder / MEANS_FILE) for study, folder in held.studies.items()}
    return tuple(study for study, known in entered.items() if "vector" in known and "means" not in known)

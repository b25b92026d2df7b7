"""An index answers as the files do, whatever happens to them or to it; and it tells nobody what they are called."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wardround.medical_datasets import index as module
from wardround.medical_datasets import index_file, pixels
from wardround.medical_datasets.catalog import load_cohort
from wardround.medical_datasets.cohort import ImageRef
from wardround.medical_datasets.errors import DataError, UnreadableImageError
from wardround.medical_datasets.index import RACY_NS, Index, forget_contents, indexed_contents
from wardround.medical_datasets.index_file import DATABASE, SECRET, index_files

from .pictures import brain_tree, pattern, save

KEPT = ("check_header", "content_hash")
QUESTIONS = (*KEPT, "read_grey_thumbnail")


def later() -> int:
    """A clock by which files that were just written are old enough."""
    return time.time_ns() + RACY_NS


def opened(folder: Path, **options: Any) -> Index:
    return Index.open(folder, **{"now": later, **options})


def answer(reader: Any, question: str, image: Path | ImageRef) -> object:
    """What a reader says, in a form that can be compared."""
    try:
        said = getattr(reader, question)(image)
    except UnreadableImageError as refused:
        return ("refused", refused.what)
    return said.tolist() if isinstance(said, np.ndarray) else said


def ask_all(reader: Any, paths: list[Path]) -> list[object]:
    return [answer(reader, question, path) for question in QUESTIONS for path in paths]


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Eight pictures whose file names say whose they are, and two files that are none."""
    folder = tmp_path / "DOE^JANE-4711"
    found = [save(folder / f"MRN-0815-{number}.png", number) for number in range(8)]
    for name, content in (("cut.png", found[0].read_bytes()[:50]), ("empty.png", b"")):
        (folder / name).write_bytes(content)
        found.append(folder / name)
    return found


# --- the same answers as the files


def test_answers_are_those_of_the_files_and_are_kept(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct = ask_all(pixels, paths)
    with opened(tmp_path / "index") as first:
        assert ask_all(first, paths) == direct
        assert ask_all(first, paths) == direct
    with opened(tmp_path / "index") as second:
        assert ask_all(second, paths) == direct
        assert second.counts().images == 9  # the cut file has a content; the empty one has nothing to keep
        assert second.counts().contents == 9
        assert second.notes == []
        for question in KEPT:
            monkeypatch.setattr(pixels, question, lambda *_: pytest.fail("a file was opened"))
        assert ask_all(second, paths[:8]) == [said for at, said in enumerate(direct) if at % 10 < 8]


def test_a_thumbnail_is_read_each_time_and_nothing_of_it_is_kept(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "index"
    direct = pixels.read_grey_thumbnail(paths[1])
    read: list[object] = []
    real = pixels.read_grey_thumbnail
    monkeypatch.setattr(pixels, "read_grey_thumbnail", lambda image: (read.append(image), real(image))[1])
    with opened(folder) as index:
        for _ in range(2):
            thumbnail = index.read_grey_thumbnail(paths[1])
            assert thumbnail.dtype == np.float32
            assert np.array_equal(thumbnail, direct)
        assert read == [paths[1], paths[1]]
        assert index.counts().images == 0
        ask_all(index, paths)
        index.flush()
        for kept in (direct.astype(np.uint8).tobytes(), direct.tobytes()):
            assert all(kept[at : at + 32] not in every_byte(folder) for at in range(0, len(kept), 32))


def test_parts_of_a_file_are_rows_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "volume.png", 1)
    monkeypatch.setattr(pixels, "content_hash", lambda ref: f"{int(ref.part.partition('=')[2]):064x}")
    with opened(tmp_path / "index") as index:
        for _ in range(2):
            assert [int(index.content_hash(ImageRef(path, f"frame={n}")), 16) for n in range(4)] == [0, 1, 2, 3]
        assert index.counts().images == 4


@dataclass
class Disk:
    """Files whose times are those of a clock that ticks every two seconds, as on FAT: the oldest trap there is."""

    root: Path
    now: float = 1000.0
    numbers: int = 100

    def __post_init__(self) -> None:
        self.states: dict[str, SimpleNamespace] = {}

    def tick(self) -> int:
        return int(self.now // 2) * 2_000_000_000

    def write(self, name: str, content: bytes, how: str, *, keep_time: bool) -> None:
        """Write over a file, put a new one in its place, or move one there that is older than its new name."""
        path = self.root / name
        old = self.states.get(str(path))
        path.write_bytes(content)
        state = SimpleNamespace(
            st_size=len(content), st_mtime_ns=self.tick(), st_ctime_ns=self.tick(), st_ino=self.numbers
        )
        self.numbers += 1
        if old is not None and (keep_time or how == "move"):
            state.st_mtime_ns = old.st_mtime_ns
        if old is not None and how == "move":
            state.st_ctime_ns = old.st_ctime_ns
        if old is not None and how == "over":
            state.st_ino = old.st_ino
        self.states[str(path)] = state

    def delete(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)
        self.states.pop(str(self.root / name), None)

    def stat(self, path: str) -> SimpleNamespace:
        if path not in self.states:
            raise FileNotFoundError(2, "No such file or directory", path)
        return self.states[path]


def _contents() -> list[bytes]:
    """Four pictures and a file that is none, all of one size, and an empty one."""
    with tempfile.TemporaryDirectory() as folder:
        made = [save(Path(folder) / f"{seed}.png", pattern(seed, 40)).read_bytes() for seed in range(4)]
    size = max(map(len, made))
    return [*(content.ljust(size, b"\0") for content in made), made[0][:60].ljust(size, b"\0"), b""]


CONTENTS = _contents()
NAMES = (*["a.png"] * 5, "b.png")
WRITE = st.tuples(
    st.just("write"),
    st.sampled_from(NAMES),
    st.integers(0, 5),
    st.sampled_from(["over", "over", "new", "move"]),
    st.booleans(),
)
ASK = st.tuples(st.just("ask"), st.sampled_from(NAMES))
WAIT = st.tuples(st.just("wait"), st.sampled_from([0.1, 0.9, 1.9, 4.0, 4.0, 4.0]))
RARE = st.one_of(st.tuples(st.just("delete"), st.sampled_from(NAMES)), st.tuples(st.just("open again")))
STEPS = st.one_of(ASK, WRITE, WAIT, ASK, WRITE, ASK, RARE)


@settings(max_examples=300, deadline=None)
@given(st.lists(STEPS, min_size=4, max_size=25))
def test_after_any_changes_the_answers_are_those_of_the_files(steps: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        disk = Disk(Path(folder))
        patch.setattr(module, "os", SimpleNamespace(stat=disk.stat, path=os.path))
        for name in set(NAMES):
            disk.write(name, CONTENTS[0], "new", keep_time=False)
        disk.now += 4.0
        index = Index.open(Path(folder) / "index", now=lambda: int(disk.now * 1e9))
        for step, *how in steps:
            match step:
                case "write":
                    name, content, manner, keep_time = how
                    disk.write(name, CONTENTS[content], manner, keep_time=keep_time)
                case "delete":
                    disk.delete(how[0])
                case "wait":
                    disk.now += how[0]
                case "ask":
                    path = disk.root / how[0]
                    assert ask_all(index, [path]) == ask_all(pixels, [path])
                case _:
                    index.close()
                    index = Index.open(Path(folder) / "index", now=lambda: int(disk.now * 1e9))
        assert index.notes == []
        index.close()


def test_what_was_just_written_is_not_trusted_next_time(tmp_path: Path) -> None:
    path = save(tmp_path / "young.png", 1)
    with Index.open(tmp_path / "index") as index:  # by the true clock
        ask_all(index, [path])
        assert index.counts().images == 0
    os.utime(path, (1.0, 1.0))  # an old name for a file that has changed now
    with Index.open(tmp_path / "index") as index:
        ask_all(index, [path])
        assert index.counts().images == 0
    with opened(tmp_path / "index") as index:
        ask_all(index, [path])
        assert index.counts().images == 1


@pytest.mark.parametrize("how", ["written over", "renamed over"])
def test_another_content_of_equal_size_and_time_is_noticed(tmp_path: Path, how: str) -> None:
    path, other = tmp_path / "a.png", tmp_path / "b.png"
    path.write_bytes(CONTENTS[0])
    os.utime(path, (5.0, 5.0))
    with opened(tmp_path / "index") as index:
        ask_all(index, [path])
        time.sleep(0.05)  # longer than a tick of the file system's clock
        if how == "written over":
            path.write_bytes(CONTENTS[1])
        else:
            other.write_bytes(CONTENTS[1])
            other.rename(path)
        os.utime(path, (5.0, 5.0))
        assert ask_all(index, [path]) == ask_all(pixels, [path])


def test_a_file_that_changes_while_it_is_read_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(CONTENTS[0])
    real = pixels.content_hash

    def changing(ref: ImageRef) -> str:
        name = real(ref)
        path.write_bytes(CONTENTS[1] + b"longer")
        return name

    with opened(tmp_path / "index") as index:
        monkeypatch.setattr(pixels, "content_hash", changing)
        index.content_hash(path)
        monkeypatch.undo()
        assert index.counts().images == 0
        assert index.content_hash(path) == pixels.content_hash(path)


def test_new_rules_forget_what_was_learnt_by_old_ones(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path / "index") as index:
        ask_all(index, paths)
    monkeypatch.setattr(module, "rules", lambda: b"other readers")
    with opened(tmp_path / "index") as index:
        assert index.counts().images == 0
        assert ask_all(index, paths) == ask_all(pixels, paths)


@pytest.mark.parametrize("end", ["closed", "killed"])
def test_an_index_with_thumbnails_loses_every_byte_of_them(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    folder = tmp_path / "index"
    thumbnails = [np.random.default_rng(number).bytes(1024) for number in range(500)]
    with opened(folder) as index:
        ask_all(index, paths)
    writer = sqlite3.connect(folder / DATABASE, isolation_level=None)
    writer.execute("DROP TABLE images")
    writer.execute(
        "CREATE TABLE images (key BLOB PRIMARY KEY, guard BLOB NOT NULL, header INTEGER NOT NULL,"
        " content BLOB NOT NULL, thumbnail BLOB NOT NULL, seal BLOB NOT NULL)"
    )
    writer.execute("UPDATE made SET format = x'0102'")
    for thumbnail in thumbnails:
        writer.execute(
            "INSERT INTO images VALUES (?, x'00', 1, ?, ?, x'00')", (thumbnail[:16], thumbnail[-32:], thumbnail)
        )
    if end == "killed":  # what is in the log only is there too
        left = {file.name: file.read_bytes() for file in folder.iterdir()}
        assert len(left[f"{DATABASE}-wal"]) > 100_000
    writer.close()
    if end == "killed":
        for name, content in left.items():
            (folder / name).write_bytes(content)
        (folder / f"{DATABASE}-shm").unlink()
    size = sum(file.stat().st_size for file in folder.iterdir())
    before = every_byte(folder)
    assert all(thumbnail[:64] in before for thumbnail in thumbnails)
    at_vacuum: list[bytes] = []

    class Watched(sqlite3.Connection):
        def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
            if statement == "VACUUM":
                at_vacuum.append(every_byte(folder))
            return super().execute(statement, *values)

    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *asked, **options: real(*asked, factory=Watched, **options))
    with opened(folder) as index:
        monkeypatch.undo()
        assert len(at_vacuum) == 1
        assert len(at_vacuum[0]) > 500 * 1024  # what is cut off afterwards was overwritten before
        for content in (at_vacuum[0], every_byte(folder)):
            assert not any(part in content for thumbnail in thumbnails for part in (thumbnail[:16], thumbnail[-32:]))
        assert index.counts().images == 0
        assert index.counts().size < size / 5
        assert index.notes == []
        assert ask_all(index, paths) == ask_all(pixels, paths)
        assert index.counts().images == 9
    assert sqlite_rows(folder, "SELECT name FROM pragma_table_info('images')") == [
        (name,) for name in ("key", "guard", "header", "content", "seal")
    ]


def test_the_rules_change_with_a_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Path(module.__file__).parent
    copy = tmp_path / "medical_datasets"
    shutil.copytree(here / "readers", copy / "readers")
    shutil.copy(here / "pixels.py", copy)
    monkeypatch.setattr(module, "__file__", str(copy / "index.py"))
    same = module.rules.__wrapped__()
    assert same == module.rules()
    with (copy / "readers" / "pillow_pictures.py").open("a") as stream:
        stream.write("# changed\n")
    assert module.rules.__wrapped__() != same


def test_a_cohort_through_an_index_is_the_same_and_opens_no_file_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = brain_tree(tmp_path / "images", per_class=3)
    (root / "Training" / "glioma" / "image(9).jpg").write_bytes(b"no picture")
    plain = load_cohort("brain-mri", root)
    assert len(plain.skipped) == 1
    with opened(tmp_path / "index") as index:
        assert load_cohort("brain-mri", root, reader=index) == plain
    read: list[object] = []
    for question in KEPT:
        real = getattr(pixels, question)
        monkeypatch.setattr(pixels, question, lambda *asked, real=real: (read.append(asked[0].path), real(*asked))[1])
    with opened(tmp_path / "index") as index:
        assert load_cohort("brain-mri", root, reader=index) == plain
    assert read == [root / "Training" / "glioma" / "image(9).jpg"]


# --- privacy


def every_byte(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.iterdir())


def test_no_name_is_in_any_file_and_nobody_else_may_read_them(paths: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "index"
    with opened(folder) as index:
        ask_all(index, paths)
        index.flush()
        assert (folder / f"{DATABASE}-wal").stat().st_size > 0
        assert {file.name for file in index_files(folder)} == {file.name for file in folder.iterdir()}
        for content in (every_byte(folder), every_byte(folder).lower()):
            for planted in (b"DOE", b"doe^", b"4711", b"MRN", b"mrn-", b"0815", str(tmp_path).encode(), b".png"):
                assert planted not in content
        for file in folder.iterdir():
            assert file.stat().st_mode & 0o777 == 0o600
        assert all(level.stat().st_mode & 0o777 == 0o700 for level in (folder, folder.parent))
    assert {file.name for file in folder.iterdir()} == {DATABASE, SECRET}
    assert b"DOE" not in every_byte(folder)


def test_a_row_is_found_with_the_secret_only(paths: list[Path], tmp_path: Path) -> None:
    with opened(tmp_path / "one") as one, opened(tmp_path / "two") as two:
        ask_all(one, paths)
        ask_all(two, paths)
    keys = [set(sqlite_rows(tmp_path / name, "SELECT key FROM images")) for name in ("one", "two")]
    assert len(keys[0]) == len(keys[1]) == 9
    assert not keys[0] & keys[1]


def sqlite_rows(folder: Path, query: str) -> list[Any]:
    connection = sqlite3.connect(folder / DATABASE)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def test_forgotten_pictures_leave_no_byte(paths: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "index"
    gone, kept = paths[2], paths[3]
    names = {path: pixels.content_hash(path) for path in (gone, kept)}
    with opened(folder) as index:
        ask_all(index, paths)
        index.flush()
        index.check_header(save(tmp_path / "header only.png", 77))
        assert bytes.fromhex(names[gone]) in every_byte(folder)
        assert index.counts().images == 10
        assert index.forget([names[gone], "ff" * 32]) == 1
        assert bytes.fromhex(names[gone]) not in every_byte(folder)
        assert bytes.fromhex(names[kept]) in every_byte(folder)
        assert index.counts().images == 8  # nobody can tell whose the row without a content was
        assert index.contents() == {pixels.content_hash(path) for path in paths[:9] if path != gone}
        assert index.forget([names[gone]]) == 0
        assert index.forget([]) == 0


def test_what_is_not_written_yet_is_forgotten_too(paths: list[Path], tmp_path: Path) -> None:
    with opened(tmp_path / "index") as index:
        content = index.content_hash(paths[0])
        assert index.forget([content]) == 1
        index.flush()
        assert index.contents() == set()


def test_nothing_is_kept_of_withheld_pictures(paths: list[Path], tmp_path: Path) -> None:
    out = {pixels.content_hash(path) for path in paths[:3]}
    with opened(tmp_path / "index", withheld=out.__contains__) as index:
        for _ in range(2):
            assert ask_all(index, paths) == ask_all(pixels, paths)
        assert not index.contents() & out
        assert len(index.contents()) == 6
        assert index.counts().contents == 6


def test_by_folder_where_there_is_no_index_nothing_is_made(paths: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "index"
    assert indexed_contents(folder) == set()
    assert forget_contents(folder, ["00" * 32]) == 0
    assert index_files(folder) == []
    assert not folder.exists()
    with opened(folder) as index:
        ask_all(index, paths[:2])
    names = {pixels.content_hash(path) for path in paths[:2]}
    assert indexed_contents(folder) == names
    assert forget_contents(folder, []) == 0
    assert forget_contents(folder, names) == 2
    assert indexed_contents(folder) == set()


def test_forgetting_that_cannot_be_done_is_an_error(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "index"
    with opened(folder) as index:
        name = index.content_hash(paths[0])
    monkeypatch.setattr(index_file, "BUSY_SECONDS", 0.05)
    reader = sqlite3.connect(folder / DATABASE, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM images").fetchall()
    with pytest.raises(DataError, match="cannot be read or changed") as caught:
        forget_contents(folder, [name])
    assert caught.value.remedy
    reader.close()
    forget_contents(folder, [name])  # the row has gone already; now its bytes do
    assert bytes.fromhex(name) not in every_byte(folder)
    monkeypatch.setattr(sqlite3, "connect", refusing)
    with pytest.raises(DataError, match="cannot be read or changed"):
        forget_contents(folder, [name])


def refusing(*_: object, **__: object) -> None:
    raise sqlite3.OperationalError("unable to open database file")


# --- its own files


def test_a_closed_index_answers_and_keeps_nothing(paths: list[Path], tmp_path: Path) -> None:
    index = opened(tmp_path / "index")
    index.close()
    index.close()
    assert ask_all(index, paths) == ask_all(pixels, paths)
    with opened(tmp_path / "index") as again:
        assert again.counts().images == 0


def test_many_threads(paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 3)  # written again and again while others ask
    direct = ask_all(pixels, paths)
    with opened(tmp_path / "index") as index:
        with ThreadPoolExecutor(8) as pool:
            for found in pool.map(lambda _: ask_all(index, paths), range(16)):
                assert found == direct
        assert index.counts().images == 9
        assert index.notes == []
    assert threading.active_count() < 8


def test_many_processes(paths: list[Path], tmp_path: Path) -> None:
    direct = ask_all(pixels, paths)

    def work() -> bool:
        for _ in range(5):
            with opened(tmp_path / "index") as index:
                if ask_all(index, paths) != direct or index.notes:
                    return False
        return True

    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            sound = False
            try:
                sound = work()
            finally:
                os._exit(0 if sound else 1)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 4
    with opened(tmp_path / "index") as index:
        assert ask_all(index, paths) == direct
        assert index.counts().images == 9


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        (DATABASE, lambda content: b"not a database at all" * 300),
        (DATABASE, lambda content: content[:4096] + b"\xff" * (len(content) - 4096)),
        (DATABASE, lambda content: content[: len(content) // 2]),
        (SECRET, lambda content: content[:7]),
        (SECRET, lambda content: b""),
    ],
)
def test_a_damaged_index_is_made_anew(paths: list[Path], tmp_path: Path, file: str, damage: Any) -> None:
    folder = tmp_path / "index"
    with opened(folder) as index:
        ask_all(index, paths)
    target = folder / file
    target.write_bytes(damage(target.read_bytes()))
    with opened(folder) as index:
        assert ask_all(index, paths) == ask_all(pixels, paths)
        assert len(index.notes) == 1
        assert "anew" in index.notes[0]
        assert str(tmp_path) not in index.notes[0]
    with opened(folder) as index:
        assert index.notes == []
        assert index.counts().images == 9


class Written:
    """An index of four pictures and the answers of the files; a class, for hypothesis would print all of it."""

    def __init__(self, root: Path) -> None:
        self.pictures = [save(root / f"{number}.png", number) for number in range(4)]
        self.folder = root / "index"
        with opened(self.folder) as index:
            self.answers = ask_all(index, self.pictures)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return Written(tmp_path_factory.mktemp("written"))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1, max_size=4))
def test_no_flipped_bits_change_an_answer(written: Written, flips: list[tuple[float, int]]) -> None:
    content = bytearray((written.folder / DATABASE).read_bytes())
    for share, bit in flips:
        content[int(share * len(content))] ^= 1 << bit
    with tempfile.TemporaryDirectory() as copy:
        shutil.copy(written.folder / SECRET, copy)
        (Path(copy) / DATABASE).write_bytes(content)
        with opened(Path(copy)) as index:
            assert ask_all(index, written.pictures) == written.answers


@pytest.mark.parametrize("old", [b"content BLOB", b"CREATE TABLE images"])
def test_a_schema_that_cannot_be_read_is_damage(written: Written, tmp_path: Path, old: bytes) -> None:
    content = (written.folder / DATABASE).read_bytes()
    assert old in content
    shutil.copy(written.folder / SECRET, tmp_path)
    # No UTF-8, and SQLite quotes it in its message.
    (tmp_path / DATABASE).write_bytes(content.replace(old, b"\xd5" + old[1:]))
    with opened(tmp_path) as index:
        assert ask_all(index, written.pictures) == written.answers
        assert index.notes == ["the image index was damaged: it was removed and is made anew"]


def test_another_secret_makes_old_rows_go(paths: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "index"
    with opened(folder) as index:
        ask_all(index, paths)
    (folder / SECRET).unlink()
    with opened(folder) as index:
        assert index.counts().images == 0
        assert index.notes == []


def test_without_a_folder_it_can_write_to_every_answer_is_read(paths: list[Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with opened(tmp_path / "file" / "index") as index:
        assert ask_all(index, paths) == ask_all(pixels, paths)
        assert len(index.notes) == 1
        assert "read anew" in index.notes[0]
        assert index.counts().images == 0


def test_a_database_that_cannot_be_opened_is_left_alone(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "index"
    with opened(folder) as index:
        ask_all(index, paths)
    before = (folder / DATABASE).read_bytes()
    monkeypatch.setattr(sqlite3, "connect", refusing)
    with opened(folder) as index:
        assert ask_all(index, paths) == ask_all(pixels, paths)
        assert "unable to open" in index.notes[0]
    assert (folder / DATABASE).read_bytes() == before


def test_a_read_only_database_still_answers(paths: list[Path], tmp_path: Path) -> None:
    with opened(tmp_path / "index") as index:
        ask_all(index, paths[:4])
        index.flush()
        index._file._connection.execute("PRAGMA query_only = ON")  # type: ignore[union-attr]
        assert ask_all(index, paths) == ask_all(pixels, paths)
        index.flush()
        assert len(index.notes) == 1
        assert "readonly" in index.notes[0]
        assert index.counts().images == 4


def test_a_full_disk_loses_nothing_but_what_is_new(paths: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "index"
    many = [save(tmp_path / "more" / f"{number}.png", 100 + number) for number in range(40)]
    with opened(folder) as index:
        ask_all(index, paths)
        index.flush()
        run = index._file._connection.execute  # type: ignore[union-attr]
        (pages,) = run("PRAGMA page_count").fetchone()
        run(f"PRAGMA max_page_count = {pages}")
        assert ask_all(index, many) == ask_all(pixels, many)
        index.flush()
        assert len(index.notes) == 1
        assert "full" in index.notes[0]
        assert ask_all(index, [*paths, *many]) == ask_all(pixels, [*paths, *many])
    with opened(folder) as index:
        assert index.counts().images == 9
        ask_all(index, many)
        assert index.counts().images == 49


def test_a_damaged_index_that_another_process_replaced_stays(paths: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "index"
    with opened(folder) as index:
        ask_all(index, paths)
        index.flush()
        index_file.discard(folder, inode=1)  # a database that is no longer there
        assert (folder / DATABASE).is_file()
        assert index.counts().images == 9


def test_purged_under_its_hands_an_index_goes_on_and_the_next_begins_anew(paths: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "index"
    with opened(folder) as index:
        ask_all(index, paths[:4])
        index.flush()
        (folder / f".{SECRET}.killed").write_bytes(b"half a secret")
        assert len(index_files(folder)) == 5
        for file in index_files(folder):
            file.unlink()
        assert ask_all(index, paths) == ask_all(pixels, paths)
    assert list(folder.iterdir()) == []
    with opened(folder) as index:
        assert index.counts().images == 0
        assert ask_all(index, paths) == ask_all(pixels, paths)
        assert index.notes == []

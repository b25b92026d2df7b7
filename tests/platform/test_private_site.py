"""A private site with a real budget in a home of its own: charged, computed once, stored, sealed, and never again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load
from wardround.platform import domain, private_plan, private_site
from wardround.platform import trainer as trainer_module
from wardround.platform.adapters import State, state_of
from wardround.platform.config import Study
from wardround.platform.errors import MethodError, StudyFileError
from wardround.platform.methods.method import Method
from wardround.platform.methods.table import method_of
from wardround.platform.private_plan import plan_of, rehearse_plans
from wardround.platform.private_site import PrivateSite
from wardround.platform.private_site import private_site as make_site
from wardround.platform.study_data import StudyData
from wardround.platform.terms import study_layout
from wardround.platform.trainer import LocalTrainer
from wardround.platform.training import Carried, one_thread
from wardround.platform.update import Update
from wardround.privacy.differential_privacy.budget import Budget
from wardround.privacy.differential_privacy.budget_file import VOID
from wardround.privacy.errors import AccountError, BudgetError
from wardround.privacy.home import SiteHome
from wardround.privacy.identity import Identity
from wardround.privacy.ledger.log import Ledger, verify

from .private_steps import KINDS

SHA = {number: f"{number:02x}" * 32 for number in range(1, 20)}
# As many images in a batch as a site has: nothing is sampled, so accounting takes no time.
WHOLE: dict[str, Any] = {"training": {"batch_size": 64, "local_epochs": 2}}
PRIVATE: dict[str, Any] = {"epsilon": 8.0, "delta": 1e-3, "unit": "patient"}


@pytest.fixture(autouse=True)
def small_and_alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(domain, "HIDDEN", 32)
    with one_thread():
        yield


@dataclass
class Home:
    """One site's home, open; ``restart`` is a new process."""

    root: Path
    study: Study
    method: Method
    data: StudyData
    name: str = "site-1"
    stack: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.open()

    def open(self) -> None:
        self.home = self.stack.enter_context(SiteHome.open(self.root, self.name))
        clock = lambda: datetime(2026, 1, 1, tzinfo=UTC)  # noqa: E731
        self.ledger = self.stack.enter_context(Ledger.open(self.home.ledger, owner=self.name, clock=clock))
        identity = Identity.from_seed(bytes(32))
        self.budget = Budget.open(self.home.budget, site=self.name, identity=identity, ledger=self.ledger)
        if not self.ledger.is_open(self.study.digest()):
            self.ledger.open_study(self.study.digest())
        site = self.data.sites[0]
        self.folder = self.home.state(self.study.digest())
        self.private: PrivateSite = make_site(self.study, self.method, site.train, self.budget, self.folder)
        self.trainer = LocalTrainer(
            self.name,
            self.study,
            self.method,
            study_layout(self.study, self.method, self.data.shared),
            site.train.training(),
            site.validation.training(),
            self.data.shared,
            self.folder,
            self.private,
        )

    def close(self) -> None:
        self.stack.close()

    def restart(self) -> None:
        self.close()
        self.stack = ExitStack()
        self.open()

    def start(self, seed: int = 7) -> State:
        state = state_of(self.method.new_module(self.data.shared, seed))
        return self.trainer.layout.shared(state)

    def update(self, number: int, *, seed: int = 7) -> Update:
        return self.trainer.update(number, self.start(seed), SHA[number])

    def path(self, number: int) -> Path:
        return self.folder / f"update-{number:05d}.safetensors"

    def sealed(self, key: str) -> str | None:
        return self.budget.sealed(self.study.digest(), key)

    def spent(self) -> list[str]:
        return [charge.key for charge in self.budget.charges]

    def alignment(self, number: int, seed: int = 7) -> Any:
        part = self.trainer.part
        return self.private.alignment(number, self.start(seed), part, self.data.shared, Carried())


Open = Callable[..., Home]


@pytest.fixture
def opened(toy_study: Callable[..., Study], toy_data: Callable[..., StudyData], tmp_path: Path) -> Iterator[Open]:
    """``opened(kind, name=…, **changes)``: a site's home with everything in it."""
    homes: list[Home] = []

    def made(kind: str = "fedclip", name: str = "site-1", root: str = "homes", **changes: Any) -> Home:
        own = {**KINDS[kind], **WHOLE, **changes}
        privacy = {**PRIVATE, **KINDS[kind].get("privacy", {}), **changes.get("privacy", {})}
        study = toy_study(**{**own, "privacy": privacy})
        homes.append(Home(tmp_path / root, study, method_of(study), toy_data(), name))
        return homes[-1]

    yield made
    for home in homes:
        home.close()


def equal(left: Update, right: Update) -> bool:
    return left.blocks.keys() == right.blocks.keys() and all(
        np.array_equal(values, right.blocks[name]) for name, values in left.blocks.items()
    )


def never(*_: object, **__: object) -> Any:
    raise AssertionError("computed again")


# --- a round ---------------------------------------------------------------------------------------------------------


def test_a_round_is_charged_on_disk_before_it_is_trained(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    site, seen = opened(), []
    train = private_site.train_privately

    def watched(*arguments: Any, **options: Any) -> Any:
        content = json.loads(site.home.budget.read_bytes())
        charges = [(charge["key"], charge["sealed"]) for charge in content["budget"]["charges"]]
        seen.append((charges, site.path(1).exists(), b'"round-1"' in site.home.ledger.read_bytes()))
        return train(*arguments, **options)

    monkeypatch.setattr(private_site, "train_privately", watched)
    site.update(1)
    assert seen == [([("round-1", "")], False, True)]


@pytest.mark.parametrize("kind", ["fedclip", "facmic", "faa-clip", "faa-clip by record"])
def test_what_is_returned_is_stored_and_sealed(opened: Open, kind: str) -> None:
    site = opened(kind)
    update = site.update(1)
    raw = site.path(1).read_bytes()
    assert site.sealed("round-1") == hashlib.sha256(raw).hexdigest()
    assert site.budget.covers(site.study.digest(), "round-1")
    assert site.path(1).stat().st_mode & 0o777 == 0o600
    stored = load(raw)
    assert all(np.array_equal(stored[f"block.{name}"].numpy(), values) for name, values in update.blocks.items())
    assert verify(site.home.ledger).ok
    kept = [json.loads(line) for line in site.home.ledger.read_bytes().splitlines()]
    stages = [(entry["rule"], entry["stage"]) for entry in kept if entry["kind"] == "budget"]
    assert stages[-2:] == [("round-1", "charge"), ("round-1", "seal")]


def test_asked_again_it_gives_the_same_update_and_charges_nothing(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = opened("facmic")
    first, sequence = site.update(1), site.budget.sequence
    monkeypatch.setattr(private_site, "train_privately", never)
    monkeypatch.setattr(private_site, "noisy_class_sums", never)
    assert equal(site.update(1), first)
    site.restart()
    assert equal(site.update(1), first)
    assert site.budget.sequence == sequence
    assert site.spent() == ["class-sums", "round-1"]


def test_another_adapter_in_the_same_round_gets_nothing(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    site = opened()
    first, sequence, raw = site.update(1), site.budget.sequence, site.path(1).read_bytes()
    monkeypatch.setattr(private_site, "train_privately", never)
    with pytest.raises(MethodError, match="trained on another adapter, and its privacy is spent") as caught:
        site.trainer.update(1, site.start(8), SHA[2])
    assert "sits this round out" in caught.value.remedy
    assert site.budget.sequence == sequence
    assert site.path(1).read_bytes() == raw
    assert equal(site.update(1), first)  # the first one is answered as before


@pytest.mark.parametrize("error", [MethodError("diverged"), RuntimeError("inside"), ZeroDivisionError("inside")])
def test_a_training_that_fails_is_void_and_not_repeated(
    opened: Open, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    site, asked = opened(), []

    def fails(*_: object, **__: object) -> Any:
        asked.append(1)
        raise error

    monkeypatch.setattr(private_site, "train_privately", fails)
    with pytest.raises(type(error)):
        site.update(1)
    assert site.sealed("round-1") == VOID
    assert not site.budget.covers(site.study.digest(), "round-1")
    assert not site.path(1).exists()
    for again in (False, True):
        if again:
            site.restart()
        with pytest.raises(BudgetError, match="failed when it was computed, and is not computed again"):
            site.update(1)
    assert len(asked) == 1
    monkeypatch.undo()
    monkeypatch.setattr(domain, "HIDDEN", 32)
    assert site.update(2).blocks["adapter"].any()  # the next round is trained as ever
    assert site.spent() == ["round-1", "round-2"]


@pytest.mark.parametrize("error", [OSError("disk"), MemoryError(), KeyboardInterrupt()])
def test_what_the_machine_breaks_off_is_computed_under_the_same_charge(
    opened: Open, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    site = opened()

    def fails(*_: object, **__: object) -> Any:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(private_site, "train_privately", fails)
        with pytest.raises(type(error)):
            site.update(1)
    assert site.sealed("round-1") is None
    site.restart()
    assert site.update(1).blocks["adapter"].any()
    assert site.spent() == ["round-1"]


@pytest.mark.parametrize("fails", [False, True])
def test_an_update_that_was_stored_and_not_sealed_never_left_and_is_made_anew(
    opened: Open, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    site = opened()

    def broken(*_: object, **__: object) -> Any:
        raise ZeroDivisionError

    def killed(*_: object) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(site.budget, "seal", killed)
        with pytest.raises(KeyboardInterrupt):
            site.update(1)
    raw = site.path(1).read_bytes()
    site.restart()
    if fails:
        monkeypatch.setattr(private_site, "train_privately", broken)
        with pytest.raises(ZeroDivisionError):
            site.update(1)
        assert not site.path(1).exists()  # nor is it what the next round goes on from
        return
    site.update(1)
    assert site.path(1).read_bytes() != raw  # fresh randomness
    assert site.sealed("round-1") == hashlib.sha256(site.path(1).read_bytes()).hexdigest()
    assert site.spent() == ["round-1"]


@pytest.mark.parametrize("harm", ["gone", "changed", "older"])
def test_a_sealed_update_that_is_not_what_was_sealed_stops_the_site(
    opened: Open, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    site = opened()
    site.update(1)
    site.update(2)
    match harm:
        case "gone":
            site.path(2).unlink()
        case "changed":
            raw = bytearray(site.path(2).read_bytes())
            raw[-1] ^= 1
            site.path(2).write_bytes(raw)
        case "older":
            site.path(2).write_bytes(site.path(1).read_bytes())
    monkeypatch.setattr(private_site, "train_privately", never)
    with pytest.raises(BudgetError, match="round-2") as caught:
        site.update(2)
    assert "second release" in caught.value.remedy


# --- the budget ------------------------------------------------------------------------------------------------------


def test_a_study_spends_what_it_planned_and_its_last_model_stays(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    site = opened("facmic")
    for number in (1, 2, 3):
        last = site.update(number, seed=number)
    spent = site.budget.spent(1e-3, site.study.digest()).epsilon
    assert 0.98 * 8.0 < spent <= 8.0
    raw, sequence = site.path(3).read_bytes(), site.budget.sequence
    monkeypatch.setattr(private_site, "train_privately", never)
    with pytest.raises(BudgetError, match="would exceed") as caught:
        site.update(4, seed=4)
    assert "last good model" in caught.value.remedy
    assert site.budget.sequence == sequence
    assert site.path(3).read_bytes() == raw
    assert not site.path(4).exists()
    assert equal(site.update(3, seed=3), last)


def test_sampled_rounds_stay_within_the_budget_too(opened: Open) -> None:
    site = opened(training={"batch_size": 8, "local_epochs": 1}, rounds=2)
    plan = site.private.plan
    assert (plan.units, plan.steps, plan.expected_batch) == (24, 3, 8.0)
    assert plan.sample_rate == pytest.approx(1 / 3)
    site.update(1)
    site.update(2)
    assert 0.98 * 8.0 < site.budget.spent(1e-3).epsilon <= 8.0
    with pytest.raises(BudgetError, match="would exceed"):
        site.update(3)


def test_the_noise_is_kept_when_a_begun_study_goes_on(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    site = opened("facmic")
    noise = site.private.plan.noise_multiplier
    assert noise == plan_of(site.study, 24).noise_multiplier
    site.update(1)
    monkeypatch.setattr(private_plan, "noise_multiplier_for", never)
    site.restart()
    assert site.private.plan.noise_multiplier == noise
    site.update(2)
    assert {charge.release.noise_multiplier for charge in site.budget.charges[1:]} == {noise}


def test_a_site_that_released_class_sums_alone_finds_the_same_noise(opened: Open) -> None:
    site = opened("facmic")
    noise = site.private.plan.noise_multiplier
    site.alignment(1)
    assert site.spent() == ["class-sums"]
    site.restart()
    assert site.private.plan.noise_multiplier == noise
    site.update(1)


def test_a_budget_of_another_unit_is_refused_before_training(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened()
    first.update(1)
    first.close()
    monkeypatch.setattr(private_site, "train_privately", never)
    other = opened(name="site-1", privacy={"unit": "record"})
    with pytest.raises(BudgetError, match="protects one patient, the study asks for one record"):
        other.update(1)


def test_plans_are_rehearsed_for_every_site(
    toy_study: Callable[..., Study], toy_data: Callable[..., StudyData]
) -> None:
    data = toy_data()
    rehearse_plans(toy_study(method="fedclip", **WHOLE, privacy=PRIVATE), data)
    with pytest.raises(StudyFileError, match="with 24 training units"):
        rehearse_plans(toy_study(method="fedclip", **WHOLE, privacy={**PRIVATE, "delta": 0.05}), data)
    loud = {**KINDS["facmic"], **WHOLE, "privacy": {**PRIVATE, "epsilon": 0.1, "class_noise": 1.0}}
    with pytest.raises(AccountError, match="beside them"):
        rehearse_plans(toy_study(**loud), data)


# --- what is sent, and what stays ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "changes", "blocks"),
    [
        ("fedclip", {}, {"adapter"}),
        ("facmic", {}, {"adapter"}),
        ("facmic, depth 8", {}, {"adapter"}),
        ("facmic by record", {}, {"adapter"}),
        ("faa-clip", {}, {"adapter"}),
        ("faa-clip by record", {}, {"adapter"}),
        (
            "faa-clip by record",
            {"faa_clip": {"normalisation": "layer", "domain_classifier": "shared"}},
            {"adapter", "domain"},
        ),
    ],
)
def test_an_update_is_trained_blocks_and_nothing_else(
    opened: Open, kind: str, changes: dict[str, Any], blocks: set[str]
) -> None:
    """No training loss, no statistics: neither is noised."""
    site = opened(kind, **changes)
    update = site.update(1)
    assert set(update.blocks) == blocks
    assert all(bool(values.any()) for values in update.blocks.values())
    assert all(bool(np.isfinite(values).all()) for values in update.blocks.values())


def test_the_classifier_stays_and_goes_on_where_it_was(opened: Open) -> None:
    site = opened("faa-clip by record")
    site.update(1)
    one = load(site.path(1).read_bytes())
    assert any(name.startswith("local.domain.") for name in one)
    assert float(one["moment.adapter.project_in.weight.step"]) == 2  # two passes of one batch
    site.update(2, seed=8)
    two = load(site.path(2).read_bytes())
    assert float(two["moment.domain.layers.0.weight.step"]) == 4
    moved = (two["local.domain.layers.0.weight"] - one["local.domain.layers.0.weight"]).abs().max()
    assert 0.0 < float(moved) < 0.01  # from where it was: a few steps of Adam


def test_two_sites_with_the_same_images_send_different_updates(opened: Open) -> None:
    one, other = opened("facmic", "site-1"), opened("facmic", "site-1", root="elsewhere")
    assert one.study.digest() == other.study.digest()
    assert not equal(one.update(1), other.update(1))


def test_streams_are_of_each_site_and_start_anew(opened: Open) -> None:
    one, other = opened(), opened(name="site-2")
    words = [site.private.stream.words(4).tolist() for site in (one, other)]
    one.restart()
    words.append(one.private.stream.words(4).tolist())
    assert len({tuple(each) for each in words}) == 3


def test_the_studys_seed_is_of_public_choices_alone(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    site, seeds = opened(), []

    def noted(*parts: Any) -> int:
        seeds.append(parts)
        return 5

    monkeypatch.setattr(trainer_module, "derive_seed", noted)
    first = site.update(1)
    other = opened(root="elsewhere")
    assert not equal(first, other.update(1))  # of one seed
    assert seeds == [(site.study.digest(), "site-1", site.study.seed, 1)] * 2


def test_only_what_a_resume_needs_is_kept_and_nothing_after_the_study(opened: Open) -> None:
    site = opened("facmic by record", rounds=4)
    for number in (1, 2, 3):
        site.update(number, seed=number)
    names = sorted(path.name for path in site.folder.iterdir())
    assert names == [
        "class-sums.safetensors",
        "fourier-1.safetensors",
        "update-00002.safetensors",
        "update-00003.safetensors",
    ]
    site.trainer.forget()
    assert list(site.folder.iterdir()) == []


# --- alignment -------------------------------------------------------------------------------------------------------


def test_class_sums_are_released_once(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    site = opened("facmic")
    first = site.alignment(1)
    raw = (site.folder / "class-sums.safetensors").read_bytes()
    assert site.sealed("class-sums") == hashlib.sha256(raw).hexdigest()
    monkeypatch.setattr(private_site, "noisy_class_sums", never)
    for number in (1, 2, 3):
        again = site.alignment(number, seed=number)
        assert torch.equal(again.proxies, first.proxies)
        assert torch.equal(again.shares, first.shares)
    site.restart()
    assert torch.equal(site.alignment(2).proxies, first.proxies)
    assert (site.folder / "class-sums.safetensors").read_bytes() == raw
    assert site.spent() == ["class-sums"]


@pytest.mark.parametrize("harm", ["gone", "changed"])
def test_class_sums_that_are_not_what_was_sealed_stop_the_site(opened: Open, harm: str) -> None:
    site = opened("facmic")
    site.update(1)
    path = site.folder / "class-sums.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.unlink() if harm == "gone" else path.write_bytes(raw)
    site.restart()
    with pytest.raises(BudgetError, match="class-sums"):
        site.update(2)
    assert site.spent() == ["class-sums", "round-1"]
    assert site.update(1).blocks  # what was trained with them is answered all the same


@pytest.mark.parametrize("kind", ["fedclip", "facmic, off", "faa-clip by record"])
def test_where_nothing_is_released_there_is_no_alignment(opened: Open, kind: str) -> None:
    site = opened(kind)
    assert site.alignment(1) is None
    assert site.spent() == []


def test_class_sums_of_a_patient_count_one(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    site, seen = opened("facmic"), []
    sums = private_site.noisy_class_sums

    def watched(vectors: Any, labels: Any, owners: Any, units: int, classes: int, **options: Any) -> Any:
        seen.append((owners.tolist(), units, classes, options["noise_std"], options["counts"]))
        return sums(vectors, labels, owners, units, classes, **options)

    monkeypatch.setattr(private_site, "noisy_class_sums", watched)
    site.alignment(1)
    assert seen == [(list(range(24)), 24, 3, 10.0, True)]


def test_every_release_has_the_noise_that_was_charged_for_it(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    site, made = opened("facmic by record", rounds=4, privacy=QUIET), []
    sums = private_site.noisy_class_sums

    def watched(*arguments: Any, **options: Any) -> Any:
        noisy = sums(*arguments, **options)
        made.append(noisy.release("fourier-sums" if len(made) else "class-sums"))
        return noisy

    monkeypatch.setattr(private_site, "noisy_class_sums", watched)
    site.update(1)
    site.alignment(3)
    charged = {charge.key: charge.release for charge in site.budget.charges}
    assert made == [charged["class-sums"], charged["fourier-1"], charged["fourier-3"]]
    assert charged["round-1"] == site.private.work.mechanism.release() == site.private.plan.round
    assert [release.noise_multiplier for release in made] == [0.5 / 2**0.5, 0.5 * 2**0.5, 0.5 * 2**0.5]


QUIET = {**PRIVATE, "epsilon": 1000.0, "class_noise": 0.5, "alignment": "per-record", "fourier_every": 2}


def test_the_fourier_gap_is_stored_and_stable_between_releases(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    site = opened("facmic by record", rounds=4, privacy=QUIET)
    first = site.alignment(1, seed=1)
    assert bool(first.gap.any())
    again = site.alignment(2, seed=2)  # another adapter: the gap is that of the one it was made with
    assert torch.equal(first.gap, again.gap)
    site.restart()
    assert torch.equal(site.alignment(2, seed=3).gap, first.gap)
    assert site.spent() == ["class-sums", "fourier-1"]
    later = site.alignment(3, seed=3)
    assert not torch.equal(later.gap, first.gap)
    assert torch.equal(site.alignment(4, seed=1).gap, later.gap)
    assert site.spent() == ["class-sums", "fourier-1", "fourier-3"]
    assert torch.equal(later.frequencies, first.frequencies)
    assert torch.equal(later.proxies, first.proxies)


def test_frequencies_are_equal_at_all_sites_and_gaps_are_not(opened: Open) -> None:
    one, other = (opened("facmic by record", name, privacy=QUIET) for name in ("site-1", "site-2"))
    first, second = one.alignment(1), other.alignment(1)
    assert torch.equal(first.frequencies, second.frequencies)
    assert not torch.equal(first.gap, second.gap)


def test_everything_is_charged_before_the_round_that_needs_it(opened: Open) -> None:
    site = opened("facmic by record", privacy=QUIET)
    site.update(1)
    site.update(2)
    site.update(3)
    assert site.spent() == ["class-sums", "fourier-1", "round-1", "round-2", "fourier-3", "round-3"]
    spent = site.budget.spent(1e-3).epsilon
    assert 0.98 * 1000.0 < spent <= 1000.0


def test_a_failed_release_beside_gradients_stops_the_rounds_that_need_it(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = opened("facmic")

    def fails(*_: object, **__: object) -> Any:
        raise MethodError("inside")

    with monkeypatch.context() as patched:
        patched.setattr(private_site, "noisy_class_sums", fails)
        with pytest.raises(MethodError):
            site.update(1)
    assert site.sealed("class-sums") == VOID
    with pytest.raises(BudgetError, match="class-sums failed"):
        site.update(1)
    assert site.spent() == ["class-sums"]  # no round was charged


def test_a_method_without_a_form_makes_no_private_site(
    opened: Open, toy_study: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = opened()
    other = method_of(toy_study(method="lora"))
    with pytest.raises(MethodError, match="no differentially private form"):
        make_site(site.study, other, site.data.sites[0].train, site.budget, site.folder)
    assert site.spent() == []


def test_a_site_shows_nothing_of_its_stream(opened: Open) -> None:
    site = opened()
    assert "SecretStream()" in repr(site.private)
    assert replace(site.private).stream is site.private.stream

"""A site's training across rounds: stored before it is given out, never trained twice, damage is not passed over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch import nn
from wardround.platform import trainer as module
from wardround.platform.adapters import State, state_of, under
from wardround.platform.consortium import layout_of
from wardround.platform.errors import CheckpointError
from wardround.platform.methods.faa_clip import FaaClip
from wardround.platform.methods.facmic import Facmic
from wardround.platform.methods.fedclip import FedClip
from wardround.platform.methods.method import SharedInputs, Step
from wardround.platform.trainer import PERSONAL_FILE, LocalTrainer
from wardround.platform.training import Carried, LocalResult, derive_seed, train_locally
from wardround.platform.update import BUFFERS, METRICS, Update, mean_step

SHA = {number: f"{number:02x}" * 32 for number in range(1, 9)}
Make = Callable[..., LocalTrainer]


@pytest.fixture
def make(toy_study, toy_data, tmp_path: Path) -> Make:  # type: ignore[no-untyped-def]
    def made(folder: str = "state", site: str = "site-1", name: str = "toy", **training: object) -> LocalTrainer:
        study, data, method = toy_study(name=name, training=training), toy_data(), Facmic()
        part, held_out = data.sites[0].train.training(), data.sites[0].validation.training()
        layout = layout_of(method, data.shared)
        return LocalTrainer(site, study, method, layout, part, held_out, data.shared, tmp_path / folder)

    return made


@pytest.fixture
def start(toy_data) -> State:  # type: ignore[no-untyped-def]
    return state_of(Facmic().new_module(toy_data().shared, seed=7))


def equal(left: Update, right: Update) -> bool:
    assert left.blocks.keys() == right.blocks.keys() == {"adapter", BUFFERS, METRICS}
    return all(np.array_equal(values, right.blocks[name]) for name, values in left.blocks.items())


def files(trainer: LocalTrainer) -> list[str]:
    return sorted(path.name for path in trainer.folder.iterdir())


def test_asked_again_it_gives_the_stored_update_and_does_not_train(
    make: Make, start: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make().update(1, start, SHA[1])

    def never(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(module, "train_locally", never)
    assert equal(first, make().update(1, start, SHA[1]))
    with pytest.raises(AssertionError, match="trained again"):
        make().update(1, start, SHA[2])  # another global adapter is another update


def test_the_update_is_on_disk_before_it_is_returned(make: Make, start: State, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError("no space")

    trainer = make()
    monkeypatch.setattr(module, "write_atomic", fails)
    with pytest.raises(OSError, match="no space"):
        trainer.update(1, start, SHA[1])


def test_a_resumed_site_equals_an_uninterrupted_one(make: Make, start: State) -> None:
    whole, stopped = make("whole"), make("stopped")
    for number in (1, 2, 3):
        expected = whole.update(number, start, SHA[number])
        stopped.update(number, start, SHA[number])
        assert equal(expected, make("stopped").update(number, start, SHA[number]))


def test_seeds_differ_by_round_site_and_study(make: Make, start: State) -> None:
    base = make("a", optimiser_state="reset")
    first = base.update(1, start, SHA[1])
    assert equal(first, make("b", optimiser_state="reset").update(1, start, SHA[1]))
    assert not equal(first, base.update(2, start, SHA[1]))
    assert not equal(first, make("c", site="site-2").update(1, start, SHA[1]))
    assert not equal(first, make("d", name="other").update(1, start, SHA[1]))


def test_moments_are_kept_or_reset(make: Make, start: State, monkeypatch: pytest.MonkeyPatch) -> None:
    # Another setting is another study, with seeds of its own; here only the moments are to differ.
    monkeypatch.setattr(module, "derive_seed", lambda digest, *parts: derive_seed(*parts))
    keeps, resets = make("keeps"), make("resets", optimiser_state="reset")
    assert equal(keeps.update(1, start, SHA[1]), resets.update(1, start, SHA[1]))
    assert not equal(keeps.update(2, start, SHA[2]), resets.update(2, start, SHA[2]))
    fresh = make("fresh")  # sat round 1 out: it starts round 2 with fresh moments, as one that resets does
    assert equal(fresh.update(2, start, SHA[2]), resets.update(2, start, SHA[2]))
    raw = (resets.folder / "update-00002.safetensors").read_bytes()
    assert b"moment." not in raw
    assert b"moment." in (keeps.folder / "update-00002.safetensors").read_bytes()


def test_only_what_a_resume_needs_is_kept(make: Make, start: State) -> None:
    trainer = make()
    for number in (1, 2, 3, 4):
        trainer.update(number, start, SHA[number])
    assert files(trainer) == ["update-00003.safetensors", "update-00004.safetensors"]
    assert trainer.folder.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in trainer.folder.iterdir())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0.0, 1.0, exclude_max=True), change=st.integers(1, 255))
def test_a_changed_byte_gives_an_error_or_changes_nothing(make: Make, start: State, place: float, change: int) -> None:
    trainer = make()
    first = trainer.update(1, start, SHA[1])
    path = trainer.folder / "update-00001.safetensors"
    sound = path.read_bytes()
    damaged = bytearray(sound)
    damaged[int(place * len(damaged))] ^= change
    path.write_bytes(damaged)
    refused = ""
    try:
        again = make().update(1, start, SHA[1])
    except CheckpointError as error:
        again, refused = None, error.where
    finally:
        path.write_bytes(sound)
    # White space of the header may become other white space; everything else is refused.
    assert equal(first, again) if again else refused == str(path)


@pytest.mark.parametrize("cut", [0, 7, 100, -1])
def test_a_torn_file_is_refused_and_deleting_it_helps(make: Make, start: State, cut: int) -> None:
    trainer = make()
    trainer.update(1, start, SHA[1])
    expected = trainer.update(2, start, SHA[2])
    path = trainer.folder / "update-00002.safetensors"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(CheckpointError, match="damaged") as caught:
        make().update(2, start, SHA[2])
    assert "backup" in caught.value.remedy
    assert "delete it" in caught.value.remedy
    assert "differs" in caught.value.remedy
    path.unlink()
    assert equal(expected, make().update(2, start, SHA[2]))


def test_damaged_moments_of_the_round_before_are_refused_too(make: Make, start: State) -> None:
    trainer = make()
    trainer.update(1, start, SHA[1])
    path = trainer.folder / "update-00001.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    with pytest.raises(CheckpointError, match="damaged"):
        trainer.update(2, start, SHA[2])
    path.unlink()
    assert trainer.update(2, start, SHA[2]).blocks["adapter"].any()


def test_a_foreign_safetensors_file_is_refused(make: Make, start: State) -> None:
    from safetensors.torch import save_file

    trainer = make()
    trainer.folder.mkdir()
    save_file({"a": torch.zeros(3)}, trainer.folder / "update-00001.safetensors")
    with pytest.raises(CheckpointError, match="damaged"):
        trainer.update(1, start, SHA[1])


# --- what stays at the site from round to round ----------------------------------------------------------------------


@dataclass(frozen=True)
class Anchored:
    """FedCLIP that asks for anchors and notes what it was given; everything else is FedCLIP's."""

    seen: list[State | None]
    base: FedClip = field(default_factory=FedClip)
    anchors: bool = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self.base, name)

    def loss(self, module: nn.Module, step: Step, shared: SharedInputs) -> torch.Tensor:
        self.seen.append(None if step.previous_module is None else dict(step.previous_module.named_parameters()))
        return self.base.loss(module, step, shared)


LOCAL_NORMS = FaaClip(normalisation="batch-local")
MakeOf = Callable[..., LocalTrainer]


@pytest.fixture
def make_of(toy_study, toy_data, tmp_path: Path) -> MakeOf:  # type: ignore[no-untyped-def]
    """``make_of(method, folder, **changes)``: the first site's trainer of any method."""

    def made(method: Any, folder: str = "state", **changes: Any) -> LocalTrainer:
        study, data = toy_study(method=method.name, **changes), toy_data()
        part, held_out = data.sites[0].train.training(), data.sites[0].validation.training()
        layout = layout_of(method, data.shared)
        return LocalTrainer("site-1", study, method, layout, part, held_out, data.shared, tmp_path / folder)

    return made


def start_of(trainer: LocalTrainer, seed: int) -> State:
    return trainer.layout.shared(state_of(trainer.method.new_module(trainer.shared, seed)))


def by_hand(trainer: LocalTrainer, number: int, start: State, carried: Carried) -> LocalResult:
    """What the trainer must have done in a round."""
    seed = derive_seed(trainer.study.digest(), trainer.site, trainer.study.seed, number)
    settings = trainer.study.training
    return train_locally(trainer.method, start, trainer.part, trainer.shared, settings, seed=seed, carried=carried)


def local_of(trainer: LocalTrainer, state: State) -> State:
    return {name: tensor for name, tensor in state.items() if under(name, trainer.method.local)}


def test_nothing_that_is_local_is_in_an_update(make_of: MakeOf) -> None:
    trainer = make_of(LOCAL_NORMS)
    update = trainer.update(1, start_of(trainer, 1), SHA[1])
    assert list(update.blocks) == ["adapter", METRICS]
    assert len(update.blocks["adapter"]) == 2 * (16 * 16 + 16)
    with safe_open(trainer.folder / "update-00001.safetensors", "pt") as stored:
        local = {name.removeprefix("local.") for name in stored.keys() if name.startswith("local.")}  # noqa: SIM118
    assert {"adapter.norm.weight", "adapter.norm.running_var", "domain.layers.6.bias"} <= local
    assert not any("project" in name for name in local)


def test_a_shared_classifier_is_a_block_and_a_local_one_is_not(make_of: MakeOf) -> None:
    for kind, blocks in (("local", {"adapter"}), ("shared", {"adapter", "domain"})):
        trainer = make_of(FaaClip(domain_classifier=kind), kind)  # type: ignore[arg-type]
        update = trainer.update(1, start_of(trainer, 1), SHA[1])
        assert update.blocks.keys() == blocks | {BUFFERS, METRICS}
        if kind == "shared":
            assert update.blocks["domain"].any()


@pytest.mark.parametrize("method", [FaaClip(), LOCAL_NORMS], ids=["classifier", "classifier and norms"])
def test_local_tensors_go_on_where_the_site_left_them(make_of: MakeOf, method: FaaClip) -> None:
    trainer, carried = make_of(method), Carried()
    for number in (1, 2, 3):
        start = start_of(trainer, number)  # what the others made of the adapter; it has no local tensors
        update = make_of(method).update(number, start, SHA[number])
        result = by_hand(trainer, number, start, carried)
        expected = Update.between(trainer.layout, start, result.state, result.loss)
        assert all(np.array_equal(update.blocks[name], values) for name, values in expected.blocks.items())
        carried = Carried(result.moments, local_of(trainer, result.state))


def test_after_a_round_that_the_site_sat_out_local_tensors_are_kept_and_moments_are_not(make_of: MakeOf) -> None:
    trainer = make_of(LOCAL_NORMS)
    first = by_hand(trainer, 1, start_of(trainer, 1), Carried())
    trainer.update(1, start_of(trainer, 1), SHA[1])
    update = trainer.update(4, start_of(trainer, 4), SHA[4])
    kept = Carried(None, local_of(trainer, first.state))
    result = by_hand(trainer, 4, start_of(trainer, 4), kept)
    expected = Update.between(trainer.layout, start_of(trainer, 4), result.state, result.loss)
    assert all(np.array_equal(update.blocks[name], values) for name, values in expected.blocks.items())
    anew = by_hand(trainer, 4, start_of(trainer, 4), Carried())
    assert anew.loss != result.loss
    assert files(trainer) == ["update-00004.safetensors"]


def test_anchors_get_the_sites_own_last_model_also_after_a_restart_and_a_round_off(make_of: MakeOf) -> None:
    seen: list[State | None] = []
    results: dict[int, State] = {}
    for number, expected in ((1, None), (2, 1), (4, 2)):  # it sat round 3 out
        trainer = make_of(Anchored(seen), rounds=4)
        seen.clear()
        start = start_of(trainer, number)
        update = trainer.update(number, start, SHA[number])
        assert seen
        for previous in seen:
            if expected is None:
                assert previous is None
            else:
                assert previous is not None
                assert previous.keys() == results[expected].keys()
                assert all(torch.equal(previous[name], results[expected][name]) for name in previous)
        moved = mean_step(trainer.layout, {"adapter": update.blocks["adapter"].astype(np.float64)})
        with safe_open(trainer.folder / f"update-{number:05d}.safetensors", "pt") as stored:
            results[number] = {name: stored.get_tensor(f"previous.{name}") for name in moved}
        for name, step in moved.items():
            torch.testing.assert_close(results[number][name], (start[name].double() + step).float())


def test_without_anchors_no_model_is_kept_from_round_to_round(make_of: MakeOf) -> None:
    trainer = make_of(FedClip())
    trainer.update(1, start_of(trainer, 1), SHA[1])
    raw = (trainer.folder / "update-00001.safetensors").read_bytes()
    assert b"previous." not in raw
    assert b"local." not in raw


@pytest.mark.parametrize(
    ("method", "optimiser_state", "needs"),
    [
        (FedClip(), "reset", False),
        (FedClip(), "keep", True),
        (Anchored([]), "reset", True),
        (FaaClip(), "reset", True),
        (FaaClip(domain_classifier="shared"), "reset", False),
    ],
)
def test_what_the_next_round_needs_is_missed_only_where_it_is_needed(
    make_of: MakeOf, method: Any, optimiser_state: str, needs: bool
) -> None:
    trainer = make_of(method, training={"optimiser_state": optimiser_state})
    assert trainer.keeps(1) == (not needs)
    trainer.update(1, start_of(trainer, 1), SHA[1])
    assert trainer.keeps(1)


# --- the site's own model after the study ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", [FedClip(), Facmic(), FaaClip(), Facmic(normalisation="layer")])
def test_where_nothing_is_local_and_nothing_tuned_there_is_no_model_of_the_sites_own(
    make_of: MakeOf, method: Any
) -> None:
    trainer = make_of(method)
    trainer.update(3, start_of(trainer, 3), SHA[3])
    assert not trainer.has_personal
    trainer.keep_personal(start_of(trainer, 9))
    assert trainer.personal_state() is None
    assert files(trainer) == ["update-00003.safetensors"]


@pytest.mark.parametrize("method", [Facmic(normalisation="batch-local"), LOCAL_NORMS])
def test_with_norms_of_its_own_it_is_the_final_adapter_with_the_sites_norms(make_of: MakeOf, method: Any) -> None:
    trainer = make_of(method)
    result = by_hand(trainer, 3, start_of(trainer, 3), Carried())
    trainer.update(3, start_of(trainer, 3), SHA[3])
    final = start_of(trainer, 9)
    trainer.keep_personal(final)
    own = trainer.personal_state()
    assert own is not None
    expected = {**final, **local_of(trainer, result.state)}
    assert own.keys() == expected.keys() == state_of(method.new_module(trainer.shared, 0)).keys()
    assert all(torch.equal(own[name], expected[name]) for name in expected)
    assert (trainer.folder / PERSONAL_FILE).stat().st_mode & 0o777 == 0o600


def test_a_site_that_never_trained_has_the_final_adapter(make_of: MakeOf) -> None:
    trainer = make_of(LOCAL_NORMS)
    trainer.folder.mkdir()
    final = start_of(trainer, 9)
    trainer.keep_personal(final)
    own = trainer.personal_state()
    assert own is not None
    assert own.keys() == final.keys()
    assert all(torch.equal(own[name], final[name]) for name in final)


@pytest.mark.parametrize("method", [FedClip(), FedClip(head=True), Facmic(), LOCAL_NORMS, Anchored([])])
def test_fine_tuning_starts_at_the_final_adapter_and_leaves_it_alone(make_of: MakeOf, method: Any) -> None:
    trainer = make_of(method, personalisation={"fine_tune_epochs": 2}, training={"local_epochs": 1})
    trainer.update(3, start_of(trainer, 3), SHA[3])
    carried = trainer._carried(3)
    final = start_of(trainer, 9)
    before = {name: tensor.clone() for name, tensor in final.items()}
    trainer.keep_personal(final)
    assert all(torch.equal(final[name], before[name]) for name in before)
    own = trainer.personal_state()
    assert own is not None
    expected = train_locally(  # for this site's own patients: it is aligned to nobody else's
        method,
        final,
        trainer.part,
        replace(trainer.shared, reference=torch.zeros((0, 16))),
        trainer.study.training.model_copy(update={"local_epochs": 2}),
        seed=derive_seed(trainer.study.digest(), "site-1", trainer.study.seed, "fine-tuning"),
        carried=Carried(None, carried.local, carried.previous),
        held_out=trainer.held_out,
    )
    assert float(expected.moments["adapter.project_in.weight.step"]) == 2 * 3  # two passes, three batches each
    assert own.keys() == expected.state.keys()
    assert all(torch.equal(own[name], expected.state[name]) for name in own)
    assert any(not torch.equal(own[name], final[name]) for name in final)


def test_the_sites_own_model_is_made_once(make_of: MakeOf, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_of(FedClip(), personalisation={"fine_tune_epochs": 1})
    trainer.update(3, start_of(trainer, 3), SHA[3])
    trainer.keep_personal(start_of(trainer, 9))
    made = (trainer.folder / PERSONAL_FILE).read_bytes()

    def never(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(module, "train_locally", never)
    trainer.forget()
    again = make_of(FedClip(), personalisation={"fine_tune_epochs": 1})
    again.keep_personal(start_of(trainer, 9))
    assert (trainer.folder / PERSONAL_FILE).read_bytes() == made
    assert files(trainer) == [PERSONAL_FILE]


def test_a_damaged_model_of_the_sites_own_is_refused(make_of: MakeOf) -> None:
    trainer = make_of(FedClip(), personalisation={"fine_tune_epochs": 1})
    trainer.update(3, start_of(trainer, 3), SHA[3])
    trainer.keep_personal(start_of(trainer, 9))
    path = trainer.folder / PERSONAL_FILE
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    with pytest.raises(CheckpointError, match="own model is damaged") as caught:
        trainer.personal_state()
    assert caught.value.where == str(path)
    assert "backup" in caught.value.remedy
    assert "trains that round again" not in caught.value.remedy  # its updates are forgotten: nothing is trained again

"""A private round: what one unit can change, what the batch's size cannot, and where randomness comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from wardround.platform import domain, private_training
from wardround.platform.adapters import State
from wardround.platform.errors import MethodError
from wardround.platform.lmmd import lmmd
from wardround.platform.methods.adapted_clip import clip_of
from wardround.platform.methods.faa_clip import FaaClip
from wardround.platform.methods.facmic import Facmic
from wardround.platform.methods.fedclip import FedClip
from wardround.platform.methods.method import SharedInputs, TrainingPart
from wardround.platform.methods.moon import Moon
from wardround.platform.methods.private import (
    Alignment,
    ClassPrompt,
    FaaClipByProxies,
    FacmicByProxies,
    PrivateForm,
    PublicStep,
)
from wardround.platform.methods.private_prompts import PromptsByJacobian
from wardround.platform.methods.private_records import FaaClipJointly, FacmicByFourier
from wardround.platform.private_training import check_form, private_form, public_subspace, train_privately
from wardround.platform.training import Carried, LocalResult, one_thread, optimiser_of
from wardround.privacy.differential_privacy.clipping import ClippedSum
from wardround.privacy.differential_privacy.randomness import SecretStream
from wardround.privacy.differential_privacy.units import Units
from wardround.privacy.errors import MechanismError

from .private_steps import HIDDEN, KINDS, Private, Scripted, flat, private

CLIP = 0.5
ADAPTED = ("facmic", "facmic, depth 8", "faa-clip", "faa-clip, depth 8")
PUBLIC = (*ADAPTED, "faa-clip by record", "faa-clip by record, depth 8")


@pytest.fixture(autouse=True)
def small_and_alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A small classifier, and one thread: several of them wait for one another where other work shares the cores."""
    monkeypatch.setattr(domain, "HIDDEN", HIDDEN)
    with one_thread():
        yield


@dataclass
class Watched:
    """A form that notes what it is asked, and the gradient of its public loss; everything else is the form's own."""

    form: PrivateForm
    batches: list[TrainingPart] = field(default_factory=list)
    sums: list[ClippedSum] = field(default_factory=list)
    steps: list[PublicStep] = field(default_factory=list)
    public: list[dict[str, Tensor]] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.form, name)

    def clipped(self, module: nn.Module, batch: TrainingPart, *more: Any) -> ClippedSum:
        found = self.form.clipped(module, batch, *more)
        self.batches.append(batch)
        self.sums.append(ClippedSum({name: g.clone() for name, g in found.gradients.items()}, found.dropped))
        return found

    def public_loss(
        self, module: nn.Module, step: PublicStep, shared: SharedInputs, alignment: Alignment | None
    ) -> Tensor | None:
        self.steps.append(step)
        loss = self.form.public_loss(module, step, shared, alignment)
        named = dict(module.named_parameters())
        found = [None] * len(named)
        if loss is not None:
            found = list(torch.autograd.grad(loss, list(named.values()), retain_graph=True, allow_unused=True))
        self.public.append({n: g for n, g in zip(named, found, strict=True) if g is not None})
        return loss


@dataclass
class Round:
    """What a round was, step by step: the gradients that the optimiser was handed, and what the form was asked."""

    handed: list[dict[str, Tensor]]
    form: Watched
    result: LocalResult


Run = Callable[..., Round]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """``run(case, units, stream, start=…, part=…, alignment=…, seed=…, **plan)``: one private round, watched.

    As within one process, a test's first round probes the form, and the others do not.
    """
    probed: set[str] = set()

    def ran(
        case: Private,
        units: Units,
        stream: SecretStream,
        *,
        start: State | None = None,
        part: TrainingPart | None = None,
        alignment: Alignment | None = None,
        seed: int = 1,
        carried: Carried | None = None,
        **plan: Any,
    ) -> Round:
        handed: list[dict[str, Tensor]] = []

        def watched(module: nn.Module, *more: Any) -> torch.optim.Adam:
            optimiser = optimiser_of(module, *more)

            def note(*_: Any) -> None:
                handed.append({n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None})

            optimiser.register_step_pre_hook(note)
            return optimiser

        monkeypatch.setattr(private_training, "optimiser_of", watched)
        form = Watched(case.form)
        work = replace(case.work(units, **plan), form=form, probed=probed)  # type: ignore[arg-type]
        result = train_privately(
            work,
            case.method,
            case.start() if start is None else start,
            case.part if part is None else part,
            case.shared,
            case.study,
            seed=seed,
            stream=stream,
            carried=carried,
            alignment=case.alignment if alignment is None else alignment,
        )
        return Round(handed, form, result)

    return ran


def single(kind: str, rows: int = 12, *, seed: int = 0, directions: int = 32, **more: Any) -> Private:
    """In float32, as sites train."""
    privacy = {"clip": CLIP, "directions": directions, "records_per_unit": 12}
    if kind == "prompt-fl":
        del privacy["directions"]
    return private(kind, rows, seed=seed, dtype=torch.float32, privacy={**privacy, **more.pop("privacy", {})}, **more)


# --- sensitivity -----------------------------------------------------------------------------------------------------


def crafted(case: Private, how: str, seed: int) -> tuple[State, TrainingPart, Alignment | None]:
    """A start, rows and an alignment that try to make one unit count for more than the clip."""
    start, alignment = case.start(seed), case.alignment
    features, labels = case.part.inputs.clone(), case.part.labels.clone()
    match how:
        case "hostile weights":
            start = {n: t * (4.0 if "weight" in n or "vectors" in n else 1.0) for n, t in start.items()}
        case "huge gamma":  # what a norm makes huge, the next layer makes small again: steep, and not saturated
            grown = ("norm.weight", "norm_between.weight", "layers.1.weight", "layers.4.weight", "project_in.weight")
            shrunk = ("project_between.weight", "project_out.weight", "layers.3.weight", "layers.6.weight")
            start = {
                n: t * (1e4 if n.endswith(grown) else 1e-4 if n.endswith(shrunk) else 1.0) for n, t in start.items()
            }
        case "flat features":  # variance next to nothing: LayerNorm's gradients are as steep as they can be
            start = {n: t * (1e-6 if "project_in" in n or "layers.0" in n else 1.0) for n, t in start.items()}
        case "opposing rows":  # rows of one unit that pull against each other, and against everybody else
            features[1::2], features[::2] = features[1], features[0]
            labels = torch.arange(len(labels)) % 2
        case "alike":
            features[:], labels[:] = features[2], 1
            features[0], labels[0] = -features[2], 0
        case "hostile alignment":
            if alignment is not None:
                shares = torch.full_like(alignment.shares, 1e-6)
                alignment = replace(alignment, shares=shares, gap=alignment.gap * 1e4)
    return start, TrainingPart(features, labels), alignment


CRAFTS = (
    "random",
    "hostile weights",
    "huge gamma",
    "flat features",
    "opposing rows",
    "alike",
    "hostile alignment",
)
PATIENTS = [0, 0, 1, 1, 1, 2, 3, 3, 3, 3, 4, 5]


def without(part: TrainingPart, units: Units, unit: int) -> tuple[TrainingPart, Units]:
    """The unit's rows are gone, its slot stays."""
    kept = units.owners != unit
    rows = torch.from_numpy(np.flatnonzero(kept))
    return TrainingPart(part.inputs[rows], part.labels[rows]), Units(units.owners[kept], units.count)


def handed_change(first: Round, second: Round, expected: float) -> float:
    """Norm of the change of the gradients that the optimiser was handed in the first step, before normalisation."""
    one, other = first.handed[0], second.handed[0]
    assert set(one) == set(other)
    return float((flat(one) - flat(other)).norm()) * expected


@pytest.mark.parametrize("how", CRAFTS)
@pytest.mark.parametrize("kind", KINDS)
def test_one_unit_changes_what_the_optimiser_is_handed_by_the_clip_at_most(run: Run, kind: str, how: str) -> None:
    largest = 0.0
    for owners, directions in ((PATIENTS, 32), (list(range(12)), 0), (PATIENTS, 3))[: 3 if how == "random" else 2]:
        case = single(kind, directions=directions)
        units, chosen = Units(np.array(owners), max(owners) + 1), [0, 1, 3, 4]
        start, part, alignment = crafted(case, how, seed=directions)
        common: dict[str, Any] = {"start": start, "alignment": alignment}
        whole = run(case, units, Scripted(chosen), part=part, **common)
        for unit in chosen[:2]:
            fewer, slots = without(part, units, unit)
            alone = run(case, slots, Scripted(chosen), part=fewer, **common)
            change = handed_change(whole, alone, units.count / 2)
            assert change <= CLIP * (1.0 + 1e-4)
            largest = max(largest, change / CLIP)
            # What is public is the same, bit for bit.
            assert whole.form.steps[0].expected == alone.form.steps[0].expected
            for rows in ("reference_rows", "proxy_rows"):
                assert torch.equal(getattr(whole.form.steps[0], rows), getattr(alone.form.steps[0], rows))
            assert whole.form.public[0].keys() == alone.form.public[0].keys()
            assert all(torch.equal(g, alone.form.public[0][n]) for n, g in whole.form.public[0].items())
            assert bool(whole.form.public[0]) == (kind in PUBLIC)
    print(f"{kind}, {how}: {largest:.4f} of the clip")
    assert largest > 0.5  # the toy is not blind: somebody is clipped


@settings(max_examples=25, deadline=None)
@given(kind=st.sampled_from(sorted(KINDS)), seed=st.integers(0, 2**16), data=st.data())
def test_one_unit_changes_any_clipped_sum_by_the_clip_at_most(kind: str, seed: int, data: st.DataObject) -> None:
    """Over random adapters, owners and samples, in float64: the sums themselves, without a round around them."""
    case = private(kind, 9, seed=seed)
    module = case.module(seed)
    owners = torch.tensor(data.draw(st.lists(st.integers(0, 4), min_size=9, max_size=9)))
    clip = 10.0 ** data.draw(st.floats(-3, 1))
    rows = torch.arange(9)

    def total(kept: Tensor) -> Tensor:
        part = TrainingPart(case.part.inputs[kept], case.part.labels[kept])
        return flat(case.form.clipped(module, part, owners[kept], 5, clip, case.shared, case.alignment, 4).gradients)

    whole = total(rows)
    for unit in range(5):
        assert float((whole - total(rows[owners != unit])).norm()) <= clip * (1.0 + 1e-9)


def test_the_rows_of_a_unit_beyond_the_most_are_left_out(run: Run) -> None:
    case = single("fedclip", privacy={"records_per_unit": 2})
    units = Units(np.array([0] * 7 + [1] * 5), 2)
    found = run(case, units, Scripted([0, 1]))
    assert len(found.form.batches[0].labels) == 4
    fewer, slots = without(case.part, units, 1)  # the last unit: what is drawn for the one before it stays the same
    alone = run(case, slots, Scripted([0, 1]), part=fewer)
    assert len(alone.form.batches[0].labels) == 2
    assert handed_change(found, alone, 1.0) <= CLIP * (1.0 + 1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_handed_is_the_sum_over_the_expected_batch_and_the_public_gradient(run: Run, kind: str) -> None:
    case = single(kind, directions=0)
    found = run(case, Units.records(12), Scripted([0, 2, 3, 7]), expected_batch=5.0)
    step, public = found.form.steps[0], found.form.public[0]
    weight = case.form.public_weight(5) * CLIP
    size = float(flat(public).norm()) if public else 0.0
    held = min(1.0, weight / (size + 1e-6)) if public else 0.0  # the public gradient is held to the clip's measure
    assert step.expected == 5
    assert set(found.form.sums[0].gradients) == set(case.form.noised(case.module()))
    for name, gradient in found.handed[0].items():
        private_part = found.form.sums[0].gradients.get(name, torch.zeros_like(gradient)) / 5.0
        public_part = public.get(name, torch.zeros_like(gradient)) * held
        torch.testing.assert_close(gradient, (private_part + public_part).to(gradient), rtol=1e-4, atol=1e-7)
    if public:
        assert size * held <= weight * (1 + 1e-5)


# --- nothing of the batch's size -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_public_rows_are_as_many_whatever_was_drawn(run: Run, kind: str) -> None:
    case, units = single(kind), Units.records(12)
    found = run(case, units, Scripted([], [3], list(range(12))), steps=3, expected_batch=6.0)
    expected = 6 if len(case.shared.reference) else 0
    assert [len(step.reference_rows) for step in found.form.steps] == [expected] * 3
    assert [len(step.proxy_rows) for step in found.form.steps] == [0 if case.alignment is None else 6] * 3
    assert [step.expected for step in found.form.steps] == [6, 6, 6]
    assert [len(batch.labels) for batch in found.form.batches] == [0, 1, 12]
    assert len(found.handed) == 3  # an empty batch takes its step too


def test_what_a_small_set_has_no_rows_for_is_not_made_up(run: Run) -> None:
    case = single("facmic")
    case = replace(case, shared=replace(case.shared, reference=case.shared.reference[:4], reference_labels=None))
    found = run(case, Units.records(12), Scripted([0], list(range(12))), steps=2, expected_batch=6.0)
    assert [len(step.reference_rows) for step in found.form.steps] == [4, 4]


@pytest.mark.parametrize("kind", KINDS)
def test_the_stream_is_asked_alike_in_every_step(run: Run, kind: str) -> None:
    case, stream = single(kind), Scripted([1, 2])
    run(case, Units(np.array(PATIENTS), 6), stream, steps=4, sample_rate=0.375)
    assert stream.asked == [(6, 0.375)] * 4


@pytest.mark.parametrize("kind", ["fedclip", "facmic", "faa-clip by record", "prompt-fl"])
def test_an_empty_batch_takes_a_noisy_step(run: Run, kind: str) -> None:
    case = single(kind, directions=0)
    found = run(case, Units.records(12), Scripted([], noise=True), noise_multiplier=2.0, expected_batch=4.0, steps=3)
    names = case.form.noised(case.module())
    for step, public in zip(found.handed, found.form.public, strict=True):
        held = min(1.0, case.form.public_weight(4) * CLIP / (float(flat(public).norm()) + 1e-6)) if public else 0.0
        noise = torch.cat([(step[n] - held * public.get(n, torch.zeros(()))).flatten().double() for n in sorted(names)])
        assert bool((noise != 0).all())
        # Standard deviation noise_multiplier * clip / expected batch = 0.25, whatever was drawn.
        assert float(noise.std()) == pytest.approx(0.25, rel=5 / len(noise) ** 0.5)
        assert abs(float(noise.mean())) < 5 * 0.25 / len(noise) ** 0.5
    assert any(not torch.equal(found.result.state[n], case.start()[n]) for n in names)


def test_noise_is_fresh_in_every_step(run: Run) -> None:
    found = run(single("fedclip"), Units.records(12), Scripted([], noise=True), noise_multiplier=1.0, steps=3)
    first, second, third = (flat(step) for step in found.handed)
    assert not bool((first == second).any())
    assert not bool((second == third).any())


def test_the_directions_take_noise_away(run: Run) -> None:
    sizes = {}
    for directions in (0, 2, 12):
        case = single("facmic", directions=directions)
        found = run(case, Units.records(12), Scripted([], noise=True), noise_multiplier=1.0)
        public = found.form.public[0]
        held = min(1.0, case.form.public_weight(6) * CLIP / (float(flat(public).norm()) + 1e-6))
        sizes[directions] = float((flat(found.handed[0]) - held * flat(public)).norm())
    assert sizes[2] < 0.5 * sizes[0]
    assert sizes[12] == pytest.approx(sizes[0], rel=1e-3)  # every direction of the toy


# --- randomness ------------------------------------------------------------------------------------------------------


def same(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("kind", KINDS)
def test_two_runs_with_one_seed_differ(run: Run, kind: str) -> None:
    case, plan = single(kind), {"noise_multiplier": 1.0, "steps": 2}
    one, other = (run(case, Units.records(12), SecretStream(), seed=3, **plan).result.state for _ in range(2))
    assert not same(one, other)


def test_what_is_drawn_does_not_depend_on_the_seed(run: Run) -> None:
    """With one key, rounds of different seeds are equal bit for bit: the seed chooses public rows and nothing else."""
    case, plan = single("fedclip"), {"noise_multiplier": 1.0, "steps": 3}
    torch.manual_seed(1)
    one = run(case, Units.records(12), SecretStream(bytes(32)), seed=1, **plan)
    torch.manual_seed(2)
    np.random.seed(2)
    other = run(case, Units.records(12), SecretStream(bytes(32)), seed=2, **plan)
    assert same(one.result.state, other.result.state)
    assert [b.labels.tolist() for b in one.form.batches] == [b.labels.tolist() for b in other.form.batches]
    third = run(case, Units.records(12), SecretStream(bytes(31) + b"1"), seed=1, **plan)
    assert not same(one.result.state, third.result.state)


@pytest.mark.parametrize("kind", ["facmic", "faa-clip by record"])
def test_the_seed_chooses_public_rows_and_nothing_secret(run: Run, kind: str) -> None:
    case, plan = single(kind), {"noise_multiplier": 1.0, "steps": 1}
    one, other = (run(case, Units.records(12), SecretStream(bytes(32)), seed=seed, **plan) for seed in (1, 2))
    assert not torch.equal(one.form.steps[0].reference_rows, other.form.steps[0].reference_rows)
    assert [b.labels.tolist() for b in one.form.batches] == [b.labels.tolist() for b in other.form.batches]
    assert same(one.form.sums[0].gradients, other.form.sums[0].gradients)


def test_units_are_drawn_with_the_sample_rate(run: Run) -> None:
    case = single("fedclip", 60)
    found = run(case, Units.records(60), SecretStream(), steps=200, sample_rate=0.25, noise_multiplier=1.0)
    drawn = [len(batch.labels) for batch in found.form.batches]
    assert np.mean(drawn) == pytest.approx(15.0, abs=5 * np.sqrt(60 * 0.25 * 0.75 / 200))
    assert np.var(drawn) == pytest.approx(60 * 0.25 * 0.75, rel=0.6)  # Poisson by unit: the size is not constant


# --- the round -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["fedclip", "facmic", "faa-clip", "prompt-fl"])
def test_moments_go_on_and_the_start_is_left_alone(run: Run, kind: str) -> None:
    case = single(kind)
    start = case.start()
    before = {name: tensor.clone() for name, tensor in start.items()}
    first = run(case, Units.records(12), Scripted([0, 1]), start=start, steps=2)
    assert same(before, start)
    second = run(case, Units.records(12), Scripted([0, 1]), steps=3, carried=Carried(first.result.moments))
    name = next(iter(case.form.noised(case.module())))
    assert float(first.result.moments[f"{name}.step"]) == 2
    assert float(second.result.moments[f"{name}.step"]) == 5


def test_a_proximal_term_pulls_to_what_was_received(run: Run) -> None:
    case = single("fedclip", directions=0, training={"proximal": 3.0})
    found = run(case, Units.records(12), Scripted([0, 1]), steps=2)
    start = case.start()
    moved = {n: (p - start[n]) for n, p in found.result.state.items()}
    assert all(bool(delta.any()) for delta in moved.values())
    plain = run(single("fedclip", directions=0), Units.records(12), Scripted([0, 1]), steps=2)
    assert same(found.handed[0], plain.handed[0])  # at the start there is nothing to pull
    assert not same(found.handed[1], plain.handed[1])


def test_no_training_loss_comes_out(run: Run) -> None:
    assert run(single("fedclip"), Units.records(12), Scripted([0, 1])).result.loss == 0.0


def test_an_observer_sees_the_noisy_sums(run: Run) -> None:
    case, seen = single("fedclip"), []
    work = case.work(Units.records(12), steps=2, expected_batch=4.0)
    train_privately(
        work, case.method, case.start(), case.part, case.shared, case.study, seed=1, stream=Scripted([0, 5]),
        observer=lambda index, module, sums: seen.append((index, {n: g.clone() for n, g in sums.items()})),
    )  # fmt: skip
    found = run(case, Units.records(12), Scripted([0, 5]), steps=2, expected_batch=4.0)
    assert [index for index, _ in seen] == [0, 1]
    for (_, sums), expected in zip(seen, found.form.sums, strict=True):
        for name, gradient in expected.gradients.items():
            torch.testing.assert_close(sums[name], gradient, rtol=1e-5, atol=1e-6)


def test_parameters_that_are_not_finite_are_refused(run: Run) -> None:
    case = single("facmic", directions=0)
    assert case.alignment is not None
    with pytest.raises(MethodError, match="not finite") as caught:
        run(
            case,
            Units.records(12),
            Scripted([0, 1]),
            alignment=replace(case.alignment, proxies=torch.full((9, 12), torch.nan)),
        )
    assert "lr" in caught.value.remedy


@pytest.mark.parametrize("value", [1e30, -1e38])
def test_a_hostile_adapter_gives_a_step_or_an_error_that_the_site_can_answer(run: Run, value: float) -> None:
    """Whatever finite numbers the coordinator sends."""
    for kind in ("fedclip", "facmic", "facmic by record", "faa-clip", "faa-clip by record", "prompt-fl"):
        case = single(kind)
        start = {name: torch.full_like(tensor, value) for name, tensor in case.start().items()}
        ended: State | str
        try:
            ended = run(case, Units.records(12), Scripted([0, 1]), start=start).result.state
        except (MethodError, MechanismError) as error:
            ended = error.what
        told = isinstance(ended, str) and bool(ended)
        assert told or all(bool(torch.isfinite(tensor).all()) for tensor in dict(ended).values()), kind


def test_it_learns_with_little_noise(run: Run) -> None:
    """Of the toy's classes, which lie at random: the loss of its own rows falls."""
    case = single("facmic", 24, directions=0, training={"lr": 5e-3})
    units = Units.records(24)

    def loss(state: State) -> float:
        module = case.method.new_module(case.shared, 0)
        module.load_state_dict(state)
        return float(case.form.losses(module, case.part, case.shared, None, 24).detach().mean())

    start = case.method.new_module(case.shared, 5).state_dict()
    plan = {"noise_multiplier": 0.1, "steps": 150, "sample_rate": 0.5, "expected_batch": 12.0}
    end = run(case, units, SecretStream(bytes(32)), start=start, **plan).result.state
    assert loss(end) < 0.7 * loss(start)


# --- forms -----------------------------------------------------------------------------------------------------------


FORMS = {
    "fedclip": ClassPrompt,
    "facmic": FacmicByProxies,
    "facmic, depth 8": FacmicByProxies,
    "facmic, off": ClassPrompt,
    "facmic by record": FacmicByFourier,
    "facmic by record, depth 8": FacmicByFourier,
    "faa-clip": FaaClipByProxies,
    "faa-clip, depth 8": FaaClipByProxies,
    "faa-clip by record": FaaClipJointly,
    "faa-clip by record, depth 8": FaaClipJointly,
    "prompt-fl": PromptsByJacobian,
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_study_has_the_form_that_it_asks_for(kind: str) -> None:
    case = private(kind)
    assert type(private_form(case.method, case.study)) is FORMS[kind]


def test_a_method_without_a_form_is_refused() -> None:
    with pytest.raises(MethodError, match="no differentially private form") as caught:
        private_form(Moon(), private("fedclip").study)
    assert "facmic" in caught.value.remedy


@pytest.mark.parametrize("kind", KINDS)
def test_every_form_passes_its_own_check(kind: str) -> None:
    case = single(kind)
    check_form(case.form, case.module(dtype=torch.float32), case.shared, case.alignment)


@dataclass(frozen=True)
class InBatch(ClassPrompt):
    """LMMD of the batch itself in every row's loss: illegal."""

    def losses(self, module: nn.Module, batch: TrainingPart, shared: SharedInputs, *more: Any) -> Tensor:
        adapted = clip_of(module).adapter.adapt(batch.inputs)
        sure = torch.eye(4)[torch.arange(24) % 4]
        return self._row_losses(adapted, batch, shared) + lmmd(adapted, batch.labels, shared.reference, sure)


@dataclass(frozen=True)
class BatchMean(ClassPrompt):
    """A loss divided by how many were drawn: illegal."""

    def losses(self, module: nn.Module, batch: TrainingPart, shared: SharedInputs, *more: Any) -> Tensor:
        adapted = clip_of(module).adapter.adapt(batch.inputs)
        return self._row_losses(adapted, batch, shared) / len(batch.labels)


@pytest.mark.parametrize("form", [InBatch(), BatchMean()])
def test_a_form_that_couples_rows_is_refused_before_the_first_step(form: ClassPrompt) -> None:
    case = replace(single("facmic"), form=form)
    stream = Scripted([0, 1])
    with pytest.raises(MechanismError, match="depends on who else is in the batch"):
        train_privately(
            case.work(Units.records(12)), case.method, case.start(), case.part, case.shared, case.study,
            seed=1, stream=stream, alignment=case.alignment,
        )  # fmt: skip
    assert stream.asked == []


@pytest.mark.parametrize("method", [Facmic(), FaaClip(), Facmic(normalisation="batch-local")], ids=lambda m: m.name)
def test_batch_norm_is_refused_whatever_the_study_says(method: Any) -> None:
    case = single("fedclip")
    module = method.new_module(case.shared, 0)
    with pytest.raises(MechanismError, match="LayerNorm"):
        check_form(ClassPrompt(), module, case.shared, None)


# --- directions ------------------------------------------------------------------------------------------------------


def test_without_public_rows_there_are_no_directions() -> None:
    case = single("fedclip")
    module = case.module(dtype=torch.float32)
    nobody = replace(case.shared, reference=case.shared.reference[:0], reference_labels=None)
    assert public_subspace(case.form, module, nobody, None, 32) is None
    assert public_subspace(case.form, module, case.shared, None, 0) is None
    assert public_subspace(case.form, module, case.shared, None, 32) is not None
    prompts = single("prompt-fl")
    assert public_subspace(prompts.form, prompts.module(), case.shared, None, 32) is None


def test_directions_follow_public_rows_and_proxies_alone() -> None:
    case = single("facmic")
    module, alignment = case.module(dtype=torch.float32), case.alignment
    assert alignment is not None
    one, again = (public_subspace(case.form, module, case.shared, alignment, 2) for _ in range(2))
    other = public_subspace(case.form, module, case.shared, replace(alignment, proxies=-alignment.proxies), 2)
    assert one is not None
    assert again is not None
    assert other is not None
    assert same(one.left, again.left)
    assert same(one.right, again.right)
    assert not same(one.right, other.right)


def test_a_large_public_set_is_thinned() -> None:
    case, seen = single("fedclip"), []
    large = replace(case.shared, reference=case.shared.reference.repeat(100, 1), reference_labels=None)

    class Counting(ClassPrompt):
        def losses(self, module: nn.Module, batch: TrainingPart, *more: Any) -> Tensor:
            seen.append(len(batch.labels))
            return ClassPrompt.losses(self, module, batch, *more)

    public_subspace(Counting(), case.module(dtype=torch.float32), large, None, 4)
    assert seen == [256 * 4]  # each row with every class as its label


def test_a_fedclip_temperature_gets_no_gradient_at_all(run: Run) -> None:
    case = replace(single("fedclip"), method=FedClip(head=True))
    found = run(case, Units.records(12), Scripted([0, 1]), noise_multiplier=0.0)
    assert "log_temperature" not in found.handed[0]
    assert torch.equal(found.result.state["log_temperature"], case.start()["log_temperature"])

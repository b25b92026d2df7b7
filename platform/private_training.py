"""One site's local work in one round under differential privacy.

Each step draws units by Poisson sampling, clips what each gives, adds noise to the sum and Adam takes the noisy mean.
Sampling and noise come from the operating system's randomness, so two runs differ. Whatever else decides anything here
(number of steps, rows of the public part, weights) follows from the study and from public counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from ..privacy.differential_privacy.clipping import check_independent
from ..privacy.differential_privacy.mechanism import TrainingMechanism
from ..privacy.differential_privacy.randomness import SecretStream
from ..privacy.differential_privacy.subspace import Subspace
from ..privacy.differential_privacy.units import Units
from .adapters import state_of
from .config import Study
from .errors import MethodError
from .methods.faa_clip import FaaClip
from .methods.facmic import Facmic
from .methods.fedclip import FedClip
from .methods.method import Method, SharedInputs, TrainingPart
from .methods.private import Alignment, PrivateForm, PublicStep, plain_form, refuse_form
from .methods.private_prompts import PromptsByJacobian
from .methods.private_records import FaaClipJointly, FacmicByFourier
from .methods.prompt_fl import PromptFl
from .private_plan import PrivatePlan
from .training import Carried, LocalResult, module_from, moments_of, one_thread, optimiser_of, reference_rows

PUBLIC_ROWS = 256  # that say where gradients lie
PROBED = 16  # drawn rows on which a form's independence is checked

Observer = Callable[[int, nn.Module, Mapping[str, Tensor]], None]
"""Told of each step: its index, the module before it, and the noisy sum of gradients by parameter name."""


@dataclass(frozen=True, slots=True)
class PrivateWork:
    """What private training needs beside a method.

    Attributes:
        form: the method's private and public loss.
        units: which rows belong to which unit.
        plan: sampling, steps and noise.
        clip: bound of a unit's gradient.
        most: rows of a unit that a step can use.
        probed: what the form's independence was checked on in this process: module, and whether there was a gap.
    """

    form: PrivateForm
    units: Units
    plan: PrivatePlan
    clip: float
    most: int
    probed: set[str] = field(default_factory=set)

    @property
    def mechanism(self) -> TrainingMechanism:
        """The mechanism of one round."""
        plan = self.plan
        return TrainingMechanism(
            plan.noise_multiplier, self.clip, plan.sample_rate, expected_batch=plan.expected_batch, steps=plan.steps
        )


def private_form(method: Method, study: Study) -> PrivateForm:
    """How a method is trained under differential privacy.

    Raises:
        MethodError: it has no legal form.
    """
    per_record = study.privacy.alignment == "per-record"
    if isinstance(method, Facmic) and method.adaptation_weight > 0 and per_record:
        return FacmicByFourier(method)
    if isinstance(method, FaaClip) and method.adaptation_weight > 0 and per_record:
        return FaaClipJointly(method)
    if isinstance(method, Facmic | FaaClip | FedClip):
        return plain_form(method)
    if isinstance(method, PromptFl):
        return PromptsByJacobian()
    raise refuse_form(method.name)


def check_form(form: PrivateForm, module: nn.Module, shared: SharedInputs, alignment: Alignment | None) -> None:
    """Refuse a form whose loss of one row depends on other rows; tried on random rows, so it tells nothing of patients.

    Raises:
        MechanismError: it does.
    """
    if not form.independent:
        return
    generator = torch.Generator().manual_seed(0)
    features = torch.nn.functional.normalize(torch.randn((PROBED, shared.text.shape[1]), generator=generator), dim=1)
    labels = torch.arange(PROBED) % len(shared.text)

    def losses(rows: Tensor) -> Tensor:
        return form.losses(module, TrainingPart(features[rows], labels[rows]), shared, alignment, PROBED)

    check_independent(module, losses, PROBED, trained=form.noised(module))


def train_privately(
    work: PrivateWork,
    method: Method,
    start: Mapping[str, Tensor],
    part: TrainingPart,
    shared: SharedInputs,
    study: Study,
    *,
    seed: int,
    stream: SecretStream,
    carried: Carried | None = None,
    alignment: Alignment | None = None,
    observer: Observer | None = None,
) -> LocalResult:
    """The steps of one round from the global adapter; the loss in the result is not a number that may be looked at.

    Args:
        work: form, units, plan and clip.
        method: the module.
        start: the global adapter's state.
        part: the site's training part, one row for each of the units' rows.
        shared: prompts, logit scale and reference set.
        study: optimiser.
        seed: of the choice of public rows.
        stream: secret randomness for sampling and noise.
        carried: from the site's last round.
        alignment: from noisy releases; None without adaptation.
        observer: for audits.

    Raises:
        MethodError: the parameters are not finite after the round, which the noise decides.
        MechanismError: the module is not what the form says.
    """
    kept, settings, form = carried or Carried(), study.training, work.form
    with one_thread():
        module = module_from(method, start, kept.local, shared)
        # Whether a term is there that was not before decides what is to be probed.
        probe = f"{type(module).__name__} {alignment is not None and alignment.gap.numel() > 0}"
        if probe not in work.probed:
            check_form(form, module, shared, alignment)
            work.probed.add(probe)
        optimiser = optimiser_of(module, method.lr or settings.lr, settings, kept.moments)
        named = {name: p for name, p in module.named_parameters() if p.requires_grad}
        noised, mechanism = form.noised(module), work.mechanism
        generator = torch.Generator().manual_seed(seed)
        batch = round(work.plan.expected_batch)
        weight = form.public_weight(batch)
        subspace = public_subspace(form, module, shared, alignment, study.privacy.directions)
        module.train()
        with mechanism.noise_ahead(sum(named[name].numel() for name in noised), stream.split()) as noise:
            for index in range(work.plan.steps):
                chosen = stream.include(work.units.count, work.plan.sample_rate)
                rows, owners = work.units.rows_of(chosen, work.most, stream)
                taken = torch.from_numpy(rows)
                clipped = form.clipped(
                    module,
                    TrainingPart(part.inputs[taken], part.labels[taken]),
                    torch.from_numpy(owners),
                    len(chosen),
                    work.clip,
                    shared,
                    alignment,
                    batch,
                )
                noisy = mechanism.noisy_mean(clipped, noise)
                if observer is not None:
                    observer(index, module, {name: mean * mechanism.expected_batch for name, mean in noisy.items()})
                if subspace is not None:
                    noisy = subspace.project(noisy)
                for parameter in named.values():
                    parameter.grad = None
                step = _public_step(shared, alignment, batch, generator)
                _add_public(form.public_loss(module, step, shared, alignment), named, work.clip * weight)
                _add(named, noisy, start if settings.proximal > 0 else {}, settings.proximal, noised)
                optimiser.step()
        if not all(bool(torch.isfinite(parameter).all()) for parameter in named.values()):
            raise MethodError(
                "the parameters are not finite after the round", remedy="Lower training.lr, or the method's own lr"
            )
        return LocalResult(state_of(module), moments_of(module, optimiser), 0.0)


def public_subspace(
    form: PrivateForm, module: nn.Module, shared: SharedInputs, alignment: Alignment | None, directions: int
) -> Subspace | None:
    """Where gradients lie, by public rows: reference features and proxies, each with every class as its label.

    Args:
        form: whose private loss is looked at.
        module: with the parameters of the round's start.
        shared: reference set and prompts.
        alignment: proxies, where there are some.
        directions: on each side of a layer; 0: no such projection.

    Returns:
        None without public rows, for 0 directions, and for forms without layers.
    """
    rows = shared.reference if alignment is None else torch.cat([shared.reference, alignment.proxies])
    if directions == 0 or len(rows) == 0 or not form.independent:
        return None
    rows = rows[torch.linspace(0, len(rows) - 1, min(len(rows), PUBLIC_ROWS)).long()]
    classes = len(shared.text)
    repeated = TrainingPart(rows.repeat(classes, 1), torch.arange(classes).repeat_interleave(len(rows)))
    losses = partial(form.losses, module, repeated, shared, alignment, len(rows))
    return Subspace.of(module, losses, trained=form.noised(module), directions=directions)


def _public_step(
    shared: SharedInputs, alignment: Alignment | None, batch: int, generator: torch.Generator
) -> PublicStep:
    """As many public rows as an average step has units: never as many as this one has."""
    available = 0 if alignment is None else len(alignment.proxies)
    proxies = torch.randperm(available, generator=generator)[:batch]
    return PublicStep(reference_rows(shared, batch, generator), proxies, batch)


def _add_public(loss: Tensor | None, named: Mapping[str, nn.Parameter], most: float) -> None:
    """The public gradient, held to the measure of the clip: clipping shrinks the private one, which it would rule."""
    if loss is not None:
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(named.values(), most, foreach=False)


def _add(
    named: Mapping[str, nn.Parameter],
    noisy: Mapping[str, Tensor],
    received: Mapping[str, Tensor],
    proximal: float,
    noised: frozenset[str],
) -> None:
    """The noisy mean beside the public gradient that is there already, and the pull of a proximal term."""
    for name, parameter in named.items():
        own = noisy[name] if name in noised else None
        if own is not None:
            parameter.grad = own if parameter.grad is None else parameter.grad.add_(own)
        if proximal > 0 and name in received:
            pull = proximal * (parameter.detach() - received[name])
            parameter.grad = pull if parameter.grad is None else parameter.grad.add_(pull)

"""An attack on a run's own private training: what it could show, against what the accountant says.

The real training (method, clip, optimiser) runs once more on canaries: drawn features that belong to nobody, with the
noise that the same epsilon needs for this many steps. An auditor who sees every noisy sum then guesses which were in.
A membership attack looks at the final adapter alone, and a third part reads an image's features off one plain update
and fails to read it off the masked one. No patient's image takes part in any of it. Prompts are drawn too, and there is
no reference set: what is public comes after the noise and makes no difference to the claim.
"""

from __future__ import annotations

import json
import math
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..evaluation.privacy_model import AuditFacts
from ..evaluation.report_json import dossier_from_json, to_json
from ..privacy.atomic import write_atomic, write_json
from ..privacy.differential_privacy.accountant import epsilon_of, noise_multiplier_for
from ..privacy.differential_privacy.audit import CANARIES, GUESSES, AuditResult, flip_coins
from ..privacy.differential_privacy.canaries import Canaries, Observer, audit_training, draw_canaries
from ..privacy.differential_privacy.leakage import Leakage, leakage, read_as_plain
from ..privacy.differential_privacy.membership import MembershipResult, attack, margins
from ..privacy.differential_privacy.randomness import SecretStream
from ..privacy.differential_privacy.releases import Release
from ..privacy.differential_privacy.units import Units
from ..privacy.secure_aggregation.encoding import encode
from ..privacy.secure_aggregation.parameters import Block
from ..privacy.secure_aggregation.primitives import apply_masks
from .adapters import State
from .config import Study
from .dossier import build_pages
from .errors import MethodError, RunFolderError
from .methods.method import Method, SharedInputs, TrainingPart
from .methods.table import method_of
from .privacy_figures import run_privacy
from .private_plan import PrivatePlan
from .private_training import PrivateWork, private_form, train_privately
from .run_folder import RunFolder
from .terms import start_state
from .training import module_from, train_locally

SAMPLE_RATE, STEPS = 0.02, 300  # six draws of each canary on average, in many steps: see canaries.Scorer
AUDIT_FILE = "privacy-audit.json"
GALLERY = 500
IMAGES = 9  # that are read off an update each: the place of a single one can look like a find by chance
READ = "adapter.project_in"  # the layer that sees an image's features


@dataclass(frozen=True, slots=True)
class RunAudit:
    """What the attacks gave.

    Attributes:
        epsilon, delta: claimed for the audited training by the accountant; epsilon is None where the noise was lowered.
        full_epsilon: the accountant's figure with all of the noise, lowered or not.
        noise_multiplier: of the audited training. divisor: what the noise was divided by; 1 is the real thing.
        sample_rate, steps: of the audited training.
        bound: of the one-run audit. membership: of the final adapter.
        unmasked, masked, private: what one update of one image shows as it is, masked, and noised; medians over nine.
    """

    epsilon: float | None
    full_epsilon: float
    delta: float
    noise_multiplier: float
    divisor: float
    sample_rate: float
    steps: int
    bound: AuditResult
    membership: MembershipResult
    unmasked: Leakage
    masked: Leakage
    private: Leakage

    def as_dict(self) -> dict[str, Any]:
        """For ``--json`` and privacy-audit.json; a divisor of None: no noise at all."""
        return {**asdict(self), "divisor": self.divisor if math.isfinite(self.divisor) else None}

    def facts(self) -> AuditFacts:
        """For the dossier."""
        return AuditFacts(
            canaries=self.bound.canaries,
            guesses=self.bound.guesses,
            right=self.bound.right,
            lower_bound=self.bound.lower_bound,
            ceiling=self.bound.ceiling,
            confidence=self.bound.confidence,
            claimed_epsilon=self.epsilon,
            membership_auc=self.membership.auc,
            membership_tpr=self.membership.true_positive_rate,
            membership_lower_bound=self.membership.lower_bound,
            leak_unmasked_cosine=self.unmasked.cosine,
            leak_unmasked_rank=self.unmasked.rank,
            leak_masked_cosine=self.masked.cosine,
            leak_masked_rank=self.masked.rank,
            gallery=self.unmasked.others + 1,
        )


def audit_study(
    study: Study,
    *,
    width: int,
    classes: int,
    epsilon: float,
    divisor: float = 1.0,
    canaries: int = CANARIES,
    guesses: int = GUESSES,
    steps: int = STEPS,
    sample_rate: float = SAMPLE_RATE,
) -> RunAudit:
    """Attack the private training of a study.

    Args:
        study: with differential privacy on.
        width: of the features. classes: how many; prompts are drawn, for they are public and make no difference.
        epsilon: claimed: the noise is what it needs for these steps.
        divisor: what the noise is divided by, to see the audit find a fault; infinity switches it off.
        canaries, guesses, steps, sample_rate: of the audited training.

    Raises:
        MethodError: the method is not clipped layer by layer (PromptFL), so canaries cannot be followed through it.
    """
    method = method_of(study)
    form = private_form(method, study)
    if not form.independent:
        raise MethodError(
            f"canaries cannot be followed through the training of '{method.name}'",
            where="method",
            remedy="Audit a run of fedclip, facmic or faa-clip",
        )
    stream, delta = SecretStream(), study.privacy.delta
    shared = _drawn_prompts(width, classes, stream)
    full = noise_multiplier_for(epsilon, delta, sample_rate=sample_rate, steps=steps)
    full_epsilon = epsilon_of([Release("training", full, sample_rate, steps)], delta)
    plan = PrivatePlan(canaries, sample_rate, sample_rate * canaries, steps, 1, full / divisor, ())
    batch = round(plan.expected_batch)  # as in training: the weight of adaptation depends on it
    start = start_state(study, method, shared)
    drawn, coins = draw_canaries(width, classes, stream, canaries), flip_coins(canaries)
    final: State = {}

    def train(features: Tensor, labels: Tensor, observer: Observer) -> None:
        units = Units(np.arange(len(labels), dtype=np.int64), canaries)  # those that are out keep their slots
        work = PrivateWork(form, units, plan, study.privacy.clip, 1)
        part = TrainingPart(features, labels)
        result = train_privately(work, method, start, part, shared, study, seed=0, stream=stream, observer=observer)
        final.update(result.state)

    bound = audit_training(
        train,
        drawn,
        lambda module, features, labels: form.losses(module, TrainingPart(features, labels), shared, None, batch),
        clip=study.privacy.clip,
        trained=form.noised(module_from(method, start, {}, shared)),
        sample_rate=sample_rate,
        delta=delta,
        guesses=guesses,
        coins=coins,
    )
    inside = attack(_margins(method, final, drawn, shared), _margins(method, start, drawn, shared), coins, delta=delta)
    unmasked, masked, private = _leaks(study, method, start, shared, stream, plan)
    return RunAudit(
        epsilon=full_epsilon if divisor == 1.0 else None,
        full_epsilon=full_epsilon,
        delta=delta,
        noise_multiplier=plan.noise_multiplier,
        divisor=divisor,
        sample_rate=sample_rate,
        steps=steps,
        bound=bound,
        membership=inside,
        unmasked=unmasked,
        masked=masked,
        private=private,
    )


def audit_run(root: Path, *, divisor: float = 1.0, **settings: Any) -> RunAudit:
    """Audit a finished run at the epsilon that its sites spent; with all of its noise, record it in the run.

    Args:
        root: the run folder.
        divisor, settings: as for :func:`audit_study`.

    Raises:
        RunFolderError: no run, not a private one, or not complete.
        MethodError: the divisor is below 1, or as :func:`audit_study`.
        BudgetError: a site's budget and ledger disagree.
    """
    if not divisor >= 1:
        raise MethodError(
            f"noise cannot be divided by {divisor:g}", where="--noise", remedy="Use 1, or 4 to see a fault found"
        )
    run, study = RunFolder.open(root)
    if not study.private:
        raise RunFolderError(
            "the run was trained without differential privacy, so there is no claim to attack",
            where=str(root),
            remedy="Set privacy.epsilon in its study, or run wardround demo --epsilon 8",
        )
    if not run.summary.is_file():
        raise RunFolderError(
            "the run is not complete",
            where=str(root),
            remedy=f"Finish it first: wardround run {root}/study.toml --out {root} --resume",
        )
    try:
        card = json.loads(run.card.read_bytes())
        width, classes = int(card["backbone"]["embed_dim"]), len(card["classes"])
    except (OSError, ValueError, KeyError, TypeError):
        raise RunFolderError(
            "the model card is missing or damaged",
            where=str(run.card),
            remedy="Restore it from a backup, or run the study again",
        ) from None
    spent = max(site.epsilon for site in run_privacy(run, study))
    found = audit_study(study, width=width, classes=classes, epsilon=spent, divisor=divisor, **settings)
    if divisor == 1.0:
        with run.locked():
            write_json(run.root / AUDIT_FILE, found.as_dict())
            source = run.root / "dossier.json"
            write_atomic(source, to_json(replace(dossier_from_json(source.read_bytes()), audit=found.facts())))
            build_pages(run)
    return found


def _drawn_prompts(width: int, classes: int, stream: SecretStream) -> SharedInputs:
    return SharedInputs(_unit_rows(classes, width, stream), 100.0, torch.zeros(0, width))


def _unit_rows(count: int, width: int, stream: SecretStream) -> Tensor:
    values = stream.normals(np.empty(count * width, dtype=np.float32)).reshape(count, width).copy()
    return nn.functional.normalize(torch.from_numpy(values), dim=1)


def _margins(method: Method, state: Mapping[str, Tensor], drawn: Canaries, shared: SharedInputs) -> NDArray[np.float64]:
    module = module_from(method, state, {}, shared).eval()
    return margins(method.logits(module, drawn.features, shared).numpy(), drawn.labels.numpy())


def _leaks(
    study: Study, method: Method, start: State, shared: SharedInputs, stream: SecretStream, plan: PrivatePlan
) -> tuple[Leakage, Leakage, Leakage]:
    """One image's update as it is, as it travels, and noised: medians over some images, each at a site of its own."""
    names = (f"{READ}.weight", f"{READ}.bias")
    shape = tuple(start[names[0]].shape)
    size = math.prod(shape)
    images = _unit_rows(GALLERY, shared.text.shape[1], stream)
    block = Block("adapter", size + shape[0], 1.0, study.secure_aggregation.fraction_bits)
    one = PrivatePlan(plan.units, 1.0, plan.expected_batch, 1, 1, plan.noise_multiplier, ())
    units = Units(np.zeros(1, dtype=np.int64), plan.units)
    work = PrivateWork(private_form(method, study), units, one, study.privacy.clip, 1)

    def moved(state: State) -> NDArray[np.float32]:
        return np.concatenate([(state[name] - start[name]).numpy().ravel() for name in names])

    found: list[tuple[Leakage, ...]] = []
    for image in range(IMAGES):
        part = TrainingPart(images[image : image + 1], torch.tensor([image % len(shared.text)]))
        update = moved(train_locally(method, start, part, shared, study.training, seed=0).state)
        noised = moved(train_privately(work, method, start, part, shared, study, seed=0, stream=stream).state)
        words = encode({"adapter": update}, (block,), 1.0).words
        apply_masks(words, [os.urandom(32)], [])
        true, gallery = images[image].numpy(), np.delete(images.numpy(), image, axis=0)
        seen = (update, read_as_plain(words, block.fraction_bits), noised)
        found.append(tuple(leakage(v[:size].reshape(shape), v[size:], true, gallery) for v in seen))
    plain, masked, private = (_median(each) for each in zip(*found, strict=True))
    return plain, masked, private


def _median(leaks: Sequence[Leakage]) -> Leakage:
    """The middle one by cosine and the middle one by place, of an odd number."""
    cosine = statistics.median(leak.cosine for leak in leaks)
    return Leakage(cosine, statistics.median_low([leak.rank for leak in leaks]), leaks[0].others, None)

"""What both ends of a study work from: the study, the shape of what is sent, the pinned roster, and what follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from .. import __version__
from ..evaluation.sums.layout import VectorLayout
from ..privacy.egress import StudyFacts
from ..privacy.identity import fingerprint_hex
from ..privacy.messages import TO_COORDINATOR, TO_SITE, Limits, tag_of
from ..privacy.secure_aggregation.roster import PinnedRoster
from ..privacy.secure_aggregation.session import Purpose
from .adapter_file import AdapterInfo, dump_adapter
from .adapters import State, state_of, under
from .calibration import carries_temperature
from .class_means import constants_of
from .config import Study
from .held_out import held_out_layouts
from .methods.method import Method, SharedInputs
from .training import derive_seed
from .update import Layout

ADAPTER_HEADROOM = 4096  # bytes of a safetensors header beyond the one that was measured
Figures = Mapping[Purpose, VectorLayout]


@dataclass(frozen=True)
class Terms:
    """What the coordinator and every site of one study have alike.

    Attributes:
        study, method: what is trained, and how.
        layout: of the adapter.
        start: the global tensors before round 1.
        roster: pinned.
        backbone: fingerprint of the frozen CLIP.
        figures: vectors that are summed after the last round, by purpose.
    """

    study: Study
    method: Method
    layout: Layout
    start: State
    roster: PinnedRoster
    backbone: str
    figures: Figures = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """The study's hash, hexadecimal."""
        return self.study.digest()

    @cached_property
    def limits(self) -> Limits:
        """Largest size of each message."""
        roster = self.roster.roster
        largest = {**self.start, **self.layout.blank()}
        info = AdapterInfo(self.digest, self.method.name, self.study.rounds, self.backbone)
        adapter = len(dump_adapter(largest, info)) + ADAPTER_HEADROOM
        return Limits(len(roster.names), max(roster.wire_size(purpose) for purpose in roster.vectors), adapter)

    @property
    def largest(self) -> int:
        """Bytes of the largest message in either direction."""
        return max(self.limits.of(tag_of(kind)) for kind in (*TO_SITE, *TO_COORDINATOR))

    @cached_property
    def facts(self) -> StudyFacts:
        """What every entry of a ledger says of the study."""
        private = self.study.private
        return StudyFacts(
            roster=self.roster,
            method=self.method.name,
            epsilon=self.study.privacy.epsilon if private else None,
            delta=self.study.privacy.delta if private else None,
            model=self.backbone,
            software=f"wardround {__version__}",
        )

    @property
    def coordinator(self) -> str:
        """Fingerprint of the coordinator's identity, hexadecimal."""
        return fingerprint_hex(bytes.fromhex(self.roster.roster.coordinator_key))


def terms_of(
    study: Study, method: Method, shared: SharedInputs, roster: PinnedRoster, backbone: str, *, classes: int
) -> Terms:
    """The terms of a study whose roster is pinned; figures that the roster does not sum are not summed.

    Args:
        study, method: what is trained, and how. shared: prompts and reference features.
        roster: pinned. backbone: fingerprint of the frozen CLIP. classes: how many there are.
    """
    layout = study_layout(study, method, shared)
    figures = figures_of(study, layout, classes=classes, sites=len(roster.roster.names))
    summed = {purpose: vector for purpose, vector in figures.items() if purpose in roster.roster.vectors}
    return Terms(study, method, layout, start_state(study, method, shared), roster, backbone, summed)


def study_layout(study: Study, method: Method, shared: SharedInputs) -> Layout:
    """What a study's sites send, and what the coordinator sends along."""
    module = method.new_module(shared, seed=0)
    constants = constants_of(study, shared)
    return Layout.of(module, local=method.local, constants=constants, metrics=not study.private)


def start_state(study: Study, method: Method, shared: SharedInputs) -> State:
    """The global tensors before round 1, the same wherever they are made."""
    module = method.new_module(shared, seed=derive_seed("adapter", study.seed))
    return {name: tensor for name, tensor in state_of(module).items() if not under(name, method.local)}


def figures_of(study: Study, layout: Layout, *, classes: int, sites: int) -> dict[Purpose, VectorLayout]:
    """What is summed over sites after the last round.

    Args:
        study: says which. layout: of the updates. classes, sites: how many there are.
    """
    carries = carries_temperature([name for name, _ in layout.parameters])
    return held_out_layouts(study, classes, sites, carries=carries)

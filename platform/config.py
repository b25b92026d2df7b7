"""The study: every key, its default and its range, as frozen models.

A study is what all sites of a federation must agree on. Its canonical form is hashed, and the hash stands in the
roster, in every signature and in the ledger; so two sites with different studies never add up their updates.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any, Literal, Self

import rfc8785
from pydantic import Field, field_validator, model_validator

from .data_sections import DataSection, ReferenceSection, SitesSection
from .evaluation_section import EvaluationSection
from .faults_section import FaultsSection
from .method_sections import (
    BaselineSection,
    CalibrationSection,
    FaaClipSection,
    FacmicSection,
    FedAvgSection,
    FedClipSection,
    FedProxSection,
    LoraSection,
    MoonSection,
    PersonalisationSection,
    PromptFlSection,
    ServerSection,
)
from .privacy_section import PrivacySection
from .section import Section
from .study_checks import problems

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


class BackboneSection(Section):
    """``[backbone]``: the frozen CLIP."""

    name: str = Field(default="embedded", description="`embedded`, or any open_clip model name")
    weights: str = Field(
        default="", description="open_clip tag, local file or folder, or `hf-hub:…`; empty for `embedded`"
    )
    allow_random: bool = Field(default=False, description="accept a model without pretrained weights")
    fingerprint: str = Field(
        default="", description="refuse a backbone with another fingerprint; empty: any (the run records it)"
    )


class TrainingSection(Section):
    """``[training]``: what one site does in one round."""

    local_epochs: int = Field(default=1, ge=1, le=100, description="passes over the training part per round")
    batch_size: int = Field(default=32, ge=1, le=4096, description="images per step; 1 only without BatchNorm")
    lr: float = Field(default=5e-4, gt=0.0, le=1.0, description="Adam step size; 5e-5 in the paper of FACMIC")
    beta1: float = Field(default=0.9, ge=0.0, lt=1.0, description="Adam first-moment decay")
    beta2: float = Field(default=0.98, ge=0.0, lt=1.0, description="Adam second-moment decay")
    eps: float = Field(default=1e-6, gt=0.0, description="Adam denominator term")
    weight_decay: float = Field(default=0.02, ge=0.0, description="Adam L2 penalty")
    optimiser_state: Literal["keep", "reset"] = Field(
        default="keep", description="keep Adam's moments at the site between rounds, or start each round anew"
    )
    logit_adjustment: float = Field(
        default=0.0,
        ge=0.0,
        le=10.0,
        description="weight of the site's log class shares in the training logits, against label skew; 0: none",
    )
    proximal: float = Field(
        default=0.0, ge=0.0, le=1000.0, description="weight of a FedProx term, for any method; 0: none"
    )


class SecureAggregationSection(Section):
    """``[secure_aggregation]``: what the roster fixes."""

    threshold: int = Field(default=0, ge=0, description="shares that rebuild a secret; 0: the default for n")
    minimum_cohort: int = Field(default=3, ge=3, description="no sum over fewer sites is released")
    colluding: int = Field(
        default=0, ge=0, le=998, description="sites that may collude; raises threshold and cohort; 0: what these give"
    )
    weighting: Literal["paper", "weighted", "uniform"] = Field(
        default="paper",
        description="as the method's paper has it; by public training counts; or every site alike",
    )
    w_max: float = Field(default=4.0, ge=1.0, le=16.0, description="cap of a site's weight")
    clip: float = Field(
        default=1.0, ge=0.0, le=64.0, description="bound of one coordinate of the delta; 0: what Adam can move it"
    )
    fraction_bits: int = Field(
        default=20, ge=8, le=24, description="fixed-point fraction bits of the delta; with `bits` below 32, what fits"
    )
    bits: int = Field(default=32, description="value bits of the delta: 32, or 8 to 24, which are packed on the wire")

    @field_validator("bits")
    @classmethod
    def _packable(cls, value: int) -> int:
        if value != 32 and not 8 <= value <= 24:
            raise ValueError("use 32 for the full ring, or 8 to 24 value bits")
        return value


class CompareSection(Section):
    """``[compare]``: what `wardround compare` grants methods that train on pictures, which are slow."""

    pixel_rounds: int = Field(
        default=5, ge=1, le=10_000, description="rounds of methods that train on pictures, at most"
    )
    pixel_images: int = Field(
        default=300, ge=0, le=10_000_000, description="their training images of a site, at most; 0: all"
    )
    pixel_seeds: int = Field(default=1, ge=1, le=1000, description="their seeds, at most")
    pixel_leave_one_out: bool = Field(default=False, description="whether each site is left out in turn for them too")


MethodName = Literal[
    "zero-shot",
    "local-only",
    "pooled",
    "fedavg",
    "fedprox",
    "moon",
    "prompt-fl",
    "lora",
    "fedclip",
    "facmic",
    "faa-clip",
]
ADDED = (
    ("calibration", "site"),
    *(("evaluation", key) for key in ("abstain_risk", "coverage", "subgroups", "thresholds")),
    *(("data", key) for key in ("prompts", "labels", "slices", "burned_in", "sources")),
    ("sites", "column"),
)
"""Keys younger than measured figures: batches are drawn by the study's hash, which must not change for them."""
METHOD_TABLES = ("fedclip", "facmic", "faa_clip", "fedavg", "fedprox", "moon", "prompt_fl", "lora", "baseline")
"""Tables of method options; only the study's own method's enters its hash."""


class Study(Section):
    """A federated study; see docs/study.md for the same keys with an example."""

    name: str = Field(description="short name: a-z, 0-9, dot, dash, underscore")
    method: MethodName = Field(default="facmic", description="what is trained, and how")
    rounds: int = Field(default=20, ge=1, le=10_000, description="federated rounds")
    retries: int = Field(
        default=2, ge=0, le=100, description="how often a round that released nothing is tried again before it pauses"
    )
    round_timeout: float = Field(
        default=600.0, gt=0.0, le=1e6, description="seconds that each stage of a round waits for silent sites"
    )
    seed: int = Field(
        default=0, ge=0, le=2**31 - 1, description="with `name`: splits, order of batches and start values"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="where images are encoded")
    selection: Literal["last"] = Field(default="last", description="which round's adapter is the result")
    data: DataSection
    sites: SitesSection = Field(default_factory=SitesSection)
    reference: ReferenceSection = Field(default_factory=ReferenceSection)
    backbone: BackboneSection = Field(default_factory=BackboneSection)
    training: TrainingSection = Field(default_factory=TrainingSection)
    fedclip: FedClipSection = Field(default_factory=FedClipSection)
    facmic: FacmicSection = Field(default_factory=FacmicSection)
    faa_clip: FaaClipSection = Field(default_factory=FaaClipSection)
    fedavg: FedAvgSection = Field(default_factory=FedAvgSection)
    fedprox: FedProxSection = Field(default_factory=FedProxSection)
    moon: MoonSection = Field(default_factory=MoonSection)
    prompt_fl: PromptFlSection = Field(default_factory=PromptFlSection)
    lora: LoraSection = Field(default_factory=LoraSection)
    baseline: BaselineSection = Field(default_factory=BaselineSection)
    server: ServerSection = Field(default_factory=ServerSection)
    personalisation: PersonalisationSection = Field(default_factory=PersonalisationSection)
    calibration: CalibrationSection = Field(default_factory=CalibrationSection)
    privacy: PrivacySection = Field(default_factory=PrivacySection)
    secure_aggregation: SecureAggregationSection = Field(default_factory=SecureAggregationSection)
    evaluation: EvaluationSection = Field(default_factory=EvaluationSection)
    compare: CompareSection = Field(default_factory=CompareSection)
    faults: FaultsSection = Field(default_factory=FaultsSection)

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not NAME.fullmatch(value):
            raise ValueError(f"'{value}' is no study name: use a-z, 0-9, dot, dash, underscore, at most 63 characters")
        return value

    @field_validator("sites")
    @classmethod
    def _plain_unseen(cls, value: SitesSection) -> SitesSection:
        if value.unseen and not NAME.fullmatch(value.unseen):
            raise ValueError(f"unseen: '{value.unseen}' is no site name: use a-z, 0-9, dot, dash, underscore")
        return value

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        problem = next(problems(self), None)
        if problem is not None:
            raise ValueError(problem)
        return self

    @property
    def table(self) -> str:
        """Name of the table that holds the method's options."""
        return "baseline" if self.method in ("local-only", "pooled") else self.method.replace("-", "_")

    @property
    def trained_table(self) -> str:
        """Name of the table that says what is trained: the method's own, or that of the baseline's adapter."""
        return self.baseline.method.replace("-", "_") if self.table == "baseline" else self.table

    @property
    def adapts(self) -> bool:
        """Whether the method aligns to a reference set."""
        return getattr(getattr(self, self.table, None), "adaptation_weight", 0.0) > 0.0

    @property
    def private(self) -> bool:
        """Whether sites train with differential privacy; a method for which nothing leaves a site needs none."""
        return self.privacy.on and self.table not in ("baseline", "zero_shot")

    @property
    def out(self) -> str:
        """Name of the site that takes no part; empty: none."""
        return self.sites.left_out or self.sites.unseen

    def canonical(self) -> bytes:
        """What sites must agree on, as canonical JSON (RFC 8785): equal studies have equal bytes.

        The folder, the device and the place of local weights are each machine's own business and are left out; what
        the weights are is in the backbone's fingerprint, which the study can pin. So are the coordinator's patience and
        a simulation's faults: with and without them, the same study is run; the options of other methods; and the
        options of differential privacy where it is off. Whether figures are summed is in the roster. Keys in
        :data:`ADDED` are in it where they differ from their default.
        """
        foreign = {name: True for name in METHOD_TABLES if name not in (self.table, self.trained_table)}
        elsewhere = dict.fromkeys(("device", "retries", "round_timeout", "faults", "compare"), True)
        if not self.private:
            elsewhere["privacy"] = True
        paths = {"path": True, "split_file": True, "sources": {"__all__": {"path"}}}
        own: Any = {"data": paths, "evaluation": {"federated"}}
        content = self.model_dump(mode="json", exclude={**elsewhere, **foreign, **own})
        for table, key in ADDED:
            if getattr(getattr(self, table), key) == type(getattr(self, table)).model_fields[key].default:
                del content[table][key]
        if self.data.rule == "balanced":  # the only rule there was when this key came
            del content["data"]["split_rule"]
        if Path(self.backbone.weights).is_absolute():
            content["backbone"]["weights"] = "local"
        return rfc8785.dumps(content)

    def digest(self) -> str:
        """SHA-256 of :meth:`canonical` in hexadecimal; the study's hash in the roster."""
        return hashlib.sha256(self.canonical()).hexdigest()

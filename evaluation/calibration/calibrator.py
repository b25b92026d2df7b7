"""A calibration as it travels: what makes logits into stated probabilities, prediction sets and abstentions.

It is part of the model card and of a site's own file, so it is read from JSON that somebody may have damaged: every
value is checked, and an unknown key is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arrays import FloatArray, check_predictions, softmax
from ..errors import InvalidPredictionsError
from .checks import count, exact_keys, flag, number, refuse
from .conformal import Thresholds, prediction_sets
from .isotonic import IsotonicCurves
from .vector_scaling import VectorScaling

Kind = Literal["none", "temperature", "vector", "isotonic"]
Source = Literal["site", "federated", "model", "none"]
Parameters = float | VectorScaling | IsotonicCurves | None
FORMAT = 1
_KEYS = (
    "format",
    "kind",
    "wanted",
    "source",
    "classes",
    "n",
    "parameters",
    "sets",
    "abstain_below",
    "abstain_risk",
    "risk_reached",
)
_SOURCES: dict[Kind, tuple[Source, ...]] = {
    "none": ("none", "model"),
    "temperature": ("site", "federated"),
    "vector": ("site",),
    "isotonic": ("site",),
}


@dataclass(frozen=True, slots=True)
class Calibrator:
    """What is applied to logits before anybody sees a probability.

    Attributes:
        kind: of the calibration. wanted: the kind that was asked for; differs where there were too few images for it.
        source: whose validation images it was fitted on: this site's, all sites' together; ``"model"``: the model
            carries a temperature of its own and none is added; ``"none"``: nothing could be fitted.
        classes: K. n: validation images that it was fitted on; None where that is not known.
        parameters: a temperature above 0, or the parameters of the kind; None of ``"none"``.
        sets: thresholds of prediction sets; None without.
        abstain_below: no answer where the top probability is lower, in [0, 1].
        abstain_risk: share of wrong answers that was to be kept, in (0, 1); None where no risk was named.
        risk_reached: whether ``abstain_below`` was chosen for that risk; it was not where no threshold reaches it.
    """

    kind: Kind
    source: Source
    classes: int
    n: int | None
    parameters: Parameters = None
    sets: Thresholds | None = None
    abstain_below: float = 0.0
    abstain_risk: float | None = None
    risk_reached: bool = False
    wanted: Kind | None = None

    def __post_init__(self) -> None:
        if self.wanted is None:
            object.__setattr__(self, "wanted", self.kind)
        if self.kind not in _SOURCES or self.wanted not in _SOURCES:
            raise refuse(f"is of kind {self.kind!r} for {self.wanted!r}, not one of {', '.join(get_args(Kind))}")
        if self.source not in _SOURCES[self.kind]:
            raise refuse(f"of kind '{self.kind}' has the source {self.source!r}")
        if count(self.classes, "classes") < 2:
            raise refuse(f"has {self.classes} classes")
        if self.n is not None:
            count(self.n, "n")
        self._check_parameters()
        if self.sets is not None and self.sets.classes != self.classes:
            raise refuse(f"has thresholds of {self.sets.classes} classes for {self.classes}")
        number(self.abstain_below, "abstain_below", 0.0, 1.0)
        flag(self.risk_reached, "risk_reached")
        if self.abstain_risk is None:
            if self.risk_reached:
                raise refuse("reaches a risk that nobody named")
        elif not 0.0 < number(self.abstain_risk, "abstain_risk", 0.0, 1.0) < 1.0:
            raise refuse(f"has {self.abstain_risk!r} as 'abstain_risk', not a number between 0 and 1")

    def _check_parameters(self) -> None:
        wanted = {"none": type(None), "temperature": float, "vector": VectorScaling, "isotonic": IsotonicCurves}
        if type(self.parameters) is not wanted[self.kind]:
            raise refuse(f"of kind '{self.kind}' has parameters of type {type(self.parameters).__name__}")
        if isinstance(self.parameters, float):
            if number(self.parameters, "temperature", 0.0) == 0.0:
                raise refuse("has a temperature of 0")
        elif self.parameters is not None and self.parameters.classes != self.classes:
            raise refuse(f"has parameters of {self.parameters.classes} classes for {self.classes}")

    @property
    def calibrated(self) -> bool:
        """Whether stated probabilities were fitted to validation images, here or within the model."""
        return self.source != "none"

    @property
    def temperature(self) -> float | None:
        """The temperature; None of other kinds."""
        return self.parameters if isinstance(self.parameters, float) else None

    @property
    def words(self) -> str:
        """In words: ``"temperature 1.31, this site's"``, ``"as trained"`` …"""
        if self.kind == "none":
            return "as trained, with the model's own temperature" if self.source == "model" else "as trained"
        whose = "this site's" if self.source == "site" else "of all sites"
        scaling = {"vector": "vector scaling", "isotonic": "isotonic regression"}
        return f"{scaling.get(self.kind) or f'temperature {self.parameters:.3g}'}, {whose}"

    def apply(self, logits: ArrayLike) -> FloatArray:
        """Calibrated logits, float64 (n, K): their softmax is what is stated.

        A temperature never changes which class wins; vector scaling and isotonic regression can.

        Args:
            logits: (n, K) finite, as trained.
        """
        rows = np.asarray(logits, dtype=np.float64)
        z, _ = check_predictions(rows, np.zeros(len(rows), dtype=np.int64))
        if z.shape[1] != self.classes:
            raise InvalidPredictionsError(f"a calibration of {self.classes} classes for {z.shape[1]} columns of logits")
        if self.parameters is None:
            return z
        return z / self.parameters if isinstance(self.parameters, float) else self.parameters.apply(z)

    def probabilities(self, logits: ArrayLike) -> FloatArray:
        """Stated probabilities, float64 (n, K); rows sum to 1."""
        return softmax(self.apply(logits))

    def in_set(self, probabilities: ArrayLike, *, by_class: bool | None = None) -> NDArray[np.bool_] | None:
        """Prediction sets of stated probabilities, bool (n, K); None where there are no thresholds.

        ``by_class`` as in :func:`.conformal.prediction_sets`.
        """
        return None if self.sets is None else prediction_sets(probabilities, self.sets, by_class=by_class)

    def answers(self, probabilities: FloatArray) -> NDArray[np.bool_]:
        """Which images are answered, bool (n,): those whose top probability is not below the threshold."""
        answered: NDArray[np.bool_] = probabilities.max(axis=1, initial=0.0) >= self.abstain_below
        return answered

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; :meth:`from_dict` gives exactly the same record back."""
        held = self.parameters
        return {
            "format": FORMAT,
            "kind": self.kind,
            "wanted": self.wanted,
            "source": self.source,
            "classes": self.classes,
            "n": self.n,
            "parameters": {"temperature": held} if isinstance(held, float) else held.to_dict() if held else None,
            "sets": self.sets.to_dict() if self.sets else None,
            "abstain_below": self.abstain_below,
            "abstain_risk": self.abstain_risk,
            "risk_reached": self.risk_reached,
        }

    @classmethod
    def from_dict(cls, content: Any) -> Calibrator:
        """Out of :meth:`to_dict`.

        Raises:
            InvalidCalibratorError: a key is missing or unknown, a value has another type or lies out of range, or
                values contradict one another.
        """
        values = exact_keys(content, _KEYS, "calibration")
        if values["format"] is True or values["format"] != FORMAT:
            raise refuse(f"is of format {values['format']!r}; this version reads {FORMAT}")
        kind, parameters, risk = values["kind"], values["parameters"], values["abstain_risk"]
        if not all(isinstance(values[key], str) for key in ("kind", "wanted", "source")):
            raise refuse("has a kind or source that is no text")
        read: Parameters = None
        if kind == "temperature":
            read = number(exact_keys(parameters, ("temperature",), "parameters")["temperature"], "temperature")
        elif kind in ("vector", "isotonic"):
            read = (VectorScaling if kind == "vector" else IsotonicCurves).from_dict(parameters)
        elif parameters is not None:
            raise refuse(f"of kind {kind!r} has parameters")
        return cls(
            kind=kind,
            wanted=values["wanted"],
            source=values["source"],
            classes=count(values["classes"], "classes"),
            n=None if values["n"] is None else count(values["n"], "n"),
            parameters=read,
            sets=None if values["sets"] is None else Thresholds.from_dict(values["sets"]),
            abstain_below=number(values["abstain_below"], "abstain_below"),
            abstain_risk=None if risk is None else number(risk, "abstain_risk"),
            risk_reached=flag(values["risk_reached"], "risk_reached"),
        )

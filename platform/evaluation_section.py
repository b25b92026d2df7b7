"""``[evaluation]`` of a study: what reports print, how the model abstains, and what is summed over sites."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from .section import Section

Fraction = Annotated[float, Field(gt=0.0, lt=1.0)]


class EvaluationSection(Section):
    """``[evaluation]``: what reports print, and what of it is summed over sites."""

    abstain_below: float = Field(
        default=0.5, ge=0.0, lt=1.0, description="`predict` abstains when its top probability is lower"
    )
    abstain_risk: float = Field(
        default=0.0,
        ge=0.0,
        lt=1.0,
        description="share of wrong answers that is bearable: the threshold of `abstain_below` is then chosen for it "
        "on validation parts; 0: none",
    )
    coverage: float = Field(
        default=0.9, gt=0.0, lt=1.0, description="share of images whose prediction set is to hold the true class"
    )
    thresholds: tuple[Fraction, ...] = Field(
        default=(0.1, 0.25, 0.5),
        strict=False,
        description="probabilities of a class at which somebody would act on it, for decision curves; named beforehand",
    )
    federated: bool = Field(
        default=True,
        description="sum the figures of the final model over all sites, once, masked; under differential privacy never",
    )
    subgroups: tuple[str, ...] = Field(
        default=(),
        strict=False,
        description="columns and their values that are counted in that sum, e.g. `sex: female, male`; a site's own "
        "report has every column",
    )

    @field_validator("thresholds")
    @classmethod
    def _ascending(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if list(value) != sorted(set(value)):
            raise ValueError("the thresholds are not ascending")
        return value

    @field_validator("subgroups")
    @classmethod
    def _levels(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        names = [column for column, _ in map(subgroup_levels, value)]
        if len(set(names)) != len(names):
            raise ValueError("a subgroup column is listed twice")
        return value

    @property
    def levels(self) -> dict[str, tuple[str, ...]]:
        """Values of each subgroup column that is counted in the sum, in the study's order."""
        return dict(map(subgroup_levels, self.subgroups))


def subgroup_levels(text: str) -> tuple[str, tuple[str, ...]]:
    """ "sex: female, male" as ("sex", ("female", "male")).

    Raises:
        ValueError: no column, fewer than two values, or one twice.
    """
    column, _, rest = text.partition(":")
    values = tuple(part.strip() for part in rest.split(","))
    if not column.strip() or len(values) < 2 or not all(values) or len(set(values)) < len(values):
        raise ValueError(f"'{text}' is no column with its values; write 'sex: female, male'")
    return column.strip(), values

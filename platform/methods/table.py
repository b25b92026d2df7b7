"""From a study's method name to the method object: one literal table, no registry."""

from __future__ import annotations

from ..config import Study
from .facmic import Facmic
from .method import Method


def method_of(study: Study) -> Method:
    """The method that a study names, with the study's options."""
    methods: dict[str, Method] = {
        "facmic": Facmic(study.facmic.adaptation_weight, study.facmic.reference_through_adapter),
    }
    return methods[study.method]

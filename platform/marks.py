"""What a reader must know before any figure of a run: that it is transductive, an oracle's, or of sites' own models."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..evaluation.page_parts import plural, sentence_list
from .assessment import Assessment
from .config import Study
from .methods.adapted_clip import TRAINING_ONLY
from .methods.method import Method
from .study_data import StudyData

TRANSDUCTIVE = (
    "Transductive: images that figures are computed on were in the reference set. The figures need not hold for "
    "images that are new to the model."
)
ORACLE = (
    "Oracle: adaptation was given the true labels of the reference set, which a real federation does not have. "
    "For ablations only."
)


@dataclass(frozen=True, slots=True)
class Marks:
    """What is unusual about the figures of a run.

    Attributes:
        transductive: whether images that are tested on were in the reference set, and the model depends on that set.
        oracle: whether adaptation was given the reference set's true labels.
        personal: whether training sites have models of their own, which answer for them.
        how: what makes a site's own model its own, in words; empty without.
        without: training sites that should have one and do not: the federation's model answers for them.
    """

    transductive: bool
    oracle: bool
    personal: bool
    how: str = ""
    without: tuple[str, ...] = ()

    def flags(self) -> dict[str, bool]:
        """For files that scripts read."""
        return {"transductive": self.transductive, "oracle": self.oracle, "personal": self.personal}

    def of_study(self) -> tuple[str, ...]:
        """Sentences for the front page."""
        said = list(self._of_all())
        if self.personal:
            said.append(
                f"Own models: the federated figures of a training site are of its own model, {self.how}. Those of all "
                "sites together and of a site that took no part are of the federation's adapter, the one in model/."
            )
        if len(self.without) == 1:
            said.append(f"Site {self.without[0]} has no model of its own: the federation's answers for it.")
        elif self.without:
            named = sentence_list(self.without)
            said.append(f"Sites {named} have no models of their own: the federation's answers for them.")
        return tuple(said)

    def of_site(self, name: str, *, trains: bool) -> tuple[str, ...]:
        """Sentences for the report of one site; ``trains``: whether it took part in training."""
        said = list(self._of_all())
        if name in self.without:
            said.append(f"Site {name} has no model of its own: the federation's answers for it.")
        elif self.personal and trains:
            said.append(
                f"This site's federated figures are of its own model, {self.how}; the adapter in model/ is the "
                "federation's."
            )
        return tuple(said)

    def _of_all(self) -> tuple[str, ...]:
        return (*((TRANSDUCTIVE,) if self.transductive else ()), *((ORACLE,) if self.oracle else ()))


def marks_of(study: Study, method: Method, data: StudyData, federated: Assessment) -> Marks:
    """The marks of a finished run; ``federated`` says which sites answered with models of their own."""
    known = study_marks(study, method, transductive=data.transductive)
    without = tuple(site.name for site in data.sites if known.personal and site.name not in federated.own)
    return replace(known, without=without)


def study_marks(study: Study, method: Method, *, transductive: bool) -> Marks:
    """The marks that follow from a study; ``transductive``: whether images that are tested on can be references."""
    epochs = study.personalisation.fine_tune_epochs
    how = []
    if any(prefix not in TRAINING_ONLY for prefix in method.local):
        how.append("with its own norms")
    if epochs > 0:
        how.append(f"fine-tuned there for {plural(epochs, 'epoch')}")
    return Marks(
        transductive=transductive and looks_at_reference(study),
        oracle=study.reference.labels_known,
        personal=bool(how),
        how=" and ".join(how),
    )


def looks_at_reference(study: Study) -> bool:
    """Whether any figure can depend on the reference set; the same images change nothing for other methods."""
    return study.adapts or getattr(getattr(study, study.table, None), "normalisation", "") == "batch-local"

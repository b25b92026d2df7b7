"""Sites and a coordinator of a toy study, each with a home or folder of its own and one roster, not opened yet."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wardround.platform.adapter_file import AdapterInfo
from wardround.platform.coordinator import Coordinator
from wardround.platform.coordinator_side import open_coordinator, standing
from wardround.platform.enrolment import draw_roster, enrol_together
from wardround.platform.site_side import SiteSide, count_of, open_site
from wardround.platform.terms import Terms, figures_of, study_layout, terms_of
from wardround.privacy.home import SiteHome
from wardround.privacy.identity import Identity
from wardround.privacy.ledger.log import Ledger


def identity_of(name: str) -> Identity:
    return Identity.from_seed(hashlib.sha256(name.encode()).digest())


def terms_for(made: Any, backbone: str, **samples: int) -> Terms:
    """Terms that all sites signed; a site can have stated another number."""
    study, method, shared = made.study, made.method, made.data.shared
    layout, classes = study_layout(study, method, shared), len(made.data.cohort.dataset.classes)
    counts = {site.name: count_of(study, site) for site in made.data.sites} | samples
    keys = {name: identity_of(name) for name in counts}
    figures = figures_of(study, layout, classes=classes, sites=len(counts))
    public = {name: key.public_key for name, key in keys.items()}
    own = identity_of("coordinator").public_key
    pinned = enrol_together(draw_roster(study, method, layout, public, counts, own, figures), keys)
    return terms_of(study, method, shared, pinned, backbone, classes=classes)


@dataclass
class Parties:
    """Opens what a test asks for, below one folder."""

    made: Any
    terms: Terms
    root: Path

    def site(self, stack: ExitStack, name: str = "site-1", terms: Terms | None = None, **options: Any) -> SiteSide:
        home = stack.enter_context(SiteHome.open(self.root / "homes", name))
        (data,) = (site for site in self.made.data.sites if site.name == name)
        return open_site(stack, terms or self.terms, home, identity_of(name), self.made.data, data, **options)

    def coordinator(self, stack: ExitStack, clock: Any, *, begun: bool = False) -> tuple[Coordinator, Ledger]:
        terms, run = self.terms, self.made.run
        info = AdapterInfo(terms.digest, terms.method.name, 0, terms.backbone)
        at = standing(terms.start, terms.layout, info, run.coordinator, remembers=False)
        return open_coordinator(stack, terms, run, identity_of("coordinator"), at, clock, begun=begun)

    def state(self, name: str = "site-1") -> Path:
        with SiteHome.open(self.root / "homes", name) as home:
            return home.state(self.terms.digest)

    def other(self, backbone: str, **samples: int) -> Terms:
        """Terms of the same study under another roster."""
        return terms_for(replace(self.made), backbone, **samples)

"""A kit is taken only if its roster is the one that is drawn here, and nothing of FLARE comes with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from wardround.platform.engines.nvflare.authority import Authority
from wardround.platform.engines.nvflare.kits import KitError, check_kit
from wardround.platform.enrolling.documents import Signed, project_of, sign_document
from wardround.platform.enrolling.errors import EnrolmentError
from wardround.platform.enrolling.installing import install_kit
from wardround.platform.enrolling.kinds import Kit
from wardround.privacy.identity import Identity
from wardround.privacy.secure_aggregation.parameters import Thresholds
from wardround.privacy.secure_aggregation.roster import Roster, RosterSite

from .hospitals import ONE, SITES, Place, approve_one, identity_of
from .paper_sites import PASSPHRASE


def forged(place: Place, signer: Identity | None = None, **changes: Any) -> Signed[Kit]:
    """The site's kit with values changed, signed by the coordinator again."""
    identity = signer or place.folder.read_identity(PASSPHRASE)
    return sign_document(msgspec.structs.replace(place.kit().document, **changes), identity)


def other_roster(place: Place, change: Callable[[Roster], Roster]) -> Signed[Kit]:
    roster = Roster.from_bytes(place.kit().document.roster.encode())
    return forged(place, roster=change(roster).to_bytes().decode())


def with_site(roster: Roster, which: str, **changes: Any) -> Roster:
    sites = [msgspec.structs.replace(site, **changes) if site.name == which else site for site in roster.sites]
    return replace(roster, sites=tuple(sorted(sites, key=lambda site: site.name)), evaluation_cohort=())


def test_a_kit_is_installed_and_every_file_of_flare_is_written_here(joined: Place) -> None:
    folder = joined.site()
    done = install_kit(folder, joined.kit())
    assert done.new
    assert done.roster.names == SITES
    assert done.terms.digest == folder.digest
    assert check_kit(folder.flare, authority=done.authority) == []
    again = install_kit(folder, joined.kit())
    assert not again.new
    assert folder.kit.read_bytes() == joined.kit().data


CHANGES: dict[str, tuple[Callable[[Roster], Roster], str]] = {
    "a coarser bound": (
        lambda roster: replace(
            roster,
            vectors={
                purpose: tuple(replace(block, fraction_bits=max(0, block.fraction_bits - 1)) for block in blocks)
                for purpose, blocks in roster.vectors.items()
            },
        ),
        "bounds of the sum",
    ),
    "a smaller threshold": (
        lambda roster: replace(roster, thresholds=Thresholds(3, 3, 3)),
        "threshold and cohort",
    ),
    "a sum less": (
        lambda roster: replace(roster, vectors={p: b for p, b in roster.vectors.items() if p != "evaluation"}),
        "which sums",
    ),
    "another weighting": (lambda roster: replace(roster, weighting="uniform"), "weighting"),
    "another cap": (lambda roster: replace(roster, w_max=1.5), "cap of weights"),
    "another key of this site": (
        lambda roster: with_site(roster, ONE, public_key=identity_of("nobody").public_key.hex()),
        "another key for this site",
    ),
    "another number of this site": (lambda roster: with_site(roster, ONE, samples=99), "its request said"),
    "without this site": (lambda roster: with_site(roster, ONE, name="zeder"), "does not list this site"),
    "a stranger": (lambda roster: with_site(roster, "birch", name="zeder"), "no site of the study"),
    "another study": (lambda roster: replace(roster, study=bytes(32)), "another study or coordinator"),
    "another coordinator": (
        lambda roster: replace(roster, coordinator_key=identity_of("nobody").public_key.hex()),
        "another study or coordinator",
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_roster_that_is_not_the_one_drawn_here_is_refused(joined: Place, what: str) -> None:
    change, words = CHANGES[what]
    with pytest.raises(EnrolmentError, match=words):
        install_kit(joined.site(), other_roster(joined, change))
    assert not joined.site().kit.exists()
    assert not joined.site().flare.exists()


def test_other_sites_and_their_numbers_are_the_coordinators_to_say(joined: Place) -> None:
    kit = other_roster(
        joined, lambda roster: with_site(roster, "birch", public_key=identity_of("new").public_key.hex())
    )
    assert install_kit(joined.site(), kit).new


def test_a_kit_that_the_coordinator_did_not_sign_is_refused(joined: Place) -> None:
    with pytest.raises(EnrolmentError, match="signature"):
        install_kit(joined.site(), forged(joined, identity_of("nobody")))


def test_a_kit_of_another_site_or_invitation_is_refused(joined: Place) -> None:
    with pytest.raises(EnrolmentError, match="for 'birch'"):
        install_kit(joined.site(), joined.kit("birch"))
    with pytest.raises(EnrolmentError, match="another invitation"):
        install_kit(joined.site(), forged(joined, invitation_sha256="ab" * 32))


def test_certificates_must_be_for_this_sites_own_key_and_name(joined: Place) -> None:
    birch = joined.kit("birch").document.certificate
    with pytest.raises(KitError):
        install_kit(joined.site(), forged(joined, certificate=birch))
    joined.site().tls_key.write_bytes(joined.site("birch").tls_key.read_bytes())
    with pytest.raises(KitError, match="not for the key"):
        install_kit(joined.site(), joined.kit())
    assert not joined.site().kit.exists()


def test_a_second_kit_renews_certificates_and_never_the_roster(joined: Place) -> None:
    folder = joined.site()
    install_kit(folder, joined.kit())
    newer = forged(joined, created=joined.kit().document.created + 5)
    assert install_kit(folder, newer).new
    with pytest.raises(EnrolmentError, match="older"):
        install_kit(folder, joined.kit())
    other = other_roster(joined, lambda roster: with_site(roster, "birch", samples=77))
    with pytest.raises(EnrolmentError, match="another roster"):
        install_kit(folder, other)


def test_a_second_kit_is_of_the_first_ones_authority(joined: Place, tmp_path: Path) -> None:
    folder, kit = joined.site(), joined.kit().document
    install_kit(folder, joined.kit())
    other = Authority.create(tmp_path / "authority", project_of(folder.digest))
    certificate = other.sign_site(folder.signing_request.read_bytes(), ONE).decode()
    authority = next(path for path in (tmp_path / "authority").iterdir() if b"CERTIFICATE" in path.read_bytes())
    changes = {"authority": authority.read_text(), "certificate": certificate, "created": kit.created + 5}
    with pytest.raises(EnrolmentError, match="of another authority") as refused:
        install_kit(folder, forged(joined, **changes))
    assert "Ask the coordinator" in (refused.value.remedy or "")
    assert folder.kit.read_bytes() == joined.kit().data
    folder.kit.unlink()
    assert install_kit(folder, forged(joined, **changes)).new  # it would hold, were it the first one


def test_after_the_approval_no_other_roster_is_taken_even_without_the_former_kit(joined: Place) -> None:
    folder = joined.site()
    install_kit(folder, joined.kit())
    approve_one(joined)
    folder.kit.unlink()
    with pytest.raises(EnrolmentError, match="approved another roster"):
        install_kit(folder, other_roster(joined, lambda roster: with_site(roster, "birch", samples=77)))
    assert install_kit(folder, joined.kit()).new


def test_a_roster_with_a_second_key_of_one_party_is_no_roster(joined: Place) -> None:
    roster = Roster.from_bytes(joined.kit().document.roster.encode())
    text = joined.kit().document.roster.replace(roster.sites[1].public_key, roster.sites[2].public_key)
    with pytest.raises(EnrolmentError, match="cannot be used"):
        install_kit(joined.site(), forged(joined, roster=text))
    assert isinstance(roster.sites[0], RosterSite)

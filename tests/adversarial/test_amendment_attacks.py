"""A server that shows auditors amendments which k of them did not make."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.auditor_world import AUDITOR, CLIENT, GALLERY, Operator, World, world
from tests.redaction_oracle import amendment_of
from underseal_auditor.mirror import Mirror
from underseal_auditor.store.database import Database
from underseal_core.amendment import Amendment
from underseal_core.errors import Damaged
from underseal_core.signing import Envelope, Identity

ENROLLERS = {"agency": CLIENT.public_key}
UNIT = 1


def mirrored(of: World, operator: Operator, folder: Path) -> int:
    with closing(Database(folder / "auditor.sqlite")) as database:
        mirror = Mirror(database, rosters=[of.roster])
        return mirror.update("server", GALLERY, operator, of.pin, ENROLLERS)


def prepared() -> tuple[World, Operator, list[bytes], Envelope]:
    """A gallery of which two templates were removed, and an honest amendment that erases them."""
    of = world("swift", 2, 3)
    operator = of.operator.copy()
    token = operator.units[UNIT].token
    for index, entry in enumerate(operator.entries):
        if entry.unit_token == token and entry.place in (1, 2):
            operator.remove(index)
    return of, operator, *amendment_of(of, operator, UNIT, (1, 2))


def by_stranger(amendment: Envelope) -> Envelope:
    forged = Identity.generate().sign(amendment.payload_type, amendment.payload)
    return replace(amendment, signatures=(*amendment.signatures[:1], *forged.signatures))


def by_one(amendment: Envelope) -> Envelope:
    return replace(amendment, signatures=amendment.signatures[:1])


def twice_by_one(amendment: Envelope) -> Envelope:
    return replace(amendment, signatures=amendment.signatures[:1] * 2)


def test_an_honest_amendment_is_taken(tmp_path: Path) -> None:
    of, operator, parts, amendment = prepared()
    operator.amend(UNIT, parts, amendment)
    assert mirrored(of, operator, tmp_path) == operator.version


@pytest.mark.parametrize("forge", [by_stranger, by_one, twice_by_one])
def test_fewer_than_k_cannot_replace_a_unit(
    tmp_path: Path, forge: Callable[[Envelope], Envelope]
) -> None:
    of, operator, parts, amendment = prepared()
    operator.amend(UNIT, parts, forge(amendment))
    with pytest.raises(Damaged, match="did not sign"):
        mirrored(of, operator, tmp_path)


def test_an_amendment_is_of_its_own_unit(tmp_path: Path) -> None:
    """One that auditors did sign, shown with the token or the hash of another unit."""
    of, operator, parts, amendment = prepared()
    operator.amend(UNIT, parts, amendment)
    told = operator.amended[0]
    operator.amended[0] = replace(told, token=operator.units[0].token)
    with pytest.raises(Damaged):
        mirrored(of, operator, tmp_path)
    operator.amended[0] = replace(told, sha256=bytes(32))
    with pytest.raises(Damaged, match="another unit"):
        mirrored(of, operator, tmp_path)


def test_an_amendment_of_what_another_enrolled(tmp_path: Path) -> None:
    of, operator, _, _ = prepared()
    parts, amendment = amendment_of(of, operator, UNIT, (1, 2), enrolled_sha256="ab" * 32)
    operator.amend(UNIT, parts, amendment)
    with pytest.raises(Damaged, match="another unit"):
        mirrored(of, operator, tmp_path)


def test_erased_templates_are_not_live(tmp_path: Path) -> None:
    """A server that had templates erased which its catalogue goes on to show."""
    of, operator, _, _ = prepared()
    operator.amend(UNIT, *amendment_of(of, operator, UNIT, (0, 1, 2)))
    with pytest.raises(Damaged, match="erases what is enrolled"):
        mirrored(of, operator, tmp_path)


def test_the_registrar_alone_signs_nothing_for_k(tmp_path: Path) -> None:
    of, operator, parts, amendment = prepared()
    alone = Amendment.parse(amendment.payload).sign(AUDITOR)
    operator.amend(UNIT, parts, alone)
    with pytest.raises(Damaged, match="did not sign"):
        mirrored(of, operator, tmp_path)

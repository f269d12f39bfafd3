"""Units of earlier key epochs: signed, fetched, re-encrypted by the auditor itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.plain_form import unit_digest
from tests.server_fixtures import unit_vectors
from tests.server_harness import ciphertexts
from tests.server_rotation import CouncilLab, follow, succession
from underseal_auditor.converted import EarlierUnits
from underseal_auditor.verify.catalogue import Attested
from underseal_core.epochs import EarlierEpochs
from underseal_core.errors import Damaged, Mismatch, NotFound
from underseal_core.gallery.files import LocalFiles
from underseal_core.gallery.unit import Placement, Shape, Unit
from underseal_core.gallery.unit_files import UNIT_KINDS, UnitFiles
from underseal_core.provenance import Enrolled, EnrolReceipt
from underseal_core.scheme.ciphertext import Ciphertext, parse_ciphertext
from underseal_core.scheme.reencryption import Reencryptor

MOVE = succession()
OLD, NEW = CouncilLab.of(MOVE.old), CouncilLab.of(MOVE.new)
EARLIER = EarlierEpochs((MOVE.key,))
NOTHING_KEPT = EarlierUnits(NEW.bundle, EARLIER, {})
TOKEN = bytes(range(16))
GALLERY = "missing"


@dataclass
class Stored:
    """A server's unit files by key epoch; the present epoch's under its own name and empty."""

    units: dict[str, list[bytes]]

    def unit(self, gallery: str, token: bytes, epoch: str = "") -> Iterator[bytes]:
        assert (gallery, token) == (GALLERY, TOKEN)
        if epoch not in self.units:
            raise NotFound("units of this key epoch are not kept any more")
        yield from self.units[epoch]


@dataclass(frozen=True)
class Enrolment:
    unit: Unit
    receipt: EnrolReceipt
    signed: list[bytes]
    moved: list[bytes]

    def server(self) -> Stored:
        return Stored({OLD.pin.key_epoch: list(self.signed), "": list(self.moved)})

    def own(self, server: Stored, kept: EarlierUnits) -> list[bytes]:
        sha256 = bytes.fromhex(self.receipt.unit_sha256)
        signed = replace(self.unit, sha256=sha256)
        attested = Attested(GALLERY, self.receipt.pin.key_epoch, signed)
        return list(kept.unit(server, "server", attested))


@pytest.fixture(scope="module", params=list(Shape))
def enrolment(request: pytest.FixtureRequest) -> Enrolment:
    shape: Shape = request.param
    sealed = ciphertexts(OLD, unit_vectors(3), shape)
    with Reencryptor(MOVE.key.profile, MOVE.key.key) as switch:
        moved = [ciphertext.to_bytes() for ciphertext in switch.unit(sealed)]
    signed = [ciphertext.to_bytes() for ciphertext in sealed]
    leaves = [bytes(64)] * 3
    made = Enrolled(GALLERY, OLD.pin, TOKEN, shape, leaves, unit_digest(signed))
    placement = Placement(0, 0, shape.step(OLD.dimension), 3)
    unit = Unit(token=TOKEN, shape=shape, placement=placement, sha256=unit_digest(moved))
    return Enrolment(unit, made.receipt("agency", "2026-01-01T00:00:00Z"), signed, moved)


def test_an_auditor_gets_what_an_honest_server_holds(enrolment: Enrolment) -> None:
    assert enrolment.own(enrolment.server(), NOTHING_KEPT) == enrolment.moved


def test_the_servers_own_reencryption_is_not_even_asked_for(enrolment: Enrolment) -> None:
    server = enrolment.server()
    server.units[""] = [bytes(len(part)) for part in enrolment.moved]
    assert unit_digest(enrolment.own(server, NOTHING_KEPT)) == enrolment.unit.sha256


def test_a_changed_original_is_refused(enrolment: Enrolment) -> None:
    server = enrolment.server()
    first = enrolment.signed[0]
    other = bytes(first[:8]) + bytes(4) + first[12:]
    assert other != first
    server.units[OLD.pin.key_epoch] = [other, *enrolment.signed[1:]]
    with pytest.raises(Damaged, match="another unit than was enrolled"):
        enrolment.own(server, NOTHING_KEPT)
    server.units[OLD.pin.key_epoch] = [first[:-4], *enrolment.signed[1:]]
    with pytest.raises(Damaged):
        enrolment.own(server, NOTHING_KEPT)


def test_without_the_original_the_unit_cannot_be_checked(enrolment: Enrolment) -> None:
    server = enrolment.server()
    del server.units[OLD.pin.key_epoch]
    with pytest.raises(Mismatch, match="nobody has a copy") as refused:
        enrolment.own(server, NOTHING_KEPT)
    assert "put the replica" in refused.value.hint


def test_what_the_auditor_had_before_serves_as_well(enrolment: Enrolment, tmp_path: Path) -> None:
    folder = tmp_path / "server" / GALLERY / "units"
    folder.mkdir(parents=True)
    files = UnitFiles(LocalFiles(folder), MOVE.key.profile, OLD.dimension)
    with files.stage(enrolment.unit.shape) as staged:
        for part in enrolment.signed:
            staged.write(part)
        files.keep(staged, TOKEN)
    server = Stored({})
    assert (
        enrolment.own(server, EarlierUnits(NEW.bundle, EARLIER, {OLD.pin.key_epoch: tmp_path}))
        == enrolment.moved
    )


def test_a_unit_goes_through_every_epoch_since(enrolment: Enrolment) -> None:
    third = follow(MOVE.new)
    earlier = EarlierEpochs((MOVE.key, third.key))
    found = enrolment.own(enrolment.server(), EarlierUnits(third.new.bundle, earlier, {}))
    sealed = ciphertexts_of(enrolment.moved, enrolment.unit.shape)
    with Reencryptor(third.key.profile, third.key.key) as switch:
        assert found == [ciphertext.to_bytes() for ciphertext in switch.unit(sealed)]


def ciphertexts_of(parts: list[bytes], shape: Shape) -> list[Ciphertext]:
    return [parse_ciphertext(part, MOVE.key.profile, UNIT_KINDS[shape]) for part in parts]

"""Ceremonies between processes over mutual TLS."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from tests.ceremony_place import PASSPHRASE, Council, council
from tests.oracles.ceremonies import joint_secret
from underseal_auditor.api.ceremony_process import CeremonyProcess, MemberPlace
from underseal_auditor.connection import MemberConnection
from underseal_auditor.keys import share_file
from underseal_auditor.keys.ceremony_file import CeremonyFile
from underseal_auditor.keys.decryption import Opener, encrypt_zero
from underseal_auditor.keys.messages import Round
from underseal_auditor.keys.phases import payload_size
from underseal_auditor.keys.sampling import SecretStream
from underseal_auditor.keys.share import Share
from underseal_core.bundle import PublicBundle, load_bundle
from underseal_core.credentials import Credentials, Role
from underseal_core.errors import Conflict, InvalidInput, PermissionRefused
from underseal_core.scheme.ciphertext import Ciphertext, Kind
from underseal_server.pki import Authority, issue

SIGMA = 2.0**-6


def keys_of(made: Council) -> tuple[PublicBundle, tuple[Share, ...]]:
    bundles = [load_bundle(made.out(point) / "bundle.usb") for point in range(1, made.count + 1)]
    assert len({bundle.epoch for bundle in bundles}) == 1
    shares = tuple(
        share_file.load(made.out(point) / "share.sealed", PASSPHRASE.encode(), bundles[0].epoch)
        for point in range(1, made.count + 1)
    )
    return bundles[0], shares


def check_every_group(bundle: PublicBundle, shares: tuple[Share, ...]) -> None:
    level = bundle.profile.result_level
    zero = encrypt_zero(bundle.public_key, bundle.profile, level, SecretStream())
    ciphertext = Ciphertext(bundle.profile, Kind.RESULT, zero)
    secret = joint_secret(shares[: bundle.threshold])
    for group in combinations(shares, bundle.threshold):
        opened = Opener(group, bundle).open(ciphertext, SIGMA)
        assert float(opened.std()) == pytest.approx(SIGMA, rel=0.06)
        assert np.array_equal(joint_secret(group), secret)
    for group in combinations(shares, bundle.threshold - 1):
        assert (joint_secret(group) != secret).mean() > 0.99


@pytest.mark.parametrize(("threshold", "count"), [(2, 3), (3, 5)])
def test_members_on_different_ports_make_keys(threshold: int, count: int, tmp_path: Path) -> None:
    made = council(tmp_path, threshold, count, by_command=count == 3)
    with made.joining() as members:
        facts = [member.facts() for member in members]
    assert len({fact["fingerprint"] for fact in facts}) == 1
    assert [fact["point"] for fact in facts] == list(range(1, count + 1))
    assert all(fact["unreached"] == [] for fact in facts)
    bundle, shares = keys_of(made)
    assert bundle.threshold == threshold
    check_every_group(bundle, shares)
    for point in range(1, count + 1):
        assert (made.out(point) / "label.sealed").exists() == (point == 1)
        assert not (made.state(point) / "member.sealed").exists()
        assert not (made.state(point) / "ceremony" / "secret.sealed").exists()


def test_member_killed_after_every_round_goes_on(tmp_path: Path) -> None:
    made = council(tmp_path, 2, 3)
    with made.joining() as members:
        victim = members[1]
        victim.until("listening")
        victim.kill()
        for number in range(1, 6):
            victim.start()
            victim.until(f"round {number} of 6")
            victim.kill()
        victim.start()
        facts = [member.facts() for member in members]
    assert len({fact["key_epoch"] for fact in facts}) == 1
    check_every_group(*keys_of(made))


def test_two_of_five_members_killed_in_different_rounds_go_on(tmp_path: Path) -> None:
    made = council(tmp_path, 3, 5)
    with made.joining() as members:
        for victim, number in ((members[4], 2), (members[3], 4)):
            victim.until(f"round {number} of 6")
            victim.kill()
            victim.start()
        facts = [member.facts() for member in members]
    assert len({fact["key_epoch"] for fact in facts}) == 1
    assert all(fact["unreached"] == [] for fact in facts)
    check_every_group(*keys_of(made))


def test_finished_member_still_serves_one_that_was_away(tmp_path: Path) -> None:
    made = council(tmp_path, 2, 3)
    with made.joining() as members:
        members[2].until("round 5 of 6")
        members[2].kill()
        members[0].until("listening")
        members[0].process.terminate()
        code, _ = members[0].end()
        assert code == 6
        for member in (members[0], members[2]):
            member.start()
        assert all(member.facts()["unreached"] == [] for member in members)
    check_every_group(*keys_of(made))


def test_wrong_addresses_or_identity_are_refused(tmp_path: Path) -> None:
    made = council(tmp_path, 2, 3)
    file = CeremonyFile.parse(made.file.read_bytes())
    place = MemberPlace(made.credentials(1), made.state(1), made.out(1), "127.0.0.1:0", {2: "h:1"})
    with pytest.raises(InvalidInput, match="addresses of members"):
        CeremonyProcess(file, place, b"p")
    issue(Authority.create(), tmp_path / "stranger", Role.AUDITOR, "stranger")
    with pytest.raises(InvalidInput, match="does not name this identity"):
        CeremonyProcess(file, replace(place, credentials=tmp_path / "stranger"), b"p")
    issue(Authority.create(), tmp_path / "client", Role.CLIENT, "client")
    with pytest.raises(InvalidInput, match="not an auditor's"):
        CeremonyProcess(file, replace(place, credentials=tmp_path / "client"), b"p")
    made.out(1).mkdir()
    (made.out(1) / "share.sealed").touch()
    with pytest.raises(Conflict, match="exists already"):
        CeremonyProcess(file, replace(place, peers={2: "h:1", 3: "h:2"}), b"p")


def test_auditor_outside_the_ceremony_gets_no_message(tmp_path: Path) -> None:
    """A valid certificate of the same authority is not enough."""
    made = council(tmp_path, 2, 3)
    authority = Authority.load(tmp_path / "credentials" / "ca")
    issue(authority, tmp_path / "stranger", Role.AUDITOR, "stranger")
    file = CeremonyFile.parse(made.file.read_bytes())
    with made.joining() as members:
        members[0].until("listening")
        address = f"127.0.0.1:{made.ports[0]}"
        stranger = Credentials.load(tmp_path / "stranger")
        size = partial(payload_size, file)
        link = MemberConnection(address, stranger, file, 1, size)
        with pytest.raises(PermissionRefused, match="no member"):
            link.commitment(Round.NONCE)
        with pytest.raises(PermissionRefused, match="no member"):
            link.reveal(Round.NONCE)
        link.close()

"""Attacks on the change of key epochs, with the real keys of real ceremonies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from tests.oracles import seal_keys
from tests.oracles.ceremonies import finished, joint_secret
from tests.oracles.rotations import context, plan, rotated, successor
from tests.oracles.seal_evaluation import F64, U32, unit_vectors
from tests.server_harness import make_credentials, serving
from tests.server_rotation import succession
from underseal_auditor.keys.elements import gadget, times_integers
from underseal_auditor.keys.rotation import RotationContext, rotation_member
from underseal_auditor.keys.share import Share
from underseal_auditor.keys.sharing import lagrange
from underseal_auditor.keys.switching import contribute
from underseal_auditor.store.ceremony_journal import CeremonyJournal
from underseal_auditor.store.contribution_record import ContributionRecord
from underseal_client import Client, ClientSettings
from underseal_core.bundle import load_bundle
from underseal_core.epochs import load_earlier
from underseal_core.errors import Conflict, Damaged, Mismatch
from underseal_core.ring import kernel
from underseal_core.roster import Generation
from underseal_core.scheme.ciphertext import Ciphertext
from underseal_core.scheme.encoding import decode_coefficients
from underseal_core.scheme.encryption import Encryptor
from underseal_core.scheme.profiles import SWIFT, Profile
from underseal_core.scheme.reencryption import Reencryptor
from underseal_core.signing import Identity
from underseal_core.switching import SwitchingKey, parse_switching_key, verify_switching_key
from underseal_server.engine.keys import KeyEpochs, SwitchingKeys
from underseal_server.settings import Settings

SUCCESSION = succession()
DIMENSION = 16
CLOSE = 1e-3
PASSPHRASE = b"correct horse battery"


def opened(profile: Profile, secret: U32, ciphertext: Ciphertext) -> F64:
    """Open with SEAL, as a holder of this secret would."""
    key = seal_keys.secret_to_seal(profile, secret)
    message = seal_keys.decrypt(profile, key, ciphertext.residues, 1.0)
    scale = ciphertext.kind.scale(profile, DIMENSION)
    return decode_coefficients(message, profile, ciphertext.residues.shape[1], scale)


def weighted_sum(shares: tuple[Share, ...]) -> U32:
    """What these shares interpolate to, be they enough or not."""
    profile = shares[0].profile
    primes = profile.key_primes
    points = [share.point for share in shares]
    total: U32 = np.zeros_like(shares[0].secret)
    for share in shares:
        factors = tuple(lagrange(share.point, points, prime) for prime in primes)
        total = kernel.add(total, times_integers(share.secret, factors, primes), primes)
    return total


@pytest.mark.parametrize("before", [(2, 3), (3, 5)], ids=str)
def test_old_shares_open_nothing_of_the_new_gallery(before: tuple[int, int]) -> None:
    """Every subset of the old shares, all of them included, against a re-encrypted unit."""
    move = rotated("swift", before, (2, 3))
    templates = unit_vectors(np.random.default_rng(1), SWIFT.degree // DIMENSION, DIMENSION)
    bundle = move.old.bundle
    encryptor = Encryptor(SWIFT, DIMENSION, bundle.public_key)
    unit = encryptor.encrypt_row(templates)
    wanted = templates.ravel()
    whole = weighted_sum(move.old.shares[: before[0]])
    assert np.abs(opened(SWIFT, whole, unit) - wanted).max() < CLOSE  # they did open the old one
    with Reencryptor(SWIFT, move.key.key) as switch:
        (moved,) = switch.unit([unit])
    new = joint_secret(move.new.shares[:2])
    assert np.abs(opened(SWIFT, new, moved) - wanted).max() < CLOSE
    for count in range(1, before[1] + 1):
        for group in combinations(move.old.shares, count):
            found = opened(SWIFT, weighted_sum(group), moved)
            assert np.median(np.abs(found)) > 1.0  # spread over the modulus, far from a component
            assert abs(float(np.corrcoef(found, wanted)[0, 1])) < 0.1


def test_a_contribution_hides_the_share_from_all_who_lack_the_new_key() -> None:
    """The other old members, all new ones but enough, and both together."""
    old = finished("swift", 2, 3)
    new = successor(old, 2, 3)
    file = plan(old, new, (1, 2))
    attacked = context(old, new, file, 1)
    share, stream = attacked.old_share, attacked.stream
    assert share is not None
    part = contribute(share, (1, 2), new.bundle, stream)
    primes = SWIFT.key_primes
    factors = tuple(lagrange(1, (1, 2), prime) for prime in primes)
    wanted = gadget(times_integers(share.secret, factors, primes), 0, SWIFT)

    def distance(secret: U32) -> int:
        first, second = (np.ascontiguousarray(part[0, half]) for half in range(2))
        found = kernel.add(first, kernel.multiply(second, secret, primes), primes)
        small = kernel.ntt_inverse(kernel.subtract(found, wanted, primes), primes).astype(np.int64)
        centred = np.where(small[0] > primes[0] // 2, small[0] - primes[0], small[0])
        return int(np.median(np.abs(centred)))

    assert distance(joint_secret(new.shares[:2])) < 1 << 14  # enough new members do see it
    outsiders = [weighted_sum(group) for group in combinations(old.shares[1:], 2)]
    outsiders += [weighted_sum((single,)) for single in (*old.shares[1:], *new.shares)]
    for secret in outsiders:
        assert distance(secret) > primes[0] // 8


def test_member_asked_twice_with_other_members_contributes_once(tmp_path: Path) -> None:
    """An old member is talked into a second rotation between the same epochs, with other helpers.

    Its journal of the first one is out of sight: the attacker names another folder.
    """
    old = finished("swift", 2, 3)
    new = successor(old, 2, 3)
    first, second = plan(old, new, (1, 2)), plan(old, new, (1, 3))
    share_folder = tmp_path / "keys"
    share_folder.mkdir()

    def asked(base: RotationContext, journal: str) -> None:
        record = ContributionRecord(share_folder, base.file, 1, SWIFT)
        memory = CeremonyJournal(tmp_path / journal, base.file, base.participant, PASSPHRASE)
        rotation_member(replace(base, once=record.once), memory).commit()

    asked(context(old, new, first, 1), "first")
    with pytest.raises(Conflict, match="has contributed"):
        asked(context(old, new, second, 1), "second")


def test_share_of_an_older_generation_is_not_contributed() -> None:
    """A member is talked into wasting the only contribution that it ever makes."""
    old = finished("swift", 2, 3)
    new = successor(old, 2, 3)
    base = context(old, new, plan(old, new, (1, 2)), 1)
    asked: list[str] = []

    def once(make: Callable[[], U32]) -> U32:
        asked.append("contribution")
        return make()

    refreshed = Generation(1, "ab" * 32)
    with pytest.raises(Mismatch, match="not of today's generation"):
        rotation_member(replace(base, generation=refreshed, once=once)).commit()
    assert asked == []


def test_switching_key_signed_by_fewer_than_k_old_members_is_refused() -> None:
    """One old member, all new ones, and an identity of the attacker's make a key of their own."""
    move = rotated()
    real = move.key
    planted = replace(real, key=np.ascontiguousarray(np.roll(real.key, 1, axis=0)))
    message = planted.signing_message()
    insider = move.old.members[1].identity.sign_bytes(message)
    everybody_new = tuple(member.identity.sign_bytes(message) for member in move.new.members)
    outsider = Identity.generate().sign_bytes(message)
    for second in (outsider, insider, real.old_signatures[1]):
        forged = replace(planted, old_signatures=(insider, second), new_signatures=everybody_new)
        with pytest.raises(Damaged, match="not signed by 2 members of the old"):
            verify_switching_key(
                parse_switching_key(forged.to_bytes()), move.old.bundle, move.new.bundle
            )
    alone = replace(planted, active=(2,), old_signatures=(insider,), new_signatures=everybody_new)
    with pytest.raises(Damaged, match="not signed by 2 members of the old"):
        verify_switching_key(
            parse_switching_key(alone.to_bytes()), move.old.bundle, move.new.bundle
        )


def forged_key() -> SwitchingKey:
    """One member short: an old member signs twice under two names, all new ones sign."""
    real = SUCCESSION.key
    planted = replace(real, key=np.ascontiguousarray(np.roll(real.key, 1, axis=0)))
    message = planted.signing_message()
    insider = SUCCESSION.old.members[0].identity.sign_bytes(message)
    signed = tuple(member.identity.sign_bytes(message) for member in SUCCESSION.new.members)
    return replace(planted, old_signatures=(insider, insider), new_signatures=signed)


def epochs_in(folder: Path) -> KeyEpochs:
    folder.mkdir()
    for bundle in (SUCCESSION.old.bundle, SUCCESSION.new.bundle):
        bundle.save(folder / f"{bundle.epoch}.usb")
    return KeyEpochs(folder, 1)


def test_server_moves_no_gallery_by_a_key_that_too_few_signed(tmp_path: Path) -> None:
    """Neither by the command nor when somebody lays the file into its folder."""
    switching = SwitchingKeys(tmp_path, epochs_in(tmp_path / "bundles"))
    forged = forged_key()
    forged.save(tmp_path / "forged.usk")
    with pytest.raises(Damaged, match="not signed by 2 members of the old"):
        switching.add(tmp_path / "forged.usk")
    forged.save(tmp_path / f"{forged.old_epoch}.usk")
    with pytest.raises(Damaged, match="not signed by 2 members of the old"):
        switching.successor(forged.old_epoch)


def test_client_follows_no_server_to_keys_that_too_few_signed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that checks nothing itself passes on a forged key, for a bundle of its choice."""
    credentials = make_credentials(tmp_path / "credentials")
    monkeypatch.setattr(SwitchingKeys, "_check", lambda *_: None)
    settings = Settings(
        listen="127.0.0.1:0",
        data=tmp_path / "data",
        credentials=credentials / "server",
        threads=1,
    )
    bundle = tmp_path / "client" / "bundle.usb"
    bundle.parent.mkdir()
    SUCCESSION.old.bundle.save(bundle)
    before = bundle.read_bytes()
    with serving(settings) as server:
        for made in (SUCCESSION.old.bundle, SUCCESSION.new.bundle):
            made.save(settings.data / "bundles" / f"{made.epoch}.usb")
        forged = forged_key()
        forged.save(settings.data / "switching" / f"{forged.old_epoch}.usk")
        own = ClientSettings(
            server=f"127.0.0.1:{server.port}",
            credentials=credentials / "agency",
            bundle=bundle,
            state=tmp_path / "client" / "state.sqlite",
        )
        with Client(own) as client:
            with pytest.raises(Damaged, match="not signed by 2 members of the old"):
                client.update_bundle()
            assert bundle.read_bytes() == before
            assert not (bundle.parent / "earlier").exists()
        SUCCESSION.key.save(settings.data / "switching" / f"{forged.old_epoch}.usk")
        with Client(own) as client:
            assert client.update_bundle() == (SUCCESSION.new.bundle.epoch,)
    assert load_bundle(bundle).epoch == SUCCESSION.new.bundle.epoch


def test_auditor_takes_no_unit_from_an_epoch_that_too_few_signed_away(tmp_path: Path) -> None:
    """A folder of an earlier epoch counts only with a key that its members signed."""
    folder = tmp_path / "old"
    folder.mkdir()
    SUCCESSION.old.bundle.save(folder / "bundle.usb")
    forged_key().save(folder / "switching.usk")
    with pytest.raises(Damaged, match="not signed by 2 members of the old"):
        load_earlier([folder], SUCCESSION.new.bundle)
    SUCCESSION.key.save(folder / "switching.usk")
    assert load_earlier([folder], SUCCESSION.new.bundle).ids == {SUCCESSION.old.bundle.epoch}
    with pytest.raises(Damaged, match="does not lead"):
        load_earlier([folder], SUCCESSION.old.bundle)

"""Shares in the wrong hands: too few, stolen at different times, of a dismissed guardian."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, combinations
from pathlib import Path

import numpy as np
import pytest

from tests.auditor_credentials import write_credentials
from tests.auditor_guardians import Link, panel_of
from tests.auditor_world import (
    Answer,
    Desk,
    World,
    book_of,
    desk,
    policy,
    policy_text,
    unit,
    world,
    write_signed_policy,
)
from tests.ceremony_place import PROGRAM
from tests.oracles.ceremonies import finished, joint_secret, prepare
from tests.oracles.resharings import Council, copy_of, refreshed, replaced, reshare
from tests.resharing_place import CHEAP
from underseal_auditor.keys import share_file
from underseal_auditor.keys.ceremony_file import CeremonyFile
from underseal_auditor.keys.decryption import encrypt_zero
from underseal_auditor.keys.pairs import PairSecrets
from underseal_auditor.keys.resharing_file import ResharingFile
from underseal_auditor.keys.sampling import SecretStream
from underseal_auditor.keys.share import Share
from underseal_auditor.logbook import VKEY_NAME, create_logbook
from underseal_auditor.panel import Panel
from underseal_core.bundle import PublicBundle, parse_bundle
from underseal_core.errors import Busy, InvalidInput, Mismatch, PermissionRefused
from underseal_core.log_entries import encode_entry
from underseal_core.ring import kernel
from underseal_core.scheme.ciphertext import Ciphertext, Kind
from underseal_core.scheme.encoding import decode_coefficients, encode_row
from underseal_core.scheme.profiles import SWIFT
from underseal_server.pki import Authority

QUORUMS = [(2, 3), (3, 5)]
PROFILE = "swift"
PASSPHRASE = b"one for each guardian"
SCORE = 1.0


@pytest.mark.parametrize(("threshold", "count"), [(1, 2), (1, 3), (2, 4), (3, 6)])
def test_keys_that_two_groups_without_a_common_member_could_open_are_refused(
    threshold: int, count: int
) -> None:
    """Each group would answer the same ciphertext once: nobody knows of both answers."""
    file, _, _ = prepare(SWIFT, 16, count, count)
    with pytest.raises(InvalidInput, match="two groups") as refused:
        replace(file, threshold=threshold)
    assert refused.value.hint == f"choose a threshold of {count // 2 + 1} or more"
    with pytest.raises(InvalidInput, match="two groups"):
        CeremonyFile.parse(
            file.to_bytes().replace(b'shold":%d}' % count, b'shold":%d}' % threshold)
        )
    dealers = tuple(range(1, threshold + 1))
    with pytest.raises(InvalidInput, match="two groups"):
        ResharingFile(SWIFT, 16, threshold, "a" * 64, 1, "a" * 64, file.members, dealers)
    data = bytearray(finished(threshold=2, count=3).bundle.to_bytes())
    data[5:7] = threshold, count
    with pytest.raises(InvalidInput, match="two groups"):
        parse_bundle(bytes(data), "a" * 64)
    own = PairSecrets(1, count, bytearray(32 * (count - 1)))
    secret = finished(threshold=2, count=3).shares[0].secret.copy()
    with pytest.raises(InvalidInput, match="two groups"):
        Share(SWIFT, "a" * 64, threshold, secret, own)


# What shares open together, by plain arithmetic: an attacker's program checks no generation.


def sealed_score(bundle: PublicBundle) -> Ciphertext:
    """A result as the server has it: one score, encrypted under the public key."""
    profile, level = bundle.profile, bundle.profile.result_level
    residues = encrypt_zero(bundle.public_key, profile, level, SecretStream())
    primes = profile.data_primes[:level]
    scale = Kind.RESULT.scale(profile, bundle.dimension)
    template = np.zeros((1, bundle.dimension))
    template[0, 0] = SCORE
    message = encode_row(template, profile, bundle.dimension, scale)[:level]
    residues[0] = kernel.add(residues[0], np.ascontiguousarray(message), primes)
    return Ciphertext(profile, Kind.RESULT, residues)


def opens(shares: Iterable[Share], bundle: PublicBundle, result: Ciphertext) -> bool:
    """Whether any of these shares, alone or with any others of them, open the result.

    Every group of distinct points is tried as if it were the k that it takes.
    """
    held = tuple(shares)
    groups = chain.from_iterable(combinations(held, size) for size in range(1, len(held) + 1))
    profile, level = bundle.profile, result.residues.shape[1]
    primes = profile.data_primes[:level]
    scale = Kind.RESULT.scale(profile, bundle.dimension)
    for group in groups:
        if len({share.point for share in group}) < len(group):
            continue
        secret = joint_secret(group)[:level]
        product = kernel.multiply(result.residues[1], np.ascontiguousarray(secret), primes)
        message = kernel.add(np.ascontiguousarray(result.residues[0]), product, primes)
        values = decode_coefficients(message, profile, level, scale)
        if abs(values[0] - SCORE) < 0.01 and np.abs(values[1:]).max() < 0.01:
            return True
    return False


@pytest.mark.parametrize(("threshold", "count"), QUORUMS)
def test_fewer_than_k_shares_and_the_servers_view_open_nothing(threshold: int, count: int) -> None:
    ceremony = finished(threshold=threshold, count=count)
    result = sealed_score(ceremony.bundle)
    for group in combinations(ceremony.shares, threshold - 1):
        assert not opens(group, ceremony.bundle, result)
    for group in combinations(ceremony.shares, threshold):
        assert opens(group, ceremony.bundle, result)


@pytest.mark.parametrize(("threshold", "count"), QUORUMS)
def test_shares_stolen_before_and_after_a_refresh_open_nothing_together(
    threshold: int, count: int
) -> None:
    """k - 1 of the old with k - 1 of the new: more than one stolen before, and the rest after."""
    before, after = refreshed(threshold, count)
    result = sealed_score(after.bundle)
    for old in combinations(before.shares, threshold - 1):
        for new in combinations(after.shares, threshold - 1):
            assert not opens((*old, *new), after.bundle, result)
    assert opens(after.shares[:threshold], after.bundle, result)


@pytest.mark.parametrize(("threshold", "count"), QUORUMS)
def test_dismissed_guardian_and_k_minus_1_of_today_open_nothing(threshold: int, count: int) -> None:
    before, after = replaced(threshold, count)
    result = sealed_score(after.bundle)
    dismissed = before.shares[-1]
    for today in combinations(after.shares, threshold - 1):
        assert not opens((dismissed, *today), after.bundle, result)
    assert opens((*before.shares[: threshold - 1], dismissed), after.bundle, result)


# Openings: guardians and registrar with shares of different generations.


def renewed() -> tuple[World, World]:
    """A world of three guardians before and after a refresh."""
    of = world(PROFILE, 2, 3)
    shares = tuple(copy_of(share) for share in of.shares)
    after = reshare(Council(of.bundle, of.roster, of.members, shares), of.members)
    return of, replace(of, shares=after.shares, today=after.roster)


@contextmanager
def bench_of(folder: Path, of: World) -> Iterator[tuple[Desk, Panel, list[Link]]]:
    rules = policy(PROFILE)
    with (
        book_of(folder) as book,
        panel_of(folder, of, rules, book) as (panel, links),
        desk(folder, of, rules, guardian=panel, logbook=book) as office,
    ):
        yield office, panel, links


def missing(of: World) -> Answer:
    return of.ask(unit(1, 5)[0])


def restart(link: Link, of: World) -> None:
    """Start a guardian again with what this world holds."""
    link.stop()
    link.of = of
    link.start()


def test_guardian_of_an_older_generation_is_refused(tmp_path: Path) -> None:
    old, new = renewed()
    with bench_of(tmp_path, new) as (office, panel, links):
        assert office.submit(missing(new)).matches == ()
        restart(links[0], old)
        assert office.submit(missing(new)).matches == ()  # by 2 and 3
        links[2].down = True
        dossier = office.dossier(missing(new))
        with pytest.raises(Busy, match="too few guardians"):
            panel.begin(dossier)
        generation = new.roster.generation.sha256
        seen = [office.logbook.extends(dossier.intent, link.desk.log_size) for link in links]
        with pytest.raises(Mismatch, match="generation 0, not of the one to open"):
            links[0].commit(dossier, (1, 2), seen[0], generation)
        with pytest.raises(Mismatch, match="generation 1, not of the one to open"):
            links[1].commit(dossier, (1, 2), seen[1], old.roster.generation.sha256)


def test_old_share_that_passes_for_a_new_one_opens_nothing(tmp_path: Path) -> None:
    """A guardian's program that lies about its share, or a share file put back from a backup."""
    old, new = renewed()
    stale = copy_of(old.shares[1]).bound_to(new.bundle.epoch, new.roster.generation)
    with bench_of(tmp_path, replace(new, shares=(new.shares[0], stale, new.shares[2]))) as bench:
        office, _, links = bench
        links[2].down = True
        with pytest.raises(PermissionRefused, match="must be empty"):
            office.envelope(new.ask(new.people[3]))


# A share file that was stolen, or is out of date.


def serve(root: Path, passphrase: bytes) -> subprocess.CompletedProcess[str]:
    arguments: list[object] = ["guardian", "serve", "--listen", "127.0.0.1:0"]
    arguments += ["--credentials", root / "auditor", "--share", root / "share.sealed"]
    arguments += ["--bundle", root / "bundle.usb", "--policy", root / "policy.toml"]
    arguments += ["--data", root / "data", "--log-key", root / "log" / VKEY_NAME]
    arguments += ["--server", "server=127.0.0.1:1"]
    return subprocess.run(
        [PROGRAM, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "UNDERSEAL_PASSPHRASE": passphrase.decode()},
    )


def place(root: Path, of: World, point: int, holder: int) -> None:
    """A guardian's folder with one member's share and another's, or the same one's, identity."""
    create_logbook(root / "log", "log.example/stolen")
    of.bundle.save(root / "bundle.usb")
    write_signed_policy(root / "policy.toml", of, policy_text(PROFILE))
    share_file.save(root / "share.sealed", of.shares[point - 1], PASSPHRASE, CHEAP)
    write_credentials(Authority.create(), root / "auditor", "thief", of.members[holder - 1])


def test_stolen_share_file_is_useless(tmp_path: Path) -> None:
    """Without its passphrase it does not open; with it, it serves its own member only."""
    of = world(PROFILE, 2, 3)
    place(tmp_path, of, point=2, holder=3)
    assert of.shares[1].secret.tobytes()[:64] not in (tmp_path / "share.sealed").read_bytes()
    guessed = serve(tmp_path, b"a wrong guess")
    assert (guessed.returncode, "does not open" in guessed.stderr) == (5, True)
    opened = serve(tmp_path, PASSPHRASE)
    assert (opened.returncode, "another member's" in opened.stderr) == (3, True)


def test_share_of_an_older_generation_is_not_served(tmp_path: Path) -> None:
    of = world(PROFILE, 2, 3)
    shares = tuple(copy_of(share) for share in of.shares)
    after = reshare(Council(of.bundle, of.roster, of.members, shares), of.members)
    place(tmp_path, of, point=2, holder=2)
    (tmp_path / "successions.jsonl").write_bytes(encode_entry(after.successions[0]) + b"\n")
    stale = serve(tmp_path, PASSPHRASE)
    assert (stale.returncode, "generation 0" in stale.stderr) == (4, True)

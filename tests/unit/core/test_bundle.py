from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.oracles.ceremonies import finished
from underseal_core.bundle import (
    MAX_BUNDLE_BYTES,
    PublicBundle,
    bundle_size,
    load_bundle,
    parse_bundle,
    parse_plain_bundle,
    verify_signatures,
)
from underseal_core.errors import Damaged, InvalidInput, Mismatch, NotFound, StorageFull
from underseal_core.scheme.evaluation import EvaluationKeys
from underseal_core.scheme.profiles import PROFILES, SWIFT, Profile

MEMBERS_AT = 40 + 1216
RESIDUES_AT = MEMBERS_AT + 3 * 32


def bundle() -> PublicBundle:
    return finished(threshold=2, count=3).bundle


def with_byte(data: bytes, position: int, value: int) -> bytes:
    position %= len(data)
    return data[:position] + bytes([value]) + data[position + 1 :]


def test_bytes_round_trip() -> None:
    data = bundle().to_bytes()
    parsed = parse_bundle(data, bundle().epoch)
    assert parsed.to_bytes() == data
    assert parsed.epoch == bundle().epoch
    assert (parsed.profile, parsed.dimension, parsed.threshold) == (SWIFT, 16, 2)
    assert parsed.members == bundle().members
    assert parsed.label_key == bundle().label_key
    assert parsed.transcript == bundle().transcript
    assert np.array_equal(parsed.public_key, bundle().public_key)
    assert np.array_equal(parsed.keys.relinearisation, bundle().keys.relinearisation)
    assert parsed.keys.galois.keys() == bundle().keys.galois.keys()
    for element, key in parsed.keys.galois.items():
        assert np.array_equal(key, bundle().keys.galois[element])


def test_file_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "epoch.bundle"
    bundle().save(path)
    bundle().save(path)
    assert load_bundle(path, bundle().epoch).epoch == bundle().epoch
    assert list(tmp_path.iterdir()) == [path]


def test_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "epoch.bundle"
    path.write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageFull, match=r"cannot write the bundle file epoch\.bundle"):
        bundle().save(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_missing_file_is_reported_without_its_folder(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"cannot read the bundle file none\.bundle") as caught:
        load_bundle(tmp_path / "none.bundle")
    assert str(tmp_path) not in caught.value.public


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda p: p.name)
def test_bundle_for_512_dimensions_stays_under_32_megabytes(profile: Profile) -> None:
    assert bundle_size(profile, 512, 32) < 32_000_000
    assert bundle_size(profile, 1024, 32) <= MAX_BUNDLE_BYTES


def test_size_formula_is_that_of_a_real_bundle() -> None:
    assert bundle_size(SWIFT, 16, 3) == len(bundle().to_bytes())


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (0, 0, "not an Underseal public bundle"),
        (4, 1, "wanted exactly"),
        (4, 200, "unknown profile"),
        (5, 0, "threshold of 0 does not fit 3"),
        (5, 4, "threshold of 4 does not fit 3"),
        (6, 1, "threshold of 2 does not fit 1"),
        (5, 1, "two groups"),
        (6, 4, "two groups"),
        (6, 255, "too many members"),
        (7, 5, "wanted exactly"),
        (7, 0, "outside"),
        (7, 255, "outside"),
    ],
)
def test_wrong_prefix_is_refused(position: int, value: int, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        parse_bundle(with_byte(bundle().to_bytes(), position, value))


@pytest.mark.parametrize(
    "position", [5, 8, 39, 40, MEMBERS_AT - 1, MEMBERS_AT, RESIDUES_AT, RESIDUES_AT + 10**6, -1]
)
def test_any_changed_field_breaks_the_signatures(position: int) -> None:
    data = bundle().to_bytes()
    changed = with_byte(data, position, data[position] ^ 1)
    with pytest.raises(Damaged, match="not signed by all"):
        parse_bundle(changed)


@pytest.mark.parametrize("length", [0, 7, 8, 1000, -64, -1])
def test_truncated_bundle_is_refused(length: int) -> None:
    with pytest.raises(InvalidInput):
        parse_bundle(bundle().to_bytes()[:length])


def test_oversized_bundle_is_refused() -> None:
    with pytest.raises(InvalidInput, match="wanted exactly"):
        parse_bundle(bundle().to_bytes() + b"\x00")


def plain_form() -> bytes:
    return bundle().content() + b"".join(bundle().signatures)


def test_plain_form_is_the_same_bundle() -> None:
    data = plain_form()
    assert data[:4] == b"USB1"
    assert len(data) == bundle_size(SWIFT, 16, 3, plain=True) > len(bundle().to_bytes())
    assert parse_plain_bundle(data).epoch == bundle().epoch
    assert parse_plain_bundle(data).to_bytes() == bundle().to_bytes()
    with pytest.raises(InvalidInput, match="not an Underseal public bundle"):
        parse_bundle(data)
    with pytest.raises(InvalidInput, match="wanted exactly"):
        parse_plain_bundle(data[:-1])
    with pytest.raises(Damaged, match="not signed by all"):
        parse_plain_bundle(with_byte(data, RESIDUES_AT, data[RESIDUES_AT] ^ 1))


@pytest.mark.parametrize("offset", [0, 13312 * 3, 13312 * 11])
def test_residue_that_is_not_below_its_prime_is_refused(offset: int) -> None:
    data = bytearray(bundle().to_bytes())
    data[RESIDUES_AT + offset : RESIDUES_AT + offset + 4] = b"\xff" * 4
    with pytest.raises(InvalidInput, match="not below its prime"):
        parse_bundle(bytes(data))


def test_member_named_twice_is_refused() -> None:
    data = bundle().to_bytes()
    first = data[MEMBERS_AT : MEMBERS_AT + 32]
    twice = data[: MEMBERS_AT + 32] + first + data[MEMBERS_AT + 64 :]
    with pytest.raises(InvalidInput, match="twice"):
        parse_bundle(twice)


def test_sound_bundle_of_another_epoch_is_a_mismatch() -> None:
    other = finished(threshold=1, count=1).bundle
    with pytest.raises(Mismatch, match="another key epoch"):
        parse_bundle(other.to_bytes(), bundle().epoch)


def test_every_member_must_have_signed() -> None:
    signatures = bundle().signatures
    for some in [(), signatures[:2], (signatures[1], signatures[0], signatures[2])]:
        with pytest.raises(Damaged):
            verify_signatures(replace(bundle(), signatures=some))


def test_epoch_covers_all_public_keys() -> None:
    original = bundle()
    changed = original.public_key.copy()
    changed[0, 0, 0] ^= 1
    relinearisation = original.keys.relinearisation.copy()
    relinearisation[0, 0, 0, 0] ^= 1
    galois = {g: key.copy() for g, key in original.keys.galois.items()}
    galois[min(galois)][0, 0, 0, 0] ^= 1
    keys = original.keys
    variants = [
        replace(original, public_key=changed),
        replace(original, keys=EvaluationKeys(relinearisation, keys.galois)),
        replace(original, keys=EvaluationKeys(keys.relinearisation, galois)),
        replace(original, threshold=3),
        replace(original, transcript=bytes(32)),
        replace(original, members=original.members[::-1]),
    ]
    assert len({original.epoch, *(variant.epoch for variant in variants)}) == 7


def test_bundle_is_parsed_without_tenseal(tmp_path: Path) -> None:
    path = tmp_path / "epoch.bundle"
    bundle().save(path)
    script = (
        "import sys; sys.modules['tenseal'] = None\n"
        "from pathlib import Path\n"
        "from underseal_core.bundle import load_bundle\n"
        "print(load_bundle(Path(sys.argv[1])).epoch)"
    )
    command = [sys.executable, "-c", script, str(path)]
    environment = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == bundle().epoch

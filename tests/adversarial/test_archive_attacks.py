"""Archives that were changed on the way, or made by somebody else: nothing of them is taken."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.archive_fixtures import LAB, SERVER, TRUSTED, Folder, filled, opened_folder
from tests.server_fixtures import unit_vectors
from underseal_core.errors import Damaged, InvalidInput, Mismatch, PermissionRefused, UndersealError
from underseal_core.signing import Identity
from underseal_server.archive.container import ArchiveReader, ArchiveWriter
from underseal_server.archive.importing import verify_archive
from underseal_server.archive.seal import ArchiveSeal, open_seal, pack_seal

SEED = 20261122


@dataclass
class Part:
    """A record of an archive, taken apart."""

    head: dict[str, Any]
    body: bytes

    @property
    def rows(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.body)
        return found

    @rows.setter
    def rows(self, rows: list[dict[str, Any]]) -> None:
        self.body = json.dumps(rows).encode()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    with opened_folder(filled(folder / "data")) as old:
        old.export(folder / "archive")
    return folder / "archive"


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Folder]:
    with opened_folder(tmp_path / "data") as folder:
        yield folder


def parts_of(path: Path) -> list[Part]:
    with path.open("rb") as file:
        reader = ArchiveReader(file)
        found: list[Part] = []
        while not found or found[-1].head["kind"] != "seal":
            record = reader.next()
            found.append(Part(dict(record.head), record.body()))
    return found


def written(path: Path, parts: list[Part], identity: Identity = SERVER.identity) -> Path:
    """Put records into a new archive with right digests, sealed by ``identity``."""
    with path.open("wb") as file:
        writer = ArchiveWriter(file)
        for part in parts[:-1]:
            writer.write(part.head, len(part.body), [part.body])
        sums = {"records": writer.records, "records_sha256": writer.sha256}
        seal = open_seal(parts[-1].body, TRUSTED).model_copy(update=sums)
        body = pack_seal(seal.sign(identity))
        writer.write({"kind": "seal", "version": 1}, len(body), [body])
    return path


def of_kind(parts: list[Part], kind: str) -> Part:
    return next(part for part in parts if part.head["kind"] == kind)


def test_a_flipped_byte_anywhere_is_found(archive: Path, empty: Folder, tmp_path: Path) -> None:
    whole, random_ = archive.read_bytes(), random.Random(SEED)
    # Everywhere, and often where the small records are: at both ends.
    ends = [*range(16, 600, 37), *range(len(whole) - 1500, len(whole), 97)]
    places = [*random_.sample(range(len(whole)), 40), *ends]
    path = tmp_path / "flipped"
    for number, place in enumerate(places):
        data = bytearray(whole)
        data[place] ^= 1 << random_.randrange(8)
        path.write_bytes(data)
        with pytest.raises((Damaged, InvalidInput)):
            verify_archive(path, TRUSTED, lambda _: None)
        if number % 8 == 0:
            empty.refused(path)


def test_a_truncated_archive_is_found(archive: Path, empty: Folder, tmp_path: Path) -> None:
    whole, path = archive.read_bytes(), tmp_path / "cut"
    for length in [*random.Random(SEED).sample(range(16, len(whole)), 8), len(whole) - 1]:
        path.write_bytes(whole[:length])
        assert "cut off" in empty.refused(path).public
    path.write_bytes(whole + b"\0")
    assert "goes on" in empty.refused(path).public
    path.write_bytes(whole[:7])
    assert "not an Underseal archive" in empty.refused(path).public


def _spans(path: Path) -> list[tuple[int, int]]:
    """Where each record begins and ends."""
    with path.open("rb") as file:
        found: list[tuple[int, int]] = []
        reader, start = ArchiveReader(file), 16
        while True:
            record = reader.next()
            record.skip()
            found.append((start, file.tell()))
            start = file.tell()
            if record.kind == "seal":
                return found


def test_records_left_out_doubled_or_moved_are_found(
    archive: Path, empty: Folder, tmp_path: Path
) -> None:
    whole, spans = archive.read_bytes(), _spans(archive)
    pieces, path = [whole[start:end] for start, end in spans], tmp_path / "moved"
    last = len(pieces) - 1
    orders = [
        [n for n in range(len(pieces)) if n != 4],
        [*range(5), 4, *range(5, len(pieces))],
        [*range(last - 2), last - 1, last - 2, last],
        [1, 0, *range(2, len(pieces))],
    ]
    for order in orders:
        path.write_bytes(whole[:16] + b"".join(pieces[n] for n in order))
        assert "out of place" in empty.refused(path).public
    path.write_bytes(whole[: spans[-1][0]])
    assert "cut off" in empty.refused(path).public


def test_an_archive_of_another_server_is_taken_only_if_its_key_is_named(
    archive: Path, empty: Folder, tmp_path: Path
) -> None:
    stranger = Identity.generate()
    path = written(tmp_path / "stranger", parts_of(archive), stranger)
    error = empty.refused(path)
    assert isinstance(error, PermissionRefused)
    assert stranger.public_key.hex() in error.public and "--signer" in error.hint
    empty.load(path, frozenset({stranger.public_key}))


def test_a_seal_of_another_archive_does_not_fit(
    archive: Path, empty: Folder, tmp_path: Path
) -> None:
    parts = parts_of(archive)
    other = of_kind(parts, "units")
    rows = other.rows
    rows[0]["enrolled_by"] = "somebody"
    other.rows = rows
    path = tmp_path / "swapped"
    with path.open("wb") as file:
        writer = ArchiveWriter(file)
        for part in parts:  # the genuine seal at the end, every digest right
            writer.write(part.head, len(part.body), [part.body])
    assert "seal is of another archive" in empty.refused(path).public


Change = Callable[[list[Part]], None]


def _later_kind(parts: list[Part]) -> None:
    of_kind(parts, "units").head["version"] = 2


def _unknown_kind(parts: list[Part]) -> None:
    parts.insert(3, Part({"kind": "thumbnails", "version": 1}, b"[]"))


def _edited(kind: str, **changes: object) -> Change:
    def change(parts: list[Part]) -> None:
        part = of_kind(parts, kind)
        rows = part.rows
        rows[0].update(changes)
        part.rows = rows

    return change


def _without(kind: str, name: str) -> Change:
    def change(parts: list[Part]) -> None:
        part = of_kind(parts, kind)
        part.rows = [{k: v for k, v in row.items() if k != name} for row in part.rows]

    return change


def _no_ciphertexts(parts: list[Part]) -> None:
    parts.remove(of_kind(parts, "ciphertexts"))


def _other_ciphertexts(parts: list[Part]) -> None:
    part = of_kind(parts, "ciphertexts")
    part.body = LAB.row(unit_vectors(1, LAB.dimension)).to_bytes()


def _long_ciphertexts(parts: list[Part]) -> None:
    of_kind(parts, "ciphertexts").body += bytes(100)


def _two_galleries(parts: list[Part]) -> None:
    parts.insert(1, parts[0])


def _swapped_labels(parts: list[Part]) -> None:
    part = of_kind(parts, "templates")
    rows = part.rows
    rows[0]["template_id"], rows[1]["template_id"] = rows[1]["template_id"], rows[0]["template_id"]
    part.rows = rows


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        (_later_kind, InvalidInput, "of version 2"),
        (_unknown_kind, InvalidInput, "unknown kind"),
        (_edited("units", colour="red"), InvalidInput, "have 'colour'"),
        (_without("units", "token"), Damaged, "lack 'token'"),
        (_edited("units", token="xy"), Damaged, "unreadable"),
        (_edited("units", block=-1), Damaged, "unreadable"),
        (_edited("units", first_slot=1), Damaged, "not in its slots"),
        (_edited("templates", subject_id="00" * 16), Damaged, "its receipt"),
        (_edited("templates", unit="00" * 16), Damaged, "unit that it has not"),
        (_edited("templates", sealed_label="00" * 40), Damaged, "label was changed"),
        (_edited("units", enrolled_by="other"), Damaged, "another client"),
        (_edited("units", receipt_signature="00" * 64), Damaged, "not signed"),
        (_swapped_labels, Damaged, "its receipt"),
        (_edited("snapshots", version=99), Damaged, "has not reached"),
        (_edited("gallery", profile="compact"), Mismatch, "profile"),
        (_edited("gallery", profile="none"), UndersealError, "profile"),
        (_edited("gallery", model_dimension=4), Mismatch, "dimension"),
        (_edited("gallery", name="other"), Damaged, "another gallery"),
        (_edited("gallery", version=1), Damaged, "has not reached"),
        (_edited("gallery", key_epoch="00" * 32), UndersealError, "key epoch"),
        (_no_ciphertexts, Damaged, "another gallery"),
        (_other_ciphertexts, Damaged, "other ciphertexts"),
        (_long_ciphertexts, UndersealError, "more"),
        (_two_galleries, Damaged, "more than one"),
        (lambda parts: parts.__delitem__(0), Damaged, "begin with a gallery"),
    ],
)
def test_what_even_a_trusted_server_cannot_have_imported(
    archive: Path,
    empty: Folder,
    tmp_path: Path,
    change: Change,
    kind: type[UndersealError],
    text: str,
) -> None:
    """Every digest and the seal's signature are right: the content is refused for itself."""
    parts = parts_of(archive)
    change(parts)
    error = empty.refused(written(tmp_path / "changed", parts))
    assert isinstance(error, kind), error
    assert text in error.public


def test_a_later_format_is_told_from_no_archive(
    archive: Path, empty: Folder, tmp_path: Path
) -> None:
    path = tmp_path / "later"
    path.write_bytes(b"underseal-arch2\n" + archive.read_bytes()[16:])
    error = empty.refused(path)
    assert "later format" in error.public and "upgrade" in error.hint


def test_an_unchanged_archive_put_together_again_is_taken(
    archive: Path, empty: Folder, tmp_path: Path
) -> None:
    """What the tests above change is what they are refused for."""
    seal = empty.load(written(tmp_path / "same", parts_of(archive)))
    assert isinstance(seal, ArchiveSeal) and seal.units == 4

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from underseal_client.records import Gallery
from underseal_client.resume import Asked, ClientState, Staged, gallery_key
from underseal_core.errors import Busy, Damaged, InvalidInput, StorageFull
from underseal_core.statements import Pin

NOW = "2026-05-01T12:00:00Z"
TOKEN = bytes(range(16))
PARTS = [b"header", b"", b"x" * 100_000]
PHOTO = Staged(b"t" * 16, "digest:ada")


def gallery(name: str = "people", created_at: str = "2026-01-01T00:00:00Z") -> Gallery:
    pin = Pin(model_id="m", model_dimension=128, profile="swift", key_epoch="0" * 64)
    return Gallery(name, pin, (), 0, 0, 0, 0, "0" * 64, created_at, 0, 0)


@pytest.fixture
def state(tmp_path: Path) -> ClientState:
    return ClientState(tmp_path / "client.sqlite")


def files(tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "client.sqlite.units").iterdir()} - {"lock"}


def test_staged_unit_is_there_for_the_next_run(state: ClientState, tmp_path: Path) -> None:
    state.stage("g", TOKEN, iter(PARTS), [PHOTO])
    reopened = ClientState(tmp_path / "client.sqlite")
    assert reopened.staged("g") == [TOKEN]
    assert list(reopened.parts(TOKEN)) == PARTS
    assert list(reopened.parts(TOKEN)) == PARTS
    assert reopened.sources("g", NOW) == {"digest:ada"}


def test_finished_unit_is_not_sent_again(state: ClientState, tmp_path: Path) -> None:
    state.stage("g", TOKEN, PARTS, [PHOTO])
    state.finish(TOKEN)
    assert state.staged("g") == []
    assert state.sources("g", NOW) == {"digest:ada"}
    assert files(tmp_path) == set()


def test_discarded_unit_frees_its_photos(state: ClientState, tmp_path: Path) -> None:
    state.stage("g", TOKEN, PARTS, [PHOTO])
    state.discard(TOKEN)
    assert state.staged("g") == []
    assert state.sources("g", NOW) == set()
    assert files(tmp_path) == set()


def test_removed_template_can_be_enrolled_again(state: ClientState) -> None:
    state.stage("g", TOKEN, PARTS, [PHOTO, Staged(b"u" * 16, "digest:alan")])
    state.finish(TOKEN)
    state.forget([PHOTO.template_id])
    assert state.sources("g", NOW) == {"digest:alan"}


def test_galleries_do_not_share_their_photos(state: ClientState) -> None:
    state.stage(gallery_key(gallery()), TOKEN, PARTS, [PHOTO])
    later = gallery(created_at="2026-02-02T00:00:00Z")
    assert state.sources(gallery_key(later), NOW) == set()
    assert state.staged(gallery_key(later)) == []


def test_gallery_that_moved_to_new_keys_is_still_known(state: ClientState) -> None:
    state.stage(gallery_key(gallery()), TOKEN, PARTS, [PHOTO])
    state.finish(TOKEN)
    before = gallery()
    moved = replace(before, pin=before.pin.model_copy(update={"key_epoch": "1" * 64}))
    assert state.sources(gallery_key(moved), NOW) == {PHOTO.source}


def test_deleted_gallery_is_forgotten(state: ClientState, tmp_path: Path) -> None:
    state.stage("g", TOKEN, PARTS, [PHOTO])
    state.stage("other", b"u" * 16, PARTS, [Staged(b"v" * 16, PHOTO.source)])
    state.forget_gallery("g")
    assert (state.staged("g"), state.sources("g", NOW)) == ([], set())
    assert state.staged("other") == [b"u" * 16]
    assert files(tmp_path) == {f"{(b'u' * 16).hex()}.unit"}


def test_photo_enrolled_again_is_known_until_both_are_removed(state: ClientState) -> None:
    state.stage("g", TOKEN, PARTS, [PHOTO])
    state.stage("g", b"u" * 16, PARTS, [Staged(b"v" * 16, PHOTO.source)])
    state.forget([PHOTO.template_id])
    assert state.sources("g", NOW) == {PHOTO.source}
    state.forget([b"v" * 16])
    assert state.sources("g", NOW) == set()


@pytest.mark.parametrize(
    ("keep_until", "known"), [("", True), ("2026-05-01T12:00:01Z", True), (NOW, False)]
)
def test_photo_whose_time_is_over_is_new(state: ClientState, keep_until: str, known: bool) -> None:
    state.stage("g", TOKEN, PARTS, [Staged(PHOTO.template_id, PHOTO.source, keep_until)])
    state.finish(TOKEN)
    assert state.sources("g", NOW) == ({PHOTO.source} if known else set())
    state.stage("g", b"u" * 16, PARTS, [Staged(b"v" * 16, PHOTO.source)])
    assert state.sources("g", NOW) == {PHOTO.source}


def test_unit_that_cannot_be_encrypted_leaves_nothing(state: ClientState, tmp_path: Path) -> None:
    def failing() -> Iterator[bytes]:
        yield b"header"
        raise InvalidInput("not a unit vector")

    with pytest.raises(InvalidInput):
        state.stage("g", TOKEN, failing(), [PHOTO])
    assert state.staged("g") == []
    with state.enrolling():
        assert files(tmp_path) == set()


def test_crash_between_file_and_database_is_swept_up(state: ClientState, tmp_path: Path) -> None:
    state.stage("g", TOKEN, PARTS, [PHOTO])
    folder = tmp_path / "client.sqlite.units"
    (folder / f"{'ab' * 16}.unit").write_bytes(b"written, never recorded")
    (folder / f"{'cd' * 16}.draft").write_bytes(b"half writ")
    with state.enrolling():
        assert files(tmp_path) == {f"{TOKEN.hex()}.unit"}


def test_cut_off_file_is_noticed(state: ClientState, tmp_path: Path) -> None:
    state.stage("g", TOKEN, PARTS, [PHOTO])
    unit = tmp_path / "client.sqlite.units" / f"{TOKEN.hex()}.unit"
    os.truncate(unit, unit.stat().st_size - 1)
    with pytest.raises(Damaged, match="cut off"):
        list(state.parts(TOKEN))


def test_full_disk_stages_nothing(state: ClientState, tmp_path: Path) -> None:
    """A real limit of the operating system, in a process of its own."""
    program = """
import resource, signal, sys
from pathlib import Path
from underseal_client.resume import ClientState, Staged
from underseal_core.errors import StorageFull
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
state = ClientState(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
try:
    state.stage("g", bytes(16), [b"x" * 200_000], [Staged(b"t" * 16, "photo")])
except StorageFull:
    sys.exit(7)
"""
    path = tmp_path / "client.sqlite"
    done = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert done.returncode == 7
    assert state.staged("g") == []
    assert state.sources("g", NOW) == set()
    assert files(tmp_path) == set()


def test_two_enrolments_at_once_are_refused(state: ClientState, tmp_path: Path) -> None:
    other = ClientState(tmp_path / "client.sqlite")
    with state.enrolling(), pytest.raises(Busy), other.enrolling():
        pass
    with other.enrolling():
        pass


def test_requests_are_remembered(state: ClientState) -> None:
    entry = Asked("ab" * 16, "01" * 32, "02" * 32, "03" * 32)
    state.asked(entry)
    assert state.asked_before(entry.request_id) == entry
    assert state.asked_before("cd" * 16) is None


def test_state_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "client.sqlite"
    path.write_bytes(b"this is not a database, it is a text of some length" * 100)
    with pytest.raises(InvalidInput, match="state file"):
        ClientState(path)


def test_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises((InvalidInput, StorageFull)):
        ClientState(tmp_path / "file" / "client.sqlite")

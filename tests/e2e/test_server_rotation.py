"""A server moves its galleries to a new key epoch while it is searched and enrolled into."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from tests.server_fixtures import unit_vectors
from tests.server_harness import Caller, calling, make_credentials, serving
from tests.server_rotation import CouncilLab, follow, succession
from underseal_core.errors import InvalidInput, Mismatch, NotFound, UndersealError
from underseal_core.gallery.unit import Shape
from underseal_core.scheme.ciphertext import Kind, parse_ciphertext
from underseal_core.scheme.reencryption import Reencryptor
from underseal_proto.v1 import gallery_pb2
from underseal_server.check import Checker
from underseal_server.engine.keys import KeyEpochs, SwitchingKeys
from underseal_server.settings import Settings

T = TypeVar("T")

MOVE = succession()
OLD, NEW = CouncilLab.of(MOVE.old), CouncilLab.of(MOVE.new)
CLOSE = 2**-8
DEADLINE = 60.0


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_credentials(tmp_path_factory.mktemp("credentials"))


@pytest.fixture
def settings(tmp_path: Path, credentials: Path) -> Settings:
    OLD.bundle.save(tmp_path / "bundle.usb")
    return Settings(
        listen="127.0.0.1:0",
        data=tmp_path / "data",
        credentials=credentials / "server",
        bundles=(tmp_path / "bundle.usb",),
        threads=1,
        save_seconds=0.05,
        old_units_seconds=0,
    )


@pytest.fixture
def port(settings: Settings) -> Iterator[int]:
    with serving(settings) as server:
        yield server.port


def add_key(settings: Settings, folder: Path) -> None:
    """What ``underseal-server epoch add`` does."""
    NEW.bundle.save(folder / "new.usb")
    MOVE.key.save(folder / "switching.usk")
    epochs = KeyEpochs(settings.data / "bundles", 1)
    epochs.add(folder / "new.usb")
    (settings.data / "switching").mkdir(exist_ok=True)
    SwitchingKeys(settings.data / "switching", epochs).add(folder / "switching.usk")


def until(found: Callable[[], T | None]) -> T:
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        result = found()
        if result is not None:
            return result
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


def moved(caller: Caller) -> gallery_pb2.Gallery:
    def look() -> gallery_pb2.Gallery | None:
        state = caller.state()
        return state if state.pin.key_epoch == NEW.bundle.epoch else None

    return until(look)


def best(caller: Caller, vector: np.ndarray) -> float:
    return max(float(scores.max()) for scores in caller.scores(caller.search(vector)).values())


def test_a_gallery_moves_and_answers_as_before(
    port: int, settings: Settings, credentials: Path, tmp_path: Path
) -> None:
    vectors = unit_vectors(12)
    with (
        calling(port, credentials / "agency", OLD) as agency,
        calling(port, credentials / "agency", NEW) as after,
    ):
        agency.create()
        agency.enrol(vectors[:5])
        agency.enrol(vectors[5:9], Shape.COLUMNS)
        gone, _ = agency.enrol(vectors[9:10])
        before = {
            block: scores[:9] for block, scores in agency.scores(agency.search(vectors[0])).items()
        }
        add_key(settings, tmp_path)
        state = moved(after)
        assert state.templates == 10
        with pytest.raises(Mismatch, match="key epoch") as refused:
            agency.search(vectors[0])
        assert "bundle update" in refused.value.hint
        with pytest.raises(Mismatch, match="key epoch"):
            agency.enrol(vectors[10:11])
        found = after.search(vectors[0])
        for block, scores in after.scores(found).items():
            assert np.abs(scores[:9] - before[block]).max() < CLOSE
        assert all(best(after, vector) > 1 - CLOSE for vector in vectors[:10])
        after.enrol(vectors[10:11])
        assert best(after, vectors[10]) > 1 - CLOSE
        removed = gallery_pb2.RemoveTemplatesRequest(
            gallery="missing", template_ids=[gone[0].template_id]
        )
        after.galleries.RemoveTemplates(removed)
        assert best(after, vectors[9]) < 0.99
    for part in ("units", "blocks"):
        (folder,) = (settings.data / part / "1").iterdir()
        assert folder.name == NEW.bundle.epoch[:16]


def test_searches_and_enrolments_go_on_meanwhile(
    port: int, settings: Settings, credentials: Path, tmp_path: Path
) -> None:
    """Every search is answered right or refused for the epoch; every answered unit is there."""
    vectors = unit_vectors(60)
    stored: list[int] = []
    problems: list[BaseException] = []
    refusals: list[Mismatch] = []
    stop = threading.Event()

    def searching() -> None:
        with calling(port, credentials / "other", OLD) as caller:
            while not stop.is_set():
                try:
                    assert best(caller, vectors[0]) > 1 - CLOSE
                except Mismatch as refusal:
                    refusals.append(refusal)
                    return
                except (UndersealError, AssertionError) as error:
                    problems.append(error)
                    return

    with (
        calling(port, credentials / "agency", OLD) as agency,
        calling(port, credentials / "agency", NEW) as after,
    ):
        agency.create()
        for number in range(20):
            agency.enrol(vectors[number : number + 1])
            stored.append(number)
        thread = threading.Thread(target=searching)
        thread.start()
        add_key(settings, tmp_path)
        for number in range(20, 60):
            try:
                agency.enrol(vectors[number : number + 1])
                stored.append(number)
            except Mismatch as refusal:
                refusals.append(refusal)
                break
        state = moved(after)
        until(lambda: thread.is_alive() or refusals or None)
        stop.set()
        thread.join()
        assert not problems
        assert all("key" in str(refusal) for refusal in refusals)
        assert state.templates == len(stored)
        for number in stored:
            assert best(after, vectors[number]) > 1 - CLOSE
    (folder,) = (settings.data / "units" / "1").iterdir()
    assert len(list(folder.iterdir())) == len(stored)


def test_two_rotations_follow_each_other(
    settings: Settings, credentials: Path, tmp_path: Path
) -> None:
    third = follow(MOVE.new)
    vectors = unit_vectors(6)
    with serving(settings) as server, calling(server.port, credentials / "agency", OLD) as agency:
        agency.create()
        agency.enrol(vectors[:3])
        agency.enrol(vectors[3:], Shape.COLUMNS)
    add_key(settings, tmp_path)
    third.new.bundle.save(tmp_path / "third.usb")
    third.key.save(tmp_path / "third.usk")
    epochs = KeyEpochs(settings.data / "bundles", 1)
    epochs.add(tmp_path / "third.usb")
    SwitchingKeys(settings.data / "switching", epochs).add(tmp_path / "third.usk")
    last = CouncilLab.of(third.new)
    with serving(settings) as server, calling(server.port, credentials / "agency", last) as agency:
        until(lambda: agency.state().pin.key_epoch == last.bundle.epoch or None)
        assert all(best(agency, vector) > 1 - CLOSE for vector in vectors)
    report = Checker(settings.data, lambda: None, deep=True, threads=1).run()
    assert report.problems == []


def test_units_of_the_old_epoch_stay_for_auditors_for_a_while(
    settings: Settings, credentials: Path, tmp_path: Path
) -> None:
    """So a guardian re-encrypts the signed unit itself, and gets what the server holds."""
    keeping = settings.model_copy(update={"old_units_seconds": 3600.0})
    vectors = unit_vectors(3)
    with (
        serving(keeping) as server,
        calling(server.port, credentials / "agency", OLD) as agency,
        calling(server.port, credentials / "auditor", NEW) as auditor,
    ):
        agency.create()
        _, stored = agency.enrol(vectors)
        removed, _ = agency.enrol(vectors)
        add_key(settings, tmp_path)
        moved(auditor)
        old = settings.data / "units" / "1" / OLD.bundle.epoch[:16]
        assert len(list(old.iterdir())) == 2
        ids = [template.template_id for template in removed]
        request = gallery_pb2.RemoveTemplatesRequest(gallery="missing", template_ids=ids)
        agency.galleries.RemoveTemplates(request)
        assert [path.stem for path in old.iterdir()] == [stored.token.hex()]

        def unit(epoch: str) -> list[bytes]:
            request = gallery_pb2.FetchUnitRequest(
                gallery="missing", token=stored.token, key_epoch=epoch
            )
            return [part.ciphertext for part in auditor.galleries.FetchUnit(request)]

        profile = MOVE.key.profile
        kind = Kind.TEMPLATE_ROW
        signed = [parse_ciphertext(data, profile, kind) for data in unit(OLD.bundle.epoch)]
        with Reencryptor(profile, MOVE.key.key) as switch:
            own = [ciphertext.to_bytes() for ciphertext in switch.unit(signed)]
        assert own == unit("") == unit(NEW.bundle.epoch)
        with pytest.raises(NotFound, match="not kept"):
            unit("0" * 64)
        with pytest.raises(InvalidInput, match="64 hex"):
            unit("old")
    assert not (settings.data / "blocks" / "1" / OLD.bundle.epoch[:16]).exists()
    with serving(settings), calling(server.port, credentials / "auditor", NEW):
        until(lambda: not (settings.data / "units" / "1" / OLD.bundle.epoch[:16]).exists() or None)

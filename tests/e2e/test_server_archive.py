"""A gallery moves to another server by commands alone, and clients search there as before."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest

from tests.server_fixtures import Lab, unit_vectors
from tests.server_harness import Found, calling, make_credentials, serving
from underseal_core.errors import UndersealError
from underseal_core.gallery.unit import Shape
from underseal_core.outcome import exit_code
from underseal_server.cli.app import app
from underseal_server.settings import Settings

LAB = Lab()
VECTORS = unit_vectors(6)


def command(*arguments: object, code: int = 0) -> str:
    """Run a command in this process, for speed; what it printed, or its error."""
    printed = io.StringIO()
    ended, text = 0, ""
    try:
        with contextlib.redirect_stdout(printed):
            app(list(map(str, arguments)), standalone_mode=False)
    except UndersealError as error:
        ended, text = int(exit_code(error)), error.public
    assert ended == code, text
    return text or printed.getvalue()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("move")
    make_credentials(root / "credentials")
    LAB.bundle.save(root / "bundle.usb")
    return root


@pytest.fixture(scope="module")
def moved(place: Path) -> Found:
    """Fill a gallery, search it, and take it to another data folder."""
    with serving(settings(place, "old")) as server, calling(server.port, agency(place)) as caller:
        caller.create()
        caller.enrol(VECTORS[:4])
        caller.enrol(VECTORS, Shape.COLUMNS)
        found = caller.search(VECTORS[1])
    own = ("--credentials", place / "credentials" / "server")
    file = place / "missing.archive"
    made = json.loads(
        command("gallery", "export", "missing", file, "--data", place / "old", *own, "--json")
    )
    assert made["root"] == found.result.snapshot.root
    checked = json.loads(command("gallery", "verify", file, *own, "--json"))
    assert checked["records_sha256"] == made["sha256"]
    command("bundle", "add", place / "bundle.usb", "--data", place / "new")
    command("gallery", "import", file, "--data", place / "new", *own)
    return found


def settings(place: Path, data: str) -> Settings:
    return Settings(
        listen="127.0.0.1:0",
        data=place / data,
        credentials=place / "credentials" / "server",
        bundles=(place / "bundle.usb",),
        threads=1,
    )


def agency(place: Path) -> Path:
    return place / "credentials" / "agency"


def test_a_search_on_the_new_server_gives_the_same_scores_of_the_same_snapshot(
    place: Path, moved: Found
) -> None:
    with serving(settings(place, "new")) as server, calling(server.port, agency(place)) as caller:
        after = caller.search(VECTORS[1])
        assert after.result.snapshot == moved.result.snapshot
        old, new = caller.scores(moved)[0], caller.scores(after)[0]
        assert np.abs(old - new).max() < 2**-9
        # The gallery goes on, under the same owner.
        caller.enrol(VECTORS[:1])
        assert caller.state().version == moved.result.snapshot.version + 1


def test_commands_tell_archives_and_history(place: Path, moved: Found) -> None:
    root = moved.result.snapshot.root
    for data in ("old", "new"):
        told = command("gallery", "history", "missing", "--data", place / data, "--json")
        assert root in [one["root"] for one in json.loads(told)["snapshots"]]
        told = command("gallery", "archives", "missing", "--data", place / data, "--json")
        assert [one["root"] for one in json.loads(told)["archives"]] == [root]


def test_what_is_wrong_is_said_with_its_exit_code(place: Path, moved: Found) -> None:
    own = ("--credentials", place / "credentials" / "server")
    file = place / "missing.archive"
    again = command("gallery", "import", file, "--data", place / "new", *own, code=3)
    assert "already" in again
    other = ("--signer", "00" * 32)
    assert "not trusted" in command("gallery", "verify", file, *own, *other, code=5)
    assert "cannot read" in command("gallery", "verify", place / "none", *own, code=4)
    cut = place / "cut"
    cut.write_bytes(file.read_bytes()[:-40])
    assert "cut off" in command("gallery", "verify", cut, *own, code=7)
    client = ("--credentials", agency(place))
    assert "not of a server" in command("gallery", "verify", file, *client, code=3)
    assert "no gallery" in command(
        "gallery", "export", "no", place / "x", "--data", place / "old", *own, code=4
    )
    assert "exists" in command(
        "gallery", "export", "missing", file, "--data", place / "old", *own, code=3
    )

"""The ``underseal`` command as a user runs it: real photos, real services, exit codes."""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.face_fixtures import FACES
from underseal_client.cli import main
from underseal_client.demo.deployment import Deployment
from underseal_client.demo.process import find_program
from underseal_client.faces import ModelPack
from underseal_core.outcome import ExitCode


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture(scope="module")
def config(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Settings file of the agency."""
    path = tmp_path_factory.mktemp("home") / "client.toml"
    path.write_text(
        f'server = "{deployment.server_address}"\n'
        f'registrar = "{deployment.registrar_address}"\n'
        f'credentials = "{deployment.credentials("clients", "agency")}"\n'
        f'bundle = "{deployment.bundle}"\n'
        f'log_key = "{deployment.log / "log.vkey"}"\n'
        'subject_key = "subject.key"\nstate = "client.sqlite"\n'
    )
    return path


@pytest.fixture(scope="module")
def underseal(config: Path) -> Run:
    """Run the command's entry point in this process: starting Python anew takes a second."""

    def run(*arguments: object, confirm: str = "") -> Ran:
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["underseal", "--config", str(config), *map(str, arguments)])
            patch.setattr(sys, "stdin", io.StringIO(confirm))
            patch.setenv("COLUMNS", "200")
            code = 0
            with redirect_stdout(out), redirect_stderr(err):
                try:
                    main()
                except SystemExit as leaving:
                    code = leaving.code if isinstance(leaving.code, int) else 0
        assert "Traceback" not in err.getvalue()
        return Ran(code, out.getvalue(), err.getvalue())

    return run


def test_installed_command_keeps_results_and_progress_apart(
    config: Path, name: str, tmp_path: Path
) -> None:
    """As a process of its own: JSON alone on stdout, no traceback, an exit code."""
    environment = {**os.environ, "UNDERSEAL_CLIENT_CONFIG": str(config)}
    ask = ("-g", name, "--purpose", "tests", "--case", "T-1", "--json")
    for photo, code in ((FACES / "person_b_2.jpg", 0), (tmp_path / "none.jpg", 3)):
        done = subprocess.run(
            [find_program("underseal"), "search", str(photo), *ask],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
        assert done.returncode == code
        if code == 0:
            assert json.loads(done.stdout)["matches"][0]["name"] == "person_b"
            assert done.stderr == ""
        else:
            assert done.stdout == ""
            assert done.stderr.splitlines()[0] == f"error: there is no photo {photo}"


@pytest.fixture(scope="module")
def name(underseal: Run, names: Iterator[str]) -> Iterator[str]:
    """A gallery pinned to the real model, with one photo of each of three people."""
    name = next(names)
    created = underseal("gallery", "create", name, "--json")
    assert created.code == 0, created.err
    assert created.json["pin"]["model_id"] == "zoo-sface"
    for person in ("person_a", "person_b", "impostor_1"):
        file = FACES / (f"{person}_1.jpg" if person.startswith("person") else f"{person}.jpg")
        enrolled = underseal("enroll", file, "-g", name, "--subject", person, "--json")
        assert enrolled.code == 0, enrolled.err
        assert enrolled.json["enrolled"] == 1
    yield name
    assert underseal("gallery", "delete", name, "--yes").code == 0


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory, group_photo: Path) -> Path:
    """A folder of photos that cannot be used, each for another reason; and one that can."""
    folder = tmp_path_factory.mktemp("photos")
    person = (FACES / "person_a_2.jpg").read_bytes()
    (folder / "text.jpg").write_text("this is no photo")
    (folder / "cut.jpg").write_bytes(person[: len(person) // 3])
    ramp = np.tile(np.arange(256, dtype=np.uint8)[:, None, None], (1, 256, 3))
    Image.fromarray(ramp).save(folder / "nobody.png")
    shutil.copy(group_photo, folder / "group.jpg")
    with Image.open(FACES / "person_a_2.jpg") as image:
        scale = 30 / 320  # the face has 320 pixels
        image.resize((int(image.width * scale), int(image.height * scale))).save(
            folder / "small.png"
        )
    shutil.copy(FACES / "person_a_2.jpg", folder / "usable.jpg")
    return folder


BAD = {
    "text.jpg": "unreadable",
    "cut.jpg": "unreadable",
    "nobody.png": "no-face",
    "group.jpg": "several-faces",
    "small.png": "face-too-small",
}


def test_person_is_found_and_the_release_can_be_shown(underseal: Run, name: str) -> None:
    photo = FACES / "person_a_2.jpg"
    ask = ("-g", name, "--purpose", "tests", "--case", "T-1")
    found = underseal("search", photo, *ask, "--json").json
    [match] = found["matches"]
    assert match["name"] == "person_a"
    (template,) = match["templates"]
    assert template["label"] == {"name": "person_a", "photo": "person_a_1.jpg", "case": ""}
    assert (found["compared"], found["client"], found["purpose"]) == (3, "agency", "tests")
    shown = underseal("release", "show", found["request_id"], "--json").json
    assert shown["matches"] == found["matches"]
    assert shown["request_known"] is True
    for_people = underseal("release", "show", found["request_id"]).out
    assert "person_a" in for_people
    nobody = underseal("search", FACES / "impostor_2.jpg", *ask)
    assert nobody.code == 0
    assert nobody.out.startswith("no match\n")


def test_several_photos_and_folders_are_searched_with_together(
    underseal: Run, name: str, bad: Path
) -> None:
    ask = ("-g", name, "--purpose", "tests", "--case", "T-1")
    both = (FACES / "person_a_2.jpg", FACES / "impostor_2.jpg")
    done = underseal("search", *both, *ask, "--json")
    answers = {Path(one["photo"]).name: one for one in map(json.loads, done.out.splitlines())}
    assert done.code == 0
    assert [match["name"] for match in answers["person_a_2.jpg"]["matches"]] == ["person_a"]
    assert answers["impostor_2.jpg"]["matches"] == []
    assert answers["person_a_2.jpg"]["request_id"] != answers["impostor_2.jpg"]["request_id"]
    partly = underseal("search", both[0], bad / "nobody.png", *ask)
    assert partly.code == 8
    assert "person_a" in partly.out
    assert "nobody.png" in partly.out
    refused = underseal("search", bad, *ask, "--json")
    lines = [json.loads(line) for line in refused.out.splitlines()]
    assert refused.code == 8
    reasons = {Path(one["photo"]).name: one["reason"] for one in lines if "reason" in one}
    assert (reasons, len(lines)) == (BAD, len(BAD) + 1)


def test_photos_go_as_columns_where_the_settings_say_so(
    underseal: Run,
    names: Iterator[str],
    deployment: Deployment,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gallery = next(names)
    underseal("gallery", "create", gallery)
    monkeypatch.setenv("UNDERSEAL_CLIENT_COLUMNS_FROM", "2")
    photos = [FACES / "person_a_1.jpg", FACES / "person_b_1.jpg"]
    assert underseal("enroll", *photos, "-g", gallery, "--json").json["enrolled"] == 2
    assert underseal("enroll", FACES / "impostor_1.jpg", "-g", gallery).code == 0
    shapes = (
        "SELECT shape FROM units JOIN galleries ON galleries.id = gallery_id"
        " WHERE name = ? ORDER BY added_version"
    )
    with closing(sqlite3.connect(deployment.server_data / "catalogue.sqlite")) as catalogue:
        assert [shape for (shape,) in catalogue.execute(shapes, (gallery,))] == ["columns", "row"]
    ask = ("-g", gallery, "--purpose", "tests", "--case", "T-1", "--json")
    found = underseal("search", FACES / "person_b_2.jpg", *ask).json
    assert [match["name"] for match in found["matches"]] == ["person_b_1"]


def test_enrolled_photo_is_searched_with(underseal: Run, names: Iterator[str]) -> None:
    gallery = next(names)
    underseal("gallery", "create", gallery)
    one, other = FACES / "person_a_1.jpg", FACES / "person_a_2.jpg"
    assert underseal("enroll", one, "-g", gallery, "--subject", "Ann", "--single").code == 0
    assert underseal("enroll", other, "-g", gallery, "--subject", "Bea").code == 0
    (listed,) = underseal("gallery", "templates", gallery, "--subject", "Ann", "--json").json[
        "templates"
    ]
    ask = ("-g", gallery, "--purpose", "tests", "--case", "T-1", "--json")
    found = underseal("search", "--template", listed["template_id"], *ask).json
    assert [match["name"] for match in found["matches"]] == ["Bea"]
    assert (found["compared"], found["bytes_sent"]) == (1, 0)
    neither = underseal("search", *ask)
    assert (neither.code, neither.err.splitlines()[0]) == (
        3,
        "error: search with a photo, or with --template ID",
    )
    named = underseal("search", other, "--subject", "Ann", "--subject", "Nobody", *ask)
    assert (named.code, "Nobody" in named.err) == (4, True)


def test_person_is_verified(underseal: Run, name: str) -> None:
    photo = FACES / "person_b_2.jpg"
    ask = ("-g", name, "--purpose", "tests", "--case", "T-1", "--json")
    is_b = underseal("verify", photo, *ask, "--subject", "person_b").json
    assert [entry["name"] for entry in is_b["matches"]] == ["person_b"]
    is_a = underseal("verify", photo, *ask, "--subject", "person_a").json
    assert (is_a["matches"], is_a["compared"]) == ([], 1)
    listed = underseal("gallery", "templates", name, "--subject", "person_b", "--json").json
    [known] = listed["templates"]
    by_id = underseal("verify", photo, *ask, "--template", known["template_id"]).json
    assert len(by_id["matches"]) == 1


def test_templates_are_kept_for_a_time_counted_and_removed_by_filter(
    underseal: Run, names: Iterator[str]
) -> None:
    name = next(names)
    assert underseal("gallery", "create", name, "--max-keep-days", "30").code == 0
    photo = FACES / "person_a_1.jpg"
    refused = underseal("enroll", photo, "-g", name)
    assert refused.code == ExitCode.INVALID_INPUT
    assert "at most 30 days" in refused.err
    enroll = ("enroll", photo, "-g", name, "--keep-days", "30", "--json")
    assert underseal(*enroll).json["enrolled"] == 1
    assert underseal(*enroll).json["skipped"] == 1
    counted = underseal("gallery", "show", name, "--json").json["statistics"]
    assert (counted["active"], counted["subjects"], counted["removed"]) == (1, 1, 0)
    listed = underseal("gallery", "templates", name, "--enrolled-from", "2026-01-01", "--json").json
    [entry] = listed["templates"]
    assert (listed["matching"], listed["after"]) == (1, "")
    assert entry["keep_until"] == counted["next_keep_until"] > entry["enrolled_at"]
    assert entry["template_id"][:8] in underseal("gallery", "templates", name).out
    none = underseal("gallery", "templates", name, "--enrolled-before", "2026-01-01", "--json")
    assert (none.json["templates"], none.json["matching"]) == ([], 0)
    remove = ("gallery", "remove", name, "--by", entry["enrolled_by"])
    assert underseal(*remove, "--dry-run", "--json").json == {"would_remove": 1}
    assert underseal(*remove).code != 0, "nobody was there to say yes"
    assert underseal(*remove, "--yes", "--json").json == {"removed": 1}
    counted = underseal("gallery", "show", name, "--json").json["statistics"]
    assert (counted["active"], counted["removed"]) == (0, 1)
    assert underseal(*enroll).json["enrolled"] == 1, "its removal is remembered"
    assert underseal("gallery", "delete", name, "--yes").code == 0


def test_receipts_of_erasure_are_shown_and_written(
    underseal: Run, names: Iterator[str], tmp_path: Path
) -> None:
    name = next(names)
    underseal("gallery", "create", name)
    underseal("enroll", FACES / "person_a_1.jpg", "-g", name)
    [entry] = underseal("gallery", "templates", name, "--json").json["templates"]
    erasures = ("gallery", "erasures", name)
    chosen = ("--template", entry["template_id"])
    assert underseal(*erasures, *chosen).code == ExitCode.NOT_FITTING, "it is live"
    assert underseal(*erasures, "--json").json["erasures"] == []
    underseal("gallery", "remove", name, entry["template_id"], "--yes")
    shown = underseal(*erasures, *chosen, "--out", tmp_path / "receipts", "--json").json
    [erasure] = shown["erasures"]
    assert erasure["receipt"]["how"] == "unit-deleted"
    [written] = (tmp_path / "receipts").iterdir()
    assert written.name == f"{entry['template_id']}.erasure.json"
    assert json.loads(written.read_bytes())["payload"] == erasure["receipt"]
    assert "deleted" in underseal(*erasures).out  # a narrow terminal breaks "unit deleted"
    assert underseal("gallery", "delete", name, "--yes").code == 0


def test_bad_photos_are_reported_and_do_not_stop_the_rest(
    underseal: Run, names: Iterator[str], bad: Path
) -> None:
    gallery = next(names)
    underseal("gallery", "create", gallery)
    try:
        ran = underseal("enroll", bad, "-g", gallery, "--json")
        assert ran.code == ExitCode.PARTIAL
        assert {entry["photo"]: entry["reason"] for entry in ran.json["refused"]} == BAD
        assert all(
            entry["hint"] or entry["reason"] == "unreadable" for entry in ran.json["refused"]
        )
        assert ran.json["enrolled"] == 1
        assert underseal("gallery", "show", gallery, "--json").json["templates"] == 1
        again = underseal("enroll", bad, "-g", gallery)
        assert again.code == ExitCode.PARTIAL
        assert "skipped 1 photo enrolled" in again.out
        assert "several-faces" in again.out
        largest = underseal(
            *("enroll", bad / "group.jpg", "-g", gallery, "--largest-face", "--json")
        )
        assert (largest.code, largest.json["enrolled"]) == (0, 1)
    finally:
        underseal("gallery", "delete", gallery, "--yes")


@pytest.mark.parametrize("photo", [*BAD, "missing.jpg"])
def test_bad_photo_is_not_searched_with(underseal: Run, name: str, bad: Path, photo: str) -> None:
    before = underseal("gallery", "show", name, "--json").json
    ran = underseal(
        "search", bad / photo, "-g", name, "--purpose", "tests", "--case", "T-1", "--json"
    )
    assert ran.code == ExitCode.INVALID_INPUT
    assert ran.out == ""
    assert "error: " in ran.err
    assert underseal("gallery", "show", name, "--json").json == before


def test_other_model_is_refused(
    underseal: Run, name: str, zoo_pack: ModelPack, tmp_path: Path
) -> None:
    """The same weights in another folder: the program cannot know that they are the same."""
    pack = tmp_path / "another-model"
    shutil.copytree(zoo_pack.path, pack)
    before = underseal("gallery", "show", name, "--json").json
    photo = FACES / "person_a_2.jpg"
    ask = ("--purpose", "tests", "--case", "T-1")
    for ran in (
        underseal("--model", pack, "enroll", photo, "-g", name),
        underseal("--model", pack, "search", photo, "-g", name, *ask),
    ):
        assert ran.code == ExitCode.NOT_FITTING
        assert "is of model zoo-sface" in ran.err
        assert "hint: " in ran.err
    assert underseal("gallery", "show", name, "--json").json == before


VERIFY = ["verify", "{photo}", "-g", "{name}", "--purpose", "tests", "--case", "T"]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["gallery", "show", "no-such-gallery"], ExitCode.NOT_FITTING, "no-such-gallery"),
        (["gallery", "create", "Not A Name"], ExitCode.INVALID_INPUT, "name"),
        (["gallery", "templates", "no-such-gallery"], ExitCode.NOT_FITTING, "no-such-gallery"),
        (["gallery", "remove", "{name}", "00" * 16, "--yes"], ExitCode.NOT_FITTING, "template"),
        (["gallery", "remove", "{name}", "00"], ExitCode.INVALID_INPUT, "32 hexadecimal"),
        (
            ["gallery", "remove", "{name}", "--subject", "nobody", "--yes"],
            ExitCode.NOT_FITTING,
            "no template of this subject",
        ),
        (["enroll", "/none", "-g", "{name}"], ExitCode.INVALID_INPUT, "no photo /none"),
        (["release", "show", "00" * 16], ExitCode.NOT_FITTING, "request"),
        (["--server", "localhost:1", "gallery", "list"], ExitCode.BUSY, "cannot be reached"),
        (["--bundle", "/none", "gallery", "create", "x"], ExitCode.NOT_FITTING, "bundle"),
        (["--model", "/none", "gallery", "create", "x"], ExitCode.NOT_FITTING, "model"),
        (
            ["search", "{photo}", "-g", "{name}", "--purpose", "marketing", "--case", "T"],
            ExitCode.REFUSED,
            "",
        ),
        (
            VERIFY,
            ExitCode.INVALID_INPUT,
            "subject",
        ),
        (
            [*VERIFY, "--subject", "nobody"],
            ExitCode.NOT_FITTING,
            "",
        ),
    ],
)
def test_errors_have_text_hint_and_code(
    underseal: Run, name: str, arguments: list[str], code: ExitCode, text: str
) -> None:
    photo = str(FACES / "person_a_2.jpg")
    filled = [argument.format(name=name, photo=photo) for argument in arguments]
    ran = underseal(*filled)
    assert (ran.code, ran.out) == (code, ""), ran.err
    error = next(line for line in ran.err.splitlines() if line.startswith("error: "))
    assert text in error
    if code is ExitCode.REFUSED:
        assert "the auditors know this as request " in ran.err


def test_deleting_a_gallery_asks_first(underseal: Run, names: Iterator[str]) -> None:
    gallery = next(names)
    underseal("gallery", "create", gallery)
    assert underseal("gallery", "delete", gallery, confirm="n\n").code == 1
    assert gallery in underseal("gallery", "list").out
    assert underseal("gallery", "delete", gallery, confirm="y\n").code == 0
    assert gallery not in underseal("gallery", "list").out

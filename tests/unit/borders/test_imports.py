"""What a role's machine loads, seen from a fresh interpreter; import-linter checks the sources."""

from __future__ import annotations

import subprocess
import sys

import pytest

_LIST_AFTER_IMPORTING_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if not module.name.endswith(".migrations.env"):  # runs under Alembic only
        importlib.import_module(module.name)
print("\\n".join(sys.modules))
"""


def _loaded_by(package: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", _LIST_AFTER_IMPORTING_ALL, package],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def _roots(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


@pytest.fixture(scope="module")
def server_modules() -> set[str]:
    return _loaded_by("underseal_server")


def test_the_server_loads_nothing_that_opens_or_encrypts(server_modules: set[str]) -> None:
    assert "underseal_server" in server_modules
    assert not _roots(server_modules) & {"tenseal", "underseal_auditor", "underseal_client"}
    assert "underseal_core.scheme.encryption" not in server_modules
    assert "underseal_core.seal_format" not in server_modules


def test_the_server_loads_no_face_models(server_modules: set[str]) -> None:
    assert not _roots(server_modules) & {"cv2", "insightface", "onnxruntime"}


@pytest.mark.parametrize(
    ("role", "others"),
    [
        ("underseal_client", {"underseal_auditor", "underseal_server"}),
        ("underseal_auditor", {"underseal_client", "underseal_server"}),
    ],
)
def test_roles_do_not_load_each_other(role: str, others: set[str]) -> None:
    loaded = _roots(_loaded_by(role))
    assert role in loaded
    assert not loaded & others

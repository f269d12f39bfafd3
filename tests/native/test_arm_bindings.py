"""The module's bindings compile for ARM; what lies below them is run there by test_forms.py."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path

import nanobind

from tests.native.test_forms import RING, toolchain


def test_the_bindings_compile_for_arm(tmp_path: Path) -> None:
    compiler, _ = toolchain("aarch64")
    # Debian's Python has the part of its header that depends on the machine in a folder of its own.
    machine = str(sysconfig.get_config_var("MULTIARCH"))
    (tmp_path / "aarch64-linux-gnu").symlink_to(Path("/usr/include") / machine)
    headers = (sysconfig.get_path("include"), nanobind.include_dir(), tmp_path)
    folders = [f"-I{folder}" for folder in headers]
    options = ("-std=c++17", "-fsyntax-only")
    subprocess.run([compiler, *options, *folders, RING / "_kernel.cpp"], check=True)

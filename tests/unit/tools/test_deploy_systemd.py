"""A service of systemd can read and write what its settings name, if the how-to was followed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.check_deploy import ROOT
from tools.deploy_settings import load_deployed, named_paths

HOW_TO = (ROOT / "docs" / "howto" / "deploy.md").read_text()
ETC = Path("/etc/underseal")
HANDED = Path("/run/credentials")


def files_of(row: str) -> set[str]:
    """The files in the row of the how-to's table that has this text."""
    (found,) = re.findall(rf"^\| ([^|]+) \| {row}", HOW_TO, re.MULTILINE)
    return set(re.findall("`([^`]+)`", found))


def settings_file(name: str, folder: Path) -> Path:
    """The example with the how-to's lines in place of its own; no share beside guardians."""
    (lines,) = re.findall(rf"^```toml\n# {name}.*?\n(.*?)^```$", HOW_TO, re.MULTILINE | re.DOTALL)
    changed = re.findall(r"^(\w+) =", lines, re.MULTILINE)
    changed += ["share"] if "guardians" in changed else []
    rest = re.sub(
        rf"^({'|'.join(changed)}) =.*\n", "", (ROOT / "deploy" / name).read_text(), flags=re.M
    )
    path = folder / name
    path.write_text(lines + rest)
    return path


def paths(path: Path) -> Iterator[tuple[str, Path]]:
    for name, one in named_paths(load_deployed(path)):
        inside = one.is_relative_to(path.parent)
        yield name, ETC / one.relative_to(path.parent) if inside else one


@pytest.mark.parametrize(
    ("service", "name"),
    [("server", "server.toml"), ("guardian", "guardian.toml"), ("registrar", "auditor.toml")],
)
def test_services_can_read_and_write_what_settings_name(
    service: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = (ROOT / "deploy" / "systemd" / f"underseal-{service}.service").read_text()
    handed = dict(re.findall(r"^LoadCredential\w*=([\w.]+):(\S+)$", unit, re.MULTILINE))
    for variable, value in re.findall(r"^Environment=(\w+)=(\S+)$", unit, re.MULTILINE):
        monkeypatch.setenv(variable, value.replace("%d", str(HANDED)))
        assert value == "%d" or value.removeprefix("%d/") in handed
    assert f"--config {ETC / name}\n" in unit
    assert {str(Path(source).relative_to(ETC)) for source in handed.values()} <= files_of(
        "root only"
    )
    public = files_of("everybody")
    assert name in public
    for setting, path in paths(settings_file(name, tmp_path)):
        if setting in ("data", "log"):
            assert path.is_relative_to(f"/var/lib/underseal-{service}"), setting
        elif path != HANDED:
            assert path.name in (handed if path.parent == HANDED else public), setting
            assert path.parent in (HANDED, ETC), setting

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import underseal_client
from underseal_core.command import command_of


def run(package: str, without: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a role's command as if a module were not installed."""
    program = (
        f"import sys; sys.modules[{without!r}] = None\nfrom {package}.cli import main\nmain()\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("role", "module"),
    [
        ("client", "platformdirs"),
        ("server", "alembic"),
        ("server", "grpc_health"),
        ("auditor", "structlog"),
    ],
)
def test_command_names_the_extra_that_is_not_installed(role: str, module: str) -> None:
    done = run(f"underseal_{role}", module, "--help")
    assert done.returncode == 1
    error, hint = done.stderr.splitlines()
    assert error.startswith(f"error: {module}") and error.endswith("which this command needs")
    assert hint == f"hint: pip install 'underseal[{role}]'"


def test_module_of_ours_that_is_missing_is_no_matter_of_extras() -> None:
    with pytest.raises(ModuleNotFoundError), command_of("server"):
        raise ModuleNotFoundError("none", name="underseal_server.nothing")


def test_commands_silence_grpc_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRPC_VERBOSITY", "INFO")  # so that what follows is undone
    monkeypatch.delenv("GRPC_VERBOSITY")
    with command_of("server"):
        assert os.environ["GRPC_VERBOSITY"] == "NONE"
    monkeypatch.setenv("GRPC_VERBOSITY", "DEBUG")
    with command_of("server"):
        assert os.environ["GRPC_VERBOSITY"] == "DEBUG"


def test_every_name_of_the_client_package_is_there() -> None:
    for name in underseal_client.__all__:
        assert getattr(underseal_client, name).__name__ == name
    with pytest.raises(AttributeError, match="Nothing"):
        _ = getattr(underseal_client, "Nothing")  # noqa: B009 - no such attribute

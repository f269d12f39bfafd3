from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from underseal_client.cli import main
from underseal_client.cli.app import app
from underseal_client.cli.output import print_table, show_error
from underseal_client.faces import NoFace
from underseal_core import errors
from underseal_core.errors import UndersealError
from underseal_core.outcome import ExitCode, exit_code


class Ran:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err


Run = Callable[..., Ran]


@pytest.fixture
def underseal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run the command in this process, without the user's own settings."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("UNDERSEAL_CLIENT_CONFIG", raising=False)

    def run(*arguments: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["underseal", *arguments])
        with pytest.raises(SystemExit) as raised:
            main()
        captured = capsys.readouterr()
        code = raised.value.code
        return Ran(code if isinstance(code, int) else 0, captured.out, captured.err)

    return run


def every_error() -> list[type[UndersealError]]:
    found = [value for _, value in inspect.getmembers(errors, inspect.isclass)]
    return [
        kind for kind in found if issubclass(kind, UndersealError) and kind is not UndersealError
    ]


@pytest.mark.parametrize("kind", every_error())
def test_every_error_has_an_exit_code_of_its_class(kind: type[UndersealError]) -> None:
    assert ExitCode.USAGE < exit_code(kind("it happened")) <= ExitCode.DAMAGED


def test_photo_errors_are_input_errors() -> None:
    assert exit_code(NoFace()) == ExitCode.INVALID_INPUT


def test_unexpected_error_shows_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert show_error(ValueError("secret detail")) == ExitCode.UNEXPECTED
    shown = capsys.readouterr().err
    assert shown.startswith("error: unexpected ValueError\nhint: ")
    assert "secret detail" not in shown
    assert "Traceback" not in shown


def test_markup_in_texts_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    show_error(errors.NotFound("no gallery [bold]x[/bold]", hint="[link]"))
    print_table(("NAME",), [["[red]alarm[/red]"]])
    captured = capsys.readouterr()
    assert captured.err == "error: no gallery [bold]x[/bold]\nhint: [link]\n"
    assert "[red]alarm[/red]" in captured.out


def test_missing_credentials_end_with_input_error(underseal: Run) -> None:
    ran = underseal("gallery", "list")
    assert ran.code == ExitCode.INVALID_INPUT
    assert ran.out == ""
    assert "error: there is no credentials folder" in ran.err
    assert "hint: " in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["gallery", "unknown"],
        ["search", "photo.jpg"],
        ["search", "photo.jpg", "-g", "g", "--purpose", "p", "--case", "c", "--top-k", "0"],
        ["enroll"],
        ["enroll", "-g", "g"],
        ["enroll", "photo.jpg", "--embeddings", "people.npz", "-g", "g"],
        ["enroll", "--embeddings", "people.npz", "--largest-face", "-g", "g"],
        ["--no-such-option"],
    ],
)
def test_wrong_usage_is_code_two(underseal: Run, arguments: list[str]) -> None:
    ran = underseal(*arguments)
    assert ran.code == ExitCode.USAGE
    assert ran.out == ""


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["gallery", "remove", "g"], "either template ids"),
        (["gallery", "remove", "g", "--subject", "s", "00" * 16], "either"),
        (["gallery", "remove", "g", "--expired", "00" * 16], "either"),
        (["gallery", "templates", "g", "--unit", "xyz"], "token"),
        (["--server", "nonsense", "gallery", "list"], "setting 'server'"),
        (["--config", "no-such.toml", "gallery", "list"], "there is no settings file"),
    ],
)
def test_wrong_input_is_code_three(underseal: Run, arguments: list[str], what: str) -> None:
    ran = underseal(*arguments)
    assert ran.code == ExitCode.INVALID_INPUT
    assert what in ran.err


def test_models_are_listed_as_json(underseal: Run) -> None:
    ran = underseal("models", "list", "--json")
    assert ran.code == 0
    names = {pack["name"]: pack for pack in json.loads(ran.out)}
    assert {"zoo-sface", "buffalo_l"} <= set(names)
    assert "non-commercial" in names["buffalo_l"]["licence"]


def test_noncommercial_model_needs_consent(underseal: Run) -> None:
    ran = underseal("models", "pull", "buffalo_l")
    assert ran.code == ExitCode.REFUSED
    assert "--accept-noncommercial" in ran.err


def test_every_leaf_command_offers_json() -> None:
    import typer

    group = typer.main.get_command(app)
    leaves = []
    pending = [("", group)]
    while pending:
        name, command = pending.pop()
        children = getattr(command, "commands", None)
        if children is None:
            leaves.append((name, {option for p in command.params for option in p.opts}))
        else:
            pending += [(f"{name} {child}", value) for child, value in children.items()]
    assert {name for name, _ in leaves} == {
        " bundle update",
        " projection fit",
        " projection show",
        " projection evaluate",
        " demo",
        " enroll",
        " gallery create",
        " gallery delete",
        " gallery erasures",
        " gallery list",
        " gallery relabel",
        " gallery remove",
        " gallery show",
        " gallery templates",
        " models list",
        " models pull",
        " release show",
        " replay",
        " search",
        " verify",
        " warrant",
    }
    assert [name for name, options in leaves if "--json" not in options] == []


def test_help_needs_neither_seal_nor_face_libraries() -> None:
    program = (
        "import sys; sys.argv = ['underseal', '--help']\n"
        "from underseal_client.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'tenseal', 'onnxruntime', 'insightface', 'cv2'} & set(sys.modules)\n"
        "sys.exit(1 if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_version_is_the_distributions(underseal: Run) -> None:
    from importlib.metadata import version

    assert underseal("--version").out.strip() == version("underseal")

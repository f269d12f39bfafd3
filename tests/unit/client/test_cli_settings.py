from __future__ import annotations

from pathlib import Path

import pytest

from underseal_client.faces.quality import DEFAULT_POLICY
from underseal_client.settings import ClientSettings
from underseal_core.errors import InvalidInput


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("UNDERSEAL_CLIENT_CONFIG", raising=False)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "client.toml"
    path.write_text(text)
    return path


def test_flags_win_over_environment_over_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, 'server = "file:1"\nregistrar = "file:2"\nmodel = "file"\n')
    monkeypatch.setenv("UNDERSEAL_CLIENT_REGISTRAR", "env:2")
    monkeypatch.setenv("UNDERSEAL_CLIENT_MODEL", "env")
    settings = ClientSettings.load(path, model="flag", threads=None)
    assert (settings.server, settings.registrar, settings.model) == ("file:1", "env:2", "flag")
    assert settings.threads == 0


def test_default_file_is_read_when_it_exists(tmp_path: Path) -> None:
    assert ClientSettings.load().server == "localhost:7440"
    folder = tmp_path / "config" / "underseal"
    folder.mkdir(parents=True)
    (folder / "client.toml").write_text('server = "office:7443"')
    assert ClientSettings.load().server == "office:7443"


def test_file_can_be_named_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNDERSEAL_CLIENT_CONFIG", str(write(tmp_path, 'server = "office:1"')))
    assert ClientSettings.load().server == "office:1"


def test_relative_paths_start_at_the_file(tmp_path: Path) -> None:
    settings = ClientSettings.load(write(tmp_path, 'bundle = "keys/b.usb"\nstate = "/abs/s"\n'))
    assert settings.bundle == tmp_path / "keys" / "b.usb"
    assert settings.state == Path("/abs/s")


def test_quality_bars_keep_the_gates_defaults(tmp_path: Path) -> None:
    assert ClientSettings().quality.policy() == DEFAULT_POLICY
    path = write(tmp_path, "[quality]\nmin_face_pixels = 80\none_face = false\n")
    policy = ClientSettings.load(path).quality.policy()
    assert (policy.min_face_pixels, policy.one_face) == (80, False)
    assert policy.min_det_score == DEFAULT_POLICY.min_det_score


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("serve = 1", "there is no such setting"),
        ('server = "no port"', "write host:port"),
        ('key_epoch = "abc"', "64 hexadecimal digits"),
    ],
)
def test_wrong_setting_is_explained(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        ClientSettings.load(write(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("serve = 1", "serve"),
        ('server = "no port"', "server"),
        ("threads = -1", "threads"),
        ("validity_minutes = 61", "validity_minutes"),
        ('key_epoch = "abc"', "key_epoch"),
        ("[quality]\nmin_det_score = 2", "quality.min_det_score"),
        ("[quality]\nmin_pixels = 2", "quality.min_pixels"),
    ],
)
def test_wrong_setting_is_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(InvalidInput, match=f"setting '{named}'"):
        ClientSettings.load(write(tmp_path, text))


def test_file_that_is_not_toml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot read the settings"):
        ClientSettings.load(write(tmp_path, "= ="))

"""Settings: flags over environment over file."""

from __future__ import annotations

from pathlib import Path

import pytest

from underseal_auditor.settings import load_settings
from underseal_core.errors import InvalidInput

EXAMPLE = Path(__file__).parents[3] / "deploy" / "auditor.toml"


def test_example_file_is_sound() -> None:
    settings = load_settings(EXAMPLE, {})
    assert settings.share == EXAMPLE.parent / "keys" / "share.sealed"
    assert settings.servers == {"server": "127.0.0.1:7440"}


def test_flags_over_environment_over_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERSEAL_AUDITOR_LISTEN", "127.0.0.1:1111")
    monkeypatch.setenv("UNDERSEAL_AUDITOR_SERVERS", "north=a:1, south=b:2")
    monkeypatch.setenv("UNDERSEAL_AUDITOR_MAX_SUBMISSIONS", "9")
    settings = load_settings(EXAMPLE, {"listen": "127.0.0.1:2222", "data": None})
    assert settings.listen == "127.0.0.1:2222"
    assert settings.servers == {"north": "a:1", "south": "b:2"}
    assert settings.max_submissions == 9
    assert settings.data == EXAMPLE.parent / "data"


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ({"servers": ["north"]}, "servers"),
        ({"servers": {}}, "servers"),
        ({"servers": ["North=a:1"]}, "servers"),
        ({"listen": "7444"}, "listen"),
        ({"max_submissions": 0}, "max_submissions"),
        ({"log_level": "LOUD"}, "log_level"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_wrong_setting_is_named(flags: dict[str, object], text: str) -> None:
    with pytest.raises(InvalidInput, match=text):
        load_settings(EXAMPLE, flags)


def test_missing_setting_is_named() -> None:
    with pytest.raises(InvalidInput, match="credentials") as error:
        load_settings(None, {})
    assert "UNDERSEAL_AUDITOR_CREDENTIALS" in error.value.hint


def test_file_that_is_no_toml(tmp_path: Path) -> None:
    (tmp_path / "auditor.toml").write_text("listen =")
    with pytest.raises(InvalidInput, match="cannot read"):
        load_settings(tmp_path / "auditor.toml", {})

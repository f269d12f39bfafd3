"""The client's settings: flags over environment over file over defaults.

The file is ``client.toml`` in the user's configuration folder (``underseal --config`` or
``UNDERSEAL_CLIENT_CONFIG`` name another); a variable is called ``UNDERSEAL_CLIENT_`` and the
setting's name, for example ``UNDERSEAL_CLIENT_SERVER``.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Final, Self

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from underseal_client.faces.quality import DEFAULT_POLICY, QualityPolicy
from underseal_core.errors import InvalidInput

CONFIG_VARIABLE: Final = "UNDERSEAL_CLIENT_CONFIG"
_PREFIX: Final = "UNDERSEAL_CLIENT_"
_ADDRESSES: Final = ("server", "registrar")

Address = Annotated[str, Field(pattern=r"^[^\s:/]+:\d{1,5}$|^\[[0-9a-fA-F:]+\]:\d{1,5}$")]
Hex32 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def config_folder() -> Path:
    """Return the folder of ``client.toml`` and of everything a client must keep."""
    return Path(platformdirs.user_config_dir("underseal"))


def _state_file() -> Path:
    return Path(platformdirs.user_state_dir("underseal")) / "client.sqlite"


class QualitySettings(BaseModel):
    """Bars of the quality gate, as in :class:`underseal_client.faces.quality.QualityPolicy`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_det_score: Annotated[float, Field(ge=0, le=1)] = DEFAULT_POLICY.min_det_score
    min_face_pixels: Annotated[float, Field(ge=0)] = DEFAULT_POLICY.min_face_pixels
    min_embedding_norm: Annotated[float, Field(ge=0)] | None = DEFAULT_POLICY.min_embedding_norm
    max_turn: Annotated[float, Field(gt=0)] | None = DEFAULT_POLICY.max_turn
    one_face: bool = DEFAULT_POLICY.one_face

    def policy(self) -> QualityPolicy:
        """Return the gate's own form."""
        return QualityPolicy(**self.model_dump())


class ClientSettings(BaseSettings):
    """Where the services are, who we are, and how photos become templates.

    Parameters
    ----------
    server, registrar
        ``host:port``.
    credentials
        Folder with ``ca.crt``, ``tls.crt``, ``tls.key`` and ``identity.pem``.
    bundle, key_epoch
        The auditors' public bundle; it also pins the keys that sign releases. When its id is
        given as well, a file of another epoch is refused.
    successions
        File of the auditors' successions, once shares were dealt anew; None means
        ``successions.jsonl`` beside the bundle, if it is there.
    log_key
        File with the key of the auditors' transparency log; None means ``log.vkey`` beside the
        bundle. A release that is not in this log, or in one that was rolled back, is refused.
    witnesses, witness_quorum
        Keys of the log's witnesses, as the text of their ``witness.vkey``, and how many of them
        must have seen a release before ``release show`` believes it; None means all.
    server_key
        The server's Ed25519 key; when given, results signed by another key are refused at once.
        The registrar checks it in any case.
    subject_key
        Secret of 32 bytes that turns names into opaque subject ids; made at the first use.
        Offices that share a gallery and its subjects share this file.
    state
        What was enrolled and asked, so that both can be resumed.
    model, accept_noncommercial
        A model pack's name or folder; consent to packs that may not be used commercially.
    projection
        Public projection to fewer dimensions, of the gallery's model; None: none.
    threads
        Threads of the face models; 0 means one for each core.
    columns_from
        From this many templates on, they are sent as columns instead of rows; None: from where on
        that costs less, see :func:`underseal_client.units.columns_from`.
    validity_minutes
        How long a signed request can be answered, at most 60.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix=_PREFIX)

    server: Address = "localhost:7440"
    registrar: Address = "localhost:7444"
    credentials: Path = Field(default_factory=lambda: config_folder() / "credentials")
    bundle: Path = Field(default_factory=lambda: config_folder() / "bundle.usb")
    key_epoch: Hex32 | None = None
    successions: Path | None = None
    log_key: Path | None = None
    witnesses: tuple[str, ...] = ()
    witness_quorum: Annotated[int, Field(ge=0)] | None = None
    server_key: Hex32 | None = None
    subject_key: Path = Field(default_factory=lambda: config_folder() / "subject.key")
    state: Path = Field(default_factory=_state_file)
    model: str = "zoo-sface"
    accept_noncommercial: bool = False
    projection: Path | None = None
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    quality: QualitySettings = QualitySettings()
    columns_from: Annotated[int, Field(ge=1)] | None = None
    validity_minutes: Annotated[int, Field(ge=1, le=60)] = 15
    call_timeout_s: Annotated[float, Field(gt=0)] = 30.0
    stream_timeout_s: Annotated[float, Field(gt=0)] = 600.0

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Leave the order to :meth:`load`: what it passes has been merged already."""
        return (init_settings,)

    @classmethod
    def load(cls, path: Path | None = None, **flags: object) -> Self:
        """Read file and environment; ``flags`` that are not None come first.

        Parameters
        ----------
        path
            The file; None means the one in the environment, or the default one when it exists.

        Raises
        ------
        InvalidInput
            The named file is missing, a setting is unknown or has a wrong value.
        """
        given = {name: value for name, value in flags.items() if value is not None}
        environment = EnvSettingsSource(cls, env_prefix=_PREFIX, env_nested_delimiter="__")()
        file = InitSettingsSource(cls, _read(path))()
        try:
            return cls(**{**file, **environment, **given})
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            raise InvalidInput(
                f"setting {name!r}: {_said(name, first['type'], first['msg'])}",
                hint=f"see the client's file, {_PREFIX}... variables and flags",
            ) from error


def _said(name: str, kind: str, text: str) -> str:
    """Return what is wrong with a setting, in words for people."""
    if kind == "extra_forbidden":
        return "there is no such setting"
    if kind == "string_pattern_mismatch":
        return "write host:port" if name in _ADDRESSES else "64 hexadecimal digits are wanted"
    return text


def _read(path: Path | None) -> dict[str, object]:
    """Return the file's settings, its relative paths taken from the file's folder."""
    named = path or (Path(os.environ[CONFIG_VARIABLE]) if CONFIG_VARIABLE in os.environ else None)
    source = named or config_folder() / "client.toml"
    if named is None and not source.is_file():
        return {}
    if not source.is_file():
        raise InvalidInput(
            f"there is no settings file {source}",
            hint=f"check --config and {CONFIG_VARIABLE}",
        )
    try:
        values: dict[str, object] = tomllib.loads(source.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"cannot read the settings in {source}: {error}") from error
    for name in (
        "credentials",
        "bundle",
        "successions",
        "log_key",
        "subject_key",
        "state",
        "projection",
    ):
        if isinstance(value := values.get(name), str):
            values[name] = source.parent / Path(value).expanduser()
    return values

"""Settings of registrar and guardian: flags over environment over a TOML file.

Environment variables are the field names in capitals after ``UNDERSEAL_AUDITOR_``. Relative paths
in the file are relative to the file's folder.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from underseal_core.errors import InvalidInput
from underseal_core.gallery.memory_limit import half_of_memory
from underseal_core.statements import Name

ENVIRONMENT_PREFIX: Final = "UNDERSEAL_AUDITOR_"
DEFAULT_LISTEN: Final = "127.0.0.1:7444"
DEFAULT_GUARDIAN_LISTEN: Final = "127.0.0.1:7445"


def parse_servers(value: object) -> object:
    """Turn ``name=host:port`` texts, a list of them or one with commas, into a mapping.

    Raises
    ------
    ValueError
        A text without ``=``.
    """
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list | tuple):
        return value
    pairs = [str(text).partition("=") for text in value]
    if not all(middle for _, middle, _ in pairs):
        raise ValueError("write name=host:port")
    return {name: address for name, _, address in pairs}


def parse_list(value: object) -> object:
    """Split a text at its commas; anything else stays as it is."""
    return [part.strip() for part in value.split(",") if part] if isinstance(value, str) else value


Address = Annotated[str, Field(pattern=r"^[^\s/]+:\d{1,5}$")]


Point = Annotated[int, Field(ge=1, le=32)]


class RegistrarSettings(BaseModel):
    """Where everything is, and how much at a time.

    ``servers`` gives the address of each server of the policy. ``share`` and ``label_key`` are
    the sealed files of the ceremony; ``data`` is this registrar's own folder, ``log`` the folder
    that ``log create`` made. Instead of a share that opens alone, ``guardians`` gives the addresses
    of k or more guardians, by their points.

    ``successions``: who holds the shares since the ceremony; None takes ``successions.jsonl``
    beside the bundle, if it is there. ``witnesses``: key files (``witness.vkey``) of those whose
    cosignatures of the log are taken and handed out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    listen: Address = DEFAULT_LISTEN
    credentials: Path
    bundle: Path
    successions: Path | None = None
    earlier: Annotated[tuple[Path, ...], BeforeValidator(parse_list)] = ()
    share: Path | None = None
    label_key: Path
    policy: Path
    data: Path
    log: Path
    witnesses: Annotated[tuple[Path, ...], BeforeValidator(parse_list)] = ()
    servers: Annotated[dict[Name, Address], BeforeValidator(parse_servers), Field(min_length=1)]
    guardians: Annotated[dict[Point, Address], BeforeValidator(parse_servers)] = {}
    max_submissions: Annotated[int, Field(ge=1, le=64)] = 4
    erase_seconds: Annotated[float, Field(ge=0, le=604800)] = 3600.0
    memory_mib: Annotated[int, Field(ge=1, default_factory=half_of_memory)]
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"


class GuardianSettings(BaseModel):
    """Where everything of a guardian is.

    ``data`` is its own folder: what it answered, and its replica of the galleries. ``log_key``:
    the registrar's ``log.vkey``. ``servers`` gives the address of each server of the policy.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    listen: Address = DEFAULT_GUARDIAN_LISTEN
    credentials: Path
    bundle: Path
    successions: Path | None = None
    earlier: Annotated[tuple[Path, ...], BeforeValidator(parse_list)] = ()
    share: Path
    policy: Path
    log_key: Path
    data: Path
    servers: Annotated[dict[Name, Address], BeforeValidator(parse_servers), Field(min_length=1)]
    memory_mib: Annotated[int, Field(ge=1, default_factory=half_of_memory)]
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"


T = TypeVar("T", RegistrarSettings, GuardianSettings)


def load_settings(config: Path | None, flags: Mapping[str, object]) -> RegistrarSettings:
    """Merge file, environment and flags for a registrar.

    Parameters
    ----------
    config
        The TOML file, if any.
    flags
        By field name; None means not given.

    Raises
    ------
    InvalidInput
        The file cannot be read, or a setting is missing or wrong; the text names it.
    """
    return _load(config, flags, RegistrarSettings)


def load_guardian_settings(config: Path | None, flags: Mapping[str, object]) -> GuardianSettings:
    """Merge file, environment and flags for a guardian; see :func:`load_settings`."""
    return _load(config, flags, GuardianSettings)


def _load(config: Path | None, flags: Mapping[str, object], kind: type[T]) -> T:
    merged = {} if config is None else _from_file(config, _paths(kind))
    merged |= _from_environment(os.environ, kind)
    merged |= {name: value for name, value in flags.items() if value is not None}
    try:
        return kind.model_validate(merged)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(
            f"setting {name}: {first['msg']}",
            hint=f"set it in the file, as --{name.replace('_', '-')} or "
            f"{ENVIRONMENT_PREFIX}{name.upper()}",
        ) from None


def _paths(kind: type[BaseModel]) -> frozenset[str]:
    return frozenset(
        name
        for name, info in kind.model_fields.items()
        if info.annotation in (Path, Path | None, tuple[Path, ...])
    )


def _from_file(path: Path, paths: frozenset[str]) -> dict[str, Any]:
    try:
        data = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InvalidInput(f"cannot read the settings file {path}: {error}") from error
    folder = path.parent
    return {name: _under(folder, value) if name in paths else value for name, value in data.items()}


def _under(folder: Path, value: object) -> object:
    if isinstance(value, list):
        return [_under(folder, one) for one in value]
    return folder / value if isinstance(value, str) else value


def _from_environment(environment: Mapping[str, str], kind: type[BaseModel]) -> dict[str, Any]:
    names = {ENVIRONMENT_PREFIX + name.upper(): name for name in kind.model_fields}
    return {field: environment[name] for name, field in names.items() if name in environment}

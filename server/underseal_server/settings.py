"""Settings of the server: command line over environment over ``server.toml`` over defaults.

Environment variables are called ``UNDERSEAL_SERVER_`` and the setting's name.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from underseal_core.errors import InvalidInput
from underseal_core.gallery.memory_limit import half_of_memory
from underseal_server.store.bucket import Location
from underseal_server.store.places import ObjectStorage

Positive = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]


def _blocks_memory(given: dict[str, Any]) -> int:
    """Return the default of ``memory_mib``: shards have the blocks that searches need."""
    return half_of_memory() // (1 if given["executor"] == "threads" else 8)


class Settings(BaseSettings):
    """See ``docs/reference/server.md``."""

    model_config = SettingsConfigDict(env_prefix="UNDERSEAL_SERVER_", extra="forbid", frozen=True)

    listen: str = "127.0.0.1:7440"
    data: Path = Path("data")
    catalogue: SecretStr = SecretStr("")
    catalogue_file: Path | None = None
    objects: str = ""
    objects_endpoint: str = ""
    objects_region: str = ""
    objects_key_id: str = ""
    objects_secret: SecretStr = SecretStr("")
    objects_cache_mib: Positive = 10240
    executor: Literal["threads", "ray"] = "threads"
    ray_address: str = ""
    ray_shard_threads: Annotated[int, Field(ge=0)] = 0
    credentials: Path = Path("credentials/server")
    bundles: tuple[Path, ...] = ()
    threads: Positive = Field(default_factory=lambda: os.cpu_count() or 1)
    memory_mib: Positive = Field(default_factory=_blocks_memory)
    running_searches: Positive = 1
    queue_length: Annotated[int, Field(ge=0)] = 16
    queue_wait: Annotated[float, Field(ge=0)] = 1.5
    merged_searches: Annotated[int, Field(ge=1, le=64)] = 16
    probes_mib: Positive = 512
    searches_per_client: Positive = 4
    unread_mib: Positive = 64
    enrolments_per_client: Positive = 4
    templates_per_subject: Positive = 8
    call_seconds: Seconds = 3600.0
    save_seconds: Seconds = 10.0
    stop_seconds: Seconds = 5.0
    old_units_seconds: Annotated[float, Field(ge=0)] = 86400.0
    metrics_listen: Annotated[str, Field(pattern=r"^$|^.+:\d{1,5}$")] = ""
    log_level: Annotated[str, Field(pattern="^(DEBUG|INFO|WARNING|ERROR)$")] = "INFO"

    def catalogue_url(self) -> str:
        """Return the catalogue's URL, from its file if it has one; empty: SQLite.

        Raises
        ------
        InvalidInput
            The file cannot be read, or both settings are there.
        """
        url = self.catalogue.get_secret_value()
        if self.catalogue_file is None:
            return url
        if url:
            raise InvalidInput("set catalogue or catalogue_file, not both")
        try:
            return self.catalogue_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"cannot read {self.catalogue_file}") from error

    def object_storage(self) -> ObjectStorage | None:
        """Return where units and blocks are; ``None``: in the data folder."""
        if not self.objects:
            return None
        secret = self.objects_secret.get_secret_value()
        place = (self.objects, self.objects_endpoint, self.objects_region, self.objects_key_id)
        return ObjectStorage(Location(*place, secret), self.objects_cache_mib << 20)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Command line, environment, then the file that :func:`load_settings` names."""
        file = TomlConfigSettingsSource(settings_cls)
        return init_settings, env_settings, file


def load_settings(file: Path | None, **given: Any) -> Settings:
    """Read the settings.

    Parameters
    ----------
    file
        TOML file, or ``None``.
    given
        From the command line; ``None`` counts as not given.

    Raises
    ------
    InvalidInput
        The file is unreadable, or a setting is unknown or out of range.
    """

    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=file)

    if file is not None and not file.is_file():
        raise InvalidInput(f"there is no settings file {file}")
    try:
        return FromFile(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(f"setting {where}: {first['msg']}") from error
    except (OSError, ValueError) as error:
        raise InvalidInput(f"cannot read the settings file {file}: {error}") from error

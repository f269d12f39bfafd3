"""The client that a command works with."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from underseal_client.client import Client
from underseal_client.settings import ClientSettings
from underseal_core.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator

    import typer

    from underseal_client.settings import QualitySettings


def settings_of(context: typer.Context) -> ClientSettings:
    """Return the settings from file, environment and the options before the verb."""
    settings = context.obj()
    if not isinstance(settings, ClientSettings):
        raise TypeError("the application's callback did not run")
    return settings


@contextmanager
def client_of(context: typer.Context, quality: dict[str, object] | None = None) -> Iterator[Client]:
    """Open a client; ``quality`` holds bars of the quality gate given with the command."""
    settings = settings_of(context)
    given = {name: value for name, value in (quality or {}).items() if value is not None}
    if given:
        bars: QualitySettings = settings.quality.model_copy(update=given)
        settings = settings.model_copy(update={"quality": bars})
    with Client(settings) as client:
        yield client


def template_ids(texts: list[str]) -> list[bytes]:
    """Parse template ids.

    Raises
    ------
    InvalidInput
        Not 32 hexadecimal digits.
    """
    try:
        ids = [bytes.fromhex(text) for text in texts]
    except ValueError:
        ids = [b""]
    if any(len(entry) != 16 for entry in ids):
        raise InvalidInput(
            "a template id has 32 hexadecimal digits", hint="see `underseal gallery templates`"
        )
    return ids

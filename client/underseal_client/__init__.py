"""Underseal's client: photos to ciphertexts, requests, releases.

``Client`` is the synchronous API, ``AsyncClient`` its asyncio twin, ``underseal`` the command.
Names are loaded when they are first used, so that the command can say what is not installed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from underseal_client.aio import AsyncClient
    from underseal_client.asking import Findings, Found
    from underseal_client.client import Client
    from underseal_client.enrolling import EnrolReport, Refused
    from underseal_client.many import Answered, Sought
    from underseal_client.records import Gallery, StoredTemplate
    from underseal_client.settings import ClientSettings
    from underseal_client.units import TemplateRecord

__all__ = [
    "Answered",
    "AsyncClient",
    "Client",
    "ClientSettings",
    "EnrolReport",
    "Findings",
    "Found",
    "Gallery",
    "Refused",
    "Sought",
    "StoredTemplate",
    "TemplateRecord",
]

_MODULES: Final = {
    "Answered": "many",
    "AsyncClient": "aio",
    "Client": "client",
    "ClientSettings": "settings",
    "EnrolReport": "enrolling",
    "Findings": "asking",
    "Found": "asking",
    "Gallery": "records",
    "Refused": "enrolling",
    "Sought": "many",
    "StoredTemplate": "records",
    "TemplateRecord": "units",
}

if not TYPE_CHECKING:  # a type checker would take any name for known

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)

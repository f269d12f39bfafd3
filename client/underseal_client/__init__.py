"""Underseal's client: photos to ciphertexts, requests, releases.

``Client`` is the synchronous API, ``AsyncClient`` its asyncio twin, ``underseal`` the command.
"""

from __future__ import annotations

from underseal_client.aio import AsyncClient
from underseal_client.asking import Findings, Found
from underseal_client.client import Client
from underseal_client.enrolling import EnrolReport, Refused
from underseal_client.records import Gallery, StoredTemplate
from underseal_client.settings import ClientSettings
from underseal_client.units import TemplateRecord

__all__ = [
    "AsyncClient",
    "Client",
    "ClientSettings",
    "EnrolReport",
    "Findings",
    "Found",
    "Gallery",
    "Refused",
    "StoredTemplate",
    "TemplateRecord",
]

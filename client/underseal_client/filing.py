"""Filing the warrant of a provisional release."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import ValidationError

from underseal_client import wire
from underseal_client.connection import REGISTRAR
from underseal_core.errors import InvalidInput, NotFound
from underseal_core.log_evidence import check_filed
from underseal_core.oversight import Warrant
from underseal_core.statements import utc_text

if TYPE_CHECKING:
    from underseal_client.context import ClientContext


@dataclass(frozen=True, slots=True)
class FiledWarrant:
    """A warrant that is in the log. ``late``: the release was revoked before, and stays so."""

    warrant: Warrant
    filed_at: str
    late: bool


def file_warrant(context: ClientContext, request_id: str, reference: str) -> FiledWarrant:
    """Sign a warrant, file it, and check that the log has it; see :class:`Client`."""
    asked = context.state.asked_before(request_id)
    if asked is None:
        raise NotFound(
            "no search with this id was made from here",
            hint="file it where the search was made: the request's hash is kept there",
        )
    connection = context.connection
    try:
        warrant = Warrant(
            request_id=request_id,
            request_sha256=asked.request_sha256,
            client=connection.me.name,
            reference=reference,
            salt=secrets.token_hex(16),
            at=utc_text(datetime.now(UTC)),
        )
    except ValidationError:
        raise InvalidInput("a warrant's reference has 1 to 200 characters on one line") from None
    request = wire.warrant_to_wire(warrant.sign(connection.credentials.identity))
    answer = connection.ask(connection.registrar.FileWarrant, request, peer=REGISTRAR, repeat=False)
    logged, late = wire.filed_from_wire(answer)
    filed = check_filed(logged, context.log_key, context.roster.members, warrant)
    return FiledWarrant(warrant, filed.at, late)

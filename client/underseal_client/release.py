"""Reading a release: k auditors signed it, and it answers what was asked.

Pure: everything it needs is passed in, so a release can be checked offline, later, by anyone who
has bundle and successions.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from underseal_core.errors import Damaged, PermissionRefused
from underseal_core.provenance import open_matches
from underseal_core.signing import signers_of
from underseal_core.statements import Release

if TYPE_CHECKING:
    from collections.abc import Sequence

    from underseal_client.resume import Asked
    from underseal_core.credentials import Peer
    from underseal_core.provenance import EnrolReceipt, Origin
    from underseal_core.roster import Roster
    from underseal_core.signing import Envelope
    from underseal_core.statements import MatchedTemplate

_NO_TRUST: Final = "tell the auditors; trust nothing in it"


@dataclass(frozen=True, slots=True)
class Label:
    """What the enroller wrote about a template, opened by the auditors for a match."""

    name: str
    photo: str
    case: str


def open_release(envelope: Envelope, roster: Roster, asked: Asked | None) -> Release:
    """Return a release after checking who signed it and what it answers.

    Parameters
    ----------
    roster
        Who holds the shares of the searched key epoch now, and how many of them it takes.
    asked
        The hashes of the request; None leaves out that check, for releases of requests that were
        made on another machine.

    Raises
    ------
    PermissionRefused
        Fewer than k of today's members signed.
    Damaged
        Not a release, or the answer to another request.
    """
    if envelope.payload_type != Release.payload_type:
        raise Damaged("the registrar sent something else than a release")
    signers = signers_of(envelope, roster.members)
    if len(signers) < roster.threshold:
        raise PermissionRefused(
            f"the release is signed by {len(signers)} of the auditors, not by {roster.threshold}",
            hint="trust nothing in it; are bundle and successions the auditors' current ones?",
        )
    release = Release.parse(envelope.payload)
    if release.key_epoch != roster.epoch:
        raise Damaged("the release is of another key epoch")
    if asked is not None:
        _check_answers(release, asked)
    return release


def open_origins(release: Release, origins: Sequence[Origin], me: Peer) -> tuple[EnrolReceipt, ...]:
    """Return who enrolled each template of a match, in their order, after checking signatures.

    Parameters
    ----------
    release
        Verified: it names, under the auditors' signatures, the key that each enroller has by
        their policy.
    me
        This client: what it enrolled itself must be signed with its own key.

    Raises
    ------
    Damaged
        The enrolment of a template is missing, or of another one.
    PermissionRefused
        The enroller did not sign for it, or its time was over when it was released.
    """
    receipts = open_matches(release, origins)
    named = (template for match in release.matches for template in match.templates)
    for template, receipt in zip(named, receipts, strict=True):
        if receipt.client == me.name and template.enroller_key != me.key.hex():
            raise PermissionRefused(
                "a match is said to be enrolled from here, and is not", hint=_NO_TRUST
            )
    return receipts


def _check_answers(release: Release, asked: Asked) -> None:
    answered = (release.request_id, release.request_sha256, release.result_sha256)
    if answered != (asked.request_id, asked.request_sha256, asked.result_sha256):
        raise Damaged("the release answers another request", hint=_NO_TRUST)


def read_label(match: MatchedTemplate) -> Label:
    """Return a template's label; text that is not ours is shown as the name, as it is."""
    try:
        fields = json.loads(match.label)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict) or fields.get("template") != match.template_id:
        return Label(name=match.label, photo="", case="")
    texts = {key: value for key, value in fields.items() if isinstance(value, str)}
    return Label(texts.get("name", ""), texts.get("photo", ""), texts.get("case", ""))

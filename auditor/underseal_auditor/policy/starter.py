"""A policy file to start from, made of the participants' certificates. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from underseal_auditor.policy.budget import budget_rule
from underseal_core.credentials import Peer, Role
from underseal_core.errors import InvalidInput
from underseal_core.scheme.profiles import Profile

DEFAULT_BUDGET: Final = 1 << 16
DEFAULT_MAX_POSITIVES: Final = 10
DEFAULT_TOP_K: Final = 5


@dataclass(frozen=True, slots=True)
class Starter:
    """What a first policy says.

    ``purposes``: "none", "one" or "two" persons who must approve, by name. ``models``: thresholds,
    by id. ``members``: how many took part in the ceremony. ``enrolled_probes``: every purpose may
    search with enrolled templates.
    """

    name: str
    profile: Profile
    members: int
    decimals: int
    purposes: dict[str, str]
    galleries: Sequence[str]
    models: dict[str, Decimal]
    participants: Sequence[Peer]
    enrolled_probes: bool = False


def starter_policy(starter: Starter) -> str:
    """Return the TOML text; :func:`parse_policy` is the judge of it.

    Every client gets every purpose, and may search and enrol in every gallery. Where the profile
    has no room for an information budget, the policy is strict.

    Raises
    ------
    InvalidInput
        A certificate of a role that no policy names.
    """
    strict = starter.profile.name == "swift"
    limits = budget_rule(starter.profile, starter.decimals, strict=strict, members=starter.members)
    lines = [
        "version = 1",
        f"name = {_text(starter.name)}",
        "serial = 1",
        f"profile = {_text(starter.profile.name)}",
        "",
        "[release]",
        f"top_k = {DEFAULT_MAX_POSITIVES if strict else DEFAULT_TOP_K}",
        f"decimals = {starter.decimals}",
        f"max_positives = {DEFAULT_MAX_POSITIVES}",
        f"budget = {min(DEFAULT_BUDGET, limits.max_values)}",
        *(["strict = true"] if strict else []),
    ]
    for purpose, approvals in starter.purposes.items():
        lines += ["", f"[purposes.{_text(purpose)}]"]
        lines += [f"galleries = [{_list(starter.galleries)}]", f"approvals = {_text(approvals)}"]
        lines += ["enrolled_probes = true"] if starter.enrolled_probes else []
    clients = [peer.name for peer in starter.participants if peer.role is Role.CLIENT]
    for gallery in starter.galleries:
        lines += ["", f"[galleries.{_text(gallery)}]", f"enrollers = [{_list(clients)}]"]
    for model, threshold in starter.models.items():
        lines += ["", f"[models.{_text(model)}]", f"threshold = {threshold}"]
    for peer in starter.participants:
        lines += _participant(peer, list(starter.purposes))
    return "\n".join(lines) + "\n"


def _participant(peer: Peer, purposes: Sequence[str]) -> list[str]:
    key = f"key = {_text(peer.key.hex())}"
    if peer.role is Role.CLIENT:
        return ["", f"[clients.{_text(peer.name)}]", key, f"purposes = [{_list(purposes)}]"]
    if peer.role is Role.APPROVER:
        return ["", f"[approvers.{_text(peer.name)}]", key]
    if peer.role is Role.SERVER:
        return ["", f"[servers.{_text(peer.name)}]", key]
    raise InvalidInput(
        f"{peer.name} has role {peer.role}, a policy names clients, servers and approvers",
        hint="pass the tls.crt of clients, servers and approvers",
    )


def _list(values: Sequence[str]) -> str:
    return ", ".join(_text(value) for value in values)


def _text(value: str) -> str:
    """Quote for TOML: basic strings have JSON's escapes, except that DEL needs one."""
    return json.dumps(value).replace("\x7f", "\\u007f")

"""The policy file: who may ask what, and how much of an answer leaves.

TOML, parsed strictly: an unknown field, another type or a name that nothing defines is refused,
because a misspelt limit that is silently ignored is no limit.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from math import sqrt
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, ValidationError, model_validator

from underseal_auditor.policy.budget import BudgetRule, budget_rule
from underseal_auditor.policy.sections import (
    ApproverSection,
    ClientSection,
    FreezeSection,
    GallerySection,
    ModelSection,
    PurposeSection,
    QuotaSection,
    ReleaseSection,
    Section,
    ServerSection,
)
from underseal_core.errors import InvalidInput
from underseal_core.oversight import Serial
from underseal_core.scheme.profiles import Profile, profile_named
from underseal_core.statements import Id, Name, Text

MAX_POLICY_BYTES: Final = 1 << 20
"""No policy is longer: bounds the parser's work."""


class PolicyDocument(Section):
    """The whole file."""

    version: Literal[1]
    name: Text
    serial: Serial = 1
    profile: Name
    release: ReleaseSection
    clients: dict[Name, ClientSection]
    servers: dict[Name, ServerSection]
    purposes: dict[Name, PurposeSection]
    galleries: dict[Name, GallerySection]
    models: dict[Text, ModelSection]
    approvers: dict[Name, ApproverSection] = Field(default_factory=dict)
    quotas: QuotaSection = QuotaSection()
    freeze: FreezeSection = FreezeSection()
    lifted: Annotated[tuple[Id, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name, client in self.clients.items():
            unknown = set(client.purposes) - set(self.purposes)
            if unknown:
                raise ValueError(f"client {name} has the unknown purpose {min(unknown)}")
        keys = [c.key for c in self.clients.values()] + [s.key for s in self.servers.values()]
        keys += [a.key for a in self.approvers.values()]
        if len(set(keys)) != len(keys):
            raise ValueError("two participants have the same key")
        self._check_enrollers()
        self._check_named()
        self._check_approvers()
        return self

    def _check_approvers(self) -> None:
        for name, purpose in self.purposes.items():
            if purpose.approvals_needed > len(self.approvers):
                raise ValueError(f"purpose {name} needs more approvers than there are")

    def _check_named(self) -> None:
        """A limit on something that is nowhere else in the file is a misspelt one."""
        searched = {name for purpose in self.purposes.values() for name in purpose.galleries}
        for kind, names, known in (
            ("gallery", set(self.galleries), searched),
            ("frozen client", set(self.freeze.clients), set(self.clients)),
            ("frozen server", set(self.freeze.servers), set(self.servers)),
        ):
            if names - known:
                raise ValueError(
                    f"nothing else in the policy names the {kind} {min(names - known)}"
                )

    def _check_enrollers(self) -> None:
        for purpose, section in self.purposes.items():
            closed = set(section.galleries) - set(self.galleries)
            if closed:
                raise ValueError(
                    f"purpose {purpose} searches gallery {min(closed)}, and nothing says who may"
                    f" enrol there: add [galleries.{min(closed)}] with its enrollers"
                )
        for gallery, limits in self.galleries.items():
            unknown = set(limits.enrollers) - set(self.clients)
            if unknown:
                raise ValueError(f"gallery {gallery} has the unknown enroller {min(unknown)}")

    def enrollers(self, gallery: str) -> dict[str, bytes]:
        """Return whose enrolments in ``gallery`` count: the clients' Ed25519 keys by name."""
        section = self.galleries.get(gallery)
        names = () if section is None else section.enrollers
        return {name: bytes.fromhex(self.clients[name].key) for name in names}


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy file that was read and found sound.

    ``source`` holds its exact bytes and ``sha256`` their hex digest: releases name the policy by
    it. ``limits`` is what profile and decimals allow at most, with the keys of one auditor.
    """

    document: PolicyDocument
    source: bytes
    sha256: str
    profile: Profile
    limits: BudgetRule

    def max_spread(self, model_id: str, model_dimension: int) -> float:
        """Return the bound on the standard deviation of the scores below the threshold."""
        stated = self.document.models[model_id].max_spread
        return default_max_spread(model_dimension) if stated is None else float(stated)

    def limits_for(self, members: int) -> BudgetRule:
        """Return ``limits`` for keys that ``members`` made together: more make more error."""
        return _limits(self.document.release, self.profile, members)

    def check_members(self, members: int) -> None:
        """Check the budget for keys that ``members`` made together.

        Raises
        ------
        InvalidInput
            It is more than is safe with them.
        """
        limits = self.limits_for(members)
        _check_budget(self.document.release, self.profile, limits, members)


def default_max_spread(model_dimension: int) -> float:
    """Return the larger of 0.11 and 1.4 times the spread of random unit vectors.

    Real faces stay below it (``zoo-sface``, 614 portraits: 0.075 to 0.094, and up to 0.108 in
    samples of 64; the bound is 0.124). A probe of norm sqrt(5), whose squared norm looks like 1
    where the modulus leaves no more room (``compact`` and ``swift``), has 2.2 times the spread.
    """
    return max(0.11, 1.4 / sqrt(model_dimension))


def parse_policy(source: bytes) -> Policy:
    """Parse the bytes of a policy file.

    Raises
    ------
    InvalidInput
        Not TOML, not this format, contradicting itself, or asking for more than its profile
        allows. The text names the field.
    """
    if len(source) > MAX_POLICY_BYTES:
        raise InvalidInput("the policy file is too long")
    try:
        data = tomllib.loads(source.decode(), parse_float=Decimal)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, ArithmeticError) as error:
        raise InvalidInput(f"the policy is not TOML: {error}") from error
    document = _validated(data)
    profile = profile_named(document.profile)
    limits = _limits(document.release, profile, members=1)
    _check_release(document.release, profile, limits)
    return Policy(document, source, hashlib.sha256(source).hexdigest(), profile, limits)


def load_policy(path: Path) -> Policy:
    """Read and parse a policy file.

    Raises
    ------
    InvalidInput
        The file cannot be read, or see :func:`parse_policy`.
    """
    try:
        source = path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"cannot read the policy file {path}") from error
    return parse_policy(source)


def _validated(data: Mapping[str, Any]) -> PolicyDocument:
    try:
        return PolicyDocument.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InvalidInput(f"the policy is not valid: {place}: {first['msg']}") from None


def _check_release(release: ReleaseSection, profile: Profile, limits: BudgetRule) -> None:
    if release.decimals and not limits.numeric:
        raise InvalidInput(
            f"profile {profile.name} has no room for scores",
            hint="set release.decimals = 0 (yes or no), or hold a ceremony for guarded",
        )
    _check_budget(release, profile, limits, members=1)
    if limits.strict and release.top_k < release.max_positives:
        raise InvalidInput(
            "in strict mode release.top_k must not be less than release.max_positives",
            hint="a cut by score would say more than yes or no",
        )


def _limits(release: ReleaseSection, profile: Profile, members: int) -> BudgetRule:
    return budget_rule(profile, release.decimals, strict=release.strict, members=members)


def _check_budget(
    release: ReleaseSection, profile: Profile, limits: BudgetRule, members: int
) -> None:
    if release.budget > limits.max_values:
        raise InvalidInput(
            f"release.budget is {release.budget}, at most {limits.max_values} values are safe "
            f"with profile {profile.name}, {release.decimals} decimals and {members} auditors"
        )

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
from itertools import pairwise
from math import sqrt
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from underseal_auditor.policy.budget import BudgetRule, budget_rule
from underseal_core.errors import InvalidInput
from underseal_core.scheme.profiles import Profile, profile_named
from underseal_core.statements import Key, Name, Text

MAX_POLICY_BYTES: Final = 1 << 20
"""No policy is longer: bounds the parser's work."""

MAX_TOP_K: Final = 100
"""A release with this many of the longest labels still fits one message."""

Threshold = Annotated[Decimal, Field(ge=Decimal("0.1"), lt=1, decimal_places=4)]
"""A cosine. Below 0.1 every gallery is full of "matches"; four decimals are what requests use."""

Names = Annotated[tuple[Name, ...], Field(min_length=1, strict=False)]


class Section(BaseModel):
    """Immutable, strictly typed, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ClientSection(Section):
    """One client: its Ed25519 key (hex) and the purposes it may state."""

    key: Key
    purposes: Names


class ServerSection(Section):
    """One server: its Ed25519 key (hex)."""

    key: Key


class PurposeSection(Section):
    """One purpose: the galleries it may search, and which approvals it needs."""

    galleries: Names
    approvals: Literal["none"]


class SizeStep(Section):
    """The threshold from a number of live templates on."""

    templates: Annotated[int, Field(ge=2)]
    threshold: Threshold


class ModelSection(Section):
    """One embedding model.

    ``max_spread`` bounds the standard deviation of the scores below the threshold; without it the
    bound follows from the dimension (see :func:`default_max_spread`).
    """

    threshold: Threshold
    larger_galleries: Annotated[tuple[SizeStep, ...], Field(strict=False)] = ()
    max_spread: Annotated[Decimal, Field(gt=0, lt=1)] | None = None

    @model_validator(mode="after")
    def _rising(self) -> Self:
        first = SizeStep.model_construct(templates=1, threshold=self.threshold)
        for lower, upper in pairwise((first, *self.larger_galleries)):
            if upper.templates <= lower.templates or upper.threshold < lower.threshold:
                raise ValueError("larger_galleries must rise in templates, and never fall")
        return self

    def threshold_for(self, templates: int) -> Decimal:
        """Return the threshold for a gallery of this many live templates."""
        reached = [s.threshold for s in self.larger_galleries if templates >= s.templates]
        return reached[-1] if reached else self.threshold


class ReleaseSection(Section):
    """How much of an answer leaves.

    ``decimals`` 0 releases yes or no, without scores. ``max_positives`` refuses a search that
    would match more templates: a wide net is no search for a person. ``max_near`` does the same
    for scores too close below the threshold, which honest searches hardly have. ``max_refusals``
    bounds how often a client may be refused after opening, in a key epoch. ``budget`` is the number
    of values made visible in a key epoch. ``strict`` counts bits: see the reference.
    """

    top_k: Annotated[int, Field(ge=1, le=MAX_TOP_K)]
    decimals: Annotated[int, Field(ge=0, le=3)]
    max_positives: Annotated[int, Field(ge=1, le=1000)]
    max_near: Annotated[int, Field(ge=0, le=1000)] = 3
    max_refusals: Annotated[int, Field(ge=1, le=1000)] = 64
    budget: Annotated[int, Field(ge=1)]
    strict: bool = False


class PolicyDocument(Section):
    """The whole file."""

    version: Literal[1]
    name: Text
    profile: Name
    release: ReleaseSection
    clients: dict[Name, ClientSection]
    servers: dict[Name, ServerSection]
    purposes: dict[Name, PurposeSection]
    models: dict[Text, ModelSection]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name, client in self.clients.items():
            unknown = set(client.purposes) - set(self.purposes)
            if unknown:
                raise ValueError(f"client {name} has the unknown purpose {min(unknown)}")
        keys = [c.key for c in self.clients.values()] + [s.key for s in self.servers.values()]
        if len(set(keys)) != len(keys):
            raise ValueError("two participants have the same key")
        return self


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy file that was read and found sound.

    ``source`` holds its exact bytes and ``sha256`` their hex digest: releases name the policy by
    it. ``limits`` is what profile and decimals allow at most.
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
    limits = budget_rule(profile, document.release.decimals, strict=document.release.strict)
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
    if release.budget > limits.max_values:
        raise InvalidInput(
            f"release.budget is {release.budget}, at most {limits.max_values} values are safe "
            f"with profile {profile.name} and {release.decimals} decimals"
        )
    if limits.strict and release.top_k < release.max_positives:
        raise InvalidInput(
            "in strict mode release.top_k must not be less than release.max_positives",
            hint="a cut by score would say more than yes or no",
        )

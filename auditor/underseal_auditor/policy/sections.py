"""The sections of the policy file, each with the limits of its fields."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from underseal_core.statements import Fusion, Key, Name

MAX_TOP_K: Final = 100
"""A release with this many of the longest labels still fits one message."""

Threshold = Annotated[Decimal, Field(ge=Decimal("0.1"), lt=1, decimal_places=4)]
"""A cosine. Below 0.1 every gallery is full of "matches"; four decimals are what requests use."""

Names = Annotated[tuple[Name, ...], Field(min_length=1, strict=False)]
AnyNames = Annotated[tuple[Name, ...], Field(strict=False)]


class Section(BaseModel):
    """Immutable, strictly typed, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ClientSection(Section):
    """One client: its Ed25519 key (hex) and the purposes it may state; none if it only enrols."""

    key: Key
    purposes: AnyNames


class ServerSection(Section):
    """One server: its Ed25519 key (hex)."""

    key: Key


class ApproverSection(Section):
    """One person who may approve requests: the Ed25519 key (hex)."""

    key: Key


class PurposeSection(Section):
    """One purpose: the galleries it may search, and how many persons must approve each request.

    ``scope``: whether a request must name whom it compares with, or must not. ``enrolled_probes``:
    whether it may search with an enrolled template.

    A request that needs approval may wait for ``approval_hours`` from when it was signed. Where a
    ``warrant`` is asked for ``within`` some hours, a release without one is provisional.
    """

    galleries: Names
    approvals: Literal["none", "one", "two"]
    scope: Literal["any", "named", "everybody"] = "any"
    enrolled_probes: bool = False
    approval_hours: Annotated[int, Field(ge=1, le=168)] = 24
    warrant: Literal["none", "before", "within"] = "none"
    warrant_hours: Annotated[int, Field(ge=1, le=720)] = 48

    @property
    def approvals_needed(self) -> int:
        """Number of different persons."""
        return ("none", "one", "two").index(self.approvals)


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


class GallerySection(Section):
    """One gallery: whose enrolments count, and its own limits.

    ``enrollers`` are clients: a template that none of them signed for is refused, with the gallery.
    Of the limits and those of the model and the release, the stricter ones hold. ``fusion``: how
    the scores of several templates of one subject make its score.
    """

    enrollers: Names
    fusion: Fusion = "max"
    threshold: Threshold | None = None
    top_k: Annotated[int, Field(ge=1, le=MAX_TOP_K)] | None = None


class QuotaSection(Section):
    """How much may be asked, and how much may be said about one subject.

    ``searches_per_day``: of one client, in any 24 hours. ``scores_per_subject`` and
    ``hits_per_subject``: matches released with their score, and matches at all, of one gallery
    subject in a key epoch, over all clients. ``near_duplicate_weight``: how often a search counts
    in all of these, and in what it charges, when the client asked nearly the same before.
    """

    searches_per_day: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    scores_per_subject: Annotated[int, Field(ge=0, le=1000)] = 8
    hits_per_subject: Annotated[int, Field(ge=1, le=1_000_000)] = 64
    near_duplicate_weight: Annotated[int, Field(ge=1, le=100)] = 4


class FreezeSection(Section):
    """Participants of the policy that are refused for now."""

    clients: AnyNames = ()
    servers: AnyNames = ()

"""The signed statements of a search: request, result, release.

Payloads are canonical JSON (RFC 8785) and parsed strictly: unknown fields, other types and bytes
that are not canonical are refused, so that a hash of the payload names one statement only.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from functools import lru_cache
from itertools import pairwise
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from underseal_core.canonical import canonical_json
from underseal_core.errors import Damaged, NotFound
from underseal_core.signing import Envelope, Identity, open_envelope

_CONTROLS: Final = frozenset({"Cc", "Zl", "Zp"})
_OVERRIDES: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""With the controls, what could make a terminal or a log show another text than was signed."""


def _real_time(text: str) -> str:
    utc_moment(text)
    return text


def _one_line(text: str) -> str:
    if text.isprintable():  # and so none of them
        return text
    if any(sign in _OVERRIDES or unicodedata.category(sign) in _CONTROLS for sign in text):
        raise ValueError("holds control characters")
    return text


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Key = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Id = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
Text = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_one_line)]
Time = Annotated[str, AfterValidator(_real_time)]
Count = Annotated[int, Field(ge=0, le=2**53 - 1)]

_SECONDS_END: Final = len("YYYY-MM-DDTHH:MM:SS")

MAX_BYTES = 4 << 20
"""No statement is longer: bounds the parser's work on hostile input."""

MAX_TARGETS: Final = 64
"""Templates that one request compares with by their ids."""

MAX_SUBJECTS: Final = 1000
"""Subjects that one request compares with."""


def utc_text(moment: datetime) -> str:
    """Return ``moment`` as the statements write times: UTC, whole seconds."""
    return _written(moment.astimezone(UTC))


@lru_cache(maxsize=256)  # a request's times are checked when it is parsed, opened and claimed
def utc_moment(text: str) -> datetime:
    """Inverse of :func:`utc_text`.

    Raises
    ------
    ValueError
        Anything else than what :func:`utc_text` writes, even if ISO 8601 allows it.
    """
    moment = datetime.fromisoformat(text)
    if _written(moment) != text:
        raise ValueError("a time is written as YYYY-MM-DDTHH:MM:SSZ")
    return moment


def _written(moment: datetime) -> str:
    """Return a moment that is taken for UTC, to the second."""
    return moment.isoformat()[:_SECONDS_END] + "Z"


class Part(BaseModel):
    """Immutable, strictly typed, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Statement(Part):
    """A part that is signed on its own."""

    payload_type: ClassVar[str]
    max_bytes: ClassVar[int] = MAX_BYTES
    version: Literal[1] = 1

    def payload(self) -> bytes:
        """Return the canonical bytes."""
        return canonical_json(self.model_dump(mode="json"))

    def sha256(self) -> str:
        """Return the hex SHA-256 of the canonical bytes: the statement's name."""
        return hashlib.sha256(self.payload()).hexdigest()

    def sign(self, identity: Identity) -> Envelope:
        """Return the statement in an envelope signed by ``identity``."""
        return identity.sign(self.payload_type, self.payload())

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """Parse canonical bytes.

        Raises
        ------
        Damaged
            Too long, not canonical JSON, not this statement, or one that leaves out a field:
            two payloads of different hash would read the same.
        """
        if len(payload) > cls.max_bytes:
            raise Damaged("statement is too long")
        try:
            statement = cls.model_validate_json(payload)
            canonical = statement.payload()
        except (ValueError, RecursionError) as error:
            raise Damaged(f"not a valid {cls.__name__} statement") from error
        if canonical != payload:
            raise Damaged(f"{cls.__name__} statement is not the canonical JSON of what it says")
        return statement

    @classmethod
    def open(cls, envelope: Envelope, signer: bytes) -> Self:
        """Check type and signature, then parse.

        Raises
        ------
        Damaged, PermissionRefused
            See :func:`open_envelope` and :meth:`parse`.
        """
        return cls.parse(open_envelope(envelope, cls.payload_type, signer))


class Pin(Part):
    """What a gallery, and every message about it, is pinned to."""

    model_id: Text
    model_dimension: Annotated[int, Field(ge=2, le=1024)]
    profile: Name
    key_epoch: Sha256


class Wanted(Part):
    """What the client asks for; the policy may allow less.

    ``threshold`` can only raise the policy's own. It is text because canonical JSON of floats is
    easy to get wrong: a decimal such as ``"0.55"``.
    """

    top_k: Annotated[int, Field(ge=1, le=1000)]
    threshold: Annotated[str, Field(pattern=r"^0\.[0-9]{1,4}$|^$")] = ""


class Targets(Part):
    """Whom to compare with: some templates, or all those of some subjects; empty: everybody."""

    template_ids: Annotated[tuple[Id, ...], Field(max_length=MAX_TARGETS)] = ()
    subject_ids: Annotated[tuple[Id, ...], Field(max_length=MAX_SUBJECTS)] = ()

    def __bool__(self) -> bool:
        return bool(self.template_ids or self.subject_ids)

    @model_validator(mode="after")
    def _definite(self) -> Self:
        if self.template_ids and self.subject_ids:
            raise ValueError("templates and subjects are not named together")
        if len(self.wanted()) < len(self.template_ids) + len(self.subject_ids):
            raise ValueError("one of them is named twice")
        return self

    def wanted(self) -> frozenset[bytes]:
        """Return the ids of the templates, or of the subjects."""
        return frozenset(map(bytes.fromhex, (*self.template_ids, *self.subject_ids)))

    def check_found(self, found: AbstractSet[bytes]) -> None:
        """Check that nobody is missing: a subject without template may be a misspelt one.

        Parameters
        ----------
        found
            Those of :meth:`wanted` that are live, or have a live template.

        Raises
        ------
        NotFound
            One is missing.
        """
        what = "template" if self.template_ids else "subject"
        number, missing = len(self.wanted()), len(self.wanted() - found)
        if missing:
            some = f"the {what} is" if number == 1 else f"{missing} of the {number} {what}s are"
            raise NotFound(
                f"{some} not enrolled in this gallery",
                hint="compare only with whom it holds: see `underseal gallery templates`",
            )


class SearchRequest(Statement):
    """Signed by the client. ``request_id`` is random and is the nonce.

    The probe is the ciphertext with this hash, or made of the enrolled template with this id.
    ``warrant``: reference of an authorisation, for purposes that ask for one.
    """

    payload_type: ClassVar[str] = "application/vnd.underseal.search-request.v1+json"
    max_bytes: ClassVar[int] = 64 << 10
    """Half as much again as a request with 1,000 subjects; a server reads those of any client."""

    request_id: Id
    client: Name
    gallery: Name
    pin: Pin
    probe_sha256: Sha256 | Literal[""] = ""
    probe_template: Id | Literal[""] = ""
    purpose: Name
    case_reference: Text
    warrant: Text | Literal[""] = ""
    wanted: Wanted
    targets: Targets = Targets()
    issued_at: Time
    expires_at: Time

    @model_validator(mode="after")
    def _one_probe(self) -> Self:
        if bool(self.probe_sha256) == bool(self.probe_template):
            raise ValueError("a request names either a probe's hash or an enrolled template")
        if self.probe_template in self.targets.template_ids:
            raise ValueError("a template is not compared with itself")
        return self

    @property
    def own_template(self) -> bytes:
        """The template that is the probe, and not compared with itself; none if it is uploaded."""
        return bytes.fromhex(self.probe_template)

    def probe_seed(self) -> bytes:
        """Return what the randomness of an enrolled probe follows from: this request."""
        return bytes.fromhex(self.sha256())


class BlockTiles(Part):
    """What one block holds: the Merkle root over its tiles."""

    block: Count
    tiles_root: Sha256


class Snapshot(Part):
    """The state of a gallery that a result speaks of.

    ``blocks``: every block with a live template, ascending; whoever has the catalogue can compute
    ``root`` with it, and whoever has a replica can compare.
    """

    gallery: Name
    version: Count
    root: Sha256
    templates: Count
    blocks: tuple[BlockTiles, ...]

    def tiles_roots(self) -> dict[int, str]:
        """Return the tiles roots by block.

        Raises
        ------
        Damaged
            The blocks are not in ascending order, each once.
        """
        numbers = [entry.block for entry in self.blocks]
        if any(left >= right for left, right in pairwise(numbers)):
            raise Damaged("a snapshot's blocks are not in order")
        return {entry.block: entry.tiles_root for entry in self.blocks}


class ResultBlock(Part):
    """One sealed result: its block and the SHA-256 of the ciphertext as sent."""

    block: Count
    sha256: Sha256


class SearchResult(Statement):
    """Signed by the server."""

    payload_type: ClassVar[str] = "application/vnd.underseal.search-result.v1+json"

    request_sha256: Sha256
    server: Name
    snapshot: Snapshot
    blocks: tuple[ResultBlock, ...]
    norm_sha256: Sha256
    compared: Count
    code_version: Text
    finished_at: Time


class MatchedTemplate(Part):
    """A template that a match rests on.

    ``enrolment_sha256`` names the receipt that its enroller signed, and ``enroller_key`` is the
    Ed25519 key, by the auditors' policy, that it must be signed with.
    """

    template_id: Id
    label: str
    enrolment_sha256: Sha256
    enroller_key: Key


class Match(Part):
    """One released subject. ``score`` is empty when the policy allows yes/no only.

    ``templates``: those whose score or mean it is.
    """

    subject_id: Id
    rank: Annotated[int, Field(ge=1)]
    score: Annotated[str, Field(pattern=r"^$|^-?[01]\.[0-9]{1,4}$")]
    templates: Annotated[tuple[MatchedTemplate, ...], Field(min_length=1)]


Fusion = Literal["max", "mean"]
"""How the scores of a subject's templates make its score."""


class Release(Statement):
    """Signed by the auditors. "No match" is a release too.

    ``matches``: each subject once; its score is the ``fusion`` of those of its templates that were
    compared. ``approvers``: the persons who approved the request. ``warrant_deadline``: a
    provisional release, revoked unless a warrant is filed by then. ``searches_charged``: what this
    counts as among the client's searches of the day; more than one for a near duplicate of an
    earlier probe.
    """

    payload_type: ClassVar[str] = "application/vnd.underseal.release.v1+json"

    request_id: Id
    request_sha256: Sha256
    result_sha256: Sha256
    policy_sha256: Sha256
    key_epoch: Sha256
    client: Name
    purpose: Name
    case_reference: Text
    matches: tuple[Match, ...]
    fusion: Fusion = "max"
    compared: Count
    threshold: Text
    noise_std: Text
    approvers: tuple[Name, ...] = ()
    warrant_deadline: Time | Literal[""] = ""
    values_charged: Count
    searches_charged: Annotated[int, Field(ge=1, le=1000)] = 1
    epoch_total: Count
    released_at: Time

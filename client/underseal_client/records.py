"""What the services tell the client, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

    from underseal_core.log_evidence import Evidence
    from underseal_core.provenance import Origin
    from underseal_core.signing import Envelope
    from underseal_core.statements import Pin


@dataclass(frozen=True, slots=True)
class Gallery:
    """A gallery as the server describes it.

    ``version`` grows by one with every change; ``snapshot_root`` (hex SHA-256, empty while the
    server cannot open the gallery) names the state at
    that version; ``created_at`` is UTC, ISO 8601. ``max_keep_days``: longest time that templates
    may be kept, 0 for no limit. ``pending_templates`` are stored, but not in that version yet.
    """

    name: str
    pin: Pin
    writers: tuple[str, ...]
    max_templates_per_subject: int
    templates: int
    blocks: int
    version: int
    snapshot_root: str
    created_at: str
    bytes_stored: int
    max_keep_days: int
    pending_templates: int = 0


@dataclass(frozen=True, slots=True)
class StoredTemplate:
    """One template, as listed. Ids have 16 bytes.

    ``keep_until``: when it is removed by itself; empty for never. ``searchable``: every search
    from now on compares with it.
    """

    template_id: bytes
    subject_id: bytes
    block: int
    slot: int
    enrolled_by: str
    enrolled_at: str
    keep_until: str
    unit_token: bytes
    searchable: bool


@dataclass(frozen=True, slots=True)
class TemplateFilter:
    """Which templates are meant: all of what is given must be so.

    ``enrolled_from``: at or after; ``enrolled_before``: times, aware. ``past_their_time``: what the
    server is to remove by itself.
    """

    enrolled_from: datetime | None = None
    enrolled_before: datetime | None = None
    enrolled_by: str = ""
    unit_token: bytes = b""
    past_their_time: bool = False

    def __bool__(self) -> bool:
        return self != TemplateFilter()


@dataclass(frozen=True, slots=True)
class SentErasure:
    """What a server sends about a removed template, nothing of it verified.

    ``receipt`` is ``None`` for one that is not erased yet; ``amendment`` and ``origin`` come only
    with one that auditors erased.
    """

    template_id: bytes
    subject_id: bytes
    removed_version: int
    removed_at: str
    receipt: Envelope | None
    amendment: Envelope | None
    origin: Origin | None


ALL: Final = TemplateFilter()


@dataclass(frozen=True, slots=True)
class TemplatePage:
    """Some templates in slot order; ``after`` asks for the next ones, empty when there are none.

    ``matching``: how many there are on all pages.
    """

    templates: tuple[StoredTemplate, ...]
    after: str
    matching: int


@dataclass(frozen=True, slots=True)
class Statistics:
    """A gallery's templates, counted by the server; times are empty when there are none.

    ``removed`` ones are gone but for their ids. ``next_keep_until``: when the next one is to leave
    by itself.
    """

    pending: int
    active: int
    removed: int
    subjects: int
    oldest_enrolled_at: str
    newest_enrolled_at: str
    next_keep_until: str


@dataclass(frozen=True, slots=True)
class Leaf:
    """What a receipt's root covers of a template; see ``underseal_core.provenance``."""

    template_id: bytes
    subject_id: bytes
    label_sha256: bytes


@dataclass(frozen=True, slots=True)
class ListedUnit:
    """A unit's last receipt and its leaves in the order of places, as the server shows them."""

    receipt: Envelope
    leaves: tuple[Leaf, ...]


@dataclass(frozen=True, slots=True)
class NewTemplate:
    """One template of a unit: its ids (16 bytes each) and its sealed label."""

    template_id: bytes
    subject_id: bytes
    sealed_label: bytes


@dataclass(frozen=True, slots=True)
class Receipt:
    """The server's word that a unit is stored.

    The r-th template of the unit is in slot ``first_slot + r * slot_step`` of ``block``.
    ``repeated`` tells that the unit had been stored by an earlier attempt.
    """

    token: bytes
    templates: int
    gallery_version: int
    block: int
    first_slot: int
    slot_step: int
    repeated: bool


@dataclass(frozen=True, slots=True)
class Delivered:
    """What the registrar answered, nothing of it verified yet.

    ``origins``: who enrolled the matches, in the order of their ranks.
    """

    release: Envelope
    evidence: Evidence
    origins: tuple[Origin, ...]


class SealedKind(StrEnum):
    """What a sealed ciphertext of a search is."""

    RESULT = "result"
    NORM = "norm"
    PROBE = "probe"


@dataclass(frozen=True, slots=True)
class Sealed:
    """A ciphertext as sent. ``block`` counts for results only."""

    kind: SealedKind
    block: int
    ciphertext: bytes


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a search is. ``queued``: requests before this one, 0 once it runs."""

    queued: int
    blocks_done: int
    blocks_total: int


@dataclass(frozen=True, slots=True)
class SignedResult:
    """The last message of a search: statement search-result, not yet verified."""

    envelope: Envelope


SearchPart = Progress | Sealed | SignedResult

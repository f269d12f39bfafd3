"""What the store takes and gives."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from underseal_core.gallery.unit import Placement, Shape, Unit
from underseal_core.provenance import template_leaf
from underseal_core.scheme.profiles import Profile, padded_dimension, profile_named
from underseal_core.signing import Envelope
from underseal_core.statements import Pin

ID_BYTES: Final = 16
HASH_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class GallerySpec:
    """What a gallery is created with. ``writers`` includes the owner.

    ``max_keep_days``: longest time that templates may be kept; 0 for no limit.
    """

    name: str
    pin: Pin
    owner: str
    writers: frozenset[str]
    max_per_subject: int
    max_keep_days: int = 0


@dataclass(frozen=True, slots=True)
class Gallery:
    """A stored gallery. ``version`` is that of the moment it was read."""

    id: int
    spec: GallerySpec
    version: int
    created_at: str

    @property
    def name(self) -> str:
        """Its name."""
        return self.spec.name

    @property
    def profile(self) -> Profile:
        """The parameter set it is pinned to."""
        return profile_named(self.spec.pin.profile)

    @property
    def dimension(self) -> int:
        """Padded dimension: the number of columns of a block."""
        return padded_dimension(self.spec.pin.model_dimension)


@dataclass(frozen=True, slots=True)
class NewTemplate:
    """A template of a unit, in slot order. Ids have 16 bytes; the label stays sealed."""

    template_id: bytes
    subject_id: bytes
    sealed_label: bytes

    def __repr__(self) -> str:
        return f"NewTemplate({self.template_id.hex()})"


class State(StrEnum):
    """Of a unit: stored, in every search from now on, or gone."""

    PENDING = "pending"
    ACTIVE = "active"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredUnit(Unit):
    """A unit in the catalogue.

    ``added_version`` is 0 while it is PENDING, ``removed_version`` while any of its templates is
    live. ``former``: as it was before its last redaction, with the hash of then.
    """

    id: int
    size: int
    content_sha256: bytes
    added_version: int
    removed_version: int
    former: Unit | None = None

    @property
    def is_now(self) -> bool:
        """Whether this is the unit as it is, not as it was before its last redaction."""
        return self.former is None or self.redaction != self.former.redaction

    @property
    def state(self) -> State:
        """Whether searches see it."""
        if self.removed_version:
            return State.REMOVED
        return State.ACTIVE if self.added_version else State.PENDING


@dataclass(frozen=True, slots=True)
class NewUnit:
    """A unit about to be stored. ``receipt``: its enroller's, checked, with one signature.

    ``keep_until``: what the receipt says, empty for ever.
    """

    token: bytes
    shape: Shape
    templates: tuple[NewTemplate, ...]
    enrolled_by: str
    sha256: bytes
    size: int
    receipt: Envelope
    keep_until: str = ""

    def leaves(self) -> list[bytes]:
        """Return the leaves that the receipt's root covers."""
        return [
            template_leaf(t.template_id, t.subject_id, hashlib.sha256(t.sealed_label).digest())
            for t in self.templates
        ]

    def content_sha256(self) -> bytes:
        """Name everything in the unit, to tell a repeated token from a reused one."""
        digest = hashlib.sha256(b"underseal unit v1")
        digest.update(self.shape.encode() + len(self.templates).to_bytes(8, "big"))
        for leaf in self.leaves():
            digest.update(leaf)
        digest.update(self.sha256)
        return digest.digest()


@dataclass(frozen=True, slots=True)
class Receipt:
    """Where a unit is stored. ``repeated``: it was stored before.

    ``version``: the first that shows it, 0 while it is PENDING.
    """

    token: bytes
    placement: Placement
    version: int
    state: State
    repeated: bool

    @classmethod
    def of(cls, unit: StoredUnit, *, repeated: bool) -> Self:
        """Return a stored unit's."""
        return cls(unit.token, unit.placement, unit.added_version, unit.state, repeated)


@dataclass(frozen=True, slots=True)
class Leaf:
    """What a receipt's root covers of a template; see ``underseal_core.provenance``."""

    template_id: bytes
    subject_id: bytes
    label_sha256: bytes


@dataclass(frozen=True, slots=True)
class LabelledUnit:
    """A unit's last receipt and its leaves in the order of places, removed templates included."""

    receipt: Envelope
    leaves: tuple[Leaf, ...]


@dataclass(frozen=True, slots=True, repr=False)
class Relabelling:
    """New sealed labels of a unit by template id, and the receipt, checked, that covers them."""

    token: bytes
    labels: Mapping[bytes, bytes]
    receipt: Envelope


@dataclass(frozen=True, slots=True)
class TemplateFilter:
    """Which templates are meant: all of what is not empty must be so.

    Times as statements write them: enrolled at ``enrolled_from`` or later and before
    ``enrolled_before``; to be kept until ``over_at`` or less.
    """

    subject_id: bytes = b""
    enrolled_from: str = ""
    enrolled_before: str = ""
    enrolled_by: str = ""
    unit_token: bytes = b""
    over_at: str = ""


@dataclass(frozen=True, slots=True)
class Statistics:
    """A gallery's templates, counted; times are empty when there are none."""

    pending: int
    active: int
    removed: int
    subjects: int
    oldest_enrolled_at: str
    newest_enrolled_at: str
    next_keep_until: str


@dataclass(frozen=True, slots=True)
class Template:
    """A template that is PENDING or ACTIVE, as lists show it."""

    template_id: bytes
    subject_id: bytes
    block: int
    slot: int
    enrolled_by: str
    enrolled_at: str
    state: State
    keep_until: str
    unit_token: bytes


@dataclass(frozen=True, slots=True)
class UnitEntry:
    """A unit as the auditors' mirror sees it, with its enroller's receipt."""

    token: bytes
    shape: Shape
    placement: Placement
    sha256: bytes
    receipt: Envelope
    added_version: int


@dataclass(frozen=True, slots=True)
class AmendedUnit:
    """A unit of which auditors erased templates, as their mirror sees it."""

    token: bytes
    sha256: bytes
    amendment: Envelope
    version: int


@dataclass(frozen=True, slots=True)
class Change:
    """A template as the auditors' mirror sees it; without label once it is removed."""

    template_id: bytes
    subject_id: bytes
    unit_token: bytes
    place: int
    sealed_label: bytes
    label_sha256: bytes
    removed_version: int

    def __repr__(self) -> str:
        return f"Change({self.template_id.hex()})"


@dataclass(frozen=True, slots=True)
class RelabelledUnit:
    """A unit's last receipt, and the first version with it."""

    token: bytes
    receipt: Envelope
    version: int


@dataclass(frozen=True, slots=True)
class FeedPage:
    """A piece of the auditors' feed, of the state at ``version``."""

    version: int
    units: tuple[UnitEntry, ...] = ()
    amended: tuple[AmendedUnit, ...] = ()
    relabelled: tuple[RelabelledUnit, ...] = ()
    templates: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class View:
    """One state of a gallery: what a search compares with and its result speaks of.

    ``blocks``: the tiles root of each block with a live template, by number, ascending.
    """

    version: int
    root: str
    templates: int
    blocks: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state that was named to others: hex root, live templates, and when it was first named."""

    version: int
    root: str
    templates: int
    named_at: str


@dataclass(frozen=True, slots=True)
class Archive:
    """An exported gallery: of which version and root, and the hex digest that its seal names."""

    archive_id: str
    version: int
    root: str
    sha256: str
    exported_at: str

"""What the store takes and gives."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from underseal_core.gallery.unit import Placement, Shape, Unit
from underseal_core.scheme.profiles import Profile, padded_dimension, profile_named
from underseal_core.statements import Pin

ID_BYTES: Final = 16
HASH_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class GallerySpec:
    """What a gallery is created with. ``writers`` includes the owner."""

    name: str
    pin: Pin
    owner: str
    writers: frozenset[str]
    max_per_subject: int


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


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredUnit(Unit):
    """A unit in the catalogue. ``removed_version`` is 0 while any of its templates is live."""

    id: int
    size: int
    content_sha256: bytes
    added_version: int
    removed_version: int


@dataclass(frozen=True, slots=True)
class NewUnit:
    """A unit about to be stored."""

    token: bytes
    shape: Shape
    templates: tuple[NewTemplate, ...]
    enrolled_by: str
    sha256: bytes
    size: int

    def content_sha256(self) -> bytes:
        """Name everything in the unit, to tell a repeated token from a reused one."""
        digest = hashlib.sha256(b"underseal unit v1")
        digest.update(self.shape.encode() + len(self.templates).to_bytes(8, "big"))
        for template in self.templates:
            digest.update(template.template_id + template.subject_id)
            digest.update(hashlib.sha256(template.sealed_label).digest())
        digest.update(self.sha256)
        return digest.digest()


@dataclass(frozen=True, slots=True)
class Receipt:
    """Where a unit is stored. ``repeated``: it was stored before."""

    token: bytes
    placement: Placement
    version: int
    repeated: bool


@dataclass(frozen=True, slots=True)
class Template:
    """A live template, as lists show it."""

    template_id: bytes
    subject_id: bytes
    block: int
    slot: int
    enrolled_by: str
    enrolled_at: str


@dataclass(frozen=True, slots=True)
class Change:
    """A template as the auditors' mirror sees it; without label once it is removed."""

    template_id: bytes
    subject_id: bytes
    block: int
    slot: int
    sealed_label: bytes
    unit_sha256: bytes
    added_version: int
    removed_version: int

    def __repr__(self) -> str:
        return f"Change({self.template_id.hex()})"


@dataclass(frozen=True, slots=True)
class View:
    """One state of a gallery: what a search compares with and its result speaks of."""

    version: int
    root: str
    templates: int
    blocks: tuple[int, ...]

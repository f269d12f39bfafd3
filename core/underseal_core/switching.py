"""The switching key from one key epoch to the next, signed by old and new key holders.

    offset  size            field
    0       4               magic "USK2"
    4       1               profile number
    5       1               threshold k of the old epoch
    6       1               members n of the new epoch
    7       1               zero
    8       32              old key epoch
    40      32              new key epoch
    72      32              transcript hash of the rotation
    104     k               points of the old members who made it, ascending
            2 L E           key                   [digit][component][prime][N]
            64 k            signatures of these old members, in order
            64 n            signatures of all new members, in order

Residues are packed (``ring/packing``) in SEAL's NTT order, the special prime last; ``E`` bytes are
a polynomial modulo all ``L + 1`` primes. The key's id is SHA-256 over a domain and everything
before the signatures.

Both sides sign because both vouch for something: ``k`` old members could open the old gallery
anyway, and say that this epoch succeeds theirs; the new ones say that they opened a known answer
with this key. Whoever takes a key from elsewhere checks it with :func:`verify_switching_key`
against the bundles of both epochs.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from underseal_core.bundle import MAX_MEMBERS
from underseal_core.durable import replace_file
from underseal_core.errors import Damaged, InvalidInput, Mismatch, NotFound, StorageFull
from underseal_core.roster import Roster
from underseal_core.scheme.fields import FieldReader, pack_residues, residues_size
from underseal_core.scheme.profiles import Profile, profile_by_wire_id
from underseal_core.signing import verify_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from underseal_core.bundle import PublicBundle
    from underseal_core.scheme.ciphertext import Residues

MAGIC: Final = b"USK2"
MAX_SWITCHING_KEY_BYTES: Final = 4_000_000

_PREFIX_BYTES: Final = 8
_HASH_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64
_ID_DOMAIN: Final = b"underseal/v1/switching-key\x00"
_SIGNATURE_DOMAIN: Final = b"underseal/v1/switching-key-signature\x00"


@dataclass(frozen=True, eq=False)
class SwitchingKey:
    """Re-encrypts from ``old_epoch`` to ``new_epoch``, both 64 hexadecimal digits.

    ``active``: points of the old members who made it; ``transcript``: 32 bytes, of the rotation;
    ``key``: ``(fresh_level, 2, fresh_level + 1, degree)``, dtype ``uint32``.
    """

    profile: Profile
    old_epoch: str
    new_epoch: str
    active: tuple[int, ...]
    transcript: bytes
    key: Residues
    new_members: int
    old_signatures: tuple[bytes, ...] = ()
    new_signatures: tuple[bytes, ...] = ()

    def content(self) -> bytes:
        """Return everything that is signed."""
        prefix = bytes((self.profile.wire_id, len(self.active), self.new_members, 0))
        epochs = bytes.fromhex(self.old_epoch) + bytes.fromhex(self.new_epoch)
        head = MAGIC + prefix + epochs + self.transcript + bytes(self.active)
        return head + pack_residues(self.profile, [self.key])

    @cached_property
    def id(self) -> str:
        """The key's name: 64 hexadecimal digits."""
        return hashlib.sha256(_ID_DOMAIN + self.content()).hexdigest()

    def signing_message(self) -> bytes:
        """Return the bytes that each member signs, old or new."""
        return _SIGNATURE_DOMAIN + bytes.fromhex(self.id)

    def to_bytes(self) -> bytes:
        """Serialise; the exact inverse of :func:`parse_switching_key`."""
        return self.content() + b"".join((*self.old_signatures, *self.new_signatures))

    def save(self, path: Path) -> None:
        """Write the file at once or not at all.

        Raises
        ------
        StorageFull
            It cannot be written; what was there is still there.
        """
        try:
            replace_file(path, self.to_bytes(), 0o644)
        except OSError as error:
            raise StorageFull(f"cannot write the switching key {path.name}") from error


def load_switching_key(path: Path) -> SwitchingKey:
    """Read a file; see :func:`parse_switching_key`.

    Raises
    ------
    NotFound
        There is no such file, or it cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SWITCHING_KEY_BYTES + 1)
    except OSError as error:
        raise NotFound(f"cannot read the switching key {path.name}") from error
    return parse_switching_key(data)


def parse_switching_key(data: bytes) -> SwitchingKey:
    """Parse a switching key that somebody sent. Its signatures are not looked at.

    Raises
    ------
    InvalidInput
        Not a switching key: magic, profile, counts, points, length or a residue out of range.
    """
    profile, threshold, members = _parse_prefix(data)
    expected = switching_key_size(profile, threshold, members)
    if len(data) != expected:
        raise InvalidInput(f"the switching key has {len(data)} bytes, wanted exactly {expected}")
    reader = FieldReader(data, _PREFIX_BYTES)
    old_epoch, new_epoch, transcript = (reader.take(_HASH_BYTES) for _ in range(3))
    active = tuple(reader.take(threshold))
    if active[0] < 1 or any(left >= right for left, right in pairwise(active)):
        raise InvalidInput("the switching key's old members are not in order")
    key = reader.key_residues(profile, (profile.fresh_level, 2))
    old_signatures = tuple(reader.take(_SIGNATURE_BYTES) for _ in active)
    new_signatures = tuple(reader.take(_SIGNATURE_BYTES) for _ in range(members))
    return SwitchingKey(
        profile=profile,
        old_epoch=old_epoch.hex(),
        new_epoch=new_epoch.hex(),
        active=active,
        transcript=transcript,
        key=key,
        new_members=members,
        old_signatures=old_signatures,
        new_signatures=new_signatures,
    )


def verify_switching_key(
    key: SwitchingKey, old: PublicBundle, new: PublicBundle, holders: Roster | None = None
) -> None:
    """Check that a key leads from one bundle to the other, and that both sides signed it.

    Parameters
    ----------
    old
        The bundle that the caller trusts.
    new
        Its successor; its own members' signatures were checked when it was parsed.
    holders
        Who holds the old epoch's shares now; the bundle's members when left out.

    Raises
    ------
    Mismatch
        The key, or the new bundle, is of another epoch, profile, dimension or label key.
    Damaged
        Not signed by as many old members as open the old epoch, or not by all new ones.
    """
    if (key.old_epoch, key.new_epoch, key.profile) != (old.epoch, new.epoch, old.profile):
        raise Mismatch("the switching key is of other key epochs than the bundles")
    check_successor(old, new)
    message = key.signing_message()
    roster = holders or Roster.first(old)
    points = key.active if key.active[-1] <= len(roster.members) else ()
    makers = [roster.members[point - 1] for point in points]
    enough = len(makers) == old.threshold and roster.epoch == old.epoch
    if not enough or not _signed(makers, key.old_signatures, message):
        raise Damaged(
            f"the switching key is not signed by {old.threshold} members of the old key epoch",
            hint="ask the auditors for the signed one; use no other",
        )
    if key.new_members != len(new.members) or not _signed(new.members, key.new_signatures, message):
        raise Damaged("the switching key is not signed by all members of the new key epoch")


def check_successor(old: PublicBundle, new: PublicBundle) -> None:
    """Check that a key epoch can follow another: galleries move as they are.

    Raises
    ------
    Mismatch
        Another profile, dimension or label key, or the same epoch.
    """
    if old.epoch == new.epoch:
        raise Mismatch("a key epoch does not succeed itself")
    if (old.profile, old.dimension) != (new.profile, new.dimension):
        raise Mismatch("the new keys are of another profile or dimension than the old ones")
    if old.label_key.raw != new.label_key.raw:
        raise Mismatch(
            "the new keys have another label key: labels sealed before could not be opened",
            hint="prepare the registrar's member with `ceremony prepare --registrar --label-key`",
        )


def switching_key_size(profile: Profile, threshold: int, members: int) -> int:
    """Exact number of bytes of a switching key."""
    residues = 2 * profile.fresh_level * residues_size(profile, profile.fresh_level + 1)
    fixed = _PREFIX_BYTES + 3 * _HASH_BYTES + threshold
    return fixed + residues + _SIGNATURE_BYTES * (threshold + members)


def _parse_prefix(data: bytes) -> tuple[Profile, int, int]:
    if len(data) < _PREFIX_BYTES or data[:4] != MAGIC or data[7] != 0:
        raise InvalidInput("not an Underseal switching key")
    wire_id, threshold, members = data[4:7]
    if not (1 <= threshold <= MAX_MEMBERS and 1 <= members <= MAX_MEMBERS):
        raise InvalidInput("the switching key's member counts are impossible")
    return profile_by_wire_id(wire_id), threshold, members


def _signed(members: Sequence[bytes], signatures: Sequence[bytes], message: bytes) -> bool:
    return len(members) == len(signatures) and all(
        verify_bytes(member, signature, message)
        for member, signature in zip(members, signatures, strict=True)
    )

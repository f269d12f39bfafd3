"""The public bundle: everything public about one key epoch, signed by all key holders.

    offset  size                    field
    0       4                       magic "USB2"
    4       1                       profile number
    5       1                       threshold k
    6       1                       members n
    7       1                       log2 of the dimension d
    8       32                      transcript hash of the ceremony
    40      1216                    label key (ML-KEM-768, then X25519)
    1256    32 n                    Ed25519 keys; member i = 1..n has the Shamir point i
            2 E                     public key            [component][prime][N]
            2 L E                   relinearisation key   [digit][component][prime][N]
            2 L E log2(d)           Galois keys, g = N/2^l + 1 for l = 0..log2(d)-1
            64 n                    signatures, in the order of the members

Residues are packed (``ring/packing``) in SEAL's NTT order, the special prime last; ``E`` bytes are
a polynomial modulo all ``L + 1`` primes. All sizes follow from the first eight bytes.

The key epoch's id is SHA-256 over a domain and everything before the signatures in the **plain
form**: magic "USB1", residues as uint32 little-endian. So it does not depend on how the bundle is
stored or sent; archives of version 1 hold the plain form with the signatures after it. The
signatures show that the named members made the bundle; that they are the right members is for the
reader to check, by the epoch id or by their keys.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from underseal_core.durable import replace_file
from underseal_core.errors import Damaged, InvalidInput, Mismatch, NotFound, StorageFull
from underseal_core.labels import PUBLIC_KEY_BYTES, SealingKey
from underseal_core.quorum import check_quorum
from underseal_core.scheme.evaluation import EvaluationKeys, galois_elements
from underseal_core.scheme.fields import (
    FieldReader,
    pack_residues,
    plain_bytes,
    residues_size,
)
from underseal_core.scheme.profiles import Profile, profile_by_wire_id, require_dimension
from underseal_core.signing import verify_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from underseal_core.scheme.ciphertext import Residues

MAGIC: Final = b"USB2"
PLAIN_MAGIC: Final = b"USB1"
MAX_MEMBERS: Final = 32
MAX_BUNDLE_BYTES: Final = 32_000_000

_PREFIX_BYTES: Final = 8
_HASH_BYTES: Final = 32
_SIGNER_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64
_EPOCH_DOMAIN: Final = b"underseal/v1/key-epoch\x00"
_SIGNATURE_DOMAIN: Final = b"underseal/v1/bundle-signature\x00"


@dataclass(frozen=True, eq=False)
class PublicBundle:
    """One key epoch's public half.

    ``public_key`` has shape ``(2, fresh_level + 1, degree)``, dtype ``uint32``; ``members`` are
    raw Ed25519 keys, member ``i`` (from 1) at index ``i - 1``; ``threshold`` of them together
    open a ciphertext.
    """

    profile: Profile
    dimension: int
    threshold: int
    members: tuple[bytes, ...]
    label_key: SealingKey
    transcript: bytes
    public_key: Residues
    keys: EvaluationKeys
    signatures: tuple[bytes, ...] = ()

    def content(self) -> bytes:
        """Return the plain form of everything that is signed."""
        body = b"".join(plain_bytes(array) for array in self._arrays())
        return PLAIN_MAGIC + self._head() + body

    def _head(self) -> bytes:
        logarithm = self.dimension.bit_length() - 1
        prefix = (self.profile.wire_id, self.threshold, len(self.members), logarithm)
        return bytes(prefix) + self.transcript + self.label_key.raw + b"".join(self.members)

    def _arrays(self) -> list[Residues]:
        elements = galois_elements(self.profile, self.dimension)
        galois = [self.keys.galois[element] for element in elements]
        return [self.public_key, self.keys.relinearisation, *galois]

    @cached_property
    def epoch(self) -> str:
        """The key epoch's id: 64 hexadecimal digits."""
        return hashlib.sha256(_EPOCH_DOMAIN + self.content()).hexdigest()

    def signing_message(self) -> bytes:
        """Return the bytes that each member signs."""
        return _SIGNATURE_DOMAIN + bytes.fromhex(self.epoch)

    def to_bytes(self) -> bytes:
        """Serialise; the exact inverse of :func:`parse_bundle`."""
        body = pack_residues(self.profile, self._arrays())
        return MAGIC + self._head() + body + b"".join(self.signatures)

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
            raise StorageFull(f"cannot write the bundle file {path.name}") from error


def load_bundle(path: Path, epoch: str | None = None) -> PublicBundle:
    """Read a file; see :func:`parse_bundle`.

    Raises
    ------
    NotFound
        There is no such file, or it cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BUNDLE_BYTES + 1)
    except OSError as error:
        raise NotFound(f"cannot read the bundle file {path.name}") from error
    return parse_bundle(data, epoch)


def parse_bundle(data: bytes, epoch: str | None = None) -> PublicBundle:
    """Parse and verify a bundle that somebody sent.

    Parameters
    ----------
    data
        The whole bundle.
    epoch
        The key epoch that the caller trusts; ``None`` takes any that its own members signed.

    Raises
    ------
    InvalidInput
        Not a bundle: magic, profile, counts, length, label key or a residue out of range.
    Damaged
        A member's signature is wrong.
    Mismatch
        A sound bundle, but of another key epoch.
    """
    bundle = _parse(data, plain=False)
    if epoch is not None and bundle.epoch != epoch:
        raise Mismatch("the bundle is of another key epoch", hint="fetch the current bundle")
    return bundle


def parse_plain_bundle(data: bytes) -> PublicBundle:
    """Parse and verify the plain form, which old archives hold; see :func:`parse_bundle`."""
    return _parse(data, plain=True)


def _parse(data: bytes, *, plain: bool) -> PublicBundle:
    profile, dimension, threshold, count = _parse_prefix(data, PLAIN_MAGIC if plain else MAGIC)
    expected = bundle_size(profile, dimension, count, plain=plain)
    if len(data) != expected:
        raise InvalidInput(f"the bundle has {len(data)} bytes, wanted exactly {expected}")
    reader = FieldReader(data, _PREFIX_BYTES)
    transcript = reader.take(_HASH_BYTES)
    label_key = SealingKey(reader.take(PUBLIC_KEY_BYTES))
    members = tuple(reader.take(_SIGNER_BYTES) for _ in range(count))
    if len(set(members)) != count:
        raise InvalidInput("the bundle names a member twice")
    take = reader.plain_key_residues if plain else reader.key_residues
    public_key = take(profile, (2,))
    keys = _read_keys(take, profile, dimension)
    signatures = tuple(reader.take(_SIGNATURE_BYTES) for _ in range(count))
    bundle = PublicBundle(
        profile, dimension, threshold, members, label_key, transcript, public_key, keys, signatures
    )
    verify_signatures(bundle)
    return bundle


def verify_signatures(bundle: PublicBundle) -> None:
    """Check that every member signed.

    Raises
    ------
    Damaged
        A signature is missing or wrong.
    """
    message = bundle.signing_message()
    signed = len(bundle.signatures) == len(bundle.members) and all(
        verify_bytes(member, signature, message)
        for member, signature in zip(bundle.members, bundle.signatures, strict=True)
    )
    if not signed:
        raise Damaged("the bundle is not signed by all its members", hint="fetch it again")


def bundle_size(profile: Profile, dimension: int, members: int, *, plain: bool = False) -> int:
    """Exact number of bytes of a bundle."""
    switching_keys = 1 + len(galois_elements(profile, dimension))
    polynomials = 2 * (1 + profile.fresh_level * switching_keys)
    count = profile.fresh_level + 1
    polynomial = 4 * count * profile.degree if plain else residues_size(profile, count)
    fixed = _PREFIX_BYTES + _HASH_BYTES + PUBLIC_KEY_BYTES
    return fixed + members * (_SIGNER_BYTES + _SIGNATURE_BYTES) + polynomials * polynomial


def _parse_prefix(data: bytes, magic: bytes) -> tuple[Profile, int, int, int]:
    if len(data) < _PREFIX_BYTES or data[:4] != magic:
        raise InvalidInput("not an Underseal public bundle")
    wire_id, threshold, count, logarithm = data[4:_PREFIX_BYTES]
    profile = profile_by_wire_id(wire_id)
    if count > MAX_MEMBERS:
        raise InvalidInput("the bundle names too many members")
    check_quorum(threshold, count)
    dimension = 1 << min(logarithm, 16)
    require_dimension(dimension)
    return profile, dimension, threshold, count


def _read_keys(
    take: Callable[[Profile, tuple[int, ...]], Residues], profile: Profile, dimension: int
) -> EvaluationKeys:
    shape = (profile.fresh_level, 2)
    relinearisation = take(profile, shape)
    elements = galois_elements(profile, dimension)
    galois = {element: take(profile, shape) for element in elements}
    return EvaluationKeys(relinearisation, galois)

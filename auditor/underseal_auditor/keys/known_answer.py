"""The known-answer test: a search on dummy data, opened by every k-subset.

The dummy templates are public and the same for everyone; their encryption takes randomness from
every member, so that no member knows all of it, and the partial decryptions are flooded like any
other. It proves public, relinearisation and Galois keys and all shares together.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from underseal_auditor.keys.decryption import combine, encrypt_zero, rerandomise
from underseal_auditor.keys.elements import total
from underseal_auditor.keys.messages import CeremonyFailed
from underseal_auditor.keys.sampling import PublicStream
from underseal_auditor.keys.whole_share import encrypt_whole_zero
from underseal_core.ring import kernel
from underseal_core.scheme.ciphertext import Ciphertext, Kind
from underseal_core.scheme.encoding import encode_row
from underseal_core.scheme.evaluation import EvaluationKeys, Evaluator, tiles_shape
from underseal_core.scheme.fields import FieldReader, pack_residues

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from underseal_auditor.keys.participant import Sharing
    from underseal_auditor.keys.sampling import Stream
    from underseal_core.scheme.ciphertext import Residues
    from underseal_core.scheme.encoding import Real
    from underseal_core.scheme.profiles import Profile

SIGMA: Final = 2.0**-6
"""Generous, to reveal little: wrong keys give values spread over the whole modulus."""
LARGEST_ERROR: Final = 10.0 * SIGMA
LARGEST_RMS: Final = 1.08 * SIGMA
"""Close to the noise itself: what a cheat adds to its zeros, such as a multiple of the joint
secret, must not hide below it. The estimate's own deviation is ``1 / sqrt(2N)``, about 1 %."""

_SLOTS: Final = 4
"""Templates in the dummy gallery, at most as many as a row holds."""


class Quorum(Protocol):
    """``threshold`` of ``members``, who have the points from 1 on."""

    @property
    def threshold(self) -> int:
        """See the class."""
        ...

    @property
    def members(self) -> tuple[object, ...]:
        """See the class."""
        ...


def subsets(file: Quorum) -> list[tuple[int, ...]]:
    """Return all groups of ``threshold`` points, in lexicographic order."""
    return list(combinations(range(1, len(file.members) + 1), file.threshold))


def subsets_with(file: Quorum, point: int) -> list[tuple[int, ...]]:
    """Return the groups that ``point`` is in, in the order of :func:`subsets`."""
    return [active for active in subsets(file) if point in active]


@dataclass(frozen=True, slots=True, eq=False)
class DummyZeros:
    """One member's encryptions of zero: the randomness it adds to the dummy search.

    ``probe`` and ``gallery``: ``(2, fresh_level, degree)``; ``whole``: ``(2, fresh_level + 1,
    degree)``, for :class:`underseal_auditor.keys.whole_share.WholeShareTest`; ``masks``: one
    ``(2, result_level, degree)`` for each group that the member is in.
    """

    probe: Residues
    gallery: Residues
    whole: Residues
    masks: tuple[Residues, ...]

    @classmethod
    def make(cls, file: Sharing, public_key: Residues, point: int, stream: Stream) -> Self:
        """Encrypt zeros under the joint public key."""
        profile = file.profile
        fresh, result = profile.fresh_level, profile.result_level
        return cls(
            encrypt_zero(public_key, profile, fresh, stream),
            encrypt_zero(public_key, profile, fresh, stream),
            encrypt_whole_zero(public_key, profile, stream),
            tuple(
                encrypt_zero(public_key, profile, result, stream) for _ in subsets_with(file, point)
            ),
        )

    def to_bytes(self, profile: Profile) -> bytes:
        """Serialise; the exact inverse of :meth:`parse`."""
        return pack_residues(profile, (self.probe, self.gallery, self.whole, *self.masks))

    @classmethod
    def parse(cls, payload: bytes, file: Sharing, point: int) -> Self:
        """Parse a member's message.

        Raises
        ------
        InvalidInput
            Wrong length, or a residue that is not below its prime.
        """
        profile = file.profile
        reader = FieldReader(payload)
        fresh = profile.data_primes
        result = profile.data_primes[: profile.result_level]
        row = (2, len(fresh), profile.degree)
        mask = (2, len(result), profile.degree)
        zeros = cls(
            reader.residues(fresh, row),
            reader.residues(fresh, row),
            reader.key_residues(profile, (2,)),
            tuple(reader.residues(result, mask) for _ in subsets_with(file, point)),
        )
        reader.finish()
        return zeros


class DummySearch:
    """The search, computed by every member alike, and the check of its opened results."""

    def __init__(
        self,
        file: Sharing,
        keys: EvaluationKeys,
        seed: bytes,
        zeros: Sequence[DummyZeros],
    ) -> None:
        self._file = file
        self._templates = _dummy_templates(file, seed)
        self._zeros = zeros
        probe = self._row(self._templates[:1], Kind.PROBE_ROW, [part.probe for part in zeros])
        gallery = self._row(self._templates, Kind.TEMPLATE_ROW, [part.gallery for part in zeros])
        self._result = _search(file, keys, probe, gallery)

    def masked(self, active: tuple[int, ...]) -> Ciphertext:
        """Return the result as re-randomised by the members of one group."""
        masks = [
            self._zeros[point - 1].masks[subsets_with(self._file, point).index(active)]
            for point in active
        ]
        return rerandomise(self._result, masks)

    def check(self, active: tuple[int, ...], partials: Sequence[Residues]) -> None:
        """Open with one group's answers and compare with the plain inner products.

        Raises
        ------
        CeremonyFailed
            A value is off.
        """
        dimension = self._file.dimension
        opened = combine(self.masked(active), partials, dimension)
        wanted = np.zeros_like(opened)
        scores = self._templates @ self._templates[0]
        wanted[: len(scores) * dimension : dimension] = scores
        check_opened(opened, wanted, active)

    def _row(self, templates: Real, kind: Kind, zeros: list[Residues]) -> Ciphertext:
        profile = self._file.profile
        primes = profile.data_primes
        dimension = self._file.dimension
        residues = total(zeros, primes).copy()
        message = encode_row(templates, profile, dimension, kind.scale(profile, dimension))
        residues[0] = kernel.add(residues[0], message, primes)
        return Ciphertext(profile, kind, residues)


def check_opened(opened: Real, wanted: Real, active: tuple[int, ...]) -> None:
    """Compare what a group opened, with noise ``SIGMA``, with the known answer.

    Raises
    ------
    CeremonyFailed
        A value is off.
    """
    error = opened - wanted
    rms = float(np.sqrt(np.mean(error**2)))
    if float(np.abs(error).max()) > LARGEST_ERROR or rms > LARGEST_RMS:
        members = ", ".join(str(point) for point in active)
        raise CeremonyFailed(f"members {members} together do not open the known answer")


def _dummy_templates(file: Sharing, seed: bytes) -> Real:
    count = min(_SLOTS, file.profile.degree // file.dimension)
    stream = PublicStream(seed, "underseal/v1/dummy-templates")
    values = np.frombuffer(stream.read(2 * count * file.dimension), dtype="<i2").astype(np.float64)
    rows = values.reshape(count, file.dimension)
    unit: Real = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def _search(
    file: Sharing, keys: EvaluationKeys, probe: Ciphertext, gallery: Ciphertext
) -> Ciphertext:
    evaluator = Evaluator(file.profile, file.dimension, keys)
    try:
        tiles = np.zeros(tiles_shape(file.profile, file.dimension), dtype=np.uint32)
        evaluator.add(tiles, evaluator.expand(gallery), 0)
        return evaluator.score(evaluator.prepare(probe).probe, tiles)
    finally:
        evaluator.close()

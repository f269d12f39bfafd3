"""Templates to units: ids, sealed labels, and the choice between rows and columns.

A row carries up to N/d - 1 templates in one ciphertext, which the server has to expand; columns
carry a whole block in d ciphertexts, which it only has to add. Both ways a full block costs d
ciphertexts, so columns pay off as soon as their fixed d ciphertexts cost less than expanding the
rows would: :func:`columns_from` templates.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import numpy as np

from underseal_client import wire
from underseal_client.records import NewTemplate
from underseal_client.subjects import checked_name
from underseal_core.canonical import canonical_json
from underseal_core.errors import InvalidInput
from underseal_core.gallery.unit import Shape, usable_slots
from underseal_core.labels import label_context, seal_label
from underseal_core.provenance import Enrolled, template_leaf
from underseal_core.statements import utc_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from underseal_client.records import Gallery
    from underseal_client.subjects import SubjectKey
    from underseal_core.bundle import PublicBundle
    from underseal_core.labels import SealingKey
    from underseal_core.scheme.ciphertext import Ciphertext
    from underseal_core.scheme.encryption import Encryptor
    from underseal_core.scheme.profiles import Profile
    from underseal_core.signing import Envelope, Identity

TOKEN_BYTES: Final = 16
MAX_TEXT_BYTES: Final = 256
NORM_TOLERANCE: Final = 1e-3
CROSSING_ROWS: Final = 15
"""Full rows that cost as much as a unit of columns: 10 to 23 were measured, 13 to 17 in the default
profile (docs/howto/enrol.md). Near the crossing both ways cost much the same."""


@dataclass(frozen=True, slots=True, eq=False)
class TemplateRecord:
    """One template to be enrolled.

    Parameters
    ----------
    subject
        The person's name; goes into the sealed label and, hashed, into the subject id.
    vector
        ``(model_dimension,)``, float64, unit norm. Kept out of ``repr``.
    photo
        What the label says about the origin, for example a file name.
    case
        Reference that the label carries.
    source
        Names what the template was made from, for resuming; "" means: never the same again.
    """

    subject: str
    vector: npt.NDArray[np.float64] = field(repr=False)
    photo: str = ""
    case: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class Labelled:
    """A record with its ids: what stays in the client's hands."""

    record: TemplateRecord = field(repr=False)
    template_id: bytes
    subject_id: bytes


def check_vector(vector: npt.NDArray[np.float64], dimension: int) -> None:
    """Refuse what no model of this dimension makes.

    Raises
    ------
    InvalidInput
        Another shape, or not a unit vector.
    """
    if vector.shape != (dimension,):
        raise InvalidInput(f"a template has shape {vector.shape}, the gallery wants ({dimension},)")
    if not abs(float(np.linalg.norm(vector)) - 1.0) < NORM_TOLERANCE:  # also true for NaN
        raise InvalidInput("a template is not a unit vector")


@dataclass(frozen=True, slots=True, repr=False)
class LabelText:
    """What a label says of a template: the person's name, the photo, maybe a case."""

    name: str
    photo: str = ""
    case: str = ""

    def to_bytes(self, template_id: bytes) -> bytes:
        """Return canonical JSON with ``name``, ``photo``, ``template`` and maybe ``case``.

        Raises
        ------
        InvalidInput
            The name is not acceptable.
        """
        fields = {
            "name": checked_name(self.name),
            "photo": _cut(self.photo),
            "template": template_id.hex(),
        }
        if self.case:
            fields["case"] = _cut(self.case)
        return canonical_json(fields)

    def seal(self, key: SealingKey, gallery: str, template_id: bytes) -> bytes:
        """Return the label sealed for the auditors, for this template and no other."""
        context = label_context(gallery, template_id)
        return seal_label(key, self.to_bytes(template_id), context)


def _cut(text: str) -> str:
    """Keep the label inside its limits; JSON can write a byte as six."""
    return text.encode("utf-8", "replace")[:MAX_TEXT_BYTES].decode("utf-8", "ignore")


def _leaf(template: NewTemplate) -> bytes:
    label_sha256 = hashlib.sha256(template.sealed_label).digest()
    return template_leaf(template.template_id, template.subject_id, label_sha256)


def label(record: TemplateRecord, gallery: str, key: SubjectKey) -> Labelled:
    """Give a record its random template id and its subject id."""
    template_id = secrets.token_bytes(wire.ID_BYTES)
    return Labelled(record, template_id, key.subject_id(gallery, record.subject))


def columns_from(profile: Profile, dimension: int) -> int:
    """Return the number of templates from which on columns cost less than rows.

    Measured in processor time of client and server together (``benchmarks/enrolment.py``): the
    server alone would take columns from 2 or 3 rows on, the client pays for their encryption.
    """
    return CROSSING_ROWS * Shape.ROW.capacity(profile, dimension)


def chunks(
    total: int, degree: int, dimension: int, columns_from: int
) -> Iterator[tuple[Shape, int]]:
    """Yield shape and size of the units that ``total`` templates are sent in.

    Parameters
    ----------
    total
        Number of templates.
    degree, dimension
        N and the padded d of the bundle.
    columns_from
        Smallest unit that goes as columns.
    """
    usable = usable_slots(degree, dimension)
    while total > 0:
        shape = Shape.COLUMNS if total >= columns_from else Shape.ROW
        size = min(total, usable if shape is Shape.COLUMNS else usable // dimension)
        yield shape, size
        total -= size


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs for what is enrolled: the client's name and identity, and until when it is kept."""

    client: str
    identity: Identity
    keep_until: str = ""


class UnitMaker:
    """Encrypts units for one gallery under one bundle, and signs for them.

    ``wait``: the server answers once searches compare with a unit, not only once it is durable.
    """

    def __init__(
        self,
        bundle: PublicBundle,
        encryptor: Encryptor,
        gallery: Gallery,
        signer: Signer,
        *,
        wait: bool = True,
    ) -> None:
        self._wait = wait
        self._signer = signer
        self._bundle = bundle
        self._encryptor = encryptor
        self._gallery = gallery

    @property
    def keep_until(self) -> str:
        """Until when what is made is kept; empty for ever."""
        return self._signer.keep_until

    def make(self, shape: Shape, templates: Sequence[Labelled]) -> tuple[bytes, Iterator[bytes]]:
        """Return a unit's token and its messages, encrypted as they are taken, then signed for.

        Raises
        ------
        InvalidInput
            A vector is not a unit vector of the right dimension.
        """
        token = secrets.token_bytes(TOKEN_BYTES)
        vectors = np.stack([entry.record.vector for entry in templates])
        gallery = self._gallery
        sealed = [self._seal(entry) for entry in templates]

        def sign(unit_sha256: bytes) -> Envelope:
            leaves = [_leaf(template) for template in sealed]
            enrolled = Enrolled(gallery.name, gallery.pin, token, shape, leaves, unit_sha256)
            signer, now = self._signer, utc_text(datetime.now(UTC))
            receipt = enrolled.receipt(signer.client, now, signer.keep_until)
            return receipt.sign(signer.identity)

        ciphertexts = self._ciphertexts(shape, vectors)
        return token, wire.unit_to_wire(
            gallery.name, gallery.pin, token, shape, sealed, ciphertexts, sign, wait=self._wait
        )

    def _seal(self, entry: Labelled) -> NewTemplate:
        record, key = entry.record, self._bundle.label_key
        text = LabelText(record.subject, record.photo, record.case)
        sealed = text.seal(key, self._gallery.name, entry.template_id)
        return NewTemplate(entry.template_id, entry.subject_id, sealed)

    def _ciphertexts(self, shape: Shape, vectors: npt.NDArray[np.float64]) -> Iterator[Ciphertext]:
        if shape is Shape.ROW:
            yield self._encryptor.encrypt_row(vectors)
            return
        yield from self._encryptor.encrypt_columns(vectors)

"""Units: what goes to the server when templates are enrolled."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.plain_form import unit_digest
from tests.unit.core.test_ciphertext import random_ciphertext
from underseal_client.records import NewTemplate
from underseal_client.units import LabelText, TemplateRecord, chunks, columns_from
from underseal_client.wire import LABELS_PER_MESSAGE, enrol_part, unit_to_wire
from underseal_core.errors import InvalidInput
from underseal_core.gallery.unit import Shape
from underseal_core.labels import MAX_LABEL_BYTES
from underseal_core.rpc.tls import MESSAGE_LIMIT
from underseal_core.scheme.ciphertext import Ciphertext, Kind
from underseal_core.scheme.profiles import SWIFT, profile_named
from underseal_core.signing import Envelope
from underseal_core.statements import Pin

PIN = Pin(model_id="m", model_dimension=128, profile="swift", key_epoch="0" * 64)
VECTOR = np.eye(128)[0]


@given(
    total=st.integers(0, 100_000),
    dimension=st.sampled_from([2, 128, 512, 1024]),
    columns_from=st.integers(1, 20_000),
)
def test_chunks_cover_everything_and_fit(total: int, dimension: int, columns_from: int) -> None:
    degree = 8192
    usable = degree - max(64, dimension)
    units = list(chunks(total, degree, dimension, columns_from))
    assert sum(size for _, size in units) == total
    left = total
    for shape, size in units:
        assert 1 <= size <= (usable if shape is Shape.COLUMNS else usable // dimension)
        assert (shape is Shape.COLUMNS) == (left >= columns_from)
        left -= size


def test_few_go_in_rows_and_many_in_columns() -> None:
    assert list(chunks(1, 8192, 128, 1024)) == [(Shape.ROW, 1)]
    assert list(chunks(130, 8192, 128, 1024)) == [(Shape.ROW, 63)] * 2 + [(Shape.ROW, 4)]
    assert list(chunks(20_000, 8192, 128, 1024)) == [
        (Shape.COLUMNS, 8064),
        (Shape.COLUMNS, 8064),
        (Shape.COLUMNS, 3872),
    ]


@pytest.mark.parametrize(
    ("profile", "dimension", "crossing"),
    [("guarded", 128, 945), ("guarded", 512, 225), ("compact", 128, 945), ("swift", 128, 465)],
)
def test_columns_begin_where_they_cost_less(profile: str, dimension: int, crossing: int) -> None:
    """Between the crossing points that benchmarks/enrolment.py finds."""
    parameters = profile_named(profile)
    smallest = columns_from(parameters, dimension)
    assert smallest == crossing

    def shapes(total: int) -> set[Shape]:
        return {shape for shape, _ in chunks(total, parameters.degree, dimension, smallest)}

    assert shapes(1) == shapes(16) == shapes(crossing - 1) == {Shape.ROW}
    assert shapes(1_000) == shapes(crossing) == {Shape.COLUMNS}


def test_label_is_canonical_and_names_its_template() -> None:
    text = LabelText(" Ada ", photo="ada.jpg", case="2026-17").to_bytes(b"\x01" * 16)
    assert text == (
        b'{"case":"2026-17","name":"Ada","photo":"ada.jpg","template":"' + b"01" * 16 + b'"}'
    )
    assert "case" not in json.loads(LabelText("Ada").to_bytes(b"\x01" * 16))


@pytest.mark.parametrize("filler", ["x", "\x01", "\u00e9", "\U0001f600"])
def test_longest_label_fits(filler: str) -> None:
    text = LabelText("n" * 200, photo=filler * 10_000, case=filler * 10_000)
    assert len(text.to_bytes(bytes(16))) <= MAX_LABEL_BYTES


def test_label_without_a_name_is_refused() -> None:
    with pytest.raises(InvalidInput):
        LabelText("").to_bytes(bytes(16))


def test_template_never_shows_in_repr() -> None:
    assert "1." not in repr(TemplateRecord("Ada", VECTOR))


def test_unit_is_header_begin_labels_ciphertexts() -> None:
    made: list[int] = []

    def ciphertexts() -> Iterator[Ciphertext]:
        for index in range(3):
            made.append(index)
            yield random_ciphertext(SWIFT, Kind.COLUMN, index)

    count = 2 * LABELS_PER_MESSAGE + 1
    templates = [NewTemplate(bytes(16), bytes(16), b"label") for _ in range(count)]

    def sign(unit_sha256: bytes) -> Envelope:
        return Envelope("receipt", unit_sha256, ())

    token = b"t" * 16
    stream = unit_to_wire("people", PIN, token, Shape.COLUMNS, templates, ciphertexts(), sign)
    parts = [enrol_part(next(stream)) for _ in range(5)]
    assert made == []  # encrypted as they are taken
    parts += [enrol_part(part) for part in stream]
    kinds = [part.WhichOneof("part") for part in parts]
    assert kinds == ["header", "begin", *["templates"] * 3, *["ciphertext"] * 3, "receipt"]
    assert (parts[1].begin.templates, parts[1].begin.token) == (count, b"t" * 16)
    sent = [part.ciphertext for part in parts[5:8]]
    assert sent == [random_ciphertext(SWIFT, Kind.COLUMN, index).to_bytes() for index in range(3)]
    assert parts[8].receipt.payload == unit_digest(sent)


def test_label_batches_stay_below_the_message_limit() -> None:
    longest = NewTemplate(bytes(16), bytes(16), bytes(2500))
    many = [longest] * LABELS_PER_MESSAGE
    stream = unit_to_wire("g", PIN, bytes(16), Shape.ROW, many, [], lambda _: Envelope("", b"", ()))
    assert max(len(part) for part in stream) < MESSAGE_LIMIT

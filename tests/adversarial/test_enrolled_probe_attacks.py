"""Searching with an enrolled template: each side takes it from its own copy, and only that."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from tests.auditor_guardians import panel_of
from tests.auditor_world import (
    AGENCY,
    CLIENT,
    DIMENSION,
    GALLERY,
    NOW,
    Answer,
    Desk,
    Operator,
    Vectors,
    World,
    at_cosine,
    book_of,
    desk,
    policy_text,
    unit,
    with_label,
    world,
)
from tests.catalogue_fixtures import signed_unit, templates
from underseal_auditor.policy.document import Policy, parse_policy
from underseal_auditor.verify.fault import ServerFault
from underseal_core.errors import InvalidInput, Mismatch, NotFound, PermissionRefused
from underseal_core.gallery.tiles import tiles_root
from underseal_core.gallery.unit import Placement, Shape
from underseal_core.provenance import EnrolReceipt
from underseal_core.scheme.ciphertext import (
    Ciphertext,
    Kind,
    plain_sha256,
)
from underseal_core.scheme.evaluation import tiles_shape
from underseal_core.scheme.rerandomise import probe_of
from underseal_core.statements import SearchRequest, Targets, utc_text

PROFILE = "swift"
BLOCK = 2


@dataclass
class Rows:
    """A world with a further block, of rows that hold one template each."""

    of: World
    operator: Operator
    rows: list[Ciphertext]

    def id_of(self, number: int) -> bytes:
        return self.operator.entries[number - len(self.rows)].template_id

    def request(self, number: int, **changes: object) -> SearchRequest:
        """Ask who resembles template ``number`` of the block of rows."""
        probe = self.of.encryptor.encrypt_probe(unit(1, 5)[0])
        named = {"probe_sha256": "", "probe_template": self.id_of(number).hex()}
        return self.of.request(probe, **{**named, **changes})

    def answer(self, request: SearchRequest, row: Ciphertext) -> Answer:
        """Compute with a row, and leave out the probe: nobody uploads it."""
        probe = probe_of(row, self.of.bundle.public_key, request.probe_seed())
        made = self.operator.search(request, probe)
        sealed = {place: data for place, data in made.sealed.items() if place[0] != Kind.PROBE_ROW}
        return replace(made, sealed=sealed)

    def ask(self, number: int, **changes: object) -> Answer:
        return self.answer(self.request(number, **changes), self.rows[number])


def with_rows(of: World, vectors: Vectors, rows: list[Ciphertext] | None = None) -> Rows:
    """Enrol vectors on their own, in a third block."""
    operator = of.operator.copy()
    profile, evaluator = of.bundle.profile, operator.evaluator
    made = rows or [of.encryptor.encrypt_row(vector[None]) for vector in vectors]
    tiles = np.zeros(tiles_shape(profile, DIMENSION), np.uint32)
    operator.sent = dict(operator.sent)
    for number, row in enumerate(made):
        evaluator.add(tiles, evaluator.expand(row), number)
        subject = hashlib.sha256(b"row %d" % number).digest()[:16]
        (entry,) = templates(secrets.token_bytes(16), [b""], [subject])
        entry = with_label(entry, of.bundle.label_key, b"row %d" % number)
        data = row.to_bytes()
        operator.units.append(
            signed_unit(
                GALLERY,
                of.pin,
                Placement(BLOCK, number, DIMENSION, 1),
                [entry],
                CLIENT,
                shape=Shape.ROW,
                sha256=plain_sha256([row]),
                version=2,
            )
        )
        operator.entries.append(entry)
        operator.sent[entry.unit_token] = [data]
    operator.tiles = {**operator.tiles, BLOCK: tiles}
    operator.roots[BLOCK] = tiles_root(tiles)
    return Rows(of, operator, made)


def rules() -> Policy:
    text = policy_text(PROFILE).replace(
        'approvals = "none"', 'approvals = "none"\nenrolled_probes = true', 1
    )
    return parse_policy(text.encode())


@pytest.fixture
def of() -> World:
    return world(PROFILE)


@pytest.fixture
def rows(of: World) -> Rows:
    first = unit(1, seed=50)[0]
    return with_rows(of, np.stack([first, at_cosine(first, 0.8), of.people[3]]))


@pytest.fixture
def office(of: World, rows: Rows, tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path, of, rules(), rows.operator) as opened:
        yield opened


def found(office: Desk, answer: Answer) -> list[str]:
    return [match.templates[0].template_id for match in office.submit(answer).matches]


def test_everybody_who_resembles_it_is_found_and_not_itself(office: Desk, rows: Rows) -> None:
    release = office.submit(rows.ask(0))
    assert [m.templates[0].template_id for m in release.matches] == [rows.id_of(1).hex()]
    assert (release.compared, release.values_charged) == (77, 1)
    assert found(office, rows.ask(2)) == [rows.operator.entries[3].template_id.hex()]
    only = Targets(template_ids=(rows.operator.entries[4].template_id.hex(),))
    assert found(office, rows.ask(2, targets=only)) == []


def test_the_same_template_again_is_answered_with_ciphertexts_of_its_own(
    office: Desk, rows: Rows
) -> None:
    """Noise that is drawn twice averages out: so nothing is opened twice, not even a norm."""
    first, second = rows.ask(0), rows.ask(0)
    assert not set(first.sealed.values()) & set(second.sealed.values())
    assert found(office, first) == found(office, second) == [rows.id_of(1).hex()]


def test_server_that_searches_with_another_template(office: Desk, rows: Rows) -> None:
    lying = rows.answer(rows.request(0), rows.rows[2])
    with pytest.raises(ServerFault, match="not that of the probe"):
        office.submit(lying)


def test_server_that_takes_other_randomness(office: Desk, rows: Rows) -> None:
    """It could choose what the errors of scores are made of, and repeat them."""
    request, other = rows.request(0), rows.request(0)
    probe = probe_of(rows.rows[0], rows.of.bundle.public_key, other.probe_seed())
    made = rows.operator.search(request, probe)
    sealed = {place: data for place, data in made.sealed.items() if place[0] != Kind.PROBE_ROW}
    with pytest.raises(ServerFault, match="not that of the probe"):
        office.submit(replace(made, sealed=sealed))


def test_client_that_uploads_a_probe_for_a_template(office: Desk, rows: Rows) -> None:
    answer = rows.ask(0)
    probe = rows.of.encryptor.encrypt_probe(rows.of.people[3]).to_bytes()
    with pytest.raises(InvalidInput, match="does not ask for this probe"):
        office.submit(replace(answer, sealed={**answer.sealed, (Kind.PROBE_ROW, 0): probe}))


def test_template_of_a_unit_of_several_is_no_probe(office: Desk, rows: Rows) -> None:
    """The other templates of its unit would be searched with, too."""
    entry = rows.operator.entries[3]
    request = rows.request(0, probe_template=entry.template_id.hex())
    with pytest.raises(InvalidInput, match="enrolled together with others"):
        office.submit(rows.answer(request, rows.rows[2]))


def test_removed_template_is_no_probe(of: World, rows: Rows, tmp_path: Path) -> None:
    answer = rows.ask(0)
    rows.operator.remove(len(rows.operator.entries) - len(rows.rows))
    with desk(tmp_path, of, rules(), rows.operator) as office:
        with pytest.raises(NotFound, match="to search with is not enrolled"):
            office.submit(answer)
        with pytest.raises(NotFound, match="to search with is not enrolled"):
            office.submit(rows.ask(0))


def test_template_past_its_time_is_no_probe(of: World, rows: Rows, tmp_path: Path) -> None:
    number = len(rows.operator.units) - len(rows.rows)
    unit_, entry = rows.operator.units[number], rows.operator.entries[-len(rows.rows)]
    rows.operator.units[number] = signed_unit(
        GALLERY,
        of.pin,
        unit_.placement,
        [entry],
        CLIENT,
        shape=Shape.ROW,
        sha256=unit_.sha256,
        version=2,
        keep_until=utc_text(NOW - timedelta(seconds=1)),
    )
    with (
        book_of(tmp_path) as book,
        desk(tmp_path, of, rules(), rows.operator, logbook=book) as office,
    ):
        with pytest.raises(NotFound, match="to search with is not enrolled"):
            office.submit(rows.ask(0))
        with office.database.transaction() as connection:
            connection.execute("UPDATE units SET keep_until = ''")
        with pytest.raises(PermissionRefused, match="is over"):
            office.submit(rows.ask(0))


def test_template_under_the_keys_of_before_is_no_probe(rows: Rows) -> None:
    receipt = rows.operator.units[-1].receipt
    with pytest.raises(Mismatch, match="under the keys of before"):
        EnrolReceipt.parse(receipt.payload).check_probe("f" * 64)


def test_purpose_that_does_not_search_with_templates(of: World, rows: Rows, tmp_path: Path) -> None:
    with (
        desk(tmp_path, of, parse_policy(policy_text(PROFILE).encode()), rows.operator) as office,
        pytest.raises(PermissionRefused, match="does not search with enrolled templates"),
    ):
        office.registrar.admit(AGENCY, *rows.ask(0).envelopes)


def test_enrolled_template_that_is_no_unit_vector(of: World, tmp_path: Path) -> None:
    """An enroller encrypts one of norm 1.3, to find more people with it."""
    vector = unit(1, 5)[0]
    extra = np.zeros(of.bundle.profile.degree)
    extra[:DIMENSION] = 0.3 * vector
    long = Ciphertext(of.bundle.profile, Kind.TEMPLATE_ROW, of.probe_plus(vector, extra).residues)
    rows = with_rows(of, vector[None], [long])
    with (
        desk(tmp_path, of, rules(), rows.operator) as office,
        pytest.raises(PermissionRefused, match="the auditors refuse"),
    ):
        office.submit(rows.ask(0))


def test_every_guardian_takes_the_template_from_its_own_copy(tmp_path: Path) -> None:
    of = world(PROFILE, 2, 3)
    first = unit(1, seed=50)[0]
    rows = with_rows(of, np.stack([first, at_cosine(first, 0.8)]))
    with (
        book_of(tmp_path) as book,
        panel_of(tmp_path, of, rules(), book, rows.operator) as (panel, _),
        desk(tmp_path, of, rules(), rows.operator, guardian=panel, logbook=book) as office,
    ):
        assert found(office, rows.ask(0)) == [rows.id_of(1).hex()]
        with pytest.raises(ServerFault, match="not that of the probe"):
            panel.begin(office.dossier(rows.answer(rows.request(0), rows.rows[1])))

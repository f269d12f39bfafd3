"""Enrol, search, verify, remove: the client's operations against running services."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.e2e.people import people, resembling
from underseal_client import AsyncClient, Client, ClientSettings, Found, Gallery, TemplateRecord
from underseal_client import gallery as galleries
from underseal_client.connection import Connection
from underseal_client.demo.deployment import Deployment
from underseal_core.errors import Conflict, InvalidInput, NotFound, PermissionRefused
from underseal_core.statements import Pin

ASK: dict[str, Any] = {"purpose": "tests", "case": "T-1"}


def test_gallery_is_created_listed_described_and_deleted(client: Client, gallery: Gallery) -> None:
    assert gallery.writers == ("agency",)
    assert (gallery.templates, gallery.version) == (0, 0)
    assert client.gallery(gallery.name) == gallery
    assert gallery in list(client.galleries())
    client.delete_gallery(gallery.name)
    assert gallery.name not in [entry.name for entry in client.galleries()]
    with pytest.raises(NotFound):
        client.gallery(gallery.name)


def test_person_is_found_by_another_photo_and_nobody_else(client: Client, gallery: Gallery) -> None:
    enrolled = people(150, seed=1)
    report = client.enroll_templates(gallery.name, enrolled)
    assert (report.enrolled, report.refused) == (150, [])
    probe = resembling(enrolled[77].vector, 0.8, seed=2)
    findings = client.search_template(probe, gallery=gallery.name, **ASK)
    [found] = findings.found
    assert (found.label.name, found.label.photo) == ("person 77", "77.jpg")
    assert found.match.score == "0.80"
    assert findings.release.compared == 150
    assert findings.release.client == "agency"
    assert findings.gallery_version == client.gallery(gallery.name).version


def test_nobody_alike_is_an_answer_too(client: Client, gallery: Gallery) -> None:
    client.enroll_templates(gallery.name, people(70, seed=3))
    stranger = people(1, seed=4)[0].vector
    findings = client.search_template(stranger, gallery=gallery.name, **ASK)
    assert findings.found == ()
    assert findings.release.compared == 70


def test_released_scores_are_true_scores(client: Client, gallery: Gallery) -> None:
    centre = people(1, seed=5)[0].vector
    cosines = [0.95, 0.85, 0.75, 0.65, 0.55]
    alike = [
        TemplateRecord(f"at {c}", resembling(centre, c, seed=i)) for i, c in enumerate(cosines)
    ]
    client.enroll_templates(gallery.name, [*alike, *people(60, seed=6)])
    findings = client.search_template(centre, gallery=gallery.name, **ASK)
    assert [entry.label.name for entry in findings.found] == [f"at {c}" for c in cosines[:4]]
    scores = [float(entry.match.score) for entry in findings.found]
    assert np.abs(np.subtract(scores, cosines[:4])).max() <= 0.011
    assert [entry.match.rank for entry in findings.found] == [1, 2, 3, 4]


def test_client_can_raise_the_threshold_and_not_lower_it(client: Client, gallery: Gallery) -> None:
    centre = people(1, seed=7)[0].vector
    near = TemplateRecord("near", resembling(centre, 0.7, seed=1))
    far = TemplateRecord("far", resembling(centre, 0.5, seed=2))
    client.enroll_templates(gallery.name, [near, far])

    def names(threshold: float | None) -> list[str]:
        findings = client.search_template(centre, gallery=gallery.name, threshold=threshold, **ASK)
        return [entry.label.name for entry in findings.found]

    assert names(None) == ["near"]
    assert names(0.8) == []
    assert names(0.1) == ["near"]


def test_fewer_matches_than_the_policy_allows_can_be_asked_for(
    client: Client, gallery: Gallery
) -> None:
    centre = people(1, seed=8)[0].vector
    alike = [TemplateRecord(f"{i}", resembling(centre, 0.9 - i / 20, seed=i)) for i in range(3)]
    client.enroll_templates(gallery.name, alike)
    findings = client.search_template(centre, gallery=gallery.name, top_k=1, **ASK)
    assert [entry.label.name for entry in findings.found] == ["0"]


def test_columns_and_rows_hold_the_same_templates(
    settings: ClientSettings, gallery: Gallery
) -> None:
    """A unit of columns, then rows beside it in the same gallery."""
    enrolled = people(300, seed=9)
    with Client(settings.model_copy(update={"columns_from": 200})) as client:
        report = client.enroll_templates(gallery.name, enrolled)
        assert report.enrolled == 300
        extra = people(30, seed=10)
        client.enroll_templates(gallery.name, extra)
        for wanted in (enrolled[0], enrolled[255], enrolled[299], extra[0], extra[29]):
            probe = resembling(wanted.vector, 0.9, seed=11)
            findings = client.search_template(probe, gallery=gallery.name, **ASK)
            assert [entry.label.name for entry in findings.found] == [wanted.subject]
            assert [entry.match.score for entry in findings.found] == ["0.90"]


def test_subject_is_verified(client: Client, gallery: Gallery) -> None:
    ada, alan = people(2, seed=12)
    client.enroll_templates(gallery.name, [ada, alan, *people(80, seed=13)[2:]])
    probe = resembling(ada.vector, 0.8, seed=14)

    def verify(**target: Any) -> tuple[list[str], int]:
        findings = client.verify_template(probe, gallery=gallery.name, **ASK, **target)
        return [entry.label.name for entry in findings.found], findings.release.compared

    assert verify(subject=ada.subject) == ([ada.subject], 1)
    assert verify(subject=alan.subject) == ([], 1)
    stored = list(client.templates(gallery.name, subject=ada.subject))
    assert verify(template_ids=[stored[0].template_id]) == ([ada.subject], 1)
    with pytest.raises(NotFound):
        verify(subject="nobody of that name")
    with pytest.raises(NotFound):
        verify(template_ids=[bytes(16)])
    with pytest.raises(InvalidInput):
        verify()


def test_some_subjects_are_searched(client: Client, gallery: Gallery) -> None:
    enrolled = people(80, seed=40)
    client.enroll_templates(gallery.name, enrolled)
    probe = resembling(enrolled[7].vector, 0.8, seed=41)
    names = [person.subject for person in enrolled]

    def search(*subjects: str) -> tuple[list[str], int]:
        findings = client.search_template(probe, gallery=gallery.name, subjects=subjects, **ASK)
        return [entry.label.name for entry in findings.found], findings.release.compared

    assert search(*names[:10], names[7]) == ([names[7]], 10)
    assert search(*names[8:]) == ([], 72)
    with pytest.raises(NotFound, match=r"not enrolled in gallery .*: Eve, Mallory"):
        search(names[7], "Mallory", "Eve")
    with pytest.raises(InvalidInput, match="nobody to compare with"):
        search()
    with pytest.raises(InvalidInput, match="at most 1000 subjects, not 1001"):
        search(*(f"person {number}" for number in range(1001)))


def test_an_enrolled_template_is_searched_with(client: Client, gallery: Gallery) -> None:
    alone, others = TemplateRecord("alone", people(1, seed=50)[0].vector), people(70, seed=51)
    alike = TemplateRecord("alike", resembling(alone.vector, 0.8, seed=52))
    second = TemplateRecord(alone.subject, resembling(alone.vector, 0.9, seed=53))
    client.enroll_templates(gallery.name, [*others, alike])
    assert client.enroll_templates(gallery.name, [alone], single=True).enrolled == 1
    (stored,) = client.templates(gallery.name, subject=alone.subject)
    assert client.enroll_templates(gallery.name, [second], single=True).enrolled == 1
    assert len(list(client.templates(gallery.name, subject=alone.subject))) == 2

    def search(template_id: bytes, **options: Any) -> tuple[list[tuple[str, str]], int]:
        findings = client.search_enrolled(template_id, gallery=gallery.name, **ASK, **options)
        found = [(entry.label.name, entry.match.score) for entry in findings.found]
        return found, findings.release.compared

    first = stored.template_id
    assert search(first) == ([(alone.subject, "0.90"), ("alike", "0.80")], 72)
    assert search(first, subjects=["alike", others[3].subject]) == ([("alike", "0.80")], 2)
    (grouped,) = client.templates(gallery.name, subject="alike")
    with pytest.raises(InvalidInput, match="enrolled together with others") as refusal:
        search(grouped.template_id)
    assert "underseal enroll --single" in refusal.value.hint
    with pytest.raises(NotFound, match="to search with is not enrolled"):
        search(bytes(16))
    client.remove_templates(gallery.name, [first])
    with pytest.raises(NotFound, match="to search with is not enrolled"):
        search(first)


def test_subject_ids_are_opaque_and_shared_by_a_subjects_templates(
    client: Client, gallery: Gallery
) -> None:
    ada, alan = people(2, seed=15)
    again = TemplateRecord(ada.subject, resembling(ada.vector, 0.9, seed=16))
    client.enroll_templates(gallery.name, [ada, alan, again])
    stored = list(client.templates(gallery.name))
    assert len({entry.subject_id for entry in stored}) == 2
    assert len({entry.template_id for entry in stored}) == 3
    of_ada = list(client.templates(gallery.name, subject=ada.subject))
    assert {entry.subject_id for entry in of_ada} == {client.subject_id(gallery.name, ada.subject)}
    assert len(of_ada) == 2


def test_removed_person_is_not_found_any_more(client: Client, gallery: Gallery) -> None:
    enrolled = people(10, seed=17)
    client.enroll_templates(gallery.name, enrolled)
    before = client.gallery(gallery.name)
    assert client.remove_subject(gallery.name, enrolled[3].subject) == 1
    after = client.gallery(gallery.name)
    assert (after.templates, after.version) == (9, before.version + 1)
    assert after.snapshot_root != before.snapshot_root
    for index, expected in ((3, []), (4, [enrolled[4].subject])):
        probe = enrolled[index].vector
        findings = client.search_template(probe, gallery=gallery.name, **ASK)
        assert [entry.label.name for entry in findings.found] == expected
        assert findings.release.compared == 9


def test_release_can_be_shown_again_and_is_the_same(client: Client, gallery: Gallery) -> None:
    enrolled = people(5, seed=18)
    client.enroll_templates(gallery.name, enrolled)
    findings = client.search_template(enrolled[0].vector, gallery=gallery.name, **ASK)
    stored = client.release(findings.release.request_id)
    assert stored.release == findings.release
    assert stored.request_known
    with pytest.raises(NotFound):
        client.release("00" * 16)


def test_another_clients_release_is_not_shown(
    client: Client, gallery: Gallery, deployment: Deployment, tmp_path: Path
) -> None:
    client.enroll_templates(gallery.name, people(2, seed=19))
    probe = people(1, seed=20)[0].vector
    findings = client.search_template(probe, gallery=gallery.name, **ASK)
    settings = deployment.settings("bureau", state=tmp_path / "bureau.sqlite")
    with Client(settings) as bureau, pytest.raises((NotFound, PermissionRefused)):
        bureau.release(findings.release.request_id)


def test_only_writers_write(
    client: Client, gallery: Gallery, deployment: Deployment, tmp_path: Path
) -> None:
    enrolled = people(2, seed=21)
    client.enroll_templates(gallery.name, enrolled)
    before = client.gallery(gallery.name)
    settings = deployment.settings("bureau", state=tmp_path / "bureau.sqlite")
    with Client(settings) as bureau:
        with pytest.raises(PermissionRefused):
            bureau.enroll_templates(gallery.name, people(1, seed=22))
        with pytest.raises(PermissionRefused):
            bureau.remove_templates(
                gallery.name, [entry.template_id for entry in client.templates(gallery.name)]
            )
        with pytest.raises(PermissionRefused):
            bureau.delete_gallery(gallery.name)
        findings = bureau.search_template(enrolled[0].vector, gallery=gallery.name, **ASK)
    assert [entry.label.name for entry in findings.found] == [enrolled[0].subject]
    assert client.gallery(gallery.name) == before


def test_gallery_name_is_taken_once(
    connection: Connection, client: Client, gallery: Gallery
) -> None:
    assert galleries.create(connection, gallery.name, gallery.pin) == gallery  # a repeated call
    other = gallery.pin.model_copy(update={"model_id": "another"})
    with pytest.raises(Conflict):
        galleries.create(connection, gallery.name, other)
    assert client.gallery(gallery.name) == gallery


def test_asyncio_twin_does_the_same(settings: ClientSettings, gallery: Gallery) -> None:
    enrolled = people(3, seed=23)

    async def run() -> list[str]:
        async with AsyncClient(settings) as client:
            report = await client.enroll_templates(gallery.name, enrolled)
            assert report.enrolled == 3
            searches = [
                client.search_template(entry.vector, gallery=gallery.name, **ASK)
                for entry in enrolled
            ]
            findings = await asyncio.gather(*searches)
            assert len(await client.templates(gallery.name)) == 3
            return [entry.found[0].label.name for entry in findings]

    assert asyncio.run(run()) == [entry.subject for entry in enrolled]


def test_server_keeps_neither_names_nor_templates(
    client: Client, gallery: Gallery, deployment: Deployment
) -> None:
    record = TemplateRecord(
        "Unmistakable Name", people(1, seed=24)[0].vector, photo="telltale.jpg", case="CASE-4711"
    )
    client.enroll_templates(gallery.name, [record])
    client.search_template(record.vector, gallery=gallery.name, purpose="tests", case="CASE-0815")
    secrets = [
        b"Unmistakable",
        b"telltale",
        b"CASE-4711",
        record.vector.tobytes()[:16],
        record.vector.astype(np.float32).tobytes()[:16],
    ]
    files = [path for path in deployment.server_data.rglob("*") if path.is_file()]
    assert any(path.suffix == ".unit" for path in files)
    for path in [*files, deployment.folder / "server.log"]:
        content = path.read_bytes()
        assert [secret for secret in secrets if secret in content] == [], path


def test_label_is_corrected_by_its_enroller_only(
    deployment: Deployment, client: Client, connection: Connection, pin: Pin, names: Iterator[str]
) -> None:
    """What is released of a match afterwards is the new label, with the receipt that covers it."""
    gallery = galleries.create(connection, next(names), pin, ("bureau",))
    enrolled = people(3, seed=61)
    client.enroll_templates(gallery.name, enrolled)
    vector = resembling(enrolled[1].vector, 0.9, seed=62)

    def found() -> Found:
        [one] = client.search_template(vector, gallery=gallery.name, **ASK).found
        return one

    assert found().label.name == "person 1"
    with Client(deployment.settings("bureau")) as bureau:
        [other] = [
            entry.template_id for entry in client.templates(gallery.name, subject="person 1")
        ]
        with pytest.raises(PermissionRefused, match="agency enrolled the template"):
            bureau.relabel(gallery.name, name="somebody else", template_ids=[other])
    assert client.relabel(gallery.name, subject="person 1", name="Ada", case="2026-17") == 1
    match = found()
    assert (match.label.name, match.label.photo, match.label.case) == ("Ada", "", "2026-17")
    assert match.templates[0].template_id == other.hex()
    assert client.remove_subject(gallery.name, "person 1") == 1
    assert client.search_template(vector, gallery=gallery.name, **ASK).found == ()
    with pytest.raises(NotFound):
        client.relabel(gallery.name, subject="person 1", name="Ada")
    client.delete_gallery(gallery.name)

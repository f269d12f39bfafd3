"""Many searches at once, by the client's API, against running services."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.people import people, resembling
from underseal_client import Answered, AsyncClient, Client, ClientSettings, Gallery, Sought
from underseal_client.demo.deployment import Deployment
from underseal_core.errors import InvalidInput, NotFound, PermissionRefused, UndersealError

ENROLLED = people(80, seed=51)


def sought(number: int, **changes: Any) -> Sought:
    vector = resembling(ENROLLED[number].vector, 0.8, seed=number)
    return Sought(**{"probe": vector, "purpose": "tests", "case": f"T-{number}", **changes})


def name_of(answered: Answered) -> list[str]:
    assert answered.findings is not None
    return [found.label.name for found in answered.findings.found]


def error_of(answered: Answered) -> UndersealError:
    assert answered.findings is None
    assert answered.error is not None
    return answered.error


def test_each_of_many_is_found_and_what_is_wrong_with_one_ends_no_other(
    client: Client, gallery: Gallery, tmp_path: Path
) -> None:
    client.enroll_templates(gallery.name, ENROLLED)
    bad = tmp_path / "notes.jpg"
    bad.write_text("no photo")
    asked = [
        *(sought(i) for i in range(4)),
        sought(4, probe=2.0 * ENROLLED[4].vector),
        sought(5, purpose="fishing"),
        sought(6, purpose="Not A Name"),
        *(sought(i) for i in range(7, 9)),
    ]
    answers = {one.index: one for one in client.search_many(iter(asked), gallery=gallery.name)}
    assert sorted(answers) == list(range(len(asked)))
    for index, one in answers.items():
        assert one.sought is asked[index]
        if index not in (4, 5, 6):
            assert name_of(one) == [f"person {index}"]
            assert one.findings is not None
            assert client.release(one.findings.release.request_id).found == one.findings.found
    assert isinstance(error_of(answers[4]), InvalidInput)
    assert isinstance(error_of(answers[5]), PermissionRefused)
    assert isinstance(error_of(answers[6]), InvalidInput)


def test_the_server_may_be_started_again_in_the_middle(
    deployment: Deployment, client: Client, gallery: Gallery
) -> None:
    client.enroll_templates(gallery.name, ENROLLED)
    answers: dict[int, Answered] = {}
    for one in client.search_many((sought(i) for i in range(8)), gallery=gallery.name):
        assert one.index not in answers
        answers[one.index] = one
        if len(answers) == 2:
            deployment.restart_server(lambda folder: None)
    assert [name_of(answers[i]) for i in range(8)] == [[f"person {i}"] for i in range(8)]


def test_whoever_stops_reading_gives_up_the_rest(client: Client, gallery: Gallery) -> None:
    client.enroll_templates(gallery.name, ENROLLED)
    taken: list[int] = []

    def endless() -> Iterator[Sought]:
        while True:
            taken.append(len(taken))
            yield sought(len(taken) % 80)

    answers = client.search_many(endless(), gallery=gallery.name)
    assert name_of(next(answers))
    answers.close()
    assert len(taken) < 200
    once = [sought(3)]
    assert [name_of(one) for one in client.search_many(once, gallery=gallery.name)] == [
        ["person 3"]
    ]


def test_what_ends_all_of_them_is_raised(client: Client, gallery: Gallery) -> None:
    with pytest.raises(NotFound):
        list(client.search_many([sought(1)], gallery="nowhere"))

    def broken() -> Iterator[Sought]:
        yield sought(1)
        raise KeyError("of the caller's")

    with pytest.raises(KeyError):
        list(client.search_many(broken(), gallery=gallery.name))
    assert list(client.search_many([], gallery=gallery.name)) == []


def test_the_asyncio_twin_finds_the_same(settings: ClientSettings, gallery: Gallery) -> None:
    async def main() -> list[list[str]]:
        async with AsyncClient(settings) as client:
            await client.enroll_templates(gallery.name, ENROLLED)
            asked = [sought(i) for i in range(3)]
            answers = [one async for one in client.search_many(asked, gallery=gallery.name)]
            return [name_of(one) for one in sorted(answers, key=lambda one: one.index)]

    assert asyncio.run(main()) == [["person 0"], ["person 1"], ["person 2"]]

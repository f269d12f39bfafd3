"""Many searches at once, by the client's API, against running services."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from tests.e2e.people import people, resembling
from underseal_client import Answered, AsyncClient, Client, ClientSettings, Gallery, Sought
from underseal_client.demo.deployment import Deployment
from underseal_client.many import SUBMISSIONS, ManySearches
from underseal_client.search import Question, ask_server, wanted
from underseal_client.wire import submission_to_wire
from underseal_core.errors import InvalidInput, NotFound, PermissionRefused, UndersealError
from underseal_core.statements import Targets
from underseal_proto.v1 import registrar_pb2

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


def test_who_is_not_enrolled_is_named_in_each_answer(client: Client, gallery: Gallery) -> None:
    client.enroll_templates(gallery.name, ENROLLED[:3])
    asked, known = [sought(0), sought(1)], ["person 0", "person 1"]
    found = client.search_many(asked, gallery=gallery.name, subjects=known)
    assert {one.index: name_of(one) for one in found} == {0: ["person 0"], 1: ["person 1"]}
    strangers = ["person 0", "stranger", "nobody"]
    for one in client.search_many(asked, gallery=gallery.name, subjects=strangers):
        error = error_of(one)
        assert isinstance(error, NotFound)
        assert str(error) == f"not enrolled in gallery {gallery.name}: nobody, stranger"


def unfinished(
    messages: list[registrar_pb2.SubmitRequest], over: Event
) -> Iterator[registrar_pb2.SubmitRequest]:
    yield from messages
    over.wait()


class Awaited(ManySearches):
    """Says when it waits for auditors who are busy."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.waits = Event()

    def _wait(self, seconds: float) -> None:
        self.waits.set()
        super()._wait(seconds)


def test_closing_does_not_wait_for_auditors_who_are_busy(client: Client, gallery: Gallery) -> None:
    """The client's places with the registrar are taken by submissions that never end."""
    client.enroll_templates(gallery.name, ENROLLED)
    context = client._context
    question = Question("tests", "T-busy", wanted(10, None))
    with ExitStack() as stack:
        for number in range(SUBMISSIONS):
            probe = context.encryptor.encrypt_probe(ENROLLED[number].vector).to_bytes()
            answer = ask_server(
                context.connection, client.gallery(gallery.name), probe, question, context.validity
            )
            header = submission_to_wire(answer.request_envelope, answer.result_envelope, ())
            over = Event()
            call = context.connection.registrar.Submit.future(unfinished(header, over))
            stack.callback(call.cancel)
            stack.callback(over.set)
        searches = Awaited(context, client.gallery(gallery.name), wanted(10, None), Targets())
        answers = searches.answers([sought(4, probe=b"no photo"), sought(5)])
        error_of(next(answers))
        assert searches.waits.wait(60)
        with ThreadPoolExecutor(1) as thread:
            thread.submit(answers.close).result(30)

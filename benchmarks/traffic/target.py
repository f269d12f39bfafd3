"""A server under load, and the clients that ask it."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from typing import TYPE_CHECKING, Final

import grpc

from benchmarks.galleries import make_gallery, records
from benchmarks.inputs import inputs
from underseal_client import gallery as galleries
from underseal_client import wire
from underseal_client.context import ClientContext
from underseal_client.enrolling import Unheard, enroll_records
from underseal_client.records import Sealed, SealedKind, SignedResult
from underseal_client.search import Question, sign_request, wanted
from underseal_core.errors import UndersealError
from underseal_core.statements import SearchRequest, SearchResult

if TYPE_CHECKING:
    from collections.abc import Iterable

    from underseal_client.demo.deployment import Deployment
    from underseal_client.records import SearchPart
    from underseal_core.signing import Envelope

GALLERY: Final = "load"
VALIDITY: Final = timedelta(minutes=10)
ACCEPTED: Final = "accepted"
SHED: Final = "shed"
EXPIRED: Final = "expired"
WRONG: Final = "wrong"

_STATUSES: Final = {
    grpc.StatusCode.RESOURCE_EXHAUSTED: SHED,
    grpc.StatusCode.DEADLINE_EXCEEDED: EXPIRED,
}


class WrongAnswer(Exception):
    """What came back is no answer to what was asked, or another one than before."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request; times by ``time.monotonic``.

    ``due``: when it was to be sent, and what its latency counts from. ``status``: ``accepted``,
    ``shed`` (RESOURCE_EXHAUSTED), ``expired`` (its deadline passed), ``wrong``, or gRPC's name.
    """

    due: float
    sent: float
    ended: float
    status: str


class Target:
    """A server with one gallery, and a connection with mutual TLS for each client.

    Parameters
    ----------
    deployment
        Its server runs; all clients of its plan ask.
    templates
        How many to enrol.
    probes
        How many different ones are asked with; encrypted once, here.
    deadline
        Seconds that clients give a search, counted from when it is sent.
    gallery
        Its name.
    """

    def __init__(
        self,
        deployment: Deployment,
        templates: int,
        probes: int,
        deadline: float,
        gallery: str = GALLERY,
    ) -> None:
        nobody = deployment.server_address  # the registrar is not called
        self._contexts = [
            ClientContext(deployment.settings(client, registrar=nobody))
            for client in deployment.plan.clients
        ]
        first, vectors = self._contexts[0], inputs(templates, deployment.plan.dimension).templates
        make_gallery(first, gallery)
        enroll_records(first, gallery, records(vectors), listener=Unheard())
        self._gallery = galleries.describe(first.connection, gallery)
        chosen = vectors[:: max(1, templates // probes)][:probes]
        self._probes = [first.encryptor.encrypt_probe(vector).to_bytes() for vector in chosen]
        self._question = Question("benchmark", "BENCH-1", wanted(1, None))
        self._deadline = deadline
        self._known: dict[int, tuple[str, ...]] = {}
        self.process = deployment.service("server").pid

    def close(self) -> None:
        """Close the connections."""
        for context in self._contexts:
            context.close()

    def ask(self, number: int, due: float | None = None) -> Outcome:
        """Send the ``number``-th request, and read all of its answer.

        Clients and probes take turns. Answers to the same probe must be equal to the bit.
        """
        sent = time.monotonic()
        try:
            self._ask(number)
            status = ACCEPTED
        except grpc.RpcError as error:
            code = error.code()
            status = _STATUSES.get(code, code.name)
        except (WrongAnswer, UndersealError):
            status = WRONG
        return Outcome(sent if due is None else due, sent, time.monotonic(), status)

    def _ask(self, number: int) -> None:
        context = self._contexts[number % len(self._contexts)]
        which = number % len(self._probes)
        connection, probe = context.connection, self._probes[which]
        identity, name = connection.credentials.identity, connection.me.name
        request, envelope = sign_request(
            identity, name, self._gallery, probe, self._question, VALIDITY
        )
        message = wire.search_to_wire(envelope, probe)
        answers = connection.searches.Search(message, timeout=self._deadline)
        parts = chain.from_iterable(map(wire.search_parts_from_wire, answers))
        hashes = check_answer(request, parts)
        if self._known.setdefault(which, hashes) != hashes:
            raise WrongAnswer("the same probe got other results before")


def check_answer(request: SearchRequest, parts: Iterable[SearchPart]) -> tuple[str, ...]:
    """Return the hashes of the results, by block.

    Raises
    ------
    WrongAnswer
        The result is not one of this request, or not of the ciphertexts that came with it.
    """
    hashes: dict[int, str] = {}
    envelope: Envelope | None = None
    for part in parts:
        match part:
            case Sealed(SealedKind.RESULT, block, ciphertext):
                hashes[block] = hashlib.sha256(ciphertext).hexdigest()
            case SignedResult(envelope):
                pass
    if envelope is None:
        raise WrongAnswer("there is no result")
    result = SearchResult.parse(envelope.payload)
    stated = {entry.block: entry.sha256 for entry in result.blocks}
    if result.request_sha256 != request.sha256() or stated != hashes:
        raise WrongAnswer("the result does not belong to this search")
    return tuple(hashes[block] for block in sorted(hashes))

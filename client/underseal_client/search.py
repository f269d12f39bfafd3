"""A search from probe to release: sign, compare on the server, have the auditors open it."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from underseal_client import wire
from underseal_client.connection import (
    REGISTRAR,
    SEARCHING,
    SERVER,
    USUAL,
    retrying,
    translated,
)
from underseal_client.records import Progress, Sealed, SealedKind, SignedResult
from underseal_core.errors import Damaged, InvalidInput
from underseal_core.statements import (
    SearchRequest,
    SearchResult,
    Targets,
    Wanted,
    utc_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from underseal_client.connection import Connection, RetryPolicy
    from underseal_client.records import Delivered, Gallery, SearchPart
    from underseal_core.signing import Envelope, Identity

MAX_RESULT_BLOCKS: Final = 1024
"""As many as the auditors open. With the next, bounds what a hostile server can make us keep."""
MAX_SEALED_BYTES: Final = 512 << 10
"""Longer than any ciphertext that a server sends."""

_EVERYTHING: Final = Targets()


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a gallery, and why.

    ``probe_template``: id, in hex, of the enrolled template to search with, if it is one.
    """

    purpose: str
    case_reference: str
    wanted: Wanted
    targets: Targets = _EVERYTHING
    warrant: str = ""
    probe_template: str = ""


@dataclass(frozen=True, slots=True)
class SealedAnswer:
    """What came back from the server: nothing in it can be read without the auditors."""

    request: SearchRequest
    request_envelope: Envelope
    result: SearchResult
    result_envelope: Envelope
    sealed: tuple[Sealed, ...]

    @property
    def bytes_received(self) -> int:
        """Length of the ciphertexts that the server sent."""
        received = (s for s in self.sealed if s.kind is not SealedKind.PROBE)
        return sum(len(entry.ciphertext) for entry in received)


def sign_request(
    identity: Identity,
    client: str,
    gallery: Gallery,
    probe: bytes,
    question: Question,
    validity: timedelta,
    now: datetime | None = None,
) -> tuple[SearchRequest, Envelope]:
    """Return a fresh request for ``probe`` and its signed form.

    Raises
    ------
    InvalidInput
        Purpose, case reference or another field is not acceptable.
    """
    moment = now or datetime.now(UTC)
    try:
        request = SearchRequest(
            request_id=secrets.token_hex(wire.ID_BYTES),
            client=client,
            gallery=gallery.name,
            pin=gallery.pin,
            probe_sha256="" if question.probe_template else hashlib.sha256(probe).hexdigest(),
            probe_template=question.probe_template,
            purpose=question.purpose,
            case_reference=question.case_reference,
            warrant=question.warrant,
            wanted=question.wanted,
            targets=question.targets,
            issued_at=utc_text(moment),
            expires_at=utc_text(moment + validity),
        )
    except ValidationError as error:
        raise _unacceptable(error) from error
    return request, request.sign(identity)


def wanted(top_k: int, threshold: float | None) -> Wanted:
    """Return what to ask for; ``threshold`` can only raise the policy's own.

    Raises
    ------
    InvalidInput
        ``top_k`` outside 1..1000, or a threshold outside 0..1.
    """
    if threshold is not None and not 0 <= threshold < 1:
        raise InvalidInput("a threshold is at least 0 and below 1")
    text = "" if threshold is None else f"{threshold:.4f}"
    try:
        return Wanted(top_k=top_k, threshold=text)
    except ValidationError as error:
        raise _unacceptable(error) from error


def _unacceptable(error: ValidationError) -> InvalidInput:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]).replace("_", " ")
    return InvalidInput(
        f"the {field} is not acceptable: {first['msg']}",
        hint="purposes are short lower-case names; case references have 1 to 200 characters",
    )


def ask_server(
    connection: Connection,
    gallery: Gallery,
    probe: bytes,
    question: Question,
    validity: timedelta,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    server_key: bytes | None = None,
) -> SealedAnswer:
    """Have the server compare; repeated with a new request id while it is busy.

    Parameters
    ----------
    probe
        Wire bytes of the encrypted probe.
    server_key
        Ed25519 key that must have signed the result; None leaves that to the registrar.

    Raises
    ------
    UndersealError
        What the server answered.
    Damaged
        Request, result and ciphertexts do not belong together.
    PermissionRefused
        The result is not signed by the expected key.
    """

    def call() -> SealedAnswer:
        identity = connection.credentials.identity
        request, envelope = sign_request(
            identity, connection.me.name, gallery, probe, question, validity
        )
        collected = Collected(request, envelope, probe)
        with translated(SERVER):
            message = wire.search_to_wire(envelope, probe)
            answers = connection.searches.Search(message, timeout=connection.stream_timeout_s)
            for answer in answers:
                for part in wire.search_parts_from_wire(answer):
                    if isinstance(part, Progress):
                        on_progress(part)
                    collected.take(part)
        return collected.answer(server_key)

    return retrying(call, SEARCHING)


class Collected:
    """Gathers what comes of one request.

    Parameters
    ----------
    request, envelope
        The request and its signed form.
    probe
        Wire bytes of the encrypted probe.
    """

    def __init__(self, request: SearchRequest, envelope: Envelope, probe: bytes) -> None:
        self._request = request
        self._envelope = envelope
        self._probe = probe
        self._sealed: list[Sealed] = []
        self._result: Envelope | None = None

    @property
    def complete(self) -> bool:
        """Whether the result has come, which is the last of it."""
        return self._result is not None

    def take(self, part: SearchPart) -> None:
        """Take one part.

        Raises
        ------
        Damaged
            The server sends more than it should.
        """
        if self._result is not None:
            raise Damaged("the server goes on after its result")
        if len(self._sealed) > MAX_RESULT_BLOCKS + 1:  # and the norm
            raise Damaged("the server sends more than the auditors open")
        match part:
            case Sealed():
                if len(part.ciphertext) > MAX_SEALED_BYTES:
                    raise Damaged("the server sent something longer than a ciphertext")
                self._sealed.append(part)
            case SignedResult(envelope):
                self._result = envelope

    def answer(self, server_key: bytes | None) -> SealedAnswer:
        """Return the whole answer; see :func:`ask_server`."""
        if self._result is None:
            raise Damaged("the server ended the search without a result")
        result = _open_result(self._result, server_key)
        _check_result(self._request, result, self._sealed)
        own = () if self._request.probe_template else (Sealed(SealedKind.PROBE, 0, self._probe),)
        sealed = (*own, *self._sealed)
        return SealedAnswer(self._request, self._envelope, result, self._result, sealed)


def _open_result(envelope: Envelope, server_key: bytes | None) -> SearchResult:
    """Check the signature; without a known key, at least that the result is signed by someone."""
    key = envelope.signatures[0].public_key if server_key is None else server_key
    return SearchResult.open(envelope, key)


def _check_result(request: SearchRequest, result: SearchResult, sealed: list[Sealed]) -> None:
    """Check that the result answers the request and names exactly these ciphertexts."""

    def hashes(kind: SealedKind) -> dict[int, str]:
        chosen = [s for s in sealed if s.kind is kind]
        found = {s.block: hashlib.sha256(s.ciphertext).hexdigest() for s in chosen}
        if len(found) != len(chosen):
            raise Damaged("the server sent a ciphertext twice")
        return found

    if result.request_sha256 != request.sha256() or result.snapshot.gallery != request.gallery:
        raise Damaged("the server's result answers another request")
    blocks = {entry.block: entry.sha256 for entry in result.blocks}
    norms = [result.norm_sha256]
    if hashes(SealedKind.RESULT) != blocks or list(hashes(SealedKind.NORM).values()) != norms:
        raise Damaged("the server's result does not name the ciphertexts that came with it")


def submit(connection: Connection, answer: SealedAnswer, policy: RetryPolicy = USUAL) -> Delivered:
    """Hand everything to the registrar and return its release, not yet verified.

    Safe to repeat: one request id has one release, ever.

    Raises
    ------
    PermissionRefused
        The auditors refuse the request.
    UndersealError
        What else the registrar answered.
    """
    messages = wire.submission_to_wire(
        answer.request_envelope, answer.result_envelope, answer.sealed
    )

    def call() -> Delivered:
        with translated(REGISTRAR):
            response = connection.registrar.Submit(
                iter(messages), timeout=connection.stream_timeout_s
            )
        return wire.delivered_from_wire(response)

    return retrying(call, policy)


def fetch_release(connection: Connection, request_id: str) -> Delivered:
    """Return the stored release of an earlier request, not yet verified.

    Raises
    ------
    NotFound
        The registrar knows no such request of this client.
    """
    request = wire.get_release_to_wire(request_id)
    method = connection.registrar.GetRelease
    answer = connection.ask(method, request, peer=REGISTRAR, repeat=True)
    return wire.delivered_from_wire(answer)

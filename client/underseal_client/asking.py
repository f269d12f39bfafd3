"""From a photo to what the auditors release about it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Protocol

from underseal_client import gallery as galleries
from underseal_client.connection import USUAL
from underseal_client.logged import check_logged
from underseal_client.release import Label, open_origins, open_release, read_label
from underseal_client.resume import Asked
from underseal_client.search import ask_server, fetch_release, submit
from underseal_client.units import check_vector
from underseal_core.errors import Damaged, PermissionRefused
from underseal_core.statements import Release

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from underseal_client.connection import RetryPolicy
    from underseal_client.context import ClientContext
    from underseal_client.logged import InLog
    from underseal_client.records import Delivered, Gallery, Progress
    from underseal_client.search import Question, SealedAnswer
    from underseal_core.credentials import Peer
    from underseal_core.provenance import EnrolReceipt, Origin
    from underseal_core.signing import Envelope
    from underseal_core.statements import Match, MatchedTemplate


class SearchListener(Protocol):
    """Hears how far a search is."""

    def stage(self, name: str) -> None:
        """``name`` begins: "embed", "encrypt", "compare" or "open"."""

    def progress(self, progress: Progress) -> None:
        """Tell how far the server is."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A template of a match: its id in hex, its label, and the receipt of whoever enrolled it."""

    template_id: str
    label: Label
    enrolment: EnrolReceipt


@dataclass(frozen=True, slots=True)
class Found:
    """One released match: a subject, and the templates whose score or mean it is."""

    match: Match
    templates: tuple[Shown, ...]

    @property
    def label(self) -> Label:
        """That of the first template."""
        return self.templates[0].label


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds spent in each part of a search, as the client sees them: 0 where there was none."""

    embed: float = 0.0
    encrypt: float = 0.0
    compare: float = 0.0
    open: float = 0.0


_NONE: Final = Timings()


@dataclass(frozen=True, slots=True)
class Findings:
    """A verified release, its place in the auditors' log, and the circumstances of the search.

    ``probe`` is the encrypted probe as sent; ``bytes_received`` counts the server's ciphertexts.
    """

    release: Release
    found: tuple[Found, ...]
    envelope: Envelope
    gallery: str
    gallery_version: int
    model_id: str
    profile: str
    timings: Timings
    logged: InLog
    probe: bytes = field(repr=False)
    bytes_received: int


@dataclass(frozen=True, slots=True)
class StoredRelease:
    """A release that was fetched later. Its signatures and its log receipts are verified.

    ``request_known`` tells whether the request was made from this machine, so that the hashes of
    request and result could be compared too.
    """

    release: Release
    found: tuple[Found, ...]
    envelope: Envelope
    logged: InLog
    request_known: bool


def open_findings(release: Release, origins: Sequence[Origin], me: Peer) -> tuple[Found, ...]:
    """Return the matches of a release with labels and enrollers, best first; see `open_origins`."""
    receipts = iter(open_origins(release, origins, me))

    def shown(one: MatchedTemplate) -> Shown:
        return Shown(one.template_id, read_label(one), next(receipts))

    return tuple(
        Found(match, tuple(shown(one) for one in match.templates)) for match in release.matches
    )


def search_photo(
    context: ClientContext,
    photo: Path | bytes,
    gallery_name: str,
    question: Question,
    listener: SearchListener,
) -> Findings:
    """Search with the one face of a photo; see :meth:`underseal_client.Client.search`."""
    gallery = galleries.describe(context.connection, gallery_name)
    context.check_keys(gallery)
    listener.stage("embed")
    vector, embedded = embedded_photo(context, photo, gallery)
    return search_vector(context, vector, gallery, question, listener, embedded)


def embedded_photo(
    context: ClientContext, photo: Path | bytes, gallery: Gallery
) -> tuple[npt.NDArray[np.float64], float]:
    """Return the embedding of the one face of a photo, and the seconds that it took.

    Raises
    ------
    Mismatch
        The gallery is of another model.
    PhotoRefused
        The photo shows no face, several, or a bad one.
    """
    begun = time.monotonic()
    context.check_model(gallery)
    face = context.embedder.embed(photo, context.settings.quality.policy())
    return face.embedding, time.monotonic() - begun


def search_vector(
    context: ClientContext,
    vector: npt.NDArray[np.float64],
    gallery: Gallery,
    question: Question,
    listener: SearchListener,
    embed_seconds: float = 0.0,
) -> Findings:
    """Search with an embedding, unit norm, shape ``(model_dimension,)``.

    Raises
    ------
    InvalidInput
        The embedding has another shape or norm.
    """
    context.check_keys(gallery)
    listener.stage("encrypt")
    probe, spent = encrypted(context, vector, gallery, embed_seconds)
    return search_probe(context, probe, gallery, question, listener, spent)


def encrypted(
    context: ClientContext,
    vector: npt.NDArray[np.float64],
    gallery: Gallery,
    embed_seconds: float = 0.0,
) -> tuple[bytes, Timings]:
    """Return the wire bytes of a probe; see :func:`search_vector`."""
    check_vector(vector, gallery.pin.model_dimension)
    begun = time.monotonic()
    probe = context.encryptor.encrypt_probe(vector).to_bytes()
    return probe, Timings(embed_seconds, time.monotonic() - begun)


def search_probe(
    context: ClientContext,
    probe: bytes,
    gallery: Gallery,
    question: Question,
    listener: SearchListener,
    spent: Timings = _NONE,
) -> Findings:
    """Search with an encrypted probe; with none if the question names an enrolled template."""
    context.check_keys(gallery)
    _ = context.log_key, context.witnesses  # whether releases can be believed
    begun = time.monotonic()
    listener.stage("compare")
    answer = _compare(context, gallery, probe, question, listener)
    compared = time.monotonic() - begun
    listener.stage("open")
    return open_answer(context, gallery, answer, probe, replace(spent, compare=compared))


def open_answer(
    context: ClientContext,
    gallery: Gallery,
    answer: SealedAnswer,
    probe: bytes,
    spent: Timings,
    policy: RetryPolicy = USUAL,
) -> Findings:
    """Have the auditors open a server's answer, and verify what they release."""
    begun = time.monotonic()
    delivered, release, logged = _open(context, answer, policy)
    found = open_findings(release, delivered.origins, context.connection.me)
    opened = time.monotonic() - begun
    return Findings(
        release=release,
        found=found,
        envelope=delivered.release,
        gallery=gallery.name,
        gallery_version=answer.result.snapshot.version,
        model_id=gallery.pin.model_id,
        profile=gallery.pin.profile,
        timings=replace(spent, open=opened),
        logged=logged,
        probe=probe,
        bytes_received=answer.bytes_received,
    )


def _compare(
    context: ClientContext,
    gallery: Gallery,
    probe: bytes,
    question: Question,
    listener: SearchListener,
) -> SealedAnswer:
    return ask_server(
        context.connection,
        gallery,
        probe,
        question,
        context.validity,
        listener.progress,
        context.server_key,
    )


def _open(
    context: ClientContext, answer: SealedAnswer, policy: RetryPolicy
) -> tuple[Delivered, Release, InLog]:
    """Submit, and verify what comes back. The hashes are kept first, to verify it later too."""
    request = answer.request
    asked = Asked(
        request.request_id,
        answer.request_envelope.payload_sha256(),
        answer.result_envelope.payload_sha256(),
        request.pin.key_epoch,
    )
    context.state.asked(asked)
    try:
        delivered = submit(context.connection, answer, policy)
    except PermissionRefused as error:
        if request.request_id in error.hint:
            raise
        quoted = f"the auditors know this as request {request.request_id}"
        hint = f"{error.hint}; {quoted}" if error.hint else quoted
        raise PermissionRefused(error.public, hint=hint) from error
    release = open_release(delivered.release, context.roster, asked)
    return delivered, release, check_logged(context, delivered, release, witnessed=False)


def stored_release(context: ClientContext, request_id: str, *, witnessed: bool) -> StoredRelease:
    """Fetch and verify an earlier release; see :meth:`underseal_client.Client.release`."""
    asked = context.state.asked_before(request_id)
    delivered = fetch_release(context.connection, request_id)
    envelope = delivered.release
    epoch = asked.key_epoch if asked else Release.parse(envelope.payload).key_epoch
    release = open_release(envelope, context.roster_of(epoch), asked)
    if release.request_id != request_id:
        raise Damaged("the registrar sent the release of another request")
    logged = check_logged(context, delivered, release, witnessed=witnessed)
    found = open_findings(release, delivered.origins, context.connection.me)
    return StoredRelease(release, found, envelope, logged, asked is not None)

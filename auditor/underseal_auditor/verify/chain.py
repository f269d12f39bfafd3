"""The chain from a client's signature to every ciphertext. Pure.

    client's key (policy) -> request -> probe hash
                             request hash -> result <- server's key (policy)
                                             result -> block and norm hashes

Nothing is taken from bytes on trust: the keys are the policy's own, not those of certificates.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Final

from underseal_auditor.policy.document import PolicyDocument
from underseal_auditor.policy.rules import CLOCK_SKEW
from underseal_core.credentials import Peer
from underseal_core.errors import Damaged, InvalidInput, MalformedCiphertext, PermissionRefused
from underseal_core.scheme.ciphertext import Ciphertext, Kind, parse_ciphertext, wire_size
from underseal_core.scheme.profiles import Profile
from underseal_core.signing import Envelope
from underseal_core.statements import SearchRequest, SearchResult, utc_moment

MAX_BLOCKS: Final = 1024
"""Result blocks of one submission: 8 million templates, 130 MB in ``guarded``."""

PROBE_BLOCK: Final = 0


@dataclass(frozen=True)
class Chain:
    """A request and the result that answers it, both with valid signatures."""

    request: SearchRequest
    result: SearchResult

    @cached_property
    def request_sha256(self) -> str:
        """Hex hash that names the request."""
        return self.request.sha256()

    @cached_property
    def result_sha256(self) -> str:
        """Hex hash that names the result."""
        return self.result.sha256()

    @property
    def openings(self) -> int:
        """How many ciphertexts are opened: norm and every result block."""
        return 1 + len(self.result.blocks)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a ciphertext belongs: its kind, and the block of a result (0 otherwise)."""

    kind: Kind
    block: int


PROBE_PLACE: Final = Place(Kind.PROBE_ROW, PROBE_BLOCK)


@dataclass(slots=True)
class Intake:
    """Ciphertexts of one submission, checked one by one as they arrive.

    Memory is bounded by what the signed result names: everything else is refused.
    """

    chain: Chain
    profile: Profile
    _wanted: dict[Place, str] = field(init=False)
    _taken: dict[Place, Ciphertext] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        result = self.chain.result
        self._wanted = {Place(Kind.RESULT, b.block): b.sha256 for b in result.blocks}
        self._wanted[Place(Kind.NORM, 0)] = result.norm_sha256
        if self.chain.request.probe_sha256:
            self._wanted[PROBE_PLACE] = self.chain.request.probe_sha256

    def take(self, kind: Kind, block: int, data: bytes) -> None:
        """Accept one ciphertext.

        Raises
        ------
        InvalidInput
            The statements do not name it, or it came before.
        MalformedCiphertext
            It is not the one they name, or not a ciphertext of this kind.
        """
        place = Place(kind, block)
        wanted = self._wanted.get(place)
        if wanted is None or place in self._taken:
            raise InvalidInput(
                f"the result does not ask for this {kind.name.lower()} ciphertext",
                hint="send every ciphertext that the result names, once",
            )
        if len(data) != wire_size(self.profile, kind) or _sha256(data) != wanted:
            raise MalformedCiphertext(
                f"the {kind.name.lower()} ciphertext of block {block} is not the signed one",
                hint="send the ciphertexts as the server sent them",
            )
        self._taken[place] = parse_ciphertext(data, self.profile, kind)

    def complete(self) -> Sealed:
        """Return all ciphertexts.

        Raises
        ------
        InvalidInput
            One is missing.
        """
        missing = len(self._wanted) - len(self._taken)
        if missing:
            raise InvalidInput(
                f"{missing} of {len(self._wanted)} ciphertexts are missing",
                hint="send the probe, norm and every result block",
            )
        blocks = {p.block: c for p, c in self._taken.items() if p.kind is Kind.RESULT}
        return Sealed(
            probe=self._taken.get(PROBE_PLACE),
            norm=self._taken[Place(Kind.NORM, 0)],
            results=dict(sorted(blocks.items())),
        )


@dataclass(frozen=True, slots=True)
class Sealed:
    """What a submission asks to open: norm and ``results``, by block, ascending.

    ``probe``: stays sealed; None if the request names an enrolled template, which auditors have
    themselves.
    """

    probe: Ciphertext | None
    norm: Ciphertext
    results: Mapping[int, Ciphertext]

    def everything(self) -> dict[Place, Ciphertext]:
        """Return all ciphertexts by their places, the probe first."""
        results = {Place(Kind.RESULT, block): c for block, c in self.results.items()}
        uploaded = {} if self.probe is None else {PROBE_PLACE: self.probe}
        return {**uploaded, Place(Kind.NORM, 0): self.norm, **results}

    def openings(self) -> tuple[bytes, ...]:
        """Return the SHA-256 of every second component: what is opened at most once, ever.

        A decryption is ``c0 + c1 * s``: with the same ``c1`` and another ``c0`` it would tell the
        same about ``s``, so ``c1`` alone names an opening.
        """
        everything = (self.norm, *self.results.values())
        return tuple(
            hashlib.sha256(c.residues[1].astype("<u4", copy=False).tobytes()).digest()
            for c in everything
        )


def open_chain(
    policy: PolicyDocument, peer: Peer, request: Envelope, result: Envelope, now: datetime
) -> Chain:
    """Check both signatures and that the result answers the request.

    Parameters
    ----------
    policy
        Holds the keys of clients and servers.
    peer
        Who submits, from its certificate.
    now
        Aware.

    Raises
    ------
    PermissionRefused
        Unknown client or server, a wrong signature, or somebody else's request.
    InvalidInput
        Not statements, or a result of something else.
    """
    opened = _open_request(policy, peer, request)
    chain = Chain(opened, _open_result(policy, result))
    _check_answers(chain, now)
    return chain


def client_key(policy: PolicyDocument, peer: Peer) -> bytes:
    """Return the key that the policy has for the client at the other end.

    Raises
    ------
    PermissionRefused
        The policy does not name the client, or with another key than its certificate does.
    """
    client = policy.clients.get(peer.name)
    if client is None:
        raise PermissionRefused("the policy does not name this client", hint="ask the auditors")
    key = bytes.fromhex(client.key)
    if peer.key != key:
        raise PermissionRefused(
            "the certificate names another key than the policy", hint="ask the auditors"
        )
    return key


def _open_request(policy: PolicyDocument, peer: Peer, envelope: Envelope) -> SearchRequest:
    key = client_key(policy, peer)
    try:
        request = SearchRequest.open(envelope, key)
    except Damaged as error:
        raise InvalidInput(f"the request is not usable: {error.public}") from error
    if request.client != peer.name:
        raise PermissionRefused("the request is another client's")
    return request


def _open_result(policy: PolicyDocument, envelope: Envelope) -> SearchResult:
    signers = {signature.public_key for signature in envelope.signatures}
    named = [(n, bytes.fromhex(s.key)) for n, s in policy.servers.items()]
    known = [(name, key) for name, key in named if key in signers]
    if len(known) != 1:
        raise PermissionRefused("the result is not signed by a server that the policy names")
    name, key = known[0]
    try:
        result = SearchResult.open(envelope, key)  # verified before the parser sees it
    except Damaged as error:
        raise InvalidInput(f"the result is not usable: {error.public}") from error
    if result.server != name:
        raise PermissionRefused("the result is in another server's name")
    return result


def _check_answers(chain: Chain, now: datetime) -> None:
    request, result = chain.request, chain.result
    blocks = [b.block for b in result.blocks]
    if result.request_sha256 != chain.request_sha256:
        raise InvalidInput("the result answers another request")
    if result.snapshot.gallery != request.gallery:
        raise InvalidInput("the result is of another gallery")
    if len(blocks) > MAX_BLOCKS or blocks != sorted(set(blocks)):
        raise InvalidInput("the result's blocks are not in order, or too many")
    if utc_moment(result.finished_at) > now + CLOCK_SKEW:
        raise InvalidInput("the result is from the future", hint="check the clocks")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()

"""A small world for tests of the registrar: real keys, a real encrypted gallery, and an operator
that can also lie. Everything is built once per profile; registrars are made per test.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.catalogue_fixtures import live_entry, signed_unit, templates
from tests.plain_form import unit_digest
from underseal_auditor.books import Delivery
from underseal_auditor.converted import EarlierUnits
from underseal_auditor.examination import Examiner
from underseal_auditor.feed import Changes
from underseal_auditor.guardian import Dossier, Guardian, LocalGuardian
from underseal_auditor.keys.ceremony import MemberSecrets, SoleCeremony, run_local
from underseal_auditor.keys.ceremony_file import CeremonyFile
from underseal_auditor.keys.decryption import Opener
from underseal_auditor.keys.share import Share
from underseal_auditor.logbook import TILES_NAME, Logbook, create_logbook, open_logbook
from underseal_auditor.mirror import Mirror
from underseal_auditor.policy.document import Policy, load_policy, parse_policy
from underseal_auditor.policy.rulebook import Rulebook
from underseal_auditor.policy.rules import KeyFacts
from underseal_auditor.policy.signed import countersign, save_signatures, signed
from underseal_auditor.registrar import Admission, Office, Registrar
from underseal_auditor.replica import Replica
from underseal_auditor.store.database import Database
from underseal_auditor.store.frozen import FrozenServers
from underseal_auditor.store.ledger import Ledger
from underseal_auditor.store.pending import PendingStore
from underseal_auditor.store.policies import PolicyMemory
from underseal_auditor.store.quotas import Tallies
from underseal_auditor.store.tested import SoundUnits
from underseal_auditor.store.warrants import WarrantStore
from underseal_auditor.verify.announcement import Authority, intent_of
from underseal_auditor.verify.catalogue import (
    AmendedUnit,
    CatalogueEntry,
    CatalogueUnit,
    RelabelledUnit,
)
from underseal_auditor.verify.chain import Intake, open_chain
from underseal_auditor.verify.sketch import Sketcher
from underseal_core.amendment import Amendment
from underseal_core.bundle import PublicBundle
from underseal_core.credentials import Peer, Role
from underseal_core.epochs import EarlierEpochs
from underseal_core.errors import NotFound
from underseal_core.gallery.tiles import tiles_root
from underseal_core.gallery.unit import Placement
from underseal_core.labels import OpeningKey, SealingKey, label_context, seal_label
from underseal_core.provenance import EnrolReceipt, template_leaf
from underseal_core.ring import kernel
from underseal_core.roster import Roster
from underseal_core.scheme.ciphertext import Ciphertext, Kind, parse_ciphertext
from underseal_core.scheme.encoding import encode_polynomials
from underseal_core.scheme.encryption import Encryptor
from underseal_core.scheme.evaluation import Evaluator, tiles_shape
from underseal_core.scheme.profiles import profile_named
from underseal_core.signing import Envelope, Identity
from underseal_core.snapshot import snapshot_root
from underseal_core.statements import (
    BlockTiles,
    Pin,
    Release,
    ResultBlock,
    SearchRequest,
    SearchResult,
    Snapshot,
    Targets,
    Wanted,
    utc_text,
)

Vectors = npt.NDArray[np.float64]
Place = tuple[Kind, int]

DIMENSION = 128
GALLERY = "missing"
MODEL = "test-model"
THRESHOLD = 0.6
FIRST_BLOCK = 70
SECOND_BLOCK = 5
NOW = datetime(2026, 5, 4, 12, 0, 0, tzinfo=UTC)

AUDITOR = Identity.generate()
CLIENT = Identity.generate()
OTHER_CLIENT = Identity.generate()
SERVER = Identity.generate()
SEALING: dict[str, SealingKey] = {}
"""Label keys by key epoch, for labels that change."""
AGENCY = Peer(Role.CLIENT, "agency", CLIENT.public_key)
OTHER = Peer(Role.CLIENT, "bureau", OTHER_CLIENT.public_key)


def unit(count: int, seed: int) -> Vectors:
    """Random unit vectors, shape ``(count, DIMENSION)``."""
    vectors = np.random.default_rng(seed).standard_normal((count, DIMENSION))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def at_cosine(vector: Vectors, cosine: float, seed: int = 99) -> Vectors:
    """A unit vector whose inner product with ``vector`` is ``cosine``."""
    other = unit(1, seed)[0]
    other -= (other @ vector) * vector
    other /= np.linalg.norm(other)
    return cosine * vector + np.sqrt(1 - cosine**2) * other


@dataclass(frozen=True)
class Answer:
    """What a client submits; tests change it to lie."""

    request: SearchRequest
    result: SearchResult
    sealed: dict[Place, bytes]
    signer: Identity = CLIENT
    server: Identity = SERVER

    @property
    def envelopes(self) -> tuple[Envelope, Envelope]:
        return self.request.sign(self.signer), self.result.sign(self.server)

    def changed(self, kind: Kind, block: int, ciphertext: Ciphertext) -> Answer:
        """The server sends, and signs, another ciphertext."""
        sealed = {**self.sealed, (kind, block): ciphertext.to_bytes()}
        return replace(self, sealed=sealed, result=result_for(self.request, self.result, sealed))

    def stated(self, operator: Operator) -> Answer:
        """The server signs another snapshot to the same ciphertexts."""
        snapshot = operator.snapshot()
        return replace(self, result=self.result.model_copy(update={"snapshot": snapshot}))


@dataclass
class Operator:
    """The server's side: a catalogue and encrypted blocks. Also the registrar's feed."""

    pin_: Pin
    evaluator: Evaluator
    units: list[CatalogueUnit]
    entries: list[CatalogueEntry]
    tiles: dict[int, npt.NDArray[np.uint32]]
    roots: dict[int, str]
    sent: dict[bytes, list[bytes]]
    version: int = 2
    amended: list[AmendedUnit] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)
    relabelled: list[RelabelledUnit] = field(default_factory=list)

    def pin(self, gallery: str) -> Pin:
        return self.pin_

    def changes(self, gallery: str, after_version: int) -> Iterator[Changes]:
        self.asked.append(after_version)
        added = [unit for unit in self.units if unit.added_version > after_version]
        older = tuple(unit for unit in self.relabelled if unit.version > after_version)
        fresh = {unit.token for unit in added} | {unit.token for unit in older}
        changed = [
            e for e in self.entries if e.removed_version > after_version or e.unit_token in fresh
        ]
        relabelled = tuple(unit for unit in older if unit.token not in {u.token for u in added})
        yield Changes(tuple(added), (), 0, (), relabelled)
        for start in range(0, len(changed), 50):
            yield Changes((), tuple(changed[start : start + 50]), 0)
        told = [one for one in self.amended if one.version > after_version]
        yield Changes((), (), 0, tuple(told))
        yield Changes((), (), self.version)

    def unit(self, gallery: str, token: bytes, epoch: str = "") -> Iterator[bytes]:
        if all(entry.removed_version for entry in self.entries if entry.unit_token == token):
            raise NotFound("no such unit")
        yield from self.sent[token]

    def copy(self) -> Operator:
        """An operator of the test's own, on the same blocks."""
        return replace(
            self,
            units=list(self.units),
            entries=list(self.entries),
            roots={**self.roots},
            amended=list(self.amended),
            asked=[],
            relabelled=list(self.relabelled),
        )

    def unit_of(self, entry: CatalogueEntry) -> CatalogueUnit:
        return next(unit for unit in self.units if unit.token == entry.unit_token)

    def block_of(self, entry: CatalogueEntry) -> int:
        return self.unit_of(entry).placement.block

    def sign(
        self,
        number: int,
        identity: Identity = CLIENT,
        client: str = "agency",
        keep_until: str = "",
    ) -> None:
        """Have a unit's receipt signed anew, for its templates as they are now."""
        unit = self.units[number]
        entries = [entry for entry in self.entries if entry.unit_token == unit.token]
        self.units[number] = signed_unit(
            GALLERY,
            self.pin_,
            unit.placement,
            entries,
            identity,
            client=client,
            sha256=unit.sha256,
            version=unit.added_version,
            keep_until=keep_until,
        )

    def enrol_again(self, number: int, parts: list[bytes]) -> None:
        """A unit as if its enroller had sent these columns, folded and signed honestly."""
        sha256 = unit_digest(parts)
        self.units[number] = replace(self.units[number], sha256=sha256)
        self._fold_only(number, parts)
        self.sign(number)

    def _fold_only(self, number: int, parts: list[bytes]) -> None:
        unit, profile = self.units[number], self.evaluator.profile
        block = unit.placement.block
        self.sent = {**self.sent, unit.token: parts}
        tiles = np.zeros(tiles_shape(profile, DIMENSION), np.uint32)
        for index, part in enumerate(parts):
            column = parse_ciphertext(part, profile, Kind.COLUMN)
            self.evaluator.add_column(tiles, index, column.residues, unit.placement.first_slot)
        self.tiles = {**self.tiles, block: tiles}
        self.roots[block] = tiles_root(tiles)

    def amend(self, number: int, parts: list[bytes], amendment: Envelope) -> None:
        """Let amended columns take a unit's place, and fold anew."""
        self.version += 1
        token = self.units[number].token
        statement = Amendment.parse(amendment.payload)
        sha256 = unit_digest(parts)
        self.units[number] = replace(
            self.units[number], sha256=sha256, redaction=statement.redaction()
        )
        self.amended = [one for one in self.amended if one.token != token]
        self.amended.append(AmendedUnit(token, sha256, amendment, self.version))
        self._fold_only(number, parts)

    def relabel(self, index: int, label: bytes, signer: Identity = CLIENT, **changes: Any) -> None:
        """Another label for one template, as its enroller asks; ``changes`` of the receipt."""
        key = SEALING[self.pin_.key_epoch]
        self.entries[index] = with_label(self.entries[index], key, label)
        number = self.units.index(self.unit_of(self.entries[index]))
        unit = self.units[number]
        mine = [entry for entry in self.entries if entry.unit_token == unit.token]
        leaves = [template_leaf(e.template_id, e.subject_id, e.label_sha256) for e in mine]
        earlier = EnrolReceipt.parse(unit.receipt.payload)
        later = earlier.relabelled(leaves, utc_text(NOW)).model_copy(update=changes)
        self.show_receipt(number, later.sign(signer))

    def show_receipt(self, number: int, receipt: Envelope) -> None:
        """State a unit's receipt as one that came with the next version."""
        self.version += 1
        self.units[number] = replace(self.units[number], receipt=receipt)
        token = self.units[number].token
        self.relabelled = [unit for unit in self.relabelled if unit.token != token]
        self.relabelled.append(RelabelledUnit(token, receipt, self.version))

    def live(self) -> list[CatalogueEntry]:
        return [e for e in self.entries if not e.removed_version]

    def remove(self, index: int) -> None:
        """Mark a template as removed (its score stays in the block until its unit goes)."""
        self.version += 1
        self.entries[index] = replace(self.entries[index], removed_version=self.version)

    def snapshot(self) -> Snapshot:
        live = [live_entry(self.unit_of(entry), entry) for entry in self.live()]
        roots = {block: self.roots[block] for block in sorted({entry.block for entry in live})}
        return Snapshot(
            gallery=GALLERY,
            version=self.version,
            root=snapshot_root(GALLERY, self.version, live, roots),
            templates=len(live),
            blocks=tuple(BlockTiles(block=b, tiles_root=root) for b, root in roots.items()),
        )

    def search(self, request: SearchRequest, probe: Ciphertext) -> Answer:
        """Compute honestly."""
        ready = self.evaluator.prepare(probe)
        chosen = [e for e in self.live() if asked_for(request.targets, e)]
        sealed = {
            (Kind.PROBE_ROW, 0): probe.to_bytes(),
            (Kind.NORM, 0): ready.norm.to_bytes(),
        }
        for block in sorted({self.block_of(e) for e in chosen}):
            score = self.evaluator.score(ready.probe, self.tiles[block])
            sealed[Kind.RESULT, block] = score.to_bytes()
        empty = SearchResult(
            request_sha256=request.sha256(),
            server="server",
            snapshot=self.snapshot(),
            blocks=(),
            norm_sha256="0" * 64,
            compared=len(chosen),
            code_version="test",
            finished_at=utc_text(NOW),
        )
        return Answer(request, result_for(request, empty, sealed), sealed)


def with_label(entry: CatalogueEntry, key: SealingKey, label: bytes) -> CatalogueEntry:
    """The template with ``label`` sealed to it."""
    sealed = seal_label(key, label, label_context(GALLERY, entry.template_id))
    return replace(entry, sealed_label=sealed, label_sha256=hashlib.sha256(sealed).digest())


def asked_for(targets: Targets, entry: CatalogueEntry) -> bool:
    if not targets:
        return True
    by_id = entry.template_id.hex() in targets.template_ids
    return by_id or entry.subject_id.hex() in targets.subject_ids


def result_for(
    request: SearchRequest, result: SearchResult, sealed: dict[Place, bytes]
) -> SearchResult:
    """The result that names these ciphertexts."""
    digests = {place: hashlib.sha256(data).hexdigest() for place, data in sealed.items()}
    blocks = sorted((block, d) for (kind, block), d in digests.items() if kind is Kind.RESULT)
    return result.model_copy(
        update={
            "request_sha256": request.sha256(),
            "blocks": tuple(ResultBlock(block=b, sha256=d) for b, d in blocks),
            "norm_sha256": digests[Kind.NORM, 0],
        }
    )


@dataclass(frozen=True)
class World:
    """One key epoch and one gallery of two blocks."""

    keys: SoleCeremony
    encryptor: Encryptor
    operator: Operator
    people: Vectors
    labels: tuple[str, ...]
    shares: tuple[Share, ...]
    members: tuple[Identity, ...]
    today: Roster | None = None

    @property
    def roster(self) -> Roster:
        return self.today or Roster.first(self.bundle)

    @property
    def bundle(self) -> PublicBundle:
        return self.keys.bundle

    @property
    def pin(self) -> Pin:
        return self.operator.pin_

    def request(self, probe: Ciphertext, **changes: Any) -> SearchRequest:
        fields: dict[str, Any] = {
            "request_id": secrets.token_hex(16),
            "client": "agency",
            "gallery": GALLERY,
            "pin": self.pin,
            "probe_sha256": hashlib.sha256(probe.to_bytes()).hexdigest(),
            "purpose": "missing-person",
            "case_reference": "case 7",
            "wanted": Wanted(top_k=10),
            "issued_at": utc_text(NOW - timedelta(minutes=1)),
            "expires_at": utc_text(NOW + timedelta(minutes=10)),
        }
        return SearchRequest(**{**fields, **changes})

    def ask(self, vector: Vectors, operator: Operator | None = None, **changes: Any) -> Answer:
        """Encrypt, sign, and let the operator compute."""
        probe = self.encryptor.encrypt_probe(vector)
        return (operator or self.operator).search(self.request(probe, **changes), probe)

    def ask_with(self, probe: Ciphertext, **changes: Any) -> Answer:
        """Ask with a probe that no honest client makes."""
        return self.operator.search(self.request(probe, **changes), probe)

    def probe_plus(self, vector: Vectors, extra: Vectors) -> Ciphertext:
        """A probe with ``extra``, shape ``(degree,)``, added to its coefficients."""
        honest = self.encryptor.encrypt_probe(vector)
        profile = self.bundle.profile
        scale = Kind.PROBE_ROW.scale(profile, DIMENSION)
        message = encode_polynomials(extra, profile, profile.fresh_level, scale)
        residues = honest.residues.copy()
        residues[0] = kernel.add(residues[0], message, profile.data_primes)
        return Ciphertext(profile, Kind.PROBE_ROW, residues)

    @property
    def key_facts(self) -> KeyFacts:
        return KeyFacts(self.bundle.epoch, self.bundle.profile.name, DIMENSION)

    def opener(self) -> Opener:
        """Opens with the first share alone, whatever it is given."""
        return Opener([self.keys.share], self.bundle)

    def replica(self, folder: Path, mirror: Mirror, operator: Operator | None = None) -> Replica:
        """An auditor's own replica of what an operator serves; of the honest one, made once."""
        if operator is None or operator is self.operator:
            return standing_replica(self)
        kept = EarlierUnits(self.bundle, EarlierEpochs(), {})
        sources = {"server": operator}
        return Replica(folder / "replica", mirror, self.operator.evaluator, sources, kept)


_STANDING: dict[bytes, Replica] = {}


def standing_replica(of: World) -> Replica:
    gallery = of.operator.units[0].token
    if gallery not in _STANDING:
        folder = Path(tempfile.mkdtemp(prefix="underseal-replica-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        mirror = Mirror(Database(folder / "mirror.sqlite"), rosters=[of.roster])
        sources = {"server": of.operator}
        kept = EarlierUnits(of.bundle, EarlierEpochs(), {})
        _STANDING[gallery] = Replica(folder, mirror, of.operator.evaluator, sources, kept)
    return _STANDING[gallery]


def policy_text(profile: str = "guarded", serial: int = 1, **release: object) -> str:
    """A policy for this world; ``release`` overrides the section's lines."""
    numeric = profile == "guarded"
    lines: dict[str, object] = {
        "top_k": 5,
        "decimals": 2 if numeric else 0,
        "max_positives": 8,
        "budget": 1000,
    }
    if profile == "swift":
        lines |= {"strict": "true", "budget": 16, "top_k": 8, "max_near": 1}
    section = "\n".join(f"{key} = {value}" for key, value in {**lines, **release}.items())
    return f"""
version = 1
name = "tests"
serial = {serial}
profile = "{profile}"
[release]
{section}
[clients.agency]
key = "{CLIENT.public_key.hex()}"
purposes = ["missing-person", "border"]
[clients.bureau]
key = "{OTHER_CLIENT.public_key.hex()}"
purposes = ["border"]
[servers.server]
key = "{SERVER.public_key.hex()}"
[purposes.missing-person]
galleries = ["{GALLERY}"]
approvals = "none"
[purposes.border]
galleries = ["wanted"]
approvals = "none"
[galleries.{GALLERY}]
enrollers = ["agency"]
[galleries.wanted]
enrollers = ["agency", "bureau"]
[models.{MODEL}]
threshold = {THRESHOLD}
"""


def policy(profile: str = "guarded", serial: int = 1, **release: object) -> Policy:
    return parse_policy(policy_text(profile, serial, **release).encode())


def policy_signatures(rules: Policy, of: World) -> Envelope:
    """What k members of the world sign for a policy."""
    voters, envelope = of.roster, None
    for member in of.members[: voters.threshold]:
        envelope = countersign(rules, voters, member, envelope)
    assert envelope is not None
    return envelope


def write_signed_policy(path: Path, of: World, text: str) -> None:
    """Write a policy file and, beside it, the signatures of k members."""
    path.write_text(text)
    save_signatures(path, policy_signatures(load_policy(path), of))


def in_force(rules: Policy, of: World, database: Database) -> Rulebook:
    """The policy as k members of the world signed it, remembered in a database."""
    approved = signed(rules, policy_signatures(rules, of), of.roster)
    return Rulebook(PolicyMemory(database), approved)


@cache
def council(
    profile: str, threshold: int, count: int
) -> tuple[SoleCeremony, tuple[Share, ...], tuple[Identity, ...]]:
    """Keys of ``count`` members, of whom the registrar is the first; its share is in the first."""
    identities = (AUDITOR, *(Identity.generate() for _ in range(count - 1)))
    members = [MemberSecrets(identity, OpeningKey.generate()) for identity in identities]
    label_key = OpeningKey.generate()
    public = tuple(member.public() for member in members)
    file = CeremonyFile(profile_named(profile), DIMENSION, threshold, public, label_key.public)
    bundle, shares = run_local(file, members)
    return SoleCeremony(bundle, shares[0], label_key), tuple(shares), identities


@cache
def world(profile: str = "guarded", threshold: int = 1, count: int = 1) -> World:
    """Keys and an encrypted gallery; takes a second or two."""
    keys, shares, members = council(profile, threshold, count)
    bundle = keys.bundle
    SEALING[bundle.epoch] = bundle.label_key
    encryptor = Encryptor(bundle.profile, DIMENSION, bundle.public_key)
    evaluator = Evaluator(bundle.profile, DIMENSION, bundle.keys)
    people = unit(FIRST_BLOCK + SECOND_BLOCK, seed=7)
    blocks = {0: people[:FIRST_BLOCK], 1: people[FIRST_BLOCK:]}
    pin = Pin(
        model_id=MODEL,
        model_dimension=DIMENSION,
        profile=bundle.profile.name,
        key_epoch=bundle.epoch,
    )
    units, entries, tiles, labels, sent = [], [], {}, [], {}
    for block, vectors in blocks.items():
        columns = list(encryptor.encrypt_columns(vectors))
        tiles[block] = np.zeros(tiles_shape(bundle.profile, DIMENSION), np.uint32)
        for index, column in enumerate(columns):
            evaluator.add_column(tiles[block], index, column.residues, 0)
        parts = [column.to_bytes() for column in columns]
        unit_sha256 = unit_digest(parts)
        subjects = [
            hashlib.sha256(b"%d %d" % (block, slot)).digest()[:16] for slot in range(len(vectors))
        ]
        made = templates(secrets.token_bytes(16), [b""] * len(vectors), subjects)
        for place, entry in enumerate(made):
            labels.append(json.dumps({"name": f"person-of-{block}-{place}"}))
            made[place] = with_label(entry, bundle.label_key, labels[-1].encode())
        placement = Placement(block, 0, 1, len(vectors))
        units.append(
            signed_unit(
                GALLERY, pin, placement, made, CLIENT, sha256=unit_sha256, version=block + 1
            )
        )
        sent[units[-1].token] = parts
        entries += made
    roots = {block: tiles_root(each) for block, each in tiles.items()}
    operator = Operator(pin, evaluator, units, entries, tiles, roots, sent)
    return World(keys, encryptor, operator, people, tuple(labels), shares, members)


@dataclass
class Desk:
    """A registrar with its database, as one test uses it."""

    registrar: Registrar
    database: Database
    ledger: Ledger
    mirror: Mirror
    logbook: Logbook
    rules: Policy
    frozen: FrozenServers

    def submit(self, answer: Answer, peer: Peer = AGENCY) -> Release:
        """Hand in everything and verify the release's signature."""
        return Release.open(self.envelope(answer, peer), AUDITOR.public_key)

    def envelope(self, answer: Answer, peer: Peer = AGENCY) -> Envelope:
        return self.delivery(answer, peer).release

    def delivery(self, answer: Answer, peer: Peer = AGENCY) -> Delivery:
        admitted = self.registrar.admit(peer, *answer.envelopes)
        if isinstance(admitted, Delivery):
            return admitted
        return self.registrar.answer(fill(admitted, answer))

    def dossier(
        self,
        answer: Answer,
        peer: Peer = AGENCY,
        approvals: tuple[Envelope, ...] = (),
        **changes: object,
    ) -> Dossier:
        """What guardians are shown, past the registrar's own checks; its intent is logged.

        ``changes``: what the intent says instead of the truth.
        """
        chain = open_chain(self.rules.document, peer, *answer.envelopes, NOW)
        intake = Intake(chain, self.rules.profile)
        for (kind, block), data in answer.sealed.items():
            intake.take(kind, block, data)
        epoch = answer.request.pin.key_epoch
        true = intent_of(chain, Authority(self.rules.sha256, epoch), utc_text(NOW))
        intent = true.model_copy(update=changes)
        logged = self.logbook.append(self.logbook.signed(intent)).logged
        return Dossier(*answer.envelopes, chain, intake.complete(), logged, approvals)


def fill(admission: Admission, answer: Answer) -> Admission:
    for (kind, block), data in answer.sealed.items():
        admission.intake.take(kind, block, data)
    return admission


@contextmanager
def book_of(folder: Path) -> Iterator[Logbook]:
    """The log in ``log`` below a folder; made if it is not there."""
    if not (folder / "log" / TILES_NAME).exists():
        create_logbook(folder / "log", "log.example/tests")
    logbook = open_logbook(folder / "log", AUDITOR)
    try:
        yield logbook
    finally:
        logbook.close()


@contextmanager
def desk(
    folder: Path,
    of: World,
    rules: Policy,
    operator: Operator | None = None,
    guardian: Guardian | None = None,
    now: datetime = NOW,
    logbook: Logbook | None = None,
) -> Iterator[Desk]:
    """Open a registrar on a folder; without a ``logbook``, its log is below it."""
    with ExitStack() as stack:
        book = logbook or stack.enter_context(book_of(folder))
        database = Database(folder / "registrar.sqlite")
        stack.callback(database.close)
        mirror = Mirror(database, rosters=[of.roster])
        ledger, frozen = Ledger(database), FrozenServers(database)
        rulebook = in_force(rules, of, database)
        replica = of.replica(folder, mirror, operator)
        tested = SoundUnits(database, of.bundle.epoch)
        examiner = Examiner(replica, of.operator.evaluator, frozen, tested, lambda: now)
        office = Office(
            rulebook=rulebook,
            guardian=guardian or LocalGuardian(of.opener(), of.key_facts, rulebook, examiner),
            frozen=frozen,
            label_key=of.keys.label_key,
            identity=AUDITOR,
            ledger=ledger,
            sketcher=Sketcher(of.keys.label_key),
            tallies=Tallies(database),
            pending=PendingStore(database),
            provisional=WarrantStore(database),
            logbook=book,
            mirror=mirror,
            feeds={"server": operator or of.operator},
            clock=lambda: now,
        )
        registrar = Registrar(office)
        registrar.resume()
        yield Desk(registrar, database, ledger, mirror, book, rules, frozen)

"""The registrar's hand in the transparency log: what it intends, what came of it, which policy.

The folder that ``underseal-auditor log create`` makes:

    log.key     Ed25519 key of the log, for checkpoints only; nobody but the registrar reads it
    log.vkey    the key that verifies them, as text: give it to every client
    tiles/      the log itself (C2SP tlog-tiles); ``checkpoint`` and ``tile/`` may be published;
                ``witnessed/`` has what witnesses cosigned
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from underseal_core.errors import (
    Conflict,
    Damaged,
    InvalidInput,
    NotFound,
    StorageFull,
    UndersealError,
)
from underseal_core.log_entries import (
    Intent,
    Logged,
    LogStatement,
    Outcome,
    PolicyInForce,
    encode_entry,
    open_entry,
)
from underseal_core.signing import Identity
from underseal_core.statements import Statement
from underseal_core.tlog.checkpoint import open_checkpoint
from underseal_core.tlog.cosigned import CosignedCheckpoints
from underseal_core.tlog.layout import TILE_WIDTH
from underseal_core.tlog.log import TransparencyLog
from underseal_core.tlog.note import NoteSigner, VerifierKey
from underseal_core.tlog.proof import Receipt, verify_receipt
from underseal_core.tlog.verifier import check_consistency

KEY_NAME: Final = "log.key"
VKEY_NAME: Final = "log.vkey"
TILES_NAME: Final = "tiles"

_ROLLED_BACK: Final = "restore the log from a mirror; a new one in its place would be a fork"


@dataclass(frozen=True, slots=True)
class Written:
    """A durable entry with its receipt, and the checkpoint of that moment."""

    logged: Logged
    index: int
    checkpoint: bytes


@dataclass(frozen=True, slots=True)
class Last:
    """The last statement of each kind, None where there is none."""

    policy: PolicyInForce | None
    intent: Intent | None
    outcome: Outcome | None


class Logbook:
    """Writes signed statements into the log and answers with receipts. Thread-safe.

    Parameters
    ----------
    log
        Open, with a key of its own.
    identity
        Signs the entries: a member of the key ceremony.
    witnesses
        Keys of those whose cosignatures are taken.
    """

    def __init__(
        self, log: TransparencyLog, identity: Identity, witnesses: Sequence[VerifierKey] = ()
    ) -> None:
        self.log = log
        self.cosigned = CosignedCheckpoints(log, witnesses)
        self._identity = identity

    def close(self) -> None:
        """Close the log."""
        self.log.close()

    @property
    def key(self) -> VerifierKey:
        """The key that verifies the log's checkpoints."""
        return self.log.key

    @property
    def signer(self) -> bytes:
        """The key that signs the entries."""
        return self._identity.public_key

    def signed(self, statement: Statement) -> bytes:
        """Return a statement as an entry that is ready to be appended."""
        return encode_entry(statement.sign(self._identity))

    def append(self, entry: bytes) -> Written:
        """Append an entry and return its receipt, checked by the verifier's own code.

        Raises
        ------
        StorageFull, Damaged
            Not acknowledged; the log stops until it is opened again.
        """
        appended = self.log.append(entry)
        return self._written(entry, appended.index, appended.checkpoint)

    def append_once(self, entry: bytes, receipt: bytes = b"") -> Written:
        """Append an entry unless it is in the log already, and return a receipt as of now.

        Parameters
        ----------
        receipt
            An earlier receipt of the entry; without one the whole log is read, because a crash
            may have left the entry there.
        """
        checkpoint = self.log.checkpoint
        if receipt:
            return self._written(entry, Receipt.parse(receipt).index, checkpoint)
        size = open_checkpoint(checkpoint, self.key).checkpoint.size
        for index, found in self.log.reader.entries(size):
            if found == entry:
                return self._written(entry, index, checkpoint)
        return self.append(entry)

    def witnessed(self, receipt: bytes) -> tuple[bytes, ...]:
        """Return the receipts of the same entry under what witnesses have cosigned since."""
        index = Receipt.parse(receipt).index
        return tuple(one.to_bytes() for one in self.cosigned.receipts(index))

    def extends(self, logged: Logged, old: int) -> tuple[bytes, ...]:
        """Return the proof that the checkpoint of a receipt extends the tree of ``old`` leaves.

        Raises
        ------
        Damaged
            The receipt's tree is smaller.
        """
        receipt = Receipt.parse(logged.receipt)
        size = open_checkpoint(receipt.checkpoint, self.key).checkpoint.size
        if old > size:
            raise Damaged("the log is shorter than it was", hint=_ROLLED_BACK)
        return self.log.reader.prove_consistency(old, size)

    def _written(self, entry: bytes, index: int, checkpoint: bytes) -> Written:
        receipt = self.log.receipt(index, checkpoint)
        verify_receipt(receipt, entry, self.key)
        return Written(Logged(entry, receipt.to_bytes()), index, checkpoint)

    def put_in_force(self, policy: PolicyInForce) -> None:
        """Log a policy unless the last one logged is the same, with the same keys and budget."""
        last = self.last(policy.key_epoch).policy
        if last is None or last.model_copy(update={"at": policy.at}) != policy:
            self.append(self.signed(policy))

    def put_successions(self, entries: Sequence[bytes]) -> None:
        """Log successions that the log does not hold yet, in order; they are verified already.

        Raises
        ------
        StorageFull, Damaged
            The log cannot be written.
        """
        missing = list(entries)
        for entry in self._backwards():
            if not missing:
                break
            if entry in missing:
                missing.remove(entry)
        for entry in missing:
            self.append(entry)

    def last(self, key_epoch: str) -> Last:
        """Return the last statement of each kind, searching from the log's end.

        Intents and outcomes are those of one key epoch, the policy is the last of all.
        """
        found: dict[type[LogStatement], LogStatement] = {}
        kinds: dict[type[LogStatement], bytes] = {
            kind: kind.payload_type.encode() for kind in (PolicyInForce, Intent, Outcome)
        }
        for entry in self._backwards():
            missing = [name for kind, name in kinds.items() if kind not in found]
            if not missing:
                break
            if any(name in entry for name in missing):
                statement = open_entry(entry)
                match statement:
                    case PolicyInForce():
                        found.setdefault(PolicyInForce, statement)
                    case Intent() | Outcome() if statement.key_epoch == key_epoch:
                        found.setdefault(type(statement), statement)
        policy, intent, outcome = (found.get(kind) for kind in kinds)
        return Last(
            policy if isinstance(policy, PolicyInForce) else None,
            intent if isinstance(intent, Intent) else None,
            outcome if isinstance(outcome, Outcome) else None,
        )

    def _backwards(self) -> Iterator[bytes]:
        size = self.log.size
        for bundle in reversed(range(-(-size // TILE_WIDTH))):
            yield from reversed(self.log.reader.bundle(bundle, size))

    def check_extends(self, earlier: bytes) -> None:
        """Check that the log still holds all that a checkpoint of its own covered.

        Raises
        ------
        Damaged
            It was rolled back or replaced.
        """
        if not earlier:
            return
        old = open_checkpoint(earlier, self.key).checkpoint
        new = open_checkpoint(self.log.checkpoint, self.key).checkpoint
        if old.size == 0:
            return
        if old.size > new.size:
            raise Damaged("the log was rolled back", hint=_ROLLED_BACK)
        proof = self.log.reader.prove_consistency(old.size, new.size)
        try:
            check_consistency(old.size, new.size, proof, old.root, new.root)
        except Damaged as error:
            raise Damaged(error.public, hint=_ROLLED_BACK) from error


def outcome_of(intent: Intent, **facts: object) -> Outcome:
    """Return the outcome that belongs to an intent; ``facts`` are the fields of its own."""
    return Outcome.model_validate(
        {
            "intent_sha256": intent.sha256(),
            "request_id": intent.request_id,
            "request_sha256": intent.request_sha256,
            "client": intent.client,
            "purpose": intent.purpose,
            "policy_sha256": intent.policy_sha256,
            "key_epoch": intent.key_epoch,
            **facts,
        }
    )


def create_logbook(folder: Path, origin: str) -> VerifierKey:
    """Make a log with a fresh key.

    Parameters
    ----------
    origin
        Names the log in every checkpoint, such as ``log.example.org/underseal``.

    Raises
    ------
    Conflict
        The folder holds a log's key already.
    InvalidInput
        Not a usable origin.
    StorageFull
        The folder cannot be written.
    """
    identity = Identity.generate()
    signer = NoteSigner(origin, identity)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        identity.save(folder / KEY_NAME)
        _write_new(folder / VKEY_NAME, signer.key.vkey() + "\n")
    except FileExistsError as error:
        raise Conflict(f"{folder} holds a log already", hint="choose another folder") from error
    except OSError as error:
        raise StorageFull(f"cannot write to {folder}") from error
    TransparencyLog.create(folder / TILES_NAME, signer).close()
    return signer.key


def _write_new(path: Path, text: str) -> None:
    with path.open("x") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def load_vkey(path: Path) -> VerifierKey:
    """Read a verifier key.

    Raises
    ------
    NotFound
        No such file.
    InvalidInput
        Not a verifier key.
    """
    try:
        return VerifierKey.parse(path.read_text().strip())
    except (OSError, UnicodeDecodeError) as error:
        raise NotFound(
            f"cannot read the key {path}",
            hint="underseal-auditor log create, or witness create, makes one",
        ) from error


def open_logbook(
    folder: Path, identity: Identity, witnesses: Sequence[VerifierKey] = ()
) -> Logbook:
    """Open the log of a folder that :func:`create_logbook` made.

    Raises
    ------
    NotFound, InvalidInput
        The folder holds no log, or its two key files do not belong together.
    Conflict, Damaged, PermissionRefused
        See :class:`TransparencyLog` and :class:`CosignedCheckpoints`.
    """
    key = load_vkey(folder / VKEY_NAME)
    signer = NoteSigner(key.name, Identity.load(folder / KEY_NAME))
    if signer.key != key:
        raise InvalidInput(f"{KEY_NAME} and {VKEY_NAME} do not belong together")
    if signer.key.public_key == identity.public_key:
        raise InvalidInput("the log needs a key of its own, not the auditor's identity")
    log = TransparencyLog(folder / TILES_NAME, signer)
    try:
        return Logbook(log, identity, witnesses)
    except UndersealError:
        log.close()
        raise

"""Who holds the shares of a key epoch: the bundle's members at first, later those who took over.

A re-sharing gives every member a new share of the same key; shares of before are worthless together
with the new ones. It ends with a :class:`Succession`, signed by all new members, the k old members
who dealt among them. The successions of a key epoch lie in a file beside its bundle, one log entry
(see ``log_entries.py``) on each line, in order. Whoever follows them from the bundle on arrives at
the :class:`Roster` of now.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from underseal_core.errors import Damaged, NotFound, PermissionRefused
from underseal_core.log_entries import Succession, decode_entry
from underseal_core.signing import signers_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from underseal_core.bundle import PublicBundle
    from underseal_core.signing import Envelope

FILE_NAME: Final = "successions.jsonl"
"""Of the file of successions, where it lies beside the bundle."""
MAX_FILE_BYTES: Final = 16 << 20
"""A thousand successions of 32 members: bounds the parser's work."""

_HINT: Final = "get the file of successions from the auditors again"


@dataclass(frozen=True, slots=True)
class Generation:
    """Which sharing of the key: shares of different generations open nothing together.

    ``number``: 0 for the ceremony's shares. ``sha256``: of the succession that ended the
    re-sharing, in hexadecimal digits; the key epoch's id for generation 0.
    """

    number: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Roster:
    """The members of one generation: raw Ed25519 keys, member ``i`` (from 1) at ``i - 1``."""

    epoch: str
    threshold: int
    generation: Generation
    members: tuple[bytes, ...]

    @classmethod
    def first(cls, bundle: PublicBundle) -> Self:
        """Return the members of the key ceremony."""
        generation = Generation(0, bundle.epoch)
        return cls(bundle.epoch, bundle.threshold, generation, bundle.members)

    def succeeded(self, envelope: Envelope) -> Self:
        """Return the next roster, given the succession that follows this one.

        Raises
        ------
        Damaged
            Not a succession of this roster.
        PermissionRefused
            A new member did not sign it; all of them must, and k of them are of this roster.
        """
        if envelope.payload_type != Succession.payload_type:
            raise Damaged("not a succession", hint=_HINT)
        statement = Succession.parse(envelope.payload)
        members = tuple(bytes.fromhex(key) for key in statement.members)
        self._check(statement, members)
        if not set(members) <= signers_of(envelope, members):
            raise PermissionRefused("a succession is not signed by all new members", hint=_HINT)
        generation = Generation(statement.generation, statement.sha256())
        return type(self)(self.epoch, self.threshold, generation, members)

    def _check(self, statement: Succession, members: tuple[bytes, ...]) -> None:
        """Check that a succession follows this roster, and that k of its members took part."""
        follows = (
            statement.key_epoch == self.epoch
            and statement.generation == self.generation.number + 1
            and statement.previous == self.generation.sha256
        )
        if not follows:
            raise Damaged("a succession does not follow the one before it", hint=_HINT)
        points = statement.dealers
        sound = (
            len(members) == len(set(members)) == len(self.members)
            and len(points) == self.threshold
            and list(points) == sorted(set(points))
            and all(1 <= point <= len(members) for point in points)
            and all(members[point - 1] == self.members[point - 1] for point in points)
        )
        if not sound:
            raise Damaged(
                f"a succession was not dealt by {self.threshold} of the members before it",
                hint=_HINT,
            )


def follow(bundle: PublicBundle, entries: Iterable[bytes]) -> list[Roster]:
    """Return all rosters of a key epoch, given its successions in order; the last is in force.

    Raises
    ------
    Damaged, PermissionRefused
        See :meth:`Roster.succeeded`.
    """
    rosters = [Roster.first(bundle)]
    for entry in entries:
        rosters.append(rosters[-1].succeeded(decode_entry(entry)))
    return rosters


def read_successions(path: Path) -> tuple[bytes, ...]:
    """Return the log entries in a file of successions; they are not verified here.

    Raises
    ------
    NotFound
        There is no such file, or it cannot be read.
    Damaged
        It is too long.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise NotFound(f"cannot read the file of successions {path.name}") from error
    if len(data) > MAX_FILE_BYTES:
        raise Damaged(f"the file of successions {path.name} is too long")
    return tuple(data.splitlines())


def find_successions(bundle_path: Path, path: Path | None) -> tuple[bytes, ...]:
    """Return a bundle's successions as log entries; they are not verified here.

    Parameters
    ----------
    bundle_path
        The bundle's file; successions lie beside it, unless there are none.
    path
        A file of successions that must be there; None takes the one beside the bundle.

    Raises
    ------
    NotFound, Damaged
        See :func:`read_successions`.
    """
    beside = bundle_path.with_name(FILE_NAME)
    if path is None and not beside.exists():
        return ()
    return read_successions(path or beside)


def load_rosters(bundle: PublicBundle, bundle_path: Path, path: Path | None) -> list[Roster]:
    """Return all rosters of a bundle; the last is in force. See :func:`find_successions`.

    Raises
    ------
    NotFound, Damaged, PermissionRefused
        See :func:`find_successions` and :func:`follow`.
    """
    return follow(bundle, find_successions(bundle_path, path))

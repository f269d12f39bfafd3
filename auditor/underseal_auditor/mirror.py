"""An auditor's copy of the catalogues that it needs, with the enrollers' receipts.

Everything is mirrored, not only what matched, so that the operator does not learn who matched.
The feed is not trusted: the past must not change, a client that the policy lets enrol must have
signed for every unit, no two units may share a slot, and the root of the mirrored version must be
the one that the server signed. Sealed labels are dropped as soon as a template is removed.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from underseal_auditor.feed import (
    CatalogueFeed,
    StagedFeed,
)
from underseal_auditor.history import History
from underseal_auditor.recent import Recent
from underseal_auditor.store import catalogue
from underseal_auditor.store.catalogue import HalfRemoved
from underseal_auditor.store.database import Database
from underseal_auditor.store.relabelling import relabel
from underseal_auditor.verify.amendments import Amenders
from underseal_auditor.verify.catalogue import Attested, Block, View, block_of, view_of
from underseal_auditor.verify.provenance import Enrollers, check_unit
from underseal_core.errors import Damaged, Mismatch, NotFound
from underseal_core.provenance import EnrolReceipt, Origin, UnitTree
from underseal_core.roster import Roster
from underseal_core.signing import Envelope
from underseal_core.statements import Pin, Snapshot

_VIEWS_KEPT: Final = 4
_ENROLMENTS_KEPT: Final = 8
"""Units of which the matches of one release hardly are more; a full one takes a megabyte."""


@dataclass(frozen=True, slots=True)
class MirroredGallery:
    """What the mirror holds of one gallery."""

    server: str
    gallery: str
    version: int
    templates: int


@dataclass(frozen=True, slots=True)
class _Enrolment:
    receipt: Envelope
    tree: UnitTree


@dataclass(frozen=True, slots=True)
class _Present:
    """The blocks with a live template at one version."""

    version: int
    blocks: dict[int, Block]


class Mirror:
    """Catalogues in an auditor's database.

    Parameters
    ----------
    earlier
        Key epochs before the one that this auditor works in: units may come from there.
    rosters
        All generations of all these key epochs: whose signatures count on amendments.
    """

    def __init__(
        self,
        database: Database,
        earlier: frozenset[str] = frozenset(),
        rosters: Sequence[Roster] = (),
    ) -> None:
        self._database = database
        self._earlier = earlier
        self._rosters = tuple(rosters)
        self._views: Recent[tuple[object, ...], View] = Recent(_VIEWS_KEPT)
        self._enrolments: Recent[tuple[str, str, bytes], _Enrolment] = Recent(_ENROLMENTS_KEPT)
        self._histories: dict[tuple[str, str], History] = {}
        self._present: dict[tuple[str, str], _Present] = {}
        """Blocks as they were read last; looked at by whoever makes a view, one at a time."""
        self._updating = threading.Lock()

    def update(
        self, server: str, gallery: str, feed: CatalogueFeed, pin: Pin, enrollers: Enrollers
    ) -> int:
        """Bring one gallery up to date and return its version.

        Parameters
        ----------
        pin
            What the gallery is pinned to, as the caller expects it.
        enrollers
            Keys by name of the clients that may enrol, from the policy.

        Raises
        ------
        Damaged
            The feed breaks off, goes back in time, contradicts what was mirrored, or holds
            something that no enroller of the policy signed for; the mirror is unchanged.
        """
        place = (server, gallery)
        with self._updating:
            known = self.version(*place)
            with StagedFeed(feed.changes(gallery, known), known) as staged:
                signers = _check_staged(staged, gallery, pin, enrollers, self._earlier)
                with self._database.transaction() as connection:
                    catalogue.check_pin(connection, place, pin)
                    catalogue.apply(connection, place, staged, signers)
                    relabel(connection, place, staged, enrollers)
                    amenders = Amenders(gallery, pin, self._rosters)
                    for amended in staged.amended():
                        catalogue.amend(connection, place, amended, amenders.check)
                    catalogue.check_slots(connection, place, pin, known)
                    catalogue.check_enrollers(connection, place, enrollers)
                    connection.execute(
                        "INSERT INTO galleries VALUES (?, ?, ?, ?)"
                        " ON CONFLICT (server, gallery) DO UPDATE SET version = excluded.version",
                        (*place, pin.model_dump_json(), staged.version),
                    )
                return staged.version

    def version(self, server: str, gallery: str) -> int:
        """Return the version up to which a gallery is mirrored, 0 when it is not."""
        with self._database.transaction() as connection:
            return catalogue.version(connection, (server, gallery))

    def view(self, server: str, snapshot: Snapshot) -> View:
        """Return the version that a result speaks of.

        What its blocks hold is taken from the snapshot: compare it with a replica.

        Raises
        ------
        Damaged
            The mirrored catalogue has another root than the server signed.
        Mismatch
            Templates have been erased since: what the blocks held then is gone.
        """
        place = (server, snapshot.gallery)
        with self._database.transaction() as connection:
            known = catalogue.version(connection, place)
            if snapshot.version < catalogue.amended_version(connection, place):
                raise Mismatch("the gallery has changed since this search", hint="search again")
        key = (*place, snapshot.version, snapshot.blocks, known)

        def read() -> View:
            with self._database.transaction() as connection:
                blocks = self._blocks_at(connection, place, snapshot.version, known)
            return view_of(snapshot.gallery, snapshot.version, blocks, snapshot.tiles_roots())

        view = self._views.get(key, read)
        if snapshot.version > known or (view.root, view.templates) != (
            snapshot.root,
            snapshot.templates,
        ):
            raise Damaged(
                "the server's catalogue is not the one that its result was signed for",
                hint="search again; if it happens again, tell the auditors",
            )
        return view

    def _blocks_at(
        self, connection: sqlite3.Connection, place: catalogue.Place, version: int, known: int
    ) -> dict[int, Block]:
        """Return the blocks of a version; reads those that changed since they were read last."""
        kept = self._present.get(place, _Present(0, {}))
        news = catalogue.changed_blocks(connection, place, kept.version)
        blocks = {n: block for n, block in kept.blocks.items() if n not in news}
        blocks |= _blocks(connection, place, news, known)
        self._present[place] = _Present(known, blocks)
        if version >= known:
            return blocks
        later = catalogue.changed_blocks(connection, place, version)
        past = {n: block for n, block in blocks.items() if n not in later}
        return past | _blocks(connection, place, later, version)

    def history(self, server: str, gallery: str) -> History:
        """Return which units the blocks held at every version so far."""
        place = (server, gallery)
        with self._database.transaction() as connection:
            known = catalogue.version(connection, place)
            kept = self._histories.get(place)
            if kept is None or kept.version != known:
                kept = History(known, catalogue.spans(connection, place))
                self._histories[place] = kept
        return kept

    def attested(self, server: str, gallery: str, token: bytes) -> Attested:
        """Return a unit as it was signed for last; signatures were verified when it came.

        Raises
        ------
        NotFound
            It was never mirrored.
        """
        with self._database.transaction() as connection:
            return catalogue.attested(connection, (server, gallery), token)

    def enrolled_sha256(self, server: str, gallery: str, token: bytes) -> str:
        """Return the hash of a unit that its enroller signed for, in hexadecimal digits.

        Raises
        ------
        NotFound
            It was never mirrored.
        """
        with self._database.transaction() as connection:
            known = catalogue.unit(connection, (server, gallery), token)
        return EnrolReceipt.parse(known.receipt.payload).unit_sha256

    def removed_places(self, server: str, gallery: str, token: bytes) -> frozenset[int]:
        """Return the places in a unit of the templates that were removed."""
        with self._database.transaction() as connection:
            return catalogue.removed_places(connection, (server, gallery), token)

    def half_removed(self, server: str, gallery: str) -> list[HalfRemoved]:
        """Return the units that hold templates which are removed, while others of them live."""
        with self._database.transaction() as connection:
            return list(catalogue.half_removed(connection, (server, gallery)))

    def origin(self, server: str, gallery: str, template_id: bytes) -> Origin:
        """Return who enrolled a template, with the proof; also once it was removed.

        Raises
        ------
        NotFound
            It was never mirrored.
        """
        place = (server, gallery)
        with self._database.transaction() as connection:
            found = connection.execute(
                "SELECT token, place, label_sha256, receipt_signature"
                " FROM templates JOIN units USING (server, gallery, token)"
                " WHERE server = ? AND gallery = ? AND template_id = ?",
                (*place, template_id),
            ).fetchone()
            if found is None:
                raise NotFound("the template was never enrolled")
            token, index, label_sha256, signature = found
            known = self._enrolments.get(
                (*place, signature), lambda: _enrolment(connection, place, token)
            )
        return Origin(known.receipt, index, known.tree.prove(index), label_sha256)

    def sealed_label(self, server: str, gallery: str, template_id: bytes) -> bytes:
        """Return the sealed label of a template that is live.

        Raises
        ------
        NotFound
            It is not mirrored, or was removed.
        """
        with self._database.transaction() as connection:
            row = connection.execute(
                "SELECT sealed_label FROM templates WHERE server = ? AND gallery = ?"
                " AND template_id = ? AND removed_version = 0",
                (server, gallery, template_id),
            ).fetchone()
        if row is None:
            raise NotFound("the template is not enrolled any more")
        return bytes(row[0])

    def overdue(self, server: str, gallery: str, moment: str) -> frozenset[bytes]:
        """Return the ids of templates that are there although their time is over.

        Parameters
        ----------
        moment
            The present, as statements write times.
        """
        with self._database.transaction() as connection:
            return catalogue.overdue(connection, (server, gallery), moment)

    def galleries(self) -> list[MirroredGallery]:
        """List what is mirrored."""
        with self._database.transaction() as connection:
            rows = connection.execute(
                "SELECT server, gallery, version, (SELECT count(*) FROM templates t WHERE"
                " t.server = g.server AND t.gallery = g.gallery AND t.removed_version = 0)"
                " FROM galleries g ORDER BY server, gallery"
            ).fetchall()
        return [MirroredGallery(*row) for row in rows]

    def forget(self, server: str, gallery: str) -> None:
        """Drop one gallery, so that the next search mirrors it anew.

        For a gallery that was deleted, or deleted and made again under its name. The registrar
        does not do this by itself: it would let a server bring back removed templates.

        Raises
        ------
        NotFound
            It is not mirrored.
        """
        with self._database.transaction() as connection:
            for table in ("templates", "units"):
                connection.execute(
                    f"DELETE FROM {table} WHERE server = ? AND gallery = ?",  # noqa: S608
                    (server, gallery),
                )
            found = connection.execute(
                "DELETE FROM galleries WHERE server = ? AND gallery = ?", (server, gallery)
            )
            if not found.rowcount:
                raise NotFound(f"gallery {gallery!r} of server {server!r} is not mirrored")
            self._histories.pop((server, gallery), None)
            self._present.pop((server, gallery), None)
        self._views.clear()
        self._enrolments.clear()


def _blocks(
    connection: sqlite3.Connection, place: catalogue.Place, numbers: set[int], version: int
) -> dict[int, Block]:
    """Read blocks as of a version; those that held nothing are left out."""
    found = {n: block_of(catalogue.live(connection, place, n, version)) for n in numbers}
    return {number: block for number, block in found.items() if block.entries}


def _enrolment(connection: sqlite3.Connection, place: catalogue.Place, token: bytes) -> _Enrolment:
    unit = catalogue.unit(connection, place, token)
    return _Enrolment(unit.receipt, UnitTree(catalogue.leaves(connection, place, token)))


def _check_staged(
    staged: StagedFeed, gallery: str, pin: Pin, enrollers: Enrollers, earlier: frozenset[str]
) -> dict[bytes, str]:
    """Check every new unit, and return the enrollers by token."""
    signers, amended = {}, {one.token for one in staged.amended()}
    for unit in staged.units():
        templates = staged.templates_of(unit)
        for template in templates:
            if 0 < template.removed_version <= unit.added_version:
                raise Damaged("the server's catalogue has a template that left before it came")
        signers[unit.token] = check_unit(
            gallery, pin, unit, templates, enrollers, earlier, amended=unit.token in amended
        )
    return signers

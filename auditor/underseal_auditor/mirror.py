"""The registrar's copy of every catalogue that it has been asked about.

Everything is mirrored, not only what matched, so that the operator does not learn who matched.
The feed is not trusted: the past must not change, and the root of the mirrored version must be
the one that the server signed. Sealed labels are dropped as soon as a template is removed.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from underseal_auditor.store.database import Database
from underseal_auditor.verify.catalogue import CatalogueEntry, View, view_of
from underseal_core.errors import Damaged, NotFound
from underseal_core.snapshot import LiveEntry
from underseal_core.statements import Pin, Snapshot

_VIEWS_KEPT: Final = 4

_COLUMNS: Final = (
    "server, gallery, template_id, subject_id, block, slot, unit_sha256, label_sha256,"
    " sealed_label, added_version, removed_version"
)


@dataclass(frozen=True, slots=True)
class Changes:
    """A piece of the feed; ``complete_version`` is 0 except in the last one."""

    entries: tuple[CatalogueEntry, ...]
    complete_version: int


class CatalogueFeed(Protocol):
    """A server's catalogues, as the registrar asks for them."""

    def pin(self, gallery: str) -> Pin:
        """Return what the gallery is pinned to; raises ``NotFound``."""

    def changes(self, gallery: str, after_version: int) -> Iterator[Changes]:
        """Return every entry that was added or removed after a version."""


@dataclass(frozen=True, slots=True)
class MirroredGallery:
    """What the mirror holds of one gallery."""

    server: str
    gallery: str
    version: int
    templates: int


class Mirror:
    """Catalogues in the registrar's database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._views: OrderedDict[tuple[str, str, int, int], View] = OrderedDict()

    def update(self, server: str, gallery: str, feed: CatalogueFeed) -> int:
        """Bring one gallery up to date and return its version.

        Raises
        ------
        Damaged
            The feed breaks off, goes back in time or contradicts what was mirrored; the mirror
            is unchanged.
        """
        with self._database.transaction() as connection:
            known = _version(connection, server, gallery)
            complete = 0
            for piece in feed.changes(gallery, known):
                if complete:
                    raise Damaged("the server's catalogue feed goes on after its end")
                for entry in piece.entries:
                    _apply(connection, (server, gallery), entry, known)
                complete = piece.complete_version
            _check_complete(connection, (server, gallery), known, complete)
            connection.execute(
                "INSERT INTO galleries VALUES (?, ?, ?)"
                " ON CONFLICT (server, gallery) DO UPDATE SET version = excluded.version",
                (server, gallery, complete),
            )
        return complete

    def view(self, server: str, snapshot: Snapshot) -> View:
        """Return the version that a result speaks of.

        Raises
        ------
        Damaged
            The mirrored catalogue has another root than the server signed.
        """
        with self._database.transaction() as connection:
            known = _version(connection, server, snapshot.gallery)
            key = (server, snapshot.gallery, snapshot.version, known)
            if key not in self._views:
                rows = _live(connection, (server, snapshot.gallery), snapshot.version)
                self._views[key] = view_of(snapshot.gallery, snapshot.version, rows)
        self._views.move_to_end(key)
        while len(self._views) > _VIEWS_KEPT:
            self._views.popitem(last=False)
        view = self._views[key]
        if snapshot.version > known or (view.root, view.templates) != (
            snapshot.root,
            snapshot.templates,
        ):
            raise Damaged(
                "the server's catalogue is not the one that its result was signed for",
                hint="search again; if it happens again, tell the auditors",
            )
        return view

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
            connection.execute(
                "DELETE FROM templates WHERE server = ? AND gallery = ?", (server, gallery)
            )
            found = connection.execute(
                "DELETE FROM galleries WHERE server = ? AND gallery = ?", (server, gallery)
            )
            if not found.rowcount:
                raise NotFound(f"gallery {gallery!r} of server {server!r} is not mirrored")
        self._views.clear()


Place = tuple[str, str]
"""Server and gallery."""


def _version(connection: sqlite3.Connection, server: str, gallery: str) -> int:
    row = connection.execute(
        "SELECT version FROM galleries WHERE server = ? AND gallery = ?", (server, gallery)
    ).fetchone()
    return 0 if row is None else int(row[0])


def _apply(connection: sqlite3.Connection, place: Place, entry: CatalogueEntry, known: int) -> None:
    stored = connection.execute(
        "SELECT subject_id, block, slot, unit_sha256, added_version, removed_version"
        " FROM templates WHERE server = ? AND gallery = ? AND template_id = ?",
        (*place, entry.template_id),
    ).fetchone()
    if stored is None:
        _insert(connection, place, entry, known)
        return
    fixed = (entry.subject_id, entry.block, entry.slot, entry.unit_sha256, entry.added_version)
    if stored != (*fixed, 0) or entry.removed_version <= known:
        raise Damaged("the server's catalogue contradicts what it stated before")
    connection.execute(
        "UPDATE templates SET removed_version = ?, sealed_label = x''"
        " WHERE server = ? AND gallery = ? AND template_id = ?",
        (entry.removed_version, *place, entry.template_id),
    )


def _insert(
    connection: sqlite3.Connection, place: Place, entry: CatalogueEntry, known: int
) -> None:
    if entry.added_version <= known or 0 < entry.removed_version <= entry.added_version:
        raise Damaged("the server's catalogue has a template that was not there before")
    label_sha256 = hashlib.sha256(entry.sealed_label).digest()
    kept = b"" if entry.removed_version else entry.sealed_label
    connection.execute(
        f"INSERT INTO templates ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 constant
        (*place, entry.template_id, entry.subject_id, entry.block, entry.slot, entry.unit_sha256,
         label_sha256, kept, entry.added_version, entry.removed_version),
    )  # fmt: skip


def _check_complete(
    connection: sqlite3.Connection, place: Place, known: int, complete: int
) -> None:
    (latest,) = connection.execute(
        "SELECT max(max(added_version), max(removed_version)) FROM templates"
        " WHERE server = ? AND gallery = ?",
        place,
    ).fetchone()
    if complete < known:
        raise Damaged(
            "the server's catalogue went back to an earlier version",
            hint="if the gallery was deleted and made again, an auditor must tell the registrar: "
            "underseal-auditor mirror forget",
        )
    if (latest or 0) > complete:
        raise Damaged("the server's catalogue is from the future")


def _live(
    connection: sqlite3.Connection, place: Place, version: int
) -> Iterable[tuple[LiveEntry, bool]]:
    rows = connection.execute(
        "SELECT block, slot, template_id, subject_id, label_sha256, unit_sha256, removed_version"
        " FROM templates WHERE server = ? AND gallery = ? AND added_version <= ?"
        " AND (removed_version = 0 OR removed_version > ?) ORDER BY block, slot",
        (*place, version, version),
    )
    for *fields, removed in rows:
        yield LiveEntry(*fields), removed == 0

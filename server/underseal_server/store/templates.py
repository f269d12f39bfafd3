"""Rows of templates, as searches, lists and the auditors' mirror see them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Final

import sqlalchemy as sa

from underseal_core.errors import NotFound
from underseal_core.gallery.unit import Placement, Shape
from underseal_core.log_entries import decode_entry
from underseal_core.provenance import EnrolReceipt
from underseal_core.statements import Targets
from underseal_server.store.database import Database
from underseal_server.store.digests import version_of
from underseal_server.store.labels import receipt_of
from underseal_server.store.records import (
    AmendedUnit,
    Change,
    FeedPage,
    Gallery,
    RelabelledUnit,
    State,
    Statistics,
    Template,
    TemplateFilter,
    UnitEntry,
)
from underseal_server.store.schema import amendments, templates, units

_OF_THE_UNIT: Final = (
    units.c.enrolled_by,
    units.c.enrolled_at,
    units.c.added_version,
    units.c.keep_until,
    units.c.token,
)
_CHUNK: Final = 500
"""Values in one SQL list; far below every database's limit."""


class Templates:
    """The table of templates, for reading."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(
        self, gallery: Gallery, wanted: TemplateFilter, after: tuple[int, int], limit: int
    ) -> Sequence[Template]:
        """Return up to ``limit`` templates in slot order, from the first after ``after``.

        Those that are PENDING are among them.

        Parameters
        ----------
        gallery
            The gallery.
        wanted
            Only these.
        after
            Block and slot of the last one of the page before; ``(-1, -1)`` at first.
        limit
            Length of the page.
        """
        later = sa.tuple_(templates.c.block, templates.c.slot) > sa.tuple_(*after)
        query = (
            _joined(templates, *_OF_THE_UNIT)
            .where(_live(gallery), later, *_matching(wanted))
            .order_by(templates.c.block, templates.c.slot)
            .limit(limit)
        )
        with self._database.reading() as connection:
            return [_template(row) for row in connection.execute(query)]

    def count(self, gallery: Gallery, wanted: TemplateFilter) -> int:
        """Return how many templates are meant, PENDING ones too."""
        query = _joined(sa.func.count()).where(_live(gallery), *_matching(wanted))
        with self._database.reading() as connection:
            return int(connection.scalar(query) or 0)

    def statistics(self, gallery: Gallery) -> Statistics:
        """Count a gallery's templates."""
        pending = sa.func.sum(sa.case((units.c.added_version == 0, 1), else_=0))
        query = _joined(
            sa.func.count().label("live"),
            sa.func.coalesce(pending, 0).label("pending"),
            sa.func.count(templates.c.subject_id.distinct()).label("subjects"),
            sa.func.min(units.c.enrolled_at).label("oldest"),
            sa.func.max(units.c.enrolled_at).label("newest"),
            sa.func.min(sa.func.nullif(units.c.keep_until, "")).label("next"),
        ).where(_live(gallery))
        everything = sa.select(sa.func.count()).select_from(templates)
        with self._database.reading() as connection:
            row = connection.execute(query).one()
            total = connection.scalar(everything.where(templates.c.gallery_id == gallery.id)) or 0
        times = (row.oldest or "", row.newest or "", row.next or "")
        waiting = int(row.pending)
        return Statistics(waiting, row.live - waiting, total - row.live, row.subjects, *times)

    def units_of_subject(self, gallery: Gallery, subject: bytes) -> dict[int, list[bytes]]:
        """Return the subject's template ids by unit number, PENDING ones too.

        Raises
        ------
        NotFound
            The subject has none.
        """
        query = sa.select(templates.c.unit_id, templates.c.template_id)
        chosen = query.where(_live(gallery), templates.c.subject_id == subject)
        with self._database.reading() as connection:
            found = [(row.unit_id, row.template_id) for row in connection.execute(chosen)]
        if not found:
            raise NotFound("the gallery has no templates of this subject")
        return _by_first(found)

    def units_of_templates(
        self, gallery: Gallery, template_ids: Sequence[bytes]
    ) -> dict[int, list[bytes]]:
        """Return the given templates, removed ones too, by unit number.

        Raises
        ------
        NotFound
            One of them was never in the gallery.
        """
        found: list[tuple[int, bytes]] = []
        wanted = sorted(set(template_ids))
        query = sa.select(templates.c.unit_id, templates.c.template_id)
        with self._database.reading() as connection:
            for start in range(0, len(wanted), _CHUNK):
                some = templates.c.template_id.in_(wanted[start : start + _CHUNK])
                rows = connection.execute(query.where(templates.c.gallery_id == gallery.id, some))
                found += [(row.unit_id, row.template_id) for row in rows]
        if len(found) != len(wanted):
            raise NotFound("the gallery has no template of one of these ids")
        return _by_first(found)

    def units_past_their_time(self, gallery: Gallery, moment: str) -> dict[int, list[bytes]]:
        """Return the live templates, by unit number, that were to be kept until ``moment`` only."""
        late = _matching(TemplateFilter(over_at=moment))
        query = _joined(templates.c.unit_id, templates.c.template_id).where(_live(gallery), *late)
        # Of whatever gallery: only the index of keep_until answers this one.
        any_late = sa.select(units.c.id).where(units.c.removed_version == 0, *late).limit(1)
        with self._database.reading() as connection:
            if connection.execute(any_late).first() is None:
                return {}
            return _by_first([(row.unit_id, row.template_id) for row in connection.execute(query)])

    def enrolment(self, gallery: Gallery, template_id: bytes) -> tuple[int, EnrolReceipt]:
        """Return the number of a template's unit, and the receipt of whoever enrolled it.

        Raises
        ------
        NotFound
            It is not enrolled, or no search sees it.
        """
        query = _joined(units.c.id, units.c.receipt)
        where = (_active(gallery), templates.c.template_id == template_id)
        with self._database.reading() as connection:
            row = connection.execute(query.where(*where)).first()
        if row is None:
            raise NotFound("the template to search with is not enrolled in this gallery")
        return row.id, EnrolReceipt.parse(row.receipt)

    def blocks_of(self, gallery: Gallery, targets: Targets) -> tuple[tuple[int, ...], int]:
        """Return the blocks that hold a search's targets, and how many templates they are.

        Raises
        ------
        NotFound
            A target is not enrolled.
        """
        name = templates.c.subject_id if targets.subject_ids else templates.c.template_id
        query = _joined(templates.c.block, name.label("name")).where(_active(gallery))
        wanted, found = sorted(targets.wanted()), list[tuple[int, bytes]]()
        with self._database.reading() as connection:
            for start in range(0, len(wanted), _CHUNK):
                some = name.in_(wanted[start : start + _CHUNK])
                rows = connection.execute(query.where(some))
                found += [(row.block, row.name) for row in rows]
        targets.check_found({one for _, one in found})
        return tuple(sorted({block for block, _ in found})), len(found)

    def misplaced(self, gallery: Gallery) -> Sequence[int]:
        """Return units whose live templates are not in the unit's slots, or that are removed."""
        offset = templates.c.slot - units.c.first_slot
        inside = sa.and_(
            templates.c.block == units.c.block,
            units.c.removed_version == 0,
            offset >= 0,
            offset % units.c.step == 0,
            offset < units.c.step * units.c.templates,
        )
        query = _joined(templates.c.unit_id).where(_live(gallery), sa.not_(inside)).distinct()
        with self._database.reading() as connection:
            return list(connection.scalars(query))

    def changes(self, gallery: Gallery, after: int, page: int) -> Generator[FeedPage, None, None]:
        """Yield what changed after version ``after``, in pages, all of one consistent view.

        Yields
        ------
        FeedPage
            First an empty one, then new units, then amended and relabelled ones, then templates
            that are new, removed or relabelled.
        """
        new_units = sa.select(units).where(units.c.gallery_id == gallery.id)
        new_units = new_units.where(units.c.added_version > after).order_by(units.c.id)
        changed = sa.or_(
            units.c.added_version > after,
            templates.c.removed_version > after,
            templates.c.relabelled_version > after,
        )
        columns = _joined(templates, units.c.token, units.c.first_slot, units.c.step)
        query = columns.where(
            templates.c.gallery_id == gallery.id, units.c.added_version > 0, changed
        )
        query = query.order_by(templates.c.id)
        with self._database.reading() as connection:
            version = version_of(connection, gallery)
            yield FeedPage(version)
            if version <= after:
                return  # auditors ask every second or so: no scan to find nothing
            paged = connection.execution_options(yield_per=page)
            for part in paged.execute(new_units).partitions(page):
                yield FeedPage(version, units=tuple(_unit_entry(row) for row in part))
            for part in paged.execute(_amended(gallery, after)).partitions(page):
                yield FeedPage(version, amended=tuple(_amended_unit(row) for row in part))
            for part in paged.execute(_relabelled(gallery, after)).partitions(page):
                yield FeedPage(version, relabelled=tuple(_relabelled_unit(row) for row in part))
            for part in paged.execute(query).partitions(page):
                yield FeedPage(version, templates=tuple(_change(row) for row in part))


def _joined(*columns: sa.Table | sa.ColumnElement[Any]) -> sa.Select[tuple[object, ...]]:
    join = templates.join(units, templates.c.unit_id == units.c.id)
    return sa.select(*columns).select_from(join)


def _active(gallery: Gallery) -> sa.ColumnElement[bool]:
    """Live, and not PENDING; for queries of templates joined with their units."""
    return sa.and_(_live(gallery), units.c.added_version > 0)


def _live(gallery: Gallery) -> sa.ColumnElement[bool]:
    # Written out, not bound: only then SQLite uses the index over live templates.
    zero = sa.literal_column("0", sa.BigInteger)
    return sa.and_(templates.c.gallery_id == gallery.id, templates.c.removed_version == zero)


def _matching(wanted: TemplateFilter) -> list[sa.ColumnElement[bool]]:
    """For queries of templates joined with their units."""
    late = sa.and_(units.c.keep_until > "", units.c.keep_until <= wanted.over_at)
    conditions = (
        (wanted.subject_id, templates.c.subject_id == wanted.subject_id),
        (wanted.enrolled_from, units.c.enrolled_at >= wanted.enrolled_from),
        (wanted.enrolled_before, units.c.enrolled_at < wanted.enrolled_before),
        (wanted.enrolled_by, units.c.enrolled_by == wanted.enrolled_by),
        (wanted.unit_token, units.c.token == wanted.unit_token),
        (wanted.over_at, late),
    )
    return [condition for given, condition in conditions if given]


def _by_first(pairs: Sequence[tuple[int, bytes]]) -> dict[int, list[bytes]]:
    grouped: dict[int, list[bytes]] = {}
    for unit, template_id in pairs:
        grouped.setdefault(unit, []).append(template_id)
    return grouped


def _template(row: sa.Row[tuple[object, ...]]) -> Template:
    return Template(
        row.template_id,
        row.subject_id,
        row.block,
        row.slot,
        row.enrolled_by,
        row.enrolled_at,
        State.ACTIVE if row.added_version else State.PENDING,
        row.keep_until,
        row.token,
    )


def _unit_entry(row: sa.Row[tuple[object, ...]]) -> UnitEntry:
    return UnitEntry(
        row.token,
        Shape(row.shape),
        Placement(row.block, row.first_slot, row.step, row.templates),
        row.sha256,
        receipt_of(row),
        row.added_version,
    )


def _amended(gallery: Gallery, after: int) -> sa.Select[tuple[object, ...]]:
    join = amendments.join(units, amendments.c.unit_id == units.c.id)
    query = sa.select(amendments, units.c.token, units.c.sha256).select_from(join)
    query = query.where(units.c.gallery_id == gallery.id, amendments.c.version > after)
    return query.order_by(units.c.id)


def _amended_unit(row: sa.Row[tuple[object, ...]]) -> AmendedUnit:
    return AmendedUnit(row.token, row.sha256, decode_entry(row.entry), row.version)


def _relabelled(gallery: Gallery, after: int) -> sa.Select[tuple[object, ...]]:
    """Select older units; those that come with this feed have their last receipt."""
    older = (units.c.added_version > 0, units.c.added_version <= after)
    query = sa.select(units).where(units.c.gallery_id == gallery.id, *older)
    return query.where(units.c.relabelled_version > after).order_by(units.c.id)


def _relabelled_unit(row: sa.Row[tuple[object, ...]]) -> RelabelledUnit:
    return RelabelledUnit(row.token, receipt_of(row), row.relabelled_version)


def _change(row: sa.Row[tuple[object, ...]]) -> Change:
    return Change(
        row.template_id,
        row.subject_id,
        row.token,
        (row.slot - row.first_slot) // row.step,
        row.sealed_label,
        row.label_sha256,
        row.removed_version,
    )

"""Photos or embeddings into a gallery: what to skip, what to refuse, in which units to send."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice, repeat
from typing import TYPE_CHECKING, Final, Protocol

from underseal_client import gallery as galleries
from underseal_client.embeddings import EmbeddingFile
from underseal_client.enrolment import Enrolment
from underseal_client.faces import EmbeddedPhoto, PhotoProblem, embed_all, scan
from underseal_client.faces.projection import Projection
from underseal_client.resume import gallery_key
from underseal_client.subjects import checked_name
from underseal_client.units import (
    Signer,
    TemplateRecord,
    UnitMaker,
    check_vector,
    chunks,
    columns_from,
    label,
)
from underseal_core.errors import InvalidInput, Mismatch, UndersealError
from underseal_core.gallery.unit import Shape
from underseal_core.statements import utc_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from underseal_client.context import ClientContext
    from underseal_client.faces import PhotoSource
    from underseal_client.records import Gallery
    from underseal_client.units import Labelled


LISTED_PER_NEW: Final = 100
"""A gallery up to this many times as large as what comes is listed once, a larger one is asked
for each subject: listing a template costs about a hundredth of a call."""


class EnrolListener(Protocol):
    """Hears how far an enrolment is."""

    def started(self, total: int) -> None:
        """``total`` photos or templates are to be looked at."""

    def looked_at(self, count: int) -> None:
        """``count`` more were embedded or refused."""

    def stored(self, count: int) -> None:
        """``count`` more are on the server."""


class Unheard:
    """Listens to nothing."""

    def started(self, total: int) -> None:
        """Do nothing."""

    def looked_at(self, count: int) -> None:
        """Do nothing."""

    def stored(self, count: int) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A photo or template that was left out, and why.

    ``reason`` is a stable word such as ``no-face``, ``several-faces`` or ``subject-full``.
    """

    photo: str
    subject: str
    reason: str
    error: str
    hint: str


@dataclass(slots=True)
class EnrolReport:
    """What became of everything that was to be enrolled.

    Parameters
    ----------
    enrolled
        Templates that the server stored in this run.
    skipped
        Photos that were enrolled before, or that came twice.
    resumed
        Templates of those that an earlier run had encrypted but not got through.
    """

    gallery: str
    enrolled: int = 0
    skipped: int = 0
    resumed: int = 0
    refused: list[Refused] = field(default_factory=list)
    seconds: float = 0.0


def enroll_photos(
    context: ClientContext,
    gallery_name: str,
    paths: Iterable[Path],
    *,
    subject: str | None = None,
    case: str = "",
    keep_until: datetime | None = None,
    again: bool = False,
    single: bool = False,
    wait: bool = True,
    listener: EnrolListener,
) -> EnrolReport:
    """Enrol the photos in files and folders; see :meth:`underseal_client.Client.enroll`."""
    sources = scan(paths, subject=subject)
    gallery = galleries.describe(context.connection, gallery_name)
    context.check_model(gallery)
    with _run(context, gallery, keep_until, listener, wait=wait) as run:
        sources = run.unseen(sources, again=again)
        listener.started(len(sources))
        records = _records(context, sources, case, run.report, listener)
        run.send(records, len(sources), single=single)
    return run.report


def enroll_records(
    context: ClientContext,
    gallery_name: str,
    records: Sequence[TemplateRecord],
    *,
    keep_until: datetime | None = None,
    single: bool = False,
    wait: bool = True,
    listener: EnrolListener,
) -> EnrolReport:
    """Enrol embeddings; see :meth:`underseal_client.Client.enroll_templates`."""
    gallery = galleries.describe(context.connection, gallery_name)
    for record in records:
        check_vector(record.vector, gallery.pin.model_dimension)
    with _run(context, gallery, keep_until, listener, wait=wait) as run:
        known = _known(context, gallery)
        fresh = [record for record in records if not record.source or record.source not in known]
        run.report.skipped = len(records) - len(fresh)
        listener.started(len(fresh))
        run.send(iter(fresh), len(fresh), single=single)
    return run.report


def enroll_embeddings(
    context: ClientContext,
    gallery_name: str,
    path: Path,
    *,
    case: str = "",
    keep_until: datetime | None = None,
    again: bool = False,
    single: bool = False,
    wait: bool = True,
    listener: EnrolListener,
) -> EnrolReport:
    """Enrol a file's rows; see :meth:`underseal_client.Client.enroll_embeddings`.

    Raises
    ------
    Mismatch
        They are of another model than the gallery.
    """
    file = EmbeddingFile(path)
    gallery = galleries.describe(context.connection, gallery_name)
    file.projection = _projection(context, gallery, file)
    with _run(context, gallery, keep_until, listener, wait=wait) as run:
        known = set() if again else _known(context, gallery)
        fresh = run.new_rows(file, known)
        listener.started(len(fresh))
        records = _embedded(file, fresh, case, listener)
        run.send(records, len(fresh), single=single)
    return run.report


def _projection(context: ClientContext, gallery: Gallery, file: EmbeddingFile) -> Projection | None:
    """Return what leads from the file's model to the gallery's, nothing where it is the same."""
    pin, setting = gallery.pin, context.settings.projection
    if (file.model, file.dimension) == (pin.model_id, pin.model_dimension):
        return None
    if setting is not None:
        projection = Projection.load(setting)
        dimensions = (projection.model_dimension, projection.dimension)
        fits = dimensions == (file.dimension, pin.model_dimension)
        if fits and projection.model_id(file.model) == pin.model_id:
            return projection
    raise Mismatch(
        f"gallery {gallery.name} is of model {pin.model_id} ({pin.model_dimension}), "
        f"the embeddings are of {file.model} ({file.dimension})",
        hint="scores of other models mean nothing; where the gallery's id names a projection of "
        "this one, give it with --projection",
    )


def _embedded(
    file: EmbeddingFile, fresh: set[int], case: str, listener: EnrolListener
) -> Iterator[TemplateRecord]:
    """Yield the templates of some rows."""
    for row in file:
        if row.number in fresh:
            listener.looked_at(1)
            yield TemplateRecord(row.subject, row.vector, row.photo, case, row.source)


def _records(
    context: ClientContext,
    sources: Sequence[PhotoSource],
    case: str,
    report: EnrolReport,
    listener: EnrolListener,
) -> Iterator[TemplateRecord]:
    """Yield the photos' templates; what is refused goes to the report."""
    policy = context.settings.quality.policy()
    for outcome in embed_all(sources, context.embedder, policy):
        source = outcome.source
        listener.looked_at(1)
        match outcome:
            case EmbeddedPhoto(face=face):
                yield TemplateRecord(
                    source.subject, face.embedding, source.path.name, case, source_key(source)
                )
            case PhotoProblem(error=error, reason=reason):
                report.refused.append(_refusal(source.path.name, source.subject, reason, error))


def source_key(source: PhotoSource) -> str:
    """Return what a photo is known by from one run to the next: its content and its subject."""
    return f"{source.digest}:{checked_name(source.subject)}"


def _refusal(photo: str, subject: str, reason: str, error: UndersealError) -> Refused:
    return Refused(photo, subject, reason, error.public, error.hint)


@contextmanager
def _run(
    context: ClientContext,
    gallery: Gallery,
    keep_until: datetime | None,
    listener: EnrolListener,
    *,
    wait: bool,
) -> Iterator[_EnrolRun]:
    """Enrol under the state file's lock; what a crash left staged is sent first."""
    context.check_keys(gallery)
    until = _checked_time(gallery, keep_until)
    begun = time.monotonic()
    with context.state.enrolling():
        run = _EnrolRun(context, gallery, until, listener, wait=wait)
        try:
            run.report.resumed = run.enrolment.resume()
            yield run
            run.enrolment.close()
        finally:
            run.enrolment.abandon()
        run.report.seconds = time.monotonic() - begun


def _known(context: ClientContext, gallery: Gallery) -> set[str]:
    return context.state.sources(gallery_key(gallery), utc_text(datetime.now(UTC)))


def _checked_time(gallery: Gallery, keep_until: datetime | None) -> str:
    """Return until when templates are kept, as statements write it; refuse what the server would.

    Raises
    ------
    InvalidInput
        It is over, or the gallery keeps nothing for so long.
    """
    now, days = datetime.now(UTC), gallery.max_keep_days
    if keep_until is not None and keep_until <= now:
        raise InvalidInput("the time until which the templates are to be kept is over")
    if days and (keep_until is None or keep_until > now + timedelta(days=days)):
        raise InvalidInput(
            f"gallery {gallery.name} keeps templates for at most {days} days",
            hint=f"say for how long: --keep-days, up to {days}",
        )
    return "" if keep_until is None else utc_text(keep_until)


class _EnrolRun:
    def __init__(
        self,
        context: ClientContext,
        gallery: Gallery,
        keep_until: str,
        listener: EnrolListener,
        *,
        wait: bool,
    ) -> None:
        self._context = context
        self._gallery = gallery
        self._listener = listener
        self.report = EnrolReport(gallery.name)
        connection, state = context.connection, context.state
        signer = Signer(connection.me.name, connection.credentials.identity, keep_until)
        maker = UnitMaker(context.bundle, context.encryptor, gallery, signer, wait=wait)
        self.enrolment = Enrolment(connection, state, gallery, maker, self._stored)

    def _stored(self, templates: int) -> None:
        self.report.enrolled += templates
        self._listener.stored(templates)

    def unseen(self, sources: Sequence[PhotoSource], *, again: bool) -> list[PhotoSource]:
        """Return the photos that are not enrolled yet, each once."""
        known = set() if again else _known(self._context, self._gallery)
        fresh = []
        for source in sources:
            try:
                key = source_key(source)
            except InvalidInput as error:
                refusal = _refusal(source.path.name, source.subject, "bad-name", error)
                self.report.refused.append(refusal)
                continue
            if source.digest and key in known:
                self.report.skipped += 1
                continue
            fresh.append(source)
            known.add(key)
        return fresh

    def new_rows(self, file: EmbeddingFile, known: set[str]) -> set[int]:
        """Return the numbers of rows that can be enrolled and are not yet, each once."""
        fresh = set()
        for row in file:
            try:
                source = row.source
                if not row.vector.any():
                    raise InvalidInput("the row is no template: it has no length, or no finite one")
            except InvalidInput as error:
                self.report.refused.append(_refusal(row.photo, row.subject, "bad-row", error))
                continue
            if source in known:
                self.report.skipped += 1
            else:
                known.add(source)
                fresh.add(row.number)
        return fresh

    def send(self, records: Iterator[TemplateRecord], total: int, *, single: bool) -> None:
        """Group ``records``, at most ``total`` of them, into units and send these.

        What was taken when this is broken off is encrypted and staged: the next run sends it.
        ``single``: a row for each.
        """
        room = _Room(self._context, self._gallery, total)
        key = self._context.subject_key
        allowed = self._allowed(
            (label(record, self._gallery.name, key) for record in records), room
        )
        sizes = repeat(1, total) if single else (size for _, size in self._chunks(total))
        for size in sizes:
            unit: list[Labelled] = []
            try:
                unit.extend(islice(allowed, size))
            finally:
                self._add(unit, single=single)

    def _chunks(self, count: int) -> Iterator[tuple[Shape, int]]:
        bundle = self._context.bundle
        profile, dimension = bundle.profile, bundle.dimension
        smallest = self._context.settings.columns_from or columns_from(profile, dimension)
        return chunks(count, profile.degree, dimension, smallest)

    def _add(self, templates: Sequence[Labelled], *, single: bool) -> None:
        """Add the units that so many templates are worth: fewer may have come than were due."""
        left, count = iter(templates), len(templates)
        for shape, size in repeat((Shape.ROW, 1), count) if single else self._chunks(count):
            self.enrolment.add(shape, list(islice(left, size)))

    def _allowed(self, templates: Iterable[Labelled], room: _Room) -> Iterator[Labelled]:
        for entry in templates:
            if room.take(entry.subject_id):
                yield entry
            else:
                self._refuse(entry.record)

    def _refuse(self, record: TemplateRecord) -> None:
        limit = self._gallery.max_templates_per_subject
        self.report.refused.append(
            Refused(
                photo=record.photo,
                subject=record.subject,
                reason="subject-full",
                error=f"the gallery takes {limit} templates of one subject",
                hint="remove older templates of this subject first",
            )
        )


class _Room:
    """How many templates each subject may still have.

    The server refuses a unit as a whole, so the one photo too many is left out here.
    """

    def __init__(self, context: ClientContext, gallery: Gallery, coming: int) -> None:
        self._connection = context.connection
        self._gallery = gallery
        self._used: Counter[bytes] = Counter()
        self._complete = gallery.templates <= LISTED_PER_NEW * coming
        if self._complete:
            stored = galleries.templates(self._connection, gallery.name)
            self._used.update(entry.subject_id for entry in stored)

    def take(self, subject_id: bytes) -> bool:
        """Tell whether one more fits, and count it."""
        limit = self._gallery.max_templates_per_subject
        if not self._complete and subject_id not in self._used:
            stored = galleries.templates(self._connection, self._gallery.name, subject_id)
            self._used[subject_id] = sum(1 for _ in stored)
        if limit and self._used[subject_id] >= limit:
            return False
        self._used[subject_id] += 1
        return True

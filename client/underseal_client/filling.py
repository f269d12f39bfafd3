"""What a client does to fill galleries: photos, ready-made templates, files of embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from underseal_client import enrolling
from underseal_client.enrolling import Unheard

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime
    from pathlib import Path

    from underseal_client.context import ClientContext
    from underseal_client.enrolling import EnrolListener, EnrolReport
    from underseal_client.units import TemplateRecord


class Filling:
    """The part of :class:`underseal_client.Client` that enrols."""

    _context: ClientContext

    def enroll(
        self,
        gallery: str,
        paths: Iterable[Path],
        *,
        subject: str | None = None,
        case: str = "",
        keep_until: datetime | None = None,
        again: bool = False,
        single: bool = False,
        wait: bool = True,
        listener: EnrolListener | None = None,
    ) -> EnrolReport:
        """Enrol photos. A bad photo is reported and does not stop the rest.

        An interrupted run is continued by the same call: photos that are enrolled are skipped,
        and what was on its way is sent again without ever being stored twice.

        Parameters
        ----------
        paths
            Photos and folders. In a folder, a sub-folder's name is the subject, or else the
            photo's own name without its ending.
        subject
            Whom all the photos show, instead.
        case
            Reference that the sealed labels carry.
        keep_until
            Aware. When the templates are removed by themselves, and released no more; signed.
        again
            Enrol also photos that were enrolled before.
        single
            A row for each template, which can then be searched with (:meth:`search_enrolled`); it
            costs the server one expansion and one stored row for each.
        wait
            Return once every later search compares with them. Otherwise once they are durable:
            the server shows them to searches soon.
        """
        return enrolling.enroll_photos(
            self._context,
            gallery,
            paths,
            subject=subject,
            case=case,
            keep_until=keep_until,
            again=again,
            single=single,
            wait=wait,
            listener=listener or Unheard(),
        )

    def enroll_templates(
        self,
        gallery: str,
        records: Sequence[TemplateRecord],
        *,
        keep_until: datetime | None = None,
        single: bool = False,
        wait: bool = True,
        listener: EnrolListener | None = None,
    ) -> EnrolReport:
        """Enrol embeddings that were made elsewhere, with the gallery's model.

        ``single`` and ``wait`` as in :meth:`enroll`.
        """
        return enrolling.enroll_records(
            self._context,
            gallery,
            records,
            keep_until=keep_until,
            single=single,
            wait=wait,
            listener=listener or Unheard(),
        )

    def enroll_embeddings(
        self,
        gallery: str,
        file: Path,
        *,
        case: str = "",
        keep_until: datetime | None = None,
        again: bool = False,
        single: bool = False,
        wait: bool = True,
        listener: EnrolListener | None = None,
    ) -> EnrolReport:
        """Enrol the rows of a file of embeddings, see :mod:`underseal_client.embeddings`.

        It names the model that made them, which must be the gallery's, or the one that the
        projection of the settings is for. Memory does not grow with the file. An interrupted run
        is continued by the same call, as in :meth:`enroll`.
        """
        return enrolling.enroll_embeddings(
            self._context,
            gallery,
            file,
            case=case,
            keep_until=keep_until,
            again=again,
            single=single,
            wait=wait,
            listener=listener or Unheard(),
        )

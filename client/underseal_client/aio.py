"""The asyncio twin of :class:`underseal_client.client.Client`.

Embedding and encryption are work for the processor and would block an event loop, so every call
runs the synchronous method in a worker thread. Cancelling a task stops waiting for its call; the
call itself runs to its end or deadline.
"""

from __future__ import annotations

import asyncio
from threading import Lock
from typing import TYPE_CHECKING, Self

from underseal_client.client import Client
from underseal_client.records import ALL

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Sequence
    from datetime import datetime
    from pathlib import Path
    from types import TracebackType

    import numpy as np
    import numpy.typing as npt

    from underseal_client.asking import Findings, SearchListener, StoredRelease
    from underseal_client.enrolling import EnrolListener, EnrolReport
    from underseal_client.erasures import Erasure
    from underseal_client.filing import FiledWarrant
    from underseal_client.many import Answered, Sought
    from underseal_client.records import (
        Gallery,
        Statistics,
        StoredTemplate,
        TemplateFilter,
        TemplatePage,
    )
    from underseal_client.settings import ClientSettings
    from underseal_client.units import TemplateRecord


class AsyncClient:
    """Every method of ``Client`` as a coroutine, with the same parameters and errors.

    Listeners are called from the worker thread.
    """

    def __init__(self, settings: ClientSettings | None = None) -> None:
        self._client = Client(settings)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """See ``Client.close``."""
        await asyncio.to_thread(self._client.close)

    async def create_gallery(
        self,
        name: str,
        *,
        writers: Sequence[str] = (),
        max_templates_per_subject: int = 0,
        max_keep_days: int = 0,
    ) -> Gallery:
        """See ``Client.create_gallery``."""
        return await asyncio.to_thread(
            self._client.create_gallery,
            name,
            writers=writers,
            max_templates_per_subject=max_templates_per_subject,
            max_keep_days=max_keep_days,
        )

    async def galleries(self) -> list[Gallery]:
        """See ``Client.galleries``."""
        return await asyncio.to_thread(lambda: list(self._client.galleries()))

    async def gallery(self, name: str) -> Gallery:
        """See ``Client.gallery``."""
        return await asyncio.to_thread(self._client.gallery, name)

    async def delete_gallery(self, name: str) -> None:
        """See ``Client.delete_gallery``."""
        await asyncio.to_thread(self._client.delete_gallery, name)

    async def templates(
        self, gallery: str, *, subject: str = "", where: TemplateFilter = ALL
    ) -> list[StoredTemplate]:
        """See ``Client.templates``."""
        return await asyncio.to_thread(
            lambda: list(self._client.templates(gallery, subject=subject, where=where))
        )

    async def template_page(
        self,
        gallery: str,
        *,
        subject: str = "",
        where: TemplateFilter = ALL,
        after: str = "",
        limit: int = 100,
    ) -> TemplatePage:
        """See ``Client.template_page``."""
        return await asyncio.to_thread(
            self._client.template_page,
            gallery,
            subject=subject,
            where=where,
            after=after,
            limit=limit,
        )

    async def statistics(self, gallery: str) -> Statistics:
        """See ``Client.statistics``."""
        return await asyncio.to_thread(self._client.statistics, gallery)

    async def remove_where(self, gallery: str, where: TemplateFilter, *, subject: str = "") -> int:
        """See ``Client.remove_where``."""
        return await asyncio.to_thread(self._client.remove_where, gallery, where, subject=subject)

    async def remove_templates(self, gallery: str, template_ids: Sequence[bytes]) -> int:
        """See ``Client.remove_templates``."""
        return await asyncio.to_thread(self._client.remove_templates, gallery, template_ids)

    async def remove_subject(self, gallery: str, subject: str) -> int:
        """See ``Client.remove_subject``."""
        return await asyncio.to_thread(self._client.remove_subject, gallery, subject)

    async def erasures(
        self, gallery: str, *, subject: str = "", template_ids: Sequence[bytes] = ()
    ) -> list[Erasure]:
        """See ``Client.erasures``."""

        def found() -> list[Erasure]:
            ids = template_ids
            return list(self._client.erasures(gallery, subject=subject, template_ids=ids))

        return await asyncio.to_thread(found)

    async def relabel(
        self,
        gallery: str,
        *,
        name: str,
        photo: str = "",
        case: str = "",
        subject: str = "",
        template_ids: Sequence[bytes] = (),
    ) -> int:
        """See ``Client.relabel``."""
        return await asyncio.to_thread(
            self._client.relabel,
            gallery,
            name=name,
            photo=photo,
            case=case,
            subject=subject,
            template_ids=template_ids,
        )

    async def enroll(
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
        """See ``Client.enroll``."""
        return await asyncio.to_thread(
            self._client.enroll,
            gallery,
            paths,
            subject=subject,
            case=case,
            keep_until=keep_until,
            again=again,
            single=single,
            wait=wait,
            listener=listener,
        )

    async def enroll_embeddings(
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
        """See ``Client.enroll_embeddings``."""
        return await asyncio.to_thread(
            self._client.enroll_embeddings,
            gallery,
            file,
            case=case,
            keep_until=keep_until,
            again=again,
            single=single,
            wait=wait,
            listener=listener,
        )

    async def enroll_templates(
        self,
        gallery: str,
        records: Sequence[TemplateRecord],
        *,
        keep_until: datetime | None = None,
        single: bool = False,
        wait: bool = True,
        listener: EnrolListener | None = None,
    ) -> EnrolReport:
        """See ``Client.enroll_templates``."""
        return await asyncio.to_thread(
            self._client.enroll_templates,
            gallery,
            records,
            keep_until=keep_until,
            single=single,
            wait=wait,
            listener=listener,
        )

    async def search(
        self,
        photo: Path | bytes,
        *,
        gallery: str,
        purpose: str,
        case: str,
        warrant: str = "",
        subjects: Sequence[str] | None = None,
        top_k: int = 10,
        threshold: float | None = None,
        listener: SearchListener | None = None,
    ) -> Findings:
        """See ``Client.search``."""
        return await asyncio.to_thread(
            self._client.search,
            photo,
            gallery=gallery,
            purpose=purpose,
            case=case,
            warrant=warrant,
            subjects=subjects,
            top_k=top_k,
            threshold=threshold,
            listener=listener,
        )

    async def search_template(
        self,
        vector: npt.NDArray[np.float64],
        *,
        gallery: str,
        purpose: str,
        case: str,
        warrant: str = "",
        subjects: Sequence[str] | None = None,
        top_k: int = 10,
        threshold: float | None = None,
        listener: SearchListener | None = None,
    ) -> Findings:
        """See ``Client.search_template``."""
        return await asyncio.to_thread(
            self._client.search_template,
            vector,
            gallery=gallery,
            purpose=purpose,
            case=case,
            warrant=warrant,
            subjects=subjects,
            top_k=top_k,
            threshold=threshold,
            listener=listener,
        )

    async def search_enrolled(
        self,
        template_id: bytes,
        *,
        gallery: str,
        purpose: str,
        case: str,
        warrant: str = "",
        subjects: Sequence[str] | None = None,
        top_k: int = 10,
        threshold: float | None = None,
        listener: SearchListener | None = None,
    ) -> Findings:
        """See ``Client.search_enrolled``."""
        return await asyncio.to_thread(
            self._client.search_enrolled,
            template_id,
            gallery=gallery,
            purpose=purpose,
            case=case,
            warrant=warrant,
            subjects=subjects,
            top_k=top_k,
            threshold=threshold,
            listener=listener,
        )

    async def search_many(
        self,
        searches: Iterable[Sought],
        *,
        gallery: str,
        subjects: Sequence[str] | None = None,
        top_k: int = 10,
        threshold: float | None = None,
    ) -> AsyncGenerator[Answered, None]:
        """See ``Client.search_many``."""
        answers = self._client.search_many(
            searches, gallery=gallery, subjects=subjects, top_k=top_k, threshold=threshold
        )
        stepping = Lock()  # who is cancelled leaves a step under way

        def step() -> Answered | None:
            with stepping:
                return next(answers, None)

        def close() -> None:
            with stepping:
                answers.close()

        try:
            while (answered := await asyncio.to_thread(step)) is not None:
                yield answered
        except asyncio.CancelledError:
            asyncio.get_running_loop().run_in_executor(None, close)  # once the step is over
            raise
        except BaseException:
            await asyncio.to_thread(close)
            raise

    async def verify(
        self,
        photo: Path | bytes,
        *,
        gallery: str,
        purpose: str,
        case: str,
        warrant: str = "",
        subject: str = "",
        template_ids: Sequence[bytes] = (),
        threshold: float | None = None,
        listener: SearchListener | None = None,
    ) -> Findings:
        """See ``Client.verify``."""
        return await asyncio.to_thread(
            self._client.verify,
            photo,
            gallery=gallery,
            purpose=purpose,
            case=case,
            warrant=warrant,
            subject=subject,
            template_ids=template_ids,
            threshold=threshold,
            listener=listener,
        )

    async def verify_template(
        self,
        vector: npt.NDArray[np.float64],
        *,
        gallery: str,
        purpose: str,
        case: str,
        warrant: str = "",
        subject: str = "",
        template_ids: Sequence[bytes] = (),
        threshold: float | None = None,
        listener: SearchListener | None = None,
    ) -> Findings:
        """See ``Client.verify_template``."""
        return await asyncio.to_thread(
            self._client.verify_template,
            vector,
            gallery=gallery,
            purpose=purpose,
            case=case,
            warrant=warrant,
            subject=subject,
            template_ids=template_ids,
            threshold=threshold,
            listener=listener,
        )

    async def update_bundle(self) -> tuple[str, ...]:
        """See ``Client.update_bundle``."""
        return await asyncio.to_thread(self._client.update_bundle)

    async def release(self, request_id: str, *, witnessed: bool = True) -> StoredRelease:
        """See ``Client.release``."""
        return await asyncio.to_thread(self._client.release, request_id, witnessed=witnessed)

    async def file_warrant(self, request_id: str, reference: str) -> FiledWarrant:
        """See ``Client.file_warrant``."""
        return await asyncio.to_thread(self._client.file_warrant, request_id, reference)

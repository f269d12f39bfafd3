"""The synchronous Python API: everything a client does, in one object."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Self

from underseal_client import asking, filing
from underseal_client import gallery as galleries
from underseal_client.context import ClientContext
from underseal_client.curation import Curation
from underseal_client.filling import Filling
from underseal_client.many import ManySearches
from underseal_client.renewal import renew_bundle
from underseal_client.resume import gallery_key
from underseal_client.search import Question, wanted
from underseal_client.settings import ClientSettings
from underseal_client.subset import (
    naming_in_each,
    naming_the_missing,
    subject_ids,
    targets_of,
)
from underseal_core.errors import InvalidInput
from underseal_core.statements import Targets

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

    import numpy as np
    import numpy.typing as npt

    from underseal_client.asking import Findings, SearchListener, StoredRelease
    from underseal_client.filing import FiledWarrant
    from underseal_client.many import Answered, Sought
    from underseal_client.records import Gallery, Progress


class _Silent:
    def stage(self, name: str) -> None:
        """Do nothing."""

    def progress(self, progress: Progress) -> None:
        """Do nothing."""


class Client(Filling, Curation):
    """A client of one server and one registrar. Thread-safe; use as a context manager.

    Every method raises :class:`~underseal_core.errors.UndersealError` subclasses, by what to do
    next: ``InvalidInput`` (fix the request), ``NotFound``, ``Conflict``, ``Mismatch`` (other
    model or keys), ``PermissionRefused``, ``Busy`` (try again), ``StorageFull`` and ``Damaged``
    (call the operator). Bad photos raise ``underseal_client.faces.PhotoRefused`` subclasses.

    Parameters
    ----------
    settings
        None reads the user's file and environment, see
        :meth:`underseal_client.settings.ClientSettings.load`.

    Examples
    --------
    >>> with Client() as client:
    ...     client.create_gallery("missing")
    ...     report = client.enroll("missing", [Path("people")])
    ...     findings = client.search(
    ...         Path("unknown.jpg"), gallery="missing", purpose="reunification", case="2026-17"
    ...     )
    """

    def __init__(self, settings: ClientSettings | None = None) -> None:
        self._context = ClientContext(settings or ClientSettings.load())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def settings(self) -> ClientSettings:
        """The settings in force."""
        return self._context.settings

    def close(self) -> None:
        """Close the connections; the next call opens them again."""
        self._context.close()

    def create_gallery(
        self,
        name: str,
        *,
        writers: Sequence[str] = (),
        max_templates_per_subject: int = 0,
        max_keep_days: int = 0,
    ) -> Gallery:
        """Make a gallery pinned to the settings' model and bundle.

        Parameters
        ----------
        name
            Lower-case letters, digits, ``.``, ``_`` and ``-``.
        writers
            Names of clients besides this one that may enrol and remove.
        max_templates_per_subject
            0 takes the server's default.
        max_keep_days
            Longest time that templates may be kept: each enrolment must say for how long then.
            0 for no limit.
        """
        pin, limits = self._context.own_pin(), (max_templates_per_subject, max_keep_days)
        return galleries.create(self._context.connection, name, pin, writers, *limits)

    def galleries(self) -> Iterator[Gallery]:
        """Yield the galleries that this client may see."""
        return galleries.list_all(self._context.connection)

    def gallery(self, name: str) -> Gallery:
        """Return a gallery's description."""
        return galleries.describe(self._context.connection, name)

    def delete_gallery(self, name: str) -> None:
        """Delete a gallery with everything in it."""
        gallery = self.gallery(name)
        galleries.delete(self._context.connection, name)
        self._context.state.forget_gallery(gallery_key(gallery))

    def search(
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
        """Ask who in a gallery is on a photo.

        Parameters
        ----------
        photo
            A file or its bytes, showing one face.
        purpose, case
            What the auditors' policy allows, and the reference of the case; both are signed.
        warrant
            Reference of an authorisation, for purposes that ask for one; signed.
        subjects
            Compare with these subjects only, 1 to 1,000; None: with everybody.
        top_k
            How many matches at most; the policy may allow fewer.
        threshold
            Cosine, to raise the policy's own; a lower one has no effect.

        Raises
        ------
        NotFound
            One of the subjects is not enrolled; nothing was compared.
        """
        with self._compared_with(gallery, subjects) as targets:
            question = Question(purpose, case, wanted(top_k, threshold), targets, warrant)
            return asking.search_photo(
                self._context, photo, gallery, question, listener or _Silent()
            )

    def search_template(
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
        """Search with an embedding, unit norm, made with the gallery's model; see `search`."""
        with self._compared_with(gallery, subjects) as targets:
            question = Question(purpose, case, wanted(top_k, threshold), targets, warrant)
            described = self.gallery(gallery)
            return asking.search_vector(
                self._context, vector, described, question, listener or _Silent()
            )

    def search_enrolled(
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
        """Ask who in a gallery resembles an enrolled template; see `search`.

        Nothing is uploaded: server and auditors take the template from their own copies. It is not
        compared with itself.

        Parameters
        ----------
        template_id
            16 bytes, of a template that was enrolled on its own (``enroll(..., single=True)``).

        Raises
        ------
        NotFound
            It is not enrolled.
        InvalidInput, Mismatch
            It was enrolled together with others, or under the keys of before.
        """
        with self._compared_with(gallery, subjects) as targets:
            asked = wanted(top_k, threshold)
            question = Question(purpose, case, asked, targets, warrant, template_id.hex())
            described = self.gallery(gallery)
            return asking.search_probe(
                self._context, b"", described, question, listener or _Silent()
            )

    def search_many(
        self,
        searches: Iterable[Sought],
        *,
        gallery: str,
        subjects: Sequence[str] | None = None,
        top_k: int = 10,
        threshold: float | None = None,
    ) -> Generator[Answered, None, None]:
        """Search with many photos or embeddings, in one call; yield each answer when it is there.

        The server compares them together and as it has time; the auditors open each by itself, as
        if it had been asked alone. Answers come in no certain order. One that fails does not end
        the others.

        Parameters
        ----------
        searches
            What to ask; taken as it is needed, from another thread.
        gallery, subjects, top_k, threshold
            Of all of them; see :meth:`search`.

        Examples
        --------
        >>> with Client() as client:
        ...     photos = [Sought(p, "reunification", "2026-17") for p in Path("in").iterdir()]
        ...     for answered in client.search_many(photos, gallery="missing"):
        ...         print(answered.sought.probe, answered.findings or answered.error)
        """
        context, known = self._context, dict[bytes, str]()
        if subjects is not None:
            known = subject_ids(context.subject_key, gallery, subjects)
        targets = targets_of(known) if known else Targets()
        many = ManySearches(context, self.gallery(gallery), wanted(top_k, threshold), targets)
        with closing(many.answers(searches)) as answers:
            yield from naming_in_each(context.connection, gallery, known, answers)

    @contextmanager
    def _compared_with(self, gallery: str, subjects: Sequence[str] | None) -> Iterator[Targets]:
        """Give the targets, and say who is missing if that is why a search failed."""
        if subjects is None:
            yield Targets()
            return
        known = subject_ids(self._context.subject_key, gallery, subjects)
        with naming_the_missing(self._context.connection, gallery, known):
            yield targets_of(known)

    def verify(
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
        """Ask whether a photo shows one subject, or the person of the given templates.

        Parameters
        ----------
        subject, template_ids
            Exactly one of the two.

        Raises
        ------
        NotFound
            The gallery has no template of this subject, or not these.
        InvalidInput
            Neither or both are given.
        """
        targets = self._targets(gallery, subject, template_ids)
        question = Question(purpose, case, wanted(10, threshold), targets, warrant)
        return asking.search_photo(self._context, photo, gallery, question, listener or _Silent())

    def verify_template(
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
        """Verify with an embedding, see :meth:`verify`."""
        targets = self._targets(gallery, subject, template_ids)
        question = Question(purpose, case, wanted(10, threshold), targets, warrant)
        described = self.gallery(gallery)
        return asking.search_vector(
            self._context, vector, described, question, listener or _Silent()
        )

    def _targets(self, gallery: str, subject: str, template_ids: Sequence[bytes]) -> Targets:
        if bool(subject) == bool(template_ids):
            raise InvalidInput("name either a subject or templates to compare with")
        if subject:
            return Targets(subject_ids=(self.subject_id(gallery, subject).hex(),))
        return Targets(template_ids=tuple(entry.hex() for entry in template_ids))

    def update_bundle(self) -> tuple[str, ...]:
        """Follow the auditors to their newest key epoch, and replace the bundle's file.

        Use a new client afterwards. What the earlier epochs' releases are verified with is kept.

        Returns
        -------
        tuple of str
            The key epochs that were gone through; empty when the bundle is the newest.

        Raises
        ------
        Damaged, Mismatch
            What the server sent is not signed by the auditors of both epochs; nothing changed.
        InvalidInput
            The settings insist on another key epoch.
        """
        return renew_bundle(self._context)

    def release(self, request_id: str, *, witnessed: bool = True) -> StoredRelease:
        """Return the verified release of an earlier request of this client.

        Parameters
        ----------
        witnessed
            Demand that as many witnesses as the settings say have seen it in the log. None has
            seen one that was just made.

        Raises
        ------
        Busy
            Too few have, so far.
        """
        return asking.stored_release(self._context, request_id, witnessed=witnessed)

    def file_warrant(self, request_id: str, reference: str) -> FiledWarrant:
        """File the warrant of a provisional release of this client.

        Raises
        ------
        NotFound
            The request was not made from here, or needs no warrant.
        Conflict
            One was filed.
        """
        return filing.file_warrant(self._context, request_id, reference)

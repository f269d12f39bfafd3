"""Some subjects of a gallery, by their names, for searches that compare with nobody else."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from underseal_client import gallery as galleries
from underseal_client.subjects import checked_name
from underseal_core.errors import InvalidInput, NotFound, PermissionRefused
from underseal_core.statements import MAX_SUBJECTS, Targets

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from underseal_client.connection import Connection
    from underseal_client.many import Answered
    from underseal_client.subjects import SubjectKey

NAMED: Final = 5
"""Unknown subjects that an error names."""
MAX_FILE_BYTES: Final = 1 << 20


def subject_ids(key: SubjectKey, gallery: str, names: Sequence[str]) -> dict[bytes, str]:
    """Return the subjects' names by their ids in a gallery; a name may come twice.

    Raises
    ------
    InvalidInput
        No name, more than 1,000, or one that is not acceptable.
    """
    known = {key.subject_id(gallery, name): checked_name(name) for name in names}
    if not known:
        raise InvalidInput(
            "there is nobody to compare with", hint="name a subject, or search the whole gallery"
        )
    if len(known) > MAX_SUBJECTS:
        raise InvalidInput(
            f"a search names at most {MAX_SUBJECTS} subjects, not {len(known)}",
            hint="search the whole gallery, or several times",
        )
    return known


def targets_of(known: dict[bytes, str]) -> Targets:
    """Return what the request names: the ids in ascending order."""
    return Targets(subject_ids=tuple(sorted(one.hex() for one in known)))


@contextmanager
def naming_the_missing(
    connection: Connection, gallery: str, known: dict[bytes, str]
) -> Iterator[None]:
    """Say who it is when the gallery does not hold everybody.

    Raises
    ------
    NotFound
        With the names, if the caller may list the gallery's templates.
    """
    try:
        yield
    except NotFound as error:
        named = _with_the_missing(connection, gallery, known, error)
        if named is error:
            raise
        raise named from error


def naming_in_each(
    connection: Connection, gallery: str, known: dict[bytes, str], answers: Iterable[Answered]
) -> Iterator[Answered]:
    """Say who it is in the answers of many searches for the same subjects."""
    named: NotFound | None = None
    for answered in answers:
        error = answered.error
        if known and isinstance(error, NotFound):
            named = named or _with_the_missing(connection, gallery, known, error)
            yield replace(answered, error=named)
        else:
            yield answered


def _with_the_missing(
    connection: Connection, gallery: str, known: dict[bytes, str], error: NotFound
) -> NotFound:
    """Return an error that says who is not enrolled; the same if that is not why or not to know."""
    try:
        missing = _missing(connection, gallery, known)
    except (NotFound, PermissionRefused):
        return error
    if not missing:
        return error
    more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
    return NotFound(
        f"not enrolled in gallery {gallery}: {', '.join(missing[:NAMED])}{more}",
        hint="write names as they were enrolled; the subject key must be the same, too",
    )


def _missing(connection: Connection, gallery: str, known: dict[bytes, str]) -> list[str]:
    def stored(subject_id: bytes) -> bool:
        return any(True for _ in galleries.templates(connection, gallery, subject_id))

    return sorted(name for subject_id, name in known.items() if not stored(subject_id))


def names_in(path: Path) -> list[str]:
    """Read names from a file, UTF-8, one on each line; empty lines do not count.

    Raises
    ------
    InvalidInput
        It cannot be read, or is no such file.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        text = data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read names from {path}") from error
    if len(data) > MAX_FILE_BYTES:
        raise InvalidInput(f"{path} is too long for a list of {MAX_SUBJECTS} subjects")
    return [line.strip() for line in text.splitlines() if line.strip()]

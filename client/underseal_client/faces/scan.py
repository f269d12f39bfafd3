"""Folders of photos: which file shows whom, and templates of all of them, one after another.

people/
  ada/1.jpg, ada/2.png     subject "ada", two photos
  team/grace/x.jpg         subject "team/grace"
  alan.jpg                 subject "alan"
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from underseal_client.faces.embedder import FaceEmbedder
from underseal_client.faces.errors import PhotoChanged, PhotoRefused, UnreadablePhoto
from underseal_client.faces.photos import (
    DEFAULT_LIMITS,
    SUFFIXES,
    PhotoLimits,
    Pixels,
    decode_photo,
    read_photo,
)
from underseal_client.faces.quality import DEFAULT_POLICY, Face, QualityPolicy

_DECODERS: Final = 2
_READ_AHEAD: Final = 3  # decoded photos kept waiting; each may take 240 MB


@dataclass(frozen=True, slots=True)
class PhotoSource:
    """One photo to enrol.

    Parameters
    ----------
    path
        The file.
    subject
        Whom it shows, in the user's own naming.
    digest
        SHA-256 of the file in hex, the key for resuming; empty when the file cannot be read.
    """

    path: Path
    subject: str
    digest: str


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedPhoto:
    """A photo whose face passed the gate."""

    source: PhotoSource
    face: Face


@dataclass(frozen=True, slots=True)
class PhotoProblem:
    """A photo that did not, and why."""

    source: PhotoSource
    error: PhotoRefused

    @property
    def reason(self) -> str:
        """Stable word for reports, such as ``several-faces``."""
        return self.error.reason


def scan(paths: Iterable[Path], *, subject: str | None = None) -> list[PhotoSource]:
    """List the photos among files and folders, each with its digest; see :func:`list_photos`.

    Parameters
    ----------
    subject
        Whom all the photos show, instead of the rule in the module's docstring.

    Raises
    ------
    UnreadablePhoto
        A path that is neither a file nor a folder.
    """
    found = list_photos(paths)
    return [PhotoSource(file, subject or name, _digest(file)) for file, name in found]


def list_photos(paths: Iterable[Path]) -> list[tuple[Path, str]]:
    """List the photos among files and folders, in a fixed order, with whom each shows.

    Folders are walked to the bottom; hidden files and files without a photo's ending are passed
    over, links to folders are not followed. A file given by itself is always taken.

    Raises
    ------
    UnreadablePhoto
        A path that is neither a file nor a folder.
    """
    photos = []
    for path in paths:
        if path.is_dir():
            photos += [(file, _subject_of(file.relative_to(path))) for file in _walk(path)]
        elif path.is_file():
            photos.append((path, path.stem))
        else:
            raise UnreadablePhoto("no such photo or folder", hint="check the path")
    return photos


def embed_all(
    sources: Sequence[PhotoSource],
    embedder: FaceEmbedder,
    policy: QualityPolicy = DEFAULT_POLICY,
    limits: PhotoLimits = DEFAULT_LIMITS,
) -> Iterator[EmbeddedPhoto | PhotoProblem]:
    """Yield the outcome of every photo, in order; a bad photo does not stop the rest.

    The next photos are decoded by other threads meanwhile.
    """
    for source, decoded in _decode_ahead(sources, limits):
        try:
            yield EmbeddedPhoto(source, embedder.embed(decoded.result(), policy))
        except PhotoRefused as error:
            yield PhotoProblem(source, error)


def _decode_ahead(
    sources: Sequence[PhotoSource], limits: PhotoLimits
) -> Iterator[tuple[PhotoSource, Future[Pixels]]]:
    waiting: deque[tuple[PhotoSource, Future[Pixels]]] = deque()
    with ThreadPoolExecutor(_DECODERS, thread_name_prefix="decode") as pool:
        for source in sources:
            waiting.append((source, pool.submit(_decode, source, limits)))
            if len(waiting) >= _READ_AHEAD:
                yield waiting.popleft()
        yield from waiting


def _decode(source: PhotoSource, limits: PhotoLimits) -> Pixels:
    data = read_photo(source.path, limits)
    if hashlib.sha256(data).hexdigest() != source.digest:
        raise PhotoChanged
    return decode_photo(data, limits)


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(parent, name)
            if not name.startswith(".") and path.suffix.lower() in SUFFIXES:
                yield path


def _subject_of(relative: Path) -> str:
    return relative.stem if relative.parent == Path() else relative.parent.as_posix()


def _digest(path: Path) -> str:
    """SHA-256 in hex; empty for a file that cannot be read, which `embed_all` will report."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""

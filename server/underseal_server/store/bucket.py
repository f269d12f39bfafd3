"""Objects in S3-compatible storage: requests, and what their failures mean."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from underseal_core.errors import Busy, Damaged, InvalidInput, StorageFull
from underseal_core.gallery.disk import FULL_TEXT, disk_errors

if TYPE_CHECKING:
    from obstore.store import S3Config, S3Store

MARK: Final = "catalogue"
"""The object that names the catalogue to which the others belong."""

_URL: Final = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<prefix>.*))?")
_ENDPOINT: Final = re.compile(r"https?://[A-Za-z0-9._\[\]:-]+/?")
_CONNECT: Final = timedelta(seconds=5)
_SILENCE: Final = timedelta(seconds=30)
_REQUEST: Final = timedelta(minutes=5)
"""For one request with its body, the largest of which is a block."""
_RETRY: Final = timedelta(seconds=15)
_RETRIES: Final = 3
_DELETED_AT_ONCE: Final = 1000
_NO_ROOM: Final = re.compile(r"\b507\b|StorageFull|QuotaExceeded|InsufficientStorage")


@dataclass(frozen=True, slots=True)
class Location:
    """Where objects are. What is empty comes from the environment, as AWS's own tools read it.

    Parameters
    ----------
    url
        ``s3://BUCKET/PREFIX``.
    endpoint
        URL of the service, where it is not AWS's.
    region
        Of the bucket.
    key_id, secret
        Of an access key.
    """

    url: str
    endpoint: str = ""
    region: str = ""
    key_id: str = ""
    secret: str = field(default="", repr=False)


class Bucket:
    """The objects under one prefix. Thread-safe.

    Every method may raise ``Busy`` (the storage cannot be reached or answers too slowly),
    ``StorageFull``, and ``Damaged`` where an object is missing or the storage refuses.

    Raises
    ------
    InvalidInput
        The location cannot be used.
    """

    def __init__(self, location: Location) -> None:
        self._store = _open(location)

    def claim(self, identity: str, *, fresh: bool) -> None:
        """Bind the objects to their catalogue: with another one, they would all be swept.

        Parameters
        ----------
        identity
            Of the catalogue.
        fresh
            Whether the catalogue has no galleries yet.

        Raises
        ------
        InvalidInput
            The objects are another catalogue's or are not there, or the bucket keeps what is
            deleted.
        """
        found = self._mark()
        if found is None and not fresh:
            raise InvalidInput(
                "the object storage has nothing of this catalogue",
                hint="is the setting objects right?",
            )
        if found not in (None, identity.encode()):
            raise InvalidInput(
                "the objects there belong to another catalogue",
                hint="take another prefix, or set catalogue to the one that they belong to",
            )
        if self._keeps_versions(identity):
            raise InvalidInput(
                "the bucket keeps old versions, so nothing could be erased",
                hint="use a bucket that never had versioning switched on",
            )

    def _keeps_versions(self, identity: str) -> bool:
        """Write the mark; the answer names a version where the bucket keeps them."""
        import obstore

        try:
            with _object_errors():
                answer = obstore.put(self._store, MARK, identity.encode())
        except Damaged:
            raise InvalidInput(
                "the bucket does not exist, or refuses this server",
                hint="are the settings objects and objects_key_id right?",
            ) from None
        return answer["version"] is not None

    def _mark(self) -> bytes | None:
        try:
            return self.read(MARK, 0, 1 << 10)
        except Damaged:
            return None

    def put(self, key: str, path: Path) -> str:
        """Store a file and return the object's version. Atomic: one request, never in parts."""
        import obstore

        with _object_errors():
            answer = obstore.put(self._store, key, path, use_multipart=False)
        return answer["e_tag"] or ""

    def fetch(self, key: str, path: Path) -> tuple[int, str]:
        """Write an object to a new file and return its size and version."""
        import obstore

        with _object_errors():
            answer = obstore.get(self._store, key)
            with disk_errors(), path.open("xb") as file:
                for chunk in answer.stream():
                    file.write(chunk)
            return answer.meta["size"], answer.meta["e_tag"] or ""

    def read(self, key: str, start: int, length: int) -> bytes:
        """Return a piece of an object, shorter where it ends."""
        import obstore

        with _object_errors():
            return bytes(obstore.get_range(self._store, key, start=start, length=length))

    def find(self, key: str) -> tuple[int, str] | None:
        """Return an object's size and version, ``None`` when there is none."""
        import obstore

        with _object_errors():
            try:
                found = obstore.head(self._store, key)
            except FileNotFoundError:
                return None
            return found["size"], found["e_tag"] or ""

    def under(self, prefix: str) -> Mapping[str, tuple[int, str]]:
        """Return size and version of every object under a prefix, by its key."""
        import obstore

        with _object_errors():
            return {
                entry["path"]: (entry["size"], entry["e_tag"] or "")
                for entries in obstore.list(self._store, prefix)
                for entry in entries
            }

    def pages(self) -> Iterator[list[str]]:
        """Yield the keys of all objects, some at a time; no more are in memory."""
        import obstore

        with _object_errors():
            for entries in obstore.list(self._store, chunk_size=_DELETED_AT_ONCE):
                yield [entry["path"] for entry in entries]

    def folders(self, prefix: str) -> Iterator[str]:
        """Yield the names right under a prefix that have objects under them."""
        import obstore

        with _object_errors():
            found = obstore.list_with_delimiter(self._store, prefix)["common_prefixes"]
        yield from (path.rpartition("/")[2] for path in found)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; fine when they are gone."""
        import obstore

        rest = list(keys)
        with _object_errors():
            while rest:
                obstore.delete(self._store, rest[:_DELETED_AT_ONCE])
                del rest[:_DELETED_AT_ONCE]


def _open(location: Location) -> S3Store:
    found = _URL.fullmatch(location.url)
    if found is None:
        raise InvalidInput("the setting objects is not a URL s3://BUCKET/PREFIX")
    if location.endpoint and not _ENDPOINT.fullmatch(location.endpoint):
        raise InvalidInput("the setting objects_endpoint is not a URL https://HOST:PORT")
    try:
        from obstore.exceptions import BaseError
        from obstore.store import S3Store
    except ImportError as error:
        raise InvalidInput(
            "this server has no driver for object storage", hint="install underseal[server,s3]"
        ) from error
    given: S3Config = {}
    if location.endpoint:
        given["endpoint"] = location.endpoint
    if location.region:
        given["region"] = location.region
    if location.key_id:
        given["access_key_id"] = location.key_id
    if location.secret:
        given["secret_access_key"] = location.secret
    try:
        return S3Store(
            found["bucket"],
            prefix=found["prefix"] or None,
            config=given,
            client_options={
                "allow_http": location.endpoint.startswith("http://"),
                "connect_timeout": _CONNECT,
                "read_timeout": _SILENCE,
                "timeout": _REQUEST,
            },
            retry_config={"max_retries": _RETRIES, "retry_timeout": _RETRY},
            virtual_hosted_style_request=False,
        )
    except (BaseError, ValueError):
        raise InvalidInput("the settings of the object storage cannot be used") from None


@contextmanager
def _object_errors() -> Iterator[None]:
    """Translate; not "from error", for the texts quote requests and answers."""
    from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

    try:
        yield
    except FileNotFoundError:
        raise Damaged("an object is missing in the storage") from None
    except (PermissionDeniedError, UnauthenticatedError):
        raise Damaged(
            "the object storage refuses this server", hint="check its access key and policy"
        ) from None
    except (BaseError, OSError) as error:
        if _NO_ROOM.search(str(error)):
            raise StorageFull(FULL_TEXT) from None
        raise Busy(
            "the object storage cannot be reached; nothing was changed",
            hint="if this lasts: is it running, and are the settings objects right?",
        ) from None

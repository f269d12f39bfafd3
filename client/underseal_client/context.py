"""What the client's operations work with, each part made when it is first needed.

Listing galleries needs no face model, enrolling embeddings needs no photo library, so nothing is
loaded before its turn.
"""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeVar, cast

from underseal_client.connection import Connection
from underseal_client.faces import FaceEmbedder, open_pack
from underseal_client.faces.projection import Projection
from underseal_client.logged import Witnesses
from underseal_client.renewal import earlier_rosters
from underseal_client.resume import ClientState
from underseal_client.subjects import SubjectKey
from underseal_core.bundle import PublicBundle, load_bundle
from underseal_core.errors import InvalidInput, Mismatch, NotFound
from underseal_core.roster import Roster, load_rosters
from underseal_core.statements import Pin
from underseal_core.tlog.note import KeyKind, VerifierKey

if TYPE_CHECKING:
    from collections.abc import Callable

    from underseal_client.faces.embedder import FaceModel
    from underseal_client.records import Gallery
    from underseal_client.settings import ClientSettings
    from underseal_core.scheme.encryption import Encryptor

T = TypeVar("T")

LOG_KEY_NAME: Final = "log.vkey"
"""Of the log's key, where it lies beside the bundle."""


def embedder_of(settings: ClientSettings) -> FaceEmbedder:
    """Return the face model of the settings."""
    pack = open_pack(settings.model, accept_noncommercial=settings.accept_noncommercial)
    file = settings.projection
    projection = None if file is None else Projection.load(file)
    return FaceEmbedder(pack, threads=settings.threads, projection=projection)


class ClientContext:
    """Settings and everything that follows from them. Thread-safe."""

    def __init__(self, settings: ClientSettings) -> None:
        self.settings = settings
        self._lock = threading.RLock()
        self._made: dict[str, object] = {}

    def _once(self, name: str, make: Callable[[], T]) -> T:
        with self._lock:
            if name not in self._made:
                self._made[name] = make()
            return cast("T", self._made[name])

    def close(self) -> None:
        """Close the channels, when there are any."""
        with self._lock:
            connection = self._made.pop("connection", None)
            if isinstance(connection, Connection):
                connection.close()

    @property
    def connection(self) -> Connection:
        """Channels to server and registrar."""
        return self._once("connection", lambda: Connection(self.settings))

    @property
    def bundle(self) -> PublicBundle:
        """The auditors' public bundle, verified.

        Raises
        ------
        NotFound
            There is no such file.
        Mismatch
            It is not of the key epoch in the settings.
        """
        return self._once("bundle", self._load_bundle)

    def _load_bundle(self) -> PublicBundle:
        try:
            return load_bundle(self.settings.bundle, self.settings.key_epoch)
        except NotFound as error:
            raise NotFound(
                f"there is no bundle in {self.settings.bundle}",
                hint="get the public bundle from the auditors and name it with --bundle",
            ) from error

    @property
    def roster(self) -> Roster:
        """The auditors who hold the shares of the bundle's key now.

        Raises
        ------
        NotFound
            There is no such bundle, or not the file of successions that the settings name.
        Damaged, PermissionRefused
            A succession does not follow the one before it, or is not signed by its members.
        """
        return self._rosters[-1]

    def roster_of(self, epoch: str) -> Roster:
        """Return the auditors who held, or hold, the shares of a key epoch.

        Raises
        ------
        NotFound
            This client never had the bundle of that epoch.
        """
        return self.rosters_of(epoch)[-1]

    def rosters_of(self, epoch: str) -> list[Roster]:
        """Return all who held the shares of a key epoch, the last until now or until it ended.

        Raises
        ------
        NotFound
            This client never had the bundle of that epoch.
        """
        if epoch == self.bundle.epoch:
            return self._rosters
        return earlier_rosters(self.settings.bundle, epoch)

    @property
    def _rosters(self) -> list[Roster]:
        return self._once("rosters", self._load_rosters)

    def _load_rosters(self) -> list[Roster]:
        settings = self.settings
        return load_rosters(self.bundle, settings.bundle, settings.successions)

    @property
    def log_key(self) -> VerifierKey:
        """The key of the auditors' transparency log.

        Raises
        ------
        NotFound
            There is no such file.
        InvalidInput
            It holds something else.
        """
        return self._once("log_key", self._load_log_key)

    def _load_log_key(self) -> VerifierKey:
        path = self.settings.log_key or self.settings.bundle.with_name(LOG_KEY_NAME)
        try:
            return VerifierKey.parse(path.read_text("ascii").strip())
        except (OSError, UnicodeDecodeError) as error:
            raise NotFound(
                f"there is no log key in {path}",
                hint="get log.vkey from the auditors: releases are checked against their log",
            ) from error

    @property
    def witnesses(self) -> Witnesses:
        """Who looks after the log, and how many of them must have seen a release there.

        Raises
        ------
        InvalidInput
            A key is no witness's, or more are asked for than there are.
        """
        return self._once("witnesses", self._load_witnesses)

    def _load_witnesses(self) -> Witnesses:
        settings = self.settings
        keys = tuple(VerifierKey.parse(text.strip()) for text in settings.witnesses)
        if any(key.kind is not KeyKind.COSIGNATURE for key in keys):
            raise InvalidInput("setting 'witnesses': the text of each one's witness.vkey is wanted")
        count = len({key.public_key for key in keys})
        quorum = count if settings.witness_quorum is None else settings.witness_quorum
        if quorum > count:
            raise InvalidInput(
                f"setting 'witness_quorum': {quorum} of {count} witnesses cannot be had"
            )
        return Witnesses(keys, quorum)

    @property
    def encryptor(self) -> Encryptor:
        """Encryption under the bundle's key."""
        return self._once("encryptor", self._load_encryptor)

    def _load_encryptor(self) -> Encryptor:
        from underseal_core.scheme.encryption import Encryptor  # loads SEAL: a second

        bundle = self.bundle
        return Encryptor(bundle.profile, bundle.dimension, bundle.public_key)

    @property
    def embedder(self) -> FaceEmbedder:
        """The face model of the settings."""
        return self._once("embedder", self._load_embedder)

    def _load_embedder(self) -> FaceEmbedder:
        return embedder_of(self.settings)

    @property
    def state(self) -> ClientState:
        """What was enrolled and asked before."""
        return self._once("state", lambda: ClientState(self.settings.state))

    @property
    def subject_key(self) -> SubjectKey:
        """The secret behind subject ids."""
        return self._once("subject_key", lambda: SubjectKey.open(self.settings.subject_key))

    @property
    def server_key(self) -> bytes | None:
        """The key that the server must sign with, if the settings say it."""
        key = self.settings.server_key
        return bytes.fromhex(key) if key else None

    @property
    def validity(self) -> timedelta:
        """How long a signed request can be answered."""
        return timedelta(minutes=self.settings.validity_minutes)

    def own_pin(self) -> Pin:
        """Return what a gallery made from here is pinned to; see :meth:`pin_of`."""
        return self.pin_of(self.embedder.model)

    def pin_of(self, model: FaceModel) -> Pin:
        """Return what a gallery of a model's templates is pinned to.

        Raises
        ------
        Mismatch
            The model's templates do not fit the bundle's dimension.
        """
        bundle = self.bundle
        if model.dimension > bundle.dimension:
            raise Mismatch(
                f"model {model.model_id} has dimension {model.dimension}, "
                f"the bundle {bundle.dimension}",
                hint="the auditors' key ceremony fixes the dimension; use a smaller model",
            )
        return Pin(
            model_id=model.model_id,
            model_dimension=model.dimension,
            profile=bundle.profile.name,
            key_epoch=bundle.epoch,
        )

    def check_keys(self, gallery: Gallery) -> None:
        """Refuse a gallery of other keys than the bundle's before anything is encrypted.

        Raises
        ------
        Mismatch
            Another profile or key epoch.
        """
        pin, bundle = gallery.pin, self.bundle
        if pin.profile != bundle.profile.name:
            raise Mismatch(
                f"gallery {gallery.name} has profile {pin.profile}, "
                f"the bundle {bundle.profile.name}",
                hint="get the bundle of the gallery's key epoch from the auditors",
            )
        if pin.key_epoch != bundle.epoch:
            raise Mismatch(
                f"gallery {gallery.name} has key epoch {pin.key_epoch[:16]}..., "
                f"the bundle {bundle.epoch[:16]}...",
                hint="follow the auditors to their newest keys: underseal bundle update",
            )

    def check_model(self, gallery: Gallery) -> None:
        """Refuse a gallery of another face model: its scores would mean nothing.

        Raises
        ------
        Mismatch
            Another model or dimension.
        """
        pin, model = gallery.pin, self.embedder.model
        if (pin.model_id, pin.model_dimension) != (model.model_id, model.dimension):
            raise Mismatch(
                f"gallery {gallery.name} is of model {pin.model_id} ({pin.model_dimension}), "
                f"not {model.model_id} ({model.dimension})",
                hint=f"choose the model with --model, and its projection with --projection: "
                f"{pin.model_id}",
            )

"""Files of key shares and of the registrar's label key, sealed under a passphrase."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from underseal_auditor.keys.pairs import SEED_BYTES, PairSecrets
from underseal_auditor.keys.sealed_file import (
    Argon2Cost,
    SealedContent,
    load_sealed,
    save_sealed,
)
from underseal_auditor.keys.share import Share
from underseal_core.bundle import MAX_MEMBERS
from underseal_core.errors import Damaged, InvalidInput, Mismatch
from underseal_core.labels import OpeningKey
from underseal_core.roster import Generation
from underseal_core.scheme.fields import FieldReader, plain_bytes
from underseal_core.scheme.profiles import profile_named

if TYPE_CHECKING:
    from pathlib import Path

SHARE_KIND: Final = "key share"
LABEL_KEY_KIND: Final = "label key"


def save(path: Path, share: Share, passphrase: bytes, cost: Argon2Cost | None = None) -> None:
    """Write a share file; see :func:`underseal_auditor.keys.sealed_file.save_sealed`."""
    about: dict[str, str | int] = {
        "epoch": share.epoch,
        "generation": share.generation.number,
        "members": share.members,
        "point": share.point,
        "profile": share.profile.name,
        "succession": share.generation.sha256,
        "threshold": share.threshold,
    }
    secret = plain_bytes(share.secret) + bytes(share.pairs.content)
    save_sealed(path, SHARE_KIND, SealedContent(about, secret), passphrase, cost)


def load(path: Path, passphrase: bytes, epoch: str | None = None) -> Share:
    """Read a share file.

    Parameters
    ----------
    epoch
        The key epoch that the caller works in; ``None`` takes any.

    Raises
    ------
    NotFound
        The file cannot be read.
    Damaged
        It is not a share file, or its content contradicts itself.
    WrongPassphrase
        It does not open.
    Mismatch
        It opens, but is of another key epoch.
    """
    content = load_sealed(path, SHARE_KIND, passphrase)
    try:
        share = _share(content)
    except (InvalidInput, KeyError, ValueError, TypeError) as error:
        raise Damaged(f"{path.name} does not hold a key share") from error
    if epoch is not None and share.epoch != epoch:
        share.close()
        raise Mismatch(f"{path.name} is of another key epoch")
    return share


def save_label_key(
    path: Path, key: OpeningKey, epoch: str, passphrase: bytes, cost: Argon2Cost | None = None
) -> None:
    """Write the registrar's label key, named after the key epoch that it belongs to."""
    content = SealedContent({"epoch": epoch}, key.to_secret_bytes())
    save_sealed(path, LABEL_KEY_KIND, content, passphrase, cost)


def load_label_key(path: Path, passphrase: bytes, epoch: str | None = None) -> OpeningKey:
    """Read a label key file; errors as in :func:`load`."""
    content = load_sealed(path, LABEL_KEY_KIND, passphrase)
    if epoch is not None and content.about.get("epoch") != epoch:
        raise Mismatch(f"{path.name} is of another key epoch")
    try:
        return OpeningKey.from_secret_bytes(content.secret)
    except InvalidInput as error:
        raise Damaged(f"{path.name} does not hold a label key") from error


def _share(content: SealedContent) -> Share:
    about = content.about
    profile = profile_named(str(about["profile"]))
    reader = FieldReader(content.secret)
    secret = reader.plain_key_residues(profile, ())
    point, members = int(about["point"]), int(about["members"])
    if not 1 <= point <= members <= MAX_MEMBERS:
        raise InvalidInput("the share's point or threshold is impossible")
    pairs = PairSecrets(point, members, bytearray(reader.take(SEED_BYTES * (members - 1))))
    reader.finish()
    generation = Generation(int(about["generation"]), str(about["succession"]))
    epoch, threshold = str(about["epoch"]), int(about["threshold"])
    return Share(profile, epoch, threshold, secret, pairs, generation)

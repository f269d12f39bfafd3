"""Following the auditors to their next key epoch: the bundle that galleries are moved to.

The server passes on switching key and bundle, and is not believed: as many auditors of the epoch
at hand as could open it must have signed the key, and all of the next one. What the old epoch
needs (releases of its searches are verified against it) is kept beside the bundle, in
``earlier/EPOCH/``.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from underseal_client.connection import SERVER, translated
from underseal_client.wire import get_successor_to_wire, successor_from_wire
from underseal_core.bundle import PublicBundle, load_bundle, parse_bundle
from underseal_core.epochs import BUNDLE_NAME, SWITCHING_NAME
from underseal_core.errors import InvalidInput, NotFound, StorageFull
from underseal_core.roster import FILE_NAME, Roster, load_rosters
from underseal_core.switching import SwitchingKey, parse_switching_key, verify_switching_key

if TYPE_CHECKING:
    from pathlib import Path

    from underseal_client.context import ClientContext

EARLIER_NAME: Final = "earlier"
_EPOCH_DIGITS: Final = 16


@dataclass(frozen=True)
class Renewal:
    """One step: from a bundle to the next one."""

    old: PublicBundle
    key: SwitchingKey
    new: PublicBundle


def renew_bundle(context: ClientContext) -> tuple[str, ...]:
    """Replace the bundle's file by the newest epoch's; see :meth:`Client.update_bundle`."""
    settings = context.settings
    steps: list[Renewal] = []
    bundle, holders = context.bundle, context.roster
    while (step := _next(context, bundle, holders)) is not None:
        steps.append(step)
        bundle, holders = step.new, Roster.first(step.new)
    if steps and settings.key_epoch not in (None, bundle.epoch):
        raise InvalidInput(
            f"the settings insist on key epoch {settings.key_epoch}",
            hint=f"compare {bundle.epoch} with the auditors, then set key_epoch to it",
        )
    for step in steps:
        _keep(settings.bundle, step)
    return tuple(step.new.epoch for step in steps)


def earlier_rosters(bundle_path: Path, epoch: str) -> list[Roster]:
    """Return who held an earlier key epoch's shares, the last until it ended.

    Raises
    ------
    NotFound
        This client never had that epoch's bundle.
    Damaged, PermissionRefused
        What it kept was changed.
    """
    path = _folder(bundle_path, epoch) / BUNDLE_NAME
    try:
        bundle = load_bundle(path, epoch)
    except NotFound as error:
        raise NotFound(
            "there is no bundle of the key epoch of then",
            hint="get it from the auditors and name it with --bundle",
        ) from error
    return load_rosters(bundle, path, None)


def _next(context: ClientContext, bundle: PublicBundle, holders: Roster) -> Renewal | None:
    """Ask the server what follows a bundle, and check it."""
    connection = context.connection
    request = get_successor_to_wire(bundle.epoch)
    try:
        with translated(SERVER):
            call = connection.galleries.GetSuccessor(request, timeout=connection.call_timeout_s)
            key_bytes, bundle_bytes = successor_from_wire(call)
    except NotFound:
        return None
    key = parse_switching_key(key_bytes)
    new = parse_bundle(bundle_bytes, key.new_epoch)
    verify_switching_key(key, bundle, new, holders)
    return Renewal(bundle, key, new)


def _keep(path: Path, step: Renewal) -> None:
    """Put the old epoch's files aside, then replace the bundle."""
    folder = _folder(path, step.old.epoch)
    successions = path.with_name(FILE_NAME)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        step.old.save(folder / BUNDLE_NAME)
        step.key.save(folder / SWITCHING_NAME)
        if successions.exists():
            shutil.copyfile(successions, folder / FILE_NAME)
        step.new.save(path)
        successions.unlink(missing_ok=True)
    except OSError as error:
        raise StorageFull(f"cannot write beside {path}") from error


def _folder(bundle_path: Path, epoch: str) -> Path:
    return bundle_path.parent / EARLIER_NAME / epoch[:_EPOCH_DIGITS]

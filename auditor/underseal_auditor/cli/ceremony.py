"""``underseal-auditor ceremony``: make the keys of a deployment."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from underseal_auditor.cli.passphrase import read_passphrase
from underseal_auditor.keys import share_file
from underseal_auditor.keys.ceremony import SoleCeremony, run_sole
from underseal_auditor.keys.fingerprint import fingerprint
from underseal_auditor.keys.messages import Round
from underseal_core.credentials import Credentials, Role
from underseal_core.errors import Conflict, InvalidInput, StorageFull
from underseal_core.outcome import show
from underseal_core.rpc.tls import own_peer
from underseal_core.scheme.profiles import GUARDED, padded_dimension, profile_named

BUNDLE_NAME: Final = "bundle.usb"
SHARE_NAME: Final = "share.sealed"
LABEL_KEY_NAME: Final = "label.sealed"


def ceremony(
    credentials: Annotated[Path, typer.Option(help="The auditor's credentials folder.")],
    out: Annotated[Path, typer.Option(help="Folder for bundle, share and label key.")],
    dimension: Annotated[int, typer.Option(help="Of the model's embedding.")],
    profile: Annotated[str, typer.Option(help="guarded, compact or swift.")] = GUARDED.name,
    passphrase_file: Annotated[Path | None, typer.Option(help="Seals the two secrets.")] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make the keys: a public bundle for clients and servers, and two sealed secrets."""
    parameters = profile_named(profile)
    padded = padded_dimension(dimension)
    mine = Credentials.load(credentials)
    role = own_peer(mine).role
    if role is not Role.AUDITOR:
        raise InvalidInput(
            f"these are credentials of role {role}, not auditor",
            hint="the keys belong to an auditor: name the auditor's credentials folder",
        )
    _check_free(out)
    passphrase = read_passphrase(passphrase_file, confirm=True)
    outcome = run_sole(parameters, padded, mine.identity, _progress)
    try:
        _save(out, outcome, passphrase)
    finally:
        outcome.share.close()
    epoch = outcome.bundle.epoch
    words = fingerprint(epoch)
    facts = {
        "key_epoch": epoch,
        "fingerprint": words,
        "profile": parameters.name,
        "dimension": padded,
        "bundle": str(out / BUNDLE_NAME),
        "share": str(out / SHARE_NAME),
        "label_key": str(out / LABEL_KEY_NAME),
    }
    show(facts, _lines(out, words, epoch), as_json=as_json)


def _check_free(out: Path) -> None:
    taken = [n for n in (BUNDLE_NAME, SHARE_NAME, LABEL_KEY_NAME) if (out / n).exists()]
    if taken:
        raise Conflict(
            f"{out / taken[0]} exists already",
            hint="keys are never overwritten: choose another folder",
        )
    try:
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageFull(
            f"cannot write to {out}", hint="choose a folder that you may write to"
        ) from error


def _progress(round_: Round) -> None:
    sys.stderr.write(
        f"round {int(round_)} of {len(Round)}: {round_.name.lower().replace('_', ' ')}\n"
    )


def _save(out: Path, outcome: SoleCeremony, passphrase: bytes) -> None:
    """Write the secrets first: a bundle without its share would be a trap."""
    epoch = outcome.bundle.epoch
    share_file.save(out / SHARE_NAME, outcome.share, passphrase)
    share_file.save_label_key(out / LABEL_KEY_NAME, outcome.label_key, epoch, passphrase)
    try:
        outcome.bundle.save(out / BUNDLE_NAME)
    except OSError as error:
        raise StorageFull(f"cannot write the bundle to {out}") from error


def _lines(out: Path, words: str, epoch: str) -> str:
    return (
        f"public bundle  {out / BUNDLE_NAME}   give it to clients and servers\n"
        f"key share      {out / SHARE_NAME}   keep it, and its passphrase apart\n"
        f"label key      {out / LABEL_KEY_NAME}   keep it like the key share\n"
        f"key epoch      {epoch}\n"
        f"fingerprint    {words}"
    )

"""``underseal-auditor ceremony``: make the keys of a deployment."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from underseal_auditor.api.ceremony_process import (
    BUNDLE_NAME,
    LABEL_KEY_NAME,
    SHARE_NAME,
    check_free,
)
from underseal_auditor.cli.ceremony_members import LABEL_KEY_HELP, join, new_or_kept, plan, prepare
from underseal_auditor.cli.passphrase import read_passphrase
from underseal_auditor.keys import share_file
from underseal_auditor.keys.ceremony import SoleCeremony, run_sole
from underseal_auditor.keys.fingerprint import fingerprint
from underseal_auditor.keys.messages import Round
from underseal_core.credentials import Credentials, Role
from underseal_core.errors import InvalidInput, StorageFull
from underseal_core.outcome import show
from underseal_core.rpc.tls import own_peer
from underseal_core.scheme.profiles import GUARDED, padded_dimension, profile_named

T = TypeVar("T")

app = typer.Typer(help="Make the keys of a deployment.", invoke_without_command=True)
app.command()(prepare)
app.command()(plan)
app.command()(join)


@app.callback(invoke_without_command=True)
def ceremony(
    context: typer.Context,
    credentials: Annotated[
        Path | None, typer.Option(help="The auditor's credentials folder.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for bundle, share and label key.")
    ] = None,
    dimension: Annotated[int | None, typer.Option(help="Of the model's embedding.")] = None,
    profile: Annotated[str, typer.Option(help="guarded, compact or swift.")] = GUARDED.name,
    label_key: Annotated[Path | None, typer.Option(help=LABEL_KEY_HELP)] = None,
    passphrase_file: Annotated[Path | None, typer.Option(help="Seals the two secrets.")] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make the keys: a public bundle for clients and servers, and two sealed secrets.

    Without a subcommand, for one auditor. For k of n auditors: prepare, plan, join.
    """
    if context.invoked_subcommand is not None:
        return
    _sole(
        _given(credentials, "--credentials"),
        _given(out, "--out"),
        _given(dimension, "--dimension"),
        profile,
        label_key,
        passphrase_file,
        as_json=as_json,
    )


def _given(value: T | None, option: str) -> T:
    if value is None:
        raise typer.BadParameter("is needed", param_hint=option)
    return value


def _sole(
    credentials: Path,
    out: Path,
    dimension: int,
    profile: str,
    label_key: Path | None,
    passphrase_file: Path | None,
    *,
    as_json: bool,
) -> None:
    parameters = profile_named(profile)
    padded = padded_dimension(dimension)
    mine = Credentials.load(credentials)
    role = own_peer(mine).role
    if role is not Role.AUDITOR:
        raise InvalidInput(
            f"these are credentials of role {role}, not auditor",
            hint="the keys belong to an auditor: name the auditor's credentials folder",
        )
    check_free(out)
    passphrase = read_passphrase(passphrase_file, confirm=label_key is None)
    labels = new_or_kept(label_key, passphrase)
    outcome = run_sole(parameters, padded, mine.identity, _progress, labels)
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

"""``underseal-auditor witness``: cosign a registrar's log, and never two histories of it."""

from __future__ import annotations

import sys
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from underseal_auditor.connection import RegistrarLog
from underseal_auditor.logbook import load_vkey
from underseal_auditor.logs.mirror import LogSource
from underseal_core.credentials import Credentials
from underseal_core.errors import (
    Busy,
    Conflict,
    Damaged,
    NotFound,
    StorageFull,
    UndersealError,
)
from underseal_core.outcome import show
from underseal_core.signing import Identity
from underseal_core.tlog.checkpoint import open_checkpoint
from underseal_core.tlog.note import KeyKind, NoteSigner, VerifierKey
from underseal_core.tlog.witness import Witness
from underseal_core.tlog.witness_request import WitnessRequest

app = typer.Typer(help="Witness of a transparency log.", no_args_is_help=True)

KEY_NAME: Final = "witness.key"
VKEY_NAME: Final = "witness.vkey"
MEMORY_NAME: Final = "seen"

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def create(
    out: Annotated[Path, typer.Option(help="New folder for the key and what will be seen.")],
    name: Annotated[str, typer.Option(help="Of the witness, such as witness.example.org/w1.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Make a witness's key."""
    identity = Identity.generate()
    key = NoteSigner(name, identity, KeyKind.COSIGNATURE).key
    try:
        out.mkdir(mode=0o700, parents=True)
        identity.save(out / KEY_NAME)
        (out / VKEY_NAME).write_text(key.vkey() + "\n")
    except FileExistsError as error:
        raise Conflict(f"{out} exists already", hint="choose another folder") from error
    except OSError as error:
        raise StorageFull(f"cannot write to {out}") from error
    show({"witness": str(out), "vkey": key.vkey()}, key.vkey(), as_json=as_json)


@app.command()
def cosign(
    folder: Annotated[Path, typer.Argument(help="The folder that witness create made.")],
    log_key: Annotated[Path, typer.Option(help="The log's key, log.vkey.")],
    registrar: Annotated[str, typer.Option(help="HOST:PORT.")],
    credentials: Annotated[Path, typer.Option(help="Own credentials folder.")],
    interval: Annotated[float, typer.Option(min=1, help="Seconds between looks.")] = 60.0,
    once: Annotated[bool, typer.Option("--once", help="Cosign once and end.")] = False,
    *,
    as_json: JsonOption = False,
) -> None:
    """Fetch the newest checkpoint, check that the log only grew, remember it, cosign it.

    The cosigned checkpoint is a file below ``seen``; a registrar that knows the witness gets it,
    too, and hands it out with releases. A log that was rolled back or forked gets no
    cosignature, ever again: exit code 7.
    """
    key = load_vkey(log_key)
    signer = NoteSigner(
        load_vkey(folder / VKEY_NAME).name, Identity.load(folder / KEY_NAME), KeyKind.COSIGNATURE
    )
    witness = Witness(folder / MEMORY_NAME, signer, [key])
    connection = RegistrarLog(registrar, Credentials.load(credentials))
    with closing(witness), closing(connection) as source:
        while True:
            try:
                size = cosign_newest(witness, source, key)
                taken = hand_in(witness, source, key)
            except (Busy, StorageFull) as error:
                if once:
                    raise
                sys.stderr.write(f"error: {error.public}\n")
            else:
                _tell(key, size, taken=taken, as_json=as_json)
            if once:
                return
            time.sleep(interval)


def _tell(key: VerifierKey, size: int, *, taken: bool, as_json: bool) -> None:
    at = datetime.now(UTC).isoformat(timespec="seconds")
    facts: dict[str, object] = {"origin": key.name, "size": size, "at": at, "handed_in": taken}
    told = "" if taken else "; the registrar does not know this witness: publish the file in seen"
    show(facts, f"{at} cosigned {size} entries of {key.name}{told}", as_json=as_json)


def hand_in(witness: Witness, registrar: RegistrarLog, key: VerifierKey) -> bool:
    """Give the registrar what was cosigned; tell whether it takes this witness's cosignatures.

    Raises
    ------
    Damaged
        The registrar's log does not hold what it has signed.
    Conflict
        The registrar has a later cosignature of this witness, whose memory is an old copy.
    """
    latest = witness.latest(key.name)
    if latest is None:
        return False
    try:
        registrar.add_cosignature(latest.raw)
    except NotFound:
        return False
    return True


def cosign_newest(witness: Witness, source: LogSource, key: VerifierKey) -> int:
    """Have ``witness`` cosign the newest checkpoint of ``source``; return its size.

    Raises
    ------
    Damaged
        The log does not extend what the witness cosigned before.
    """
    latest = witness.latest(key.name)
    old = latest.checkpoint.size if latest else 0
    raw = source.checkpoint()
    size = open_checkpoint(raw, key).checkpoint.size
    if size < old:
        raise Damaged("ALARM: the log was rolled back", hint="tell everyone; keep what was seen")
    try:
        proof = source.consistency(old, size) if 0 < old < size else ()
        witness.add_checkpoint(WitnessRequest(old, proof, raw).to_bytes())
    except (Busy, StorageFull):
        raise
    except UndersealError as error:
        raise Damaged(
            f"ALARM: not cosigned: {error.public}", hint="tell everyone; keep what was seen"
        ) from error
    return size

"""``underseal-auditor ceremony prepare|plan|join``: keys for k of n auditors, without a dealer."""

from __future__ import annotations

import asyncio
import sys
from enum import IntEnum
from pathlib import Path
from typing import Annotated

import typer

from underseal_auditor.api.ceremony_process import (
    KEYS_NAME,
    CeremonyProcess,
    MemberPlace,
)
from underseal_auditor.api.member_process import Finished
from underseal_auditor.cli.passphrase import read_passphrase
from underseal_auditor.keys.ceremony_file import MAX_FILE_BYTES, CeremonyFile
from underseal_auditor.keys.fingerprint import fingerprint
from underseal_auditor.keys.member_keys import MAX_CARD_BYTES, MemberCard, OwnKeys
from underseal_auditor.keys.messages import Round
from underseal_auditor.keys.share_file import load_label_key
from underseal_core.credentials import Credentials, Role
from underseal_core.errors import Conflict, InvalidInput, NotFound, StorageFull
from underseal_core.labels import OpeningKey
from underseal_core.outcome import show
from underseal_core.rpc import logging
from underseal_core.rpc.tls import own_peer
from underseal_core.scheme.profiles import GUARDED, padded_dimension, profile_named

CARD_NAME = "member.json"
LABEL_KEY_HELP = "Registrar's label key of the epoch before, to move galleries; none: a new one."


def prepare(
    credentials: Annotated[Path, typer.Option(help="The auditor's credentials folder.")],
    state: Annotated[Path, typer.Option(help="Folder for this member's part of the ceremony.")],
    *,
    registrar: Annotated[
        bool, typer.Option("--registrar", help="This member opens labels: exactly one does.")
    ] = False,
    label_key: Annotated[Path | None, typer.Option(help=LABEL_KEY_HELP)] = None,
    passphrase_file: Annotated[Path | None, typer.Option(help="Seals the member's keys.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make this member's keys, and the card that goes into the ceremony file."""
    own = Credentials.load(credentials)
    if own_peer(own).role is not Role.AUDITOR:
        raise InvalidInput("the credentials are not an auditor's")
    card_path = state / CARD_NAME
    if card_path.exists() or (state / KEYS_NAME).exists():
        raise Conflict(f"{state} holds a member's keys", hint="choose another folder")
    if label_key is not None and not registrar:
        raise InvalidInput("only the registrar's member has a label key", hint="add --registrar")
    passphrase = read_passphrase(passphrase_file, confirm=label_key is None)
    keys = OwnKeys.generate(new_or_kept(label_key, passphrase) if registrar else None)
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        keys.save(state / KEYS_NAME, passphrase)
        card_path.write_bytes(keys.card(own.identity.public_key).to_bytes())
    except OSError as error:
        raise StorageFull(f"cannot write to {state}") from error
    facts = {"card": str(card_path), "identity": own.identity.public_key.hex()}
    show(facts, f"card  {card_path}   for the ceremony file", as_json=as_json)


def plan(
    card: Annotated[list[Path], typer.Argument(help="Members' cards; the order gives the points.")],
    threshold: Annotated[int, typer.Option(help="How many members together open a score.")],
    dimension: Annotated[int, typer.Option(help="Of the model's embedding.")],
    out: Annotated[Path, typer.Option(help="The ceremony file.")],
    profile: Annotated[str, typer.Option(help="guarded, compact or swift.")] = GUARDED.name,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write the ceremony file that all members must agree on."""
    cards = [MemberCard.parse(read_file(path, MAX_CARD_BYTES)) for path in card]
    labels = [one.label for one in cards if one.label is not None]
    if len(labels) != 1:
        raise InvalidInput(
            f"{len(labels)} members are prepared as registrar, not one",
            hint="exactly one card must come from `ceremony prepare --registrar`",
        )
    file = CeremonyFile(
        profile_named(profile),
        padded_dimension(dimension),
        threshold,
        tuple(one.keys for one in cards),
        labels[0],
    )
    if out.exists():
        raise Conflict(f"{out} exists already", hint="choose another name")
    try:
        out.write_bytes(file.to_bytes())
    except OSError as error:
        raise StorageFull(f"cannot write {out}") from error
    words = fingerprint(file.digest.hex())
    facts = {"ceremony": file.digest.hex(), "fingerprint": words, "file": str(out)}
    quorum = f"{threshold} of {len(cards)}"
    show(facts, f"ceremony file  {out}   {quorum}\nfingerprint    {words}", as_json=as_json)


def join(
    file: Annotated[Path, typer.Option(help="The ceremony file.")],
    credentials: Annotated[Path, typer.Option(help="The auditor's credentials folder.")],
    state: Annotated[Path, typer.Option(help="The folder of `ceremony prepare`.")],
    out: Annotated[Path, typer.Option(help="Folder for bundle and share.")],
    listen: Annotated[str, typer.Option(help="HOST:PORT where the other members reach this one.")],
    peer: Annotated[list[str], typer.Option(help="POINT=HOST:PORT of every other member.")],
    passphrase_file: Annotated[Path | None, typer.Option(help="Seals secrets.")] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Take part in a ceremony until all members are done. Run it again after an interruption."""
    logging.configure("WARNING")
    ceremony = CeremonyFile.parse(read_file(file, MAX_FILE_BYTES))
    place = MemberPlace(credentials, state, out, listen, parse_peers(peer))
    process = CeremonyProcess(ceremony, place, read_passphrase(passphrase_file))
    note(f"ceremony {fingerprint(ceremony.digest.hex())}: compare with the other members")
    done = asyncio.run(process.run(_ready, _progress))
    facts = {
        "key_epoch": done.name,
        "fingerprint": fingerprint(done.name),
        "point": process.point,
        "unreached": sorted(done.unreached),
    }
    show(facts, _lines(out, done), as_json=as_json)


def _ready(address: str) -> None:
    note(f"listening on {address}")


def _progress(round_: IntEnum) -> None:
    note(f"round {int(round_)} of {len(Round)}: {round_.name.lower()}")


def new_or_kept(path: Path | None, passphrase: bytes) -> OpeningKey:
    """Return the label key in a file, or a new one: galleries move with the key of their labels."""
    return OpeningKey.generate() if path is None else load_label_key(path, passphrase)


def note(line: str) -> None:
    """Write a line to stderr at once."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _lines(out: Path, done: Finished) -> str:
    lines = (
        f"keys           {out}\n"
        f"key epoch      {done.name}\n"
        f"fingerprint    {fingerprint(done.name)}   compare with the other members"
    )
    if done.unreached:
        members = ", ".join(str(point) for point in sorted(done.unreached))
        lines += f"\nmembers {members} are out of reach: run this again if they still need messages"
    return lines


def parse_peers(texts: list[str]) -> dict[int, str]:
    """Return addresses by point, given ``POINT=HOST:PORT``; raises InvalidInput for others."""
    peers = {}
    for text in texts:
        point, middle, address = text.partition("=")
        if not middle or not point.isdecimal() or ":" not in address or int(point) in peers:
            raise InvalidInput(f"{text!r} is not a member's address", hint="POINT=HOST:PORT")
        peers[int(point)] = address
    return peers


def read_file(path: Path, limit: int) -> bytes:
    """Return a file's first ``limit + 1`` bytes; raises NotFound."""
    try:
        with path.open("rb") as file:
            return file.read(limit + 1)
    except OSError as error:
        raise NotFound(f"cannot read {path}") from error
